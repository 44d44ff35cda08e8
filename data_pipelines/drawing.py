"""Where every drawn picture of a split goes, and what draws it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as numbers
from pathlib import Path
from random import Random


def canvases(
    folder: Path, seed: str, *, count: int | None = None, suffix: str = ".png"
) -> Iterator[tuple[int, Random, Path]]:
    """(index, generator, absolute path of its file) of `count` pictures, or of as many as are asked for.

    Each has a generator of its own, seeded by `seed` (the maker's name, seed and split) and the index, so that no
    picture depends on how many there are. The folder is made.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for index in numbers() if count is None else range(count):
        yield index, Random(f"{seed}/{index}"), folder / f"{index:06d}{suffix}"
