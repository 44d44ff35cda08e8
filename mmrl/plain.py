"""Any value as JSON: what a reward wants shown, and what a run directory stores. Imports nothing but Python's own."""

from __future__ import annotations

import math
from typing import Any

BITS = 1024
"""Of the largest integers: longer ones are infinite where numbers are read as float64."""


def plain(value: Any, *, deepest: int) -> Any:
    """`value` as JSON: tuples and sets become lists, numbers that are not finite null, other objects their text.

    Containers more than `deepest` levels down, and so circles, become "...".
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, int):
        return value if value.bit_length() <= BITS else "a large integer"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if deepest < 0:
        return "..."
    if isinstance(value, dict):
        return {valid_text(str(key)): plain(item, deepest=deepest - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, deepest=deepest - 1) for item in value]
    if hasattr(value, "tolist"):  # tensors, arrays and their scalars
        return plain(value.tolist(), deepest=deepest - 1)
    return valid_text(str(value))


def valid_text(text: str) -> str:
    """Lone surrogates, which JSON files can carry and UTF-8 cannot, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
