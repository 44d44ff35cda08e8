"""A reward that is a sum of parts, any of which a recipe may list alone, to weigh it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewards.registry import Score


def score_of(part: str, parts: Mapping[str, float], parsed: Any = None) -> Score:
    """The part of that name, or with `part="sum"` all of them together; the parts are the reason."""
    if part != "sum" and part not in parts:
        raise ValueError(f"part is sum, {' or '.join(parts)}; found {part!r}")
    value = sum(parts.values()) if part == "sum" else parts[part]
    return Score(value, parsed=parsed, why=", ".join(f"{name} {worth:.4g}" for name, worth in parts.items()))
