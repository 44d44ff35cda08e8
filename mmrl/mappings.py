"""Plain mappings, as `config.py` checks them: YAML files with `extends:`, and `key=value` words.

Nothing here knows a section. How files over and beside each other become one mapping is `layering.py`.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmrl.layering import STAGES, at, lay_over, merge_keys
from mmrl.plugins import ConfigError, hint_of, takes_text


def read_yaml(file: Path, *, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """One file with the files it extends merged underneath; mappings merge, lists and numbers are replaced.

    Parents after the first are laid over it beside each other.
    """
    if file.resolve() in children:
        raise ConfigError(f"{children[-1]}: extends: {file} leads back to where it started.")
    if not file.is_file():
        raise ConfigError(f"{file} does not exist.")
    try:
        raw = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{file} holds a {type(raw).__name__}; a config is a mapping of keys.")
    parents = raw.pop("extends", [])
    layers = [
        (str(parent), read_yaml(find_parent(parent, file), children=(*children, file.resolve())))
        for parent in ([parents] if isinstance(parents, str) else parents)
    ]
    base = layers[0][1] if layers else {}
    try:
        below = lay_over(base, layers[1:], decided=decided_by(raw))
    except ConfigError as error:
        raise ConfigError(f"{file}: extends: {error}") from None
    return merge_keys(below, normalise_stages(raw))


def decided_by(raw: Mapping[str, Any]) -> set[str]:
    """The stages that a file itself names, so that its parents need not agree on them."""
    stages = normalise_stages(dict(raw))
    whole = {key: at(stages, key) for key in STAGES}
    return {
        key for key, value in whole.items() if isinstance(value, list) or (isinstance(value, dict) and "name" in value)
    }


def find_parent(name: str, file: Path) -> Path:
    """`extends: base/grpo` is looked for beside the file and in the folders above it."""
    candidates = [folder / f"{name.removesuffix('.yaml')}.yaml" for folder in file.resolve().parents]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ConfigError(f"{file}: extends: {name} is neither beside this file nor in a folder above it.")


def apply_override(raw: dict[str, Any], override: str) -> None:
    """`optimizer.learning_rate=1e-5`, `rewards.0.weight=2`; the value is YAML."""
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"{override}: an override is written key=value, for example steps=50.")
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError as error:
        raise ConfigError(f"{override}: the value is not valid YAML: {error}") from None
    if isinstance(value, str):  # YAML wants 1.0e-5 where people write 1e-5
        try:
            value = float(value)
        except ValueError:
            pass
    *parents, last = key.split(".")
    node: Any = raw
    try:
        for part in parents:
            if isinstance(node, list):
                node = node[int(part)]
                continue
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
        node[int(last) if isinstance(node, list) else last] = value
    except (ValueError, IndexError, AttributeError, TypeError):
        raise ConfigError(f"{override}: there is nothing at `{key}` to set.") from None


def settings_from(words: typing.Iterable[str], plugin: typing.Callable[..., Any] | None = None) -> dict[str, Any]:
    """The mapping that `key=value` words spell, as `apply_override` reads each. A setting that the plugin takes as a
    text is the text as it was typed: in `version=1.5 media=2024` YAML would read numbers."""
    given: dict[str, Any] = {}
    for word in words:
        key, equals, typed = word.partition("=")
        hint = hint_of(plugin, key) if plugin is not None and equals else None
        try:
            apply_override(given, word)
        except ConfigError:
            if hint is None or not takes_text(hint, typed):
                raise
            given[key] = typed  # no YAML: `prompt=Find it: {instruction}`
        if hint is not None and key in given and takes_text(hint, given[key]):
            given[key] = typed
    return given


def normalise_stages(raw: dict[str, Any]) -> dict[str, Any]:
    """Bare stage names become `{name: ...}`."""

    def one(spec: Any) -> Any:
        return {"name": spec} if isinstance(spec, str) else spec

    for key in ("sampler", "rollout"):
        if key in raw:
            raw[key] = one(raw[key])
    for key in ("rewards", "advantages", "logging"):
        if isinstance(raw.get(key), list):
            raw[key] = [one(spec) for spec in raw[key]]
    loss = raw.get("loss")
    if isinstance(loss, dict) and isinstance(loss.get("terms"), list):
        raw["loss"] = {**loss, "terms": [one(term) for term in loss["terms"]]}
    return raw
