"""Rows of `mmrl data make video` by the length of their moment: long ones as chats to learn from, short ones to find.

Transforms of tempsamp.yaml: `mmrl data transform train.jsonl configs/reproduce/tasks/spans.py:long_chats --out ...`.
"""

from __future__ import annotations

from random import Random
from typing import Any


def long_chats(row: dict[str, Any], *, rng: Random, least: float = 4.0) -> dict[str, Any] | None:
    """A moment of at least `least` seconds, answered rightly by an assistant turn; the others are left out."""
    start, end = row["target"]["span"]
    answer = {"role": "assistant", "content": f"{start:.0f} to {end:.0f}"}
    return {**row, "messages": [*row["messages"], answer]} if end - start >= least else None


def short(row: dict[str, Any], *, rng: Random, most: float = 2.0) -> dict[str, Any] | None:
    """A moment of at most `most` seconds; the others are left out."""
    start, end = row["target"]["span"]
    return row if end - start <= most else None
