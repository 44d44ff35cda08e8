"""What is set otherwise in a resumed run than before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLACE = frozenset({"runs"})
"""Where the run is; a run that was moved is the same run."""


def changed_settings(before: Any, now: Any, *, key: str = "") -> dict[str, list[Any]]:
    """`optimizer.learning_rate` -> [before, now], for all that differ. What only one of them has is None in the other;
    lists are compared as a whole."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return {} if before == now else {key: [before, now]}
    found: dict[str, list[Any]] = {}
    for name in [*before, *(name for name in now if name not in before)]:
        if key or name not in PLACE:
            found |= changed_settings(before.get(name), now.get(name), key=f"{key}.{name}" if key else name)
    return found


def in_words(changed: Mapping[str, list[Any]]) -> str:
    return ", ".join(f"{key} {before} -> {now}" for key, (before, now) in changed.items())
