"""Screens with an easy and a hopeless tail, as a row transform:
`mmrl data transform train.jsonl configs/reproduce/tasks/tails.py:with_tails --out tails.jsonl`.
"""

from __future__ import annotations

from random import Random

from data_pipelines.reading import Row

ANYWHERE = [0, 0, 64, 64]
"""A box that every click hits."""
NOWHERE = [2, 2, 5, 5]
"""The first dot of the title bar: no instruction names it, so an answer that means an element misses it."""


def with_tails(row: Row, *, rng: Random, easy: float = 0.4, hopeless: float = 0.4) -> Row:
    """A row of `mmrl data make gui` (64 x 64 pixels): unchanged, or with a label that all clicks hit or none does.

    `easy` and `hopeless` are the shares of these two. `meta.tail` says which a row is: easy, hopeless or none.
    """
    draw = rng.random()
    tail = "easy" if draw < easy else "hopeless" if draw < easy + hopeless else "none"
    box = {"easy": ANYWHERE, "hopeless": NOWHERE, "none": row["target"]["box"]}[tail]
    return row | {"target": {"box": box}, "meta": row["meta"] | {"tail": tail}}
