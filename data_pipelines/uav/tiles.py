"""Large pictures in tiles: where tiles lie, coordinates into a tile and back, objects that an edge cuts, and what was
found in overlapping tiles put together again.

Pure functions of numbers, but for `crop`. Coordinates are continuous: x = 0 is the left edge of the leftmost pixel and
x = width the right edge of the rightmost, so a box (x1, y1, x2, y2) of whole pixels is end exclusive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]
Polygon = tuple[Point, ...]

SIDE, OVERLAP, LEAST = 1024, 200, 0.7
"""DOTA's own: side of a tile and overlap of neighbours in pixels, and the share of an object that a tile must show."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture, stored at a size of its own."""

    box: tuple[int, int, int, int]
    """(x1, y1, x2, y2) in pixels of the whole picture."""
    size: Size
    """(width, height) in pixels of the tile as it is stored."""

    @property
    def scale(self) -> Point:
        """Pixels of the tile per pixel of the picture, across and down; they differ by the rounding of `size`."""
        x1, y1, x2, y2 = self.box
        return self.size[0] / (x2 - x1), self.size[1] / (y2 - y1)

    def point_into(self, point: Point) -> Point:
        """A point of the picture in coordinates of the tile; outside of it where the point is."""
        return (point[0] - self.box[0]) * self.scale[0], (point[1] - self.box[1]) * self.scale[1]

    def point_back(self, point: Point) -> Point:
        """The inverse of `point_into`."""
        return point[0] / self.scale[0] + self.box[0], point[1] / self.scale[1] + self.box[1]

    def box_into(self, box: Sequence[float]) -> Box:
        """A box of the picture in coordinates of the tile, not clipped."""
        return (*self.point_into((box[0], box[1])), *self.point_into((box[2], box[3])))

    def box_back(self, box: Sequence[float]) -> Box:
        """The inverse of `box_into`."""
        return (*self.point_back((box[0], box[1])), *self.point_back((box[2], box[3])))


@dataclass(frozen=True)
class Found:
    """One predicted or annotated object."""

    box: Box
    label: str
    score: float = 1.0


