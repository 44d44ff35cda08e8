"""Rewards for the form of a completion: tags, points, JSON."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmrl.records import Sample
from rewards import parsing
from rewards.parsing.structured import json_value
from rewards.parsing.tags import only_tags
from rewards.registry import Score, reward


@reward(range=(0, 1), source="DeepSeek-R1, arXiv 2501.12948")
def think_format(completion: str, sample: Sample, *, think_tag: str = "think", answer_tag: str = "answer") -> float:
    """1 if the completion is one `<think>...</think>`, then one `<answer>...</answer>`, and nothing else, else 0.

    An empty thought counts (TON, arXiv 2505.16854). BigCharts-R1 names its tags `thinking` and `answer`, TON for GUIs
    `think` and `action`. Stricter than the usual regular expression, which lets a second answer block through (MMR1,
    EasyR1).
    """
    return float(only_tags(completion, think_tag, answer_tag) is not None)


@reward(range=(0, 1), source="UI-R1-E, arXiv 2503.21620")
def answer_format(completion: str, sample: Sample, *, answer_tag: str = "answer") -> float:
    """1 if the completion is one `<answer>...</answer>` and nothing else, no thought before it, else 0."""
    return float(only_tags(completion, answer_tag) is not None)


@reward(range=(0, 1), source="mmrl")
def point_format(completion: str, sample: Sample) -> float:
    """1 if the completion is one point `(x, y)` and nothing else, else 0."""
    return float(parsing.is_point(completion))


@reward(range=(0, 1), source="JSON Schema, json-schema.org")
def json_format(completion: str, sample: Sample, *, schema: dict[str, Any] | str) -> Score:
    """1 if the answer (the last answer tag, else the whole text) is one JSON value that fits `schema`, else 0.

    `schema` is a JSON Schema or the path of a file with one; `$ref` reaches inside it, never to the network. A fence of
    three backticks around the value is allowed. Raises ValueError for a schema that is none.
    """
    validator = _validator(schema if isinstance(schema, str) else json.dumps(schema))
    value, problem = json_value(parsing.answer_or_text(completion))
    problem = problem or _misfit(validator, value)
    return Score(float(not problem), why=problem)


def _misfit(validator: Any, value: Any) -> str:
    """Why a value does not fit, or an empty text."""
    from referencing.exceptions import Unresolvable

    try:
        error = next(validator.iter_errors(value), None)
        return "" if error is None else f"{error.json_path}: {error.message[:200]}"
    except (RecursionError, ArithmeticError) as failure:
        return f"too deep or too large for the schema: {failure}"
    except Unresolvable as unresolved:
        raise ValueError(f"schema refers to what it does not contain: {unresolved}") from None


@lru_cache(maxsize=16)
def _validator(source: str) -> Any:
    """Of a schema's text, or of the file it is the path of."""
    from jsonschema import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable

    try:
        schema = json.loads(source if source.lstrip().startswith("{") else Path(source).read_text(encoding="utf-8"))
        kind = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
    except (OSError, ValueError) as error:
        raise ValueError(f"schema is a JSON Schema or the path of one: {error}") from None
    except SchemaError as error:
        raise ValueError(f"schema is no valid JSON Schema: {error.json_path}: {error.message}") from None
    validator = kind(schema, registry=REGISTRY)
    try:
        validator.is_valid(None)
    except (RecursionError, Unresolvable) as error:
        raise ValueError(f"schema refers to itself without end, or to what it does not contain: {error}") from None
    return validator
