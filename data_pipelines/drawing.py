"""Where every drawn picture of a split goes, what draws it, and how far the drawing is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from itertools import count as numbers
from pathlib import Path
from random import Random
from typing import TypeVar

Item = TypeVar("Item")
Tick = Callable[[str, int, int], None]
"""(split, how many are done, of how many)"""

_tick: ContextVar[Tick] = ContextVar("tick", default=lambda split, done, total: None)


@contextlib.contextmanager
def watched(tick: Tick) -> Iterator[None]:
    """Makers called in this context tell `tick` how far they are."""
    before = _tick.set(tick)
    try:
        yield
    finally:
        _tick.reset(before)


def counted(items: Iterable[Item], split: str, total: int) -> Iterator[Item]:
    """The items, which whoever watches is told of one by one, as each is done with."""
    tick = _tick.get()
    for done, item in enumerate(items, 1):
        yield item
        tick(split, done, total)


def canvases(
    folder: Path, seed: str, *, count: int | None = None, suffix: str = ".png"
) -> Iterator[tuple[int, Random, Path]]:
    """(index, generator, absolute path of its file) of `count` pictures, or of as many as are asked for.

    Each has a generator of its own, seeded by `seed` (the maker's name, seed and split) and the index, so that no
    picture depends on how many there are. The folder is made, and named to whoever watches a `count` being drawn.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for index in numbers() if count is None else counted(range(count), folder.name, count):
        yield index, Random(f"{seed}/{index}"), folder / f"{index:06d}{suffix}"