def fit(size: Size, max_pixels: int | None) -> Size:
    """The largest size of at most `max_pixels` pixels with the same shape, up to rounding down; never larger than
    `size`, no side under 1."""
    width, height = size
    if max_pixels is None or width * height <= max_pixels:
        return size
    if max_pixels < 1:
        raise ValueError(f"max_pixels = {max_pixels}; it must be positive.")
    scale = math.sqrt(max_pixels / (width * height))
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    # Of a very long picture one side is 1, and the other has the whole budget.
    return (min(width, max_pixels // height), height) if width > height else (width, min(height, max_pixels // width))


def tiles(size: Size, *, side: int | None = SIDE, overlap: int = OVERLAP, max_pixels: int | None = None) -> list[Tile]:
    """Tiles that cover a picture of `size` (width, height), row by row.

    Tiles are `side` pixels of the picture wide and high and share `overlap` with their neighbours; the last of a row
    or column is moved back to end at the picture's edge, so that it shares more, and no pixel is invented. A picture
    smaller than a tile is one. `side=None` takes the whole picture. Each tile is then shrunk to `max_pixels`.
    """
    if side is None:
        side, overlap = max(size), 0
    if not 0 <= overlap < side:
        raise ValueError(f"overlap = {overlap}; it is 0 or more and less than the side of a tile, {side}.")
    return [
        Tile((x1, y1, x2, y2), fit((x2 - x1, y2 - y1), max_pixels))
        for y1, y2 in _spans(size[1], side, overlap)
        for x1, x2 in _spans(size[0], side, overlap)
    ]


def _spans(length: int, side: int, overlap: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start + side < length:
        yield start, start + side
        start += side - overlap
    yield max(0, length - side), length


def crop(image: Image, tile: Tile) -> Image:
    """The tile of a picture, shrunk with anti-aliasing if the tile says so."""
    from PIL.Image import Resampling

    part = image.crop(tile.box)
    return part if part.size == tile.size else part.resize(tile.size, Resampling.LANCZOS, reducing_gap=3.0)


def area(polygon: Sequence[Point]) -> float:
    """Area of a polygon that does not cross itself, whichever way it turns."""
    around = zip(polygon, [*polygon[1:], *polygon[:1]], strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in around)) / 2


def hull(points: Sequence[Point]) -> Box:
    """The upright box around points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def corners(box: Sequence[float]) -> Polygon:
    """A box as a polygon, clockwise on the screen from the top left."""
    x1, y1, x2, y2 = box
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


def clip(polygon: Sequence[Point], box: Sequence[float]) -> Polygon:
    """The part of a convex polygon inside a box (Sutherland and Hodgman 1974); empty if there is none."""
    part = list(polygon)
    for axis, edge, sign in ((0, box[0], 1), (1, box[1], 1), (0, box[2], -1), (1, box[3], -1)):
        inside = [sign * (point[axis] - edge) >= 0 for point in part]
        kept: list[Point] = []
        for i, end in enumerate(part):
            start = part[i - 1]
            if inside[i] != inside[i - 1]:
                share = (edge - start[axis]) / (end[axis] - start[axis])
                crossing = [a + share * (b - a) for a, b in zip(start, end, strict=True)]
                crossing[axis] = edge
                kept.append((crossing[0], crossing[1]))
            if inside[i]:
                kept.append(end)
        part = kept
    return tuple(part)


def visible(polygon: Sequence[Point], tile: Tile) -> tuple[Polygon, float]:
    """The part of a convex polygon that a tile shows, in the tile's coordinates, and its share of the area, 0 to 1.

    The rule for objects that an edge cuts is the caller's, and the same everywhere here: an object belongs to a tile
    that shows at least `LEAST` of its area, clipped to the tile; one that shows less, but some, is neither there nor
    absent.
    """
    part = clip(polygon, tile.box)
    whole = area(polygon)
    shown = area(part) / whole if part and whole > 0 else 0.0
    return tuple(tile.point_into(point) for point in part), min(1.0, shown)


def merge(
    found: Sequence[tuple[Tile, Sequence[Found]]], size: Size, *, threshold: float = 0.5, margin: float = 1.0
) -> list[Found]:
    """What was found in the tiles of a picture of `size`, in coordinates of the picture, each object once.

    Two boxes of different tiles and the same label are one object if their IoU, inside the part of the picture that
    both tiles show, is at least `threshold`; the closest pairs are joined first, and of one tile at most one box. An
    object is then the best scored of its boxes that no edge cuts, or, where all are cut (within `margin` pixels of a
    tile's edge that is not the picture's), the box around them all. Boxes of one tile stay apart. Best scores first.
    """
    placed = [(tile, replace(item, box=tile.box_back(item.box))) for tile, items in found for item in items]
    pairs = []
    for (i, (first, a)), (j, (second, b)) in combinations(enumerate(placed), 2):
        if first.box != second.box and a.label == b.label and (shared := _overlap(first.box, second.box)):
            alike = _iou(_overlap(a.box, shared), _overlap(b.box, shared))
            if alike >= threshold:
                pairs.append((-alike, i, j))
    groups = {i: [i] for i in range(len(placed))}
    for _, i, j in sorted(pairs):
        one, other = groups[i], groups[j]
        if not {placed[k][0].box for k in one} & {placed[k][0].box for k in other}:
            one += other
            groups |= dict.fromkeys(other, one)
    merged = [
        _whole([placed[k] for k in members], size, margin) for members in {id(g): g for g in groups.values()}.values()
    ]
    return sorted(merged, key=lambda item: -item.score)


def _whole(members: Sequence[tuple[Tile, Found]], size: Size, margin: float) -> Found:
    def cut(tile: Tile, box: Box) -> bool:
        inner = (tile.box[0] > 0, tile.box[1] > 0, tile.box[2] < size[0], tile.box[3] < size[1])
        return any(is_inner and abs(a - b) <= margin for is_inner, a, b in zip(inner, box, tile.box, strict=True))

    whole = [item for tile, item in members if not cut(tile, item.box)]
    if whole:
        return max(whole, key=lambda item: item.score)
    around = hull([point for _, item in members for point in (item.box[:2], item.box[2:])])
    return replace(members[0][1], box=around, score=max(item.score for _, item in members))


B = TypeVar("B", int, float)


def _overlap(a: Sequence[B], b: Sequence[B]) -> tuple[B, B, B, B] | None:
    box = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return box if box[0] < box[2] and box[1] < box[3] else None


def _iou(a: Box | None, b: Box | None) -> float:
    if a is None or b is None:
        return 0.0
    both = _overlap(a, b)
    shared = area(corners(both)) if both else 0.0
    return shared / (area(corners(a)) + area(corners(b)) - shared)
