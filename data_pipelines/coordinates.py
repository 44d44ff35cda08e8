"""The conventions in which boxes and points are written, and the one place that converts them.

A value is x, y, x, y, ...: a point is two numbers, a box four (x1, y1, x2, y2). `pixel` are pixels of the stored image,
`seen` pixels of the image after the budget resized it (Qwen2.5-VL), `norm1` shares of width and height (0 to 1),
`norm1000` thousandths of them (Qwen3-VL). Targets are always `pixel`; a sample's `meta.coordinates` says in which
convention the model is asked to answer. Datasets also differ in the order of a box's numbers: `corners`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

CONVENTIONS = ("pixel", "seen", "norm1", "norm1000")

Size = tuple[int, int]
"""Width and height in pixels."""
Form = Literal["xyxy", "xywh", "yxyx", "cxcywh"]
"""Two corners; a corner, width and height; two corners, y first; the centre, width and height."""


def to_pixels(values: Sequence[float], convention: str, size: Size, *, seen: Size | None = None) -> tuple[float, ...]:
    """x, y, x, y, ... from a convention to pixels of the stored image of `size`. ValueError as `extent` says."""
    if convention == "pixel":
        return tuple(values)
    full = extent(convention, size, seen=seen)
    return tuple(value * size[axis % 2] / full[axis % 2] for axis, value in enumerate(values))


def from_pixels(values: Sequence[float], convention: str, size: Size, *, seen: Size | None = None) -> tuple[float, ...]:
    """x, y, x, y, ... from pixels of the stored image of `size` to a convention: `to_pixels` backwards."""
    if convention == "pixel":
        return tuple(values)
    full = extent(convention, size, seen=seen)
    return tuple(value * full[axis % 2] / size[axis % 2] for axis, value in enumerate(values))


def extent(convention: str, size: Size, *, seen: Size | None = None) -> Size:
    """What the right and the bottom edge of the image are called. ValueError for an unknown convention, for `seen`
    while nobody knows what was seen, and for an image without width or height."""
    if min(size) <= 0 or (seen is not None and min(seen) <= 0):
        raise ValueError(f"an image of {size[0]} x {size[1]} pixels (seen: {seen}) has no coordinates")
    if convention == "seen" and seen is None:
        raise ValueError("coordinates are those of the image as seen, and its size as seen is not known")
    extents = {"pixel": size, "seen": seen or size, "norm1": (1, 1), "norm1000": (1000, 1000)}
    if convention not in extents:
        raise ValueError(f"no coordinate convention {convention!r}; there are {', '.join(CONVENTIONS)}")
    return extents[convention]


def corners(box: Sequence[float], form: Form) -> tuple[float, float, float, float]:
    """A box as x1, y1, x2, y2, in whatever convention it is. Nothing is swapped or clipped: a box that a dataset
    writes the wrong way round stays so, to be found. ValueError if there are not four numbers."""
    if len(box) != 4:
        raise ValueError(f"a box is four numbers; found {len(box)}")
    a, b, c, d = box
    if form == "xyxy":
        return a, b, c, d
    if form == "xywh":
        return a, b, a + c, b + d
    if form == "yxyx":
        return b, a, d, c
    return a - c / 2, b - d / 2, a + c / 2, b + d / 2
