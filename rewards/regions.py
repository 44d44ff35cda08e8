"""Region consistency: a group's regions vote for pixels of the screenshot, and agreement is the reward (GUI-RCPO,
arXiv 2508.05615). No labels.

Every region adds one vote to each of its pixels. Votes only change at the edges of regions, so they are counted on the
grid that the edges cut the screen into, fewer than 2K cells a side for K regions, with the numbers of the pixel grid:
a 4K screen costs what a thumbnail does (`benchmarks/region_consistency.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mmrl.records import Sample
from rewards.parsing import Values, centre
from rewards.parsing.coordinates import answer_shape, image_of
from rewards.registry import Score, reward

Integers = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

_NOWHERE: Values = (0, 0, 0, 0)


@reward(range=(0, 1), scope="group", source="GUI-RCPO, arXiv 2508.05615")
def region_consistency(
    completions: Sequence[str], sample: Sample, *, point_size: float = 50, shrink_guard: bool = False
) -> list[Score]:
    """Mean vote inside the completion's region / most votes on any pixel, where the regions of its group vote.

    The region is the last box or point of the answer (`region`), cut to whole pixels of the image (`pixels`). A point
    is a square of `point_size` pixels a side: 50 in the paper, 100 in its training code. A completion without a region
    on the image gets 0 and has no vote.

    The original reads a text with exactly four numbers as a box, with exactly two as a point, and no other: here
    `box 1: [1, 2, 3, 4]` is a box, numbers without brackets are nothing, and -5 is -5, not 5. For some models it also
    enlarges boxes, and lets texts it cannot read vote for the top left corner; neither is done here.

    The mean never falls when a region shrinks to its best pixels: any speck inside the consensus earns 1.
    `shrink_guard` divides a region smaller than the median of those that vote by the median area instead of its own:

        sum of votes inside / (most votes * max(own area, median area))

    Up to the median area the divisor is then the same for all and a larger region holds more votes, so being smaller
    never pays; above it, and for identical regions, nothing changes. Lowering the median takes half of the group.
    """
    if not point_size > 0:
        raise ValueError(f"point_size is a positive number of pixels; found {point_size}")
    found = [region(completion, sample, point_size=point_size) for completion in completions]
    regions = pixels([box or _NOWHERE for box in found], image_of(sample).size)
    values = consistency(regions, shrink_guard=shrink_guard)
    scores = []
    for box, cut, value in zip(found, regions.tolist(), values.tolist(), strict=True):
        if box is None:
            scores.append(Score(0.0, why="no box or point in the completion"))
        else:
            why = "" if value else "the region has no pixel on the image"
            scores.append(Score(value, parsed={"box": cut if value else list(box)}, why=why))
    return scores


class Consensus(NamedTuple):
    """Where a group's regions agree most."""

    box: Values
    """x1, y1, x2, y2, the bounding box of the pixels that agree."""
    click: Values
    """Its centre; outside the pixels themselves if they make an L, say."""
    votes: int
    """How many regions agree on them."""


def consensus(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> Consensus | None:
    """What GUI-RC predicts from K regions in pixels of an image of `size` (width, height); None if none is on it.

    Of the pixels with the most votes, the largest part connected by its sides; of equally large ones, the first in
    reading order.
    """
    regions = pixels(boxes, size)
    if not regions.any():
        return None
    from scipy import ndimage

    grid = _cut(regions)
    labels, _ = ndimage.label(grid.votes == grid.votes.max())  # numbered in reading order, from 1
    sizes = np.bincount(labels.ravel(), weights=grid.area.ravel())
    rows, columns = np.nonzero(labels == 1 + sizes[1:].argmax())
    box = (grid.x[columns.min()], grid.y[rows.min()], grid.x[columns.max() + 1], grid.y[rows.max() + 1])
    corners = tuple(map(float, box))
    return Consensus(corners, centre(corners), int(grid.votes.max()))


def region(completion: str, sample: Sample, *, point_size: float = 50) -> Values | None:
    """The last box of the completion's answer, or the square of `point_size` around the point if a point comes last,
    in pixels of the stored image.
    """
    shape = answer_shape(completion, sample)
    if shape is None or len(shape) == 4:
        return shape
    (x, y), half = shape, point_size / 2
    return x - half, y - half, x + half, y + half


def pixels(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> Integers:
    """int64[K, 4]: the boxes' corners, truncated, clipped to (width, height), half-open; zeros for empty boxes."""
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    cut = np.trunc(corners).clip(0, [*size, *size]).astype(np.int64)
    cut[(cut[:, 0] >= cut[:, 2]) | (cut[:, 1] >= cut[:, 3])] = 0
    return cut


def consistency(regions: Integers, *, shrink_guard: bool = False) -> Floats:
    """f64[K], in [0, 1]: the formula of `region_consistency` for the rows of `pixels`; 0 for empty ones."""
    area = (regions[:, 2] - regions[:, 0]) * (regions[:, 3] - regions[:, 1])
    if not area.any():
        return np.zeros(len(regions))
    grid = _cut(regions)
    left, top, right, bottom = grid.corners
    before = np.pad((grid.votes * grid.area).cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # sums above and left of corners
    inside = before[bottom, right] - before[top, right] - before[bottom, left] + before[top, left]
    least = np.median(area[area > 0]) if shrink_guard else 1
    return inside / (grid.votes.max() * np.maximum(area, least))


class _Grid(NamedTuple):
    """The screen, cut at the edges of K regions into cells that each have one number of votes."""

    x: Integers
    """[X + 1], where columns of cells begin and end, in pixels."""
    y: Integers
    """[Y + 1], the same for rows."""
    corners: tuple[Integers, Integers, Integers, Integers]
    """[K] each: left, top, right and bottom of the regions, as indices of x and y."""
    votes: Integers
    """[Y, X]."""
    area: Integers
    """[Y, X], in pixels."""


def _cut(regions: Integers) -> _Grid:
    x, y = np.unique(regions[:, 0::2]), np.unique(regions[:, 1::2])
    (left, right), (top, bottom) = np.searchsorted(x, regions[:, 0::2]).T, np.searchsorted(y, regions[:, 1::2]).T
    change = np.zeros((len(y), len(x)), dtype=np.int64)
    for rows, columns, step in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        np.add.at(change, (rows, columns), step)
    votes = change.cumsum(0).cumsum(1)[:-1, :-1]
    return _Grid(x, y, (left, top, right, bottom), votes, np.outer(np.diff(y), np.diff(x)))
