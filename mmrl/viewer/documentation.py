"""The API's own page: its OpenAPI document as plain HTML, without scripts."""

from __future__ import annotations

from html import escape
from typing import Any


def document(openapi: dict[str, Any]) -> str:
    """Every route with its parameters, and every type with its fields."""
    routes = [
        _route(path, method, operation)
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    ]
    types = [_type(name, schema) for name, schema in openapi["components"]["schemas"].items()]
    title = escape(f"{openapi['info']['title']} {openapi['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: API</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/style.css"></head>'
        f'<body class="api"><main><h1>{title}</h1><p>{escape(openapi["info"]["description"])} '
        '<a href="/api/openapi.json">openapi.json</a></p>'
        f"<h2>Routes</h2>{''.join(routes)}<h2>Types</h2>{''.join(types)}</main></body></html>"
    )


def _route(path: str, method: str, operation: dict[str, Any]) -> str:
    answers = (
        operation.get("responses", {}).get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
    )
    asked = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    parameters = "".join(
        f"<li><code>{escape(one['name'])}</code> {_kind(one.get('schema', {}))} "
        f"{escape(one.get('description', ''))}</li>"
        for one in operation.get("parameters", [])
    )
    return (
        f"<section><h3><code>{escape(method.upper())} {escape(path)}</code></h3>"
        f"<p>{escape(operation.get('description', ''))}</p>"
        + (f"<ul>{parameters}</ul>" if parameters else "")
        + (f"<p>Body: {_kind(asked)}</p>" if asked else "")
        + (f"<p>Answer: {_kind(answers)}</p>" if answers else "")
        + "</section>"
    )


def _type(name: str, schema: dict[str, Any]) -> str:
    fields = "".join(
        f"<li><code>{escape(field)}</code> {_kind(about)} {escape(about.get('description', ''))}</li>"
        for field, about in schema.get("properties", {}).items()
    )
    text = escape(schema.get("description", ""))
    return f'<section id="{escape(name)}"><h3>{escape(name)}</h3><p>{text}</p><ul>{fields}</ul></section>'


def _kind(schema: dict[str, Any]) -> str:
    """A schema in words; types of this API are links."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return escape(" | ".join(map(str, schema.get("enum", [schema.get("const")]))))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"name to {_kind(schema['additionalProperties'])}"
    return escape(str(schema.get("type", "anything")))
