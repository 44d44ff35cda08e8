"""Single things seen from above, and the ground below them: polygons in metres, painted in pixels.

A sprite's polygon is its outline and its annotation; what is painted of the thing covers it and nothing else. Things
are painted at `SHARPNESS` times the size of the picture, patch by patch, and reduced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageChops, ImageDraw

from data_pipelines.gui.shapes import Colour
from data_pipelines.uav.tiles import Point, Polygon, hull

SHARPNESS = 3
SIZES = {"car": (4.5, 1.9), "van": (5.6, 2.1), "bus": (12.0, 2.6), "truck": (8.6, 2.5)}
"""Length and breadth of vehicles in metres."""
HEIGHTS = {"car": 0.8, "van": 1.2, "bus": 1.8, "truck": 1.8, "house": 3.0, "warehouse": 4.0, "storage tank": 4.0,
           "tree": 2.2}  # fmt: skip
"""Length of the shadow in metres, towards the lower right."""
GROUNDS: dict[str, Colour] = {
    "grass": (124, 138, 88), "sidewalk": (176, 172, 164), "road": (92, 94, 98), "asphalt": (104, 105, 108),
    "concrete": (164, 162, 156), "line": (222, 222, 214), "sand": (206, 190, 150), "water": (74, 110, 128),
}  # fmt: skip
GLASS = (44, 52, 62)
DARKER = [round(level * 0.55) for level in range(256)] * 3
"""Levels in the shade."""
POOL, WATER, TANK = (96, 190, 214), (78, 116, 132), (214, 214, 210)
COURT, COURT_EDGE = (76, 122, 96), (158, 96, 74)
LEAVES = ((52, 84, 44), (60, 94, 48), (48, 76, 42), (74, 100, 52))
ROUND = {"storage tank", "tree", "body of water"}


@dataclass(frozen=True)
class Sprite:
    """A thing where it stands."""

    kind: str
    polygon: Polygon
    """Outline in metres."""
    centre: Point
    angle: float
    """Of its length, in radians from the x axis towards the y axis."""
    size: tuple[float, float]
    """Length and breadth in metres."""
    colour: str | None

    def point(self, u: float, v: float) -> Point:
        """From shares of length and breadth (-0.5 to 0.5, front and left positive) to metres."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        x, y = u * self.size[0], v * self.size[1]
        return self.centre[0] + c * x - s * y, self.centre[1] + s * x + c * y


def place(kind: str, centre: Point, angle: float, size: tuple[float, float], colour: str | None) -> Sprite:
    """A sprite with its outline: a rectangle, an ellipse of 32 corners, or a boat's five corners."""
    if kind in ROUND:
        outline = [(math.cos(t) / 2, math.sin(t) / 2) for t in _turns(32)]
    elif kind == "boat":
        outline = [(0.5, 0.0), (0.15, 0.5), (-0.5, 0.38), (-0.5, -0.38), (0.15, -0.5)]
    else:
        outline = [(0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5)]
    bare = Sprite(kind, (), centre, angle, size, colour)
    return Sprite(kind, tuple(bare.point(u, v) for u, v in outline), centre, angle, size, colour)


def _turns(number: int) -> list[float]:
    return [2 * math.pi * i / number for i in range(number)]


def ground(rng: Random, size: tuple[int, int], surfaces: Sequence[tuple[Polygon, str]]) -> Image.Image:
    """The ground: upright rectangles (in pixels) of named surfaces, with the unevenness of real ones."""
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    for polygon, name in surfaces:
        x1, y1, x2, y2 = hull(polygon)
        if x2 > x1 and y2 > y1:
            draw.rectangle(
                (round(x1), round(y1), max(round(x1), round(x2) - 1), max(round(y1), round(y2) - 1)), fill=GROUNDS[name]
            )
    for cells, strength in ((48, 0.14), (8, 0.06), (1, 0.03)):  # pixels of a patch, share of all levels
        small = (-(-size[0] // cells), -(-size[1] // cells))
        levels = Image.frombytes("L", small, rng.randbytes(small[0] * small[1]))
        levels = levels.point([round(128 + (level - 127.5) * strength) for level in range(256)])
        if cells > 1:
            levels = levels.resize(size, Image.Resampling.BILINEAR)
        image = ImageChops.add(image, Image.merge("RGB", (levels,) * 3), 1.0, -128)
    return image


def paint(
    image: Image.Image, sprites: Sequence[Sprite], metres: float, colours: Mapping[Sprite, Colour | None]
) -> None:
    """Shadows first, then the things, so that no shadow lies on a thing."""
    for sprite in sprites:
        if reach := HEIGHTS.get(sprite.kind):
            thrown = [(x + reach, y + reach) for x, y in sprite.polygon]
            _patch(image, _convex([*sprite.polygon, *thrown]), metres, None)
    for sprite in sprites:
        _patch(image, sprite.polygon, metres, _painter(sprite, colours[sprite]))


def _painter(sprite: Sprite, colour: Colour | None) -> Callable[[Brush], None]:
    return lambda brush: PAINTERS[sprite.kind](brush, sprite, colour)


class Brush:
    """Draws polygons given in metres into a patch."""

    def __init__(self, draw: ImageDraw.ImageDraw, origin: Point, scale: float) -> None:
        self.draw, self.origin, self.scale = draw, origin, scale

    def fill(self, points: Sequence[Point], colour: Colour | int) -> None:
        # A pixel is filled if its centre is inside; PIL counts its corner as the centre.
        shifted = [
            ((x - self.origin[0]) * self.scale - 0.5, (y - self.origin[1]) * self.scale - 0.5) for x, y in points
        ]
        self.draw.polygon(shifted, fill=colour)

    def part(self, sprite: Sprite, box: tuple[float, float, float, float], colour: Colour) -> None:
        """A rectangle of the sprite, u1, v1, u2, v2 as in `Sprite.point`."""
        u1, v1, u2, v2 = box
        self.fill([sprite.point(u, v) for u, v in ((u1, v1), (u2, v1), (u2, v2), (u1, v2))], colour)


def _patch(image: Image.Image, outline: Polygon, metres: float, draw: Callable[[Brush], None] | None) -> None:
    """Change the pixels around an outline: what `draw` paints, or, without it, a shadow of that outline."""
    box = hull(outline)
    x1, y1 = max(0, int(box[0] / metres) - 1), max(0, int(box[1] / metres) - 1)
    x2, y2 = min(image.width, int(box[2] / metres) + 2), min(image.height, int(box[3] / metres) + 2)
    if x1 >= x2 or y1 >= y2:
        return
    before = image.crop((x1, y1, x2, y2))
    size, origin = ((x2 - x1) * SHARPNESS, (y2 - y1) * SHARPNESS), (x1 * metres, y1 * metres)
    if draw is None:
        mask = Image.new("L", size)
        Brush(ImageDraw.Draw(mask), origin, SHARPNESS / metres).fill(outline, 255)
        image.paste(before.point(DARKER), (x1, y1), mask.reduce(SHARPNESS))
    else:
        patch = before.resize(size, Image.Resampling.NEAREST)
        draw(Brush(ImageDraw.Draw(patch), origin, SHARPNESS / metres))
        image.paste(patch.reduce(SHARPNESS), (x1, y1))


def _convex(points: Sequence[Point]) -> Polygon:
    """The convex hull (Andrew 1979)."""
    halves: list[list[Point]] = []
    for ordered in (sorted(points), sorted(points, reverse=True)):
        half: list[Point] = []
        for point in ordered:
            while len(half) > 1 and _turn(half[-2], half[-1], point) <= 0:
                half.pop()
            half.append(point)
        halves.append(half[:-1])
    return (*halves[0], *halves[1])


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _shade(colour: Colour, by: float) -> Colour:
    red, green, blue = (min(255, round(level * by)) for level in colour)
    return red, green, blue


def _vehicle(brush: Brush, sprite: Sprite, colour: Colour | None) -> None:
    assert colour is not None
    brush.fill(sprite.polygon, colour)
    if sprite.kind == "bus":
        brush.part(sprite, (0.45, -0.42, 0.485, 0.42), GLASS)
        for u in (-0.3, 0.1):
            brush.part(sprite, (u, -0.22, u + 0.14, 0.22), _shade(colour, 0.85))
    elif sprite.kind == "truck":
        brush.part(sprite, (0.2, -0.5, 0.23, 0.5), GLASS)
        brush.part(sprite, (0.36, -0.4, 0.44, 0.4), GLASS)
    else:
        brush.part(sprite, (0.14, -0.38, 0.27, 0.38), GLASS)
        if sprite.kind == "car":
            brush.part(sprite, (-0.36, -0.36, -0.26, 0.36), GLASS)


def _boat(brush: Brush, sprite: Sprite, colour: Colour | None) -> None:
    assert colour is not None
    brush.fill(sprite.polygon, colour)
    brush.part(sprite, (-0.4, -0.2, -0.05, 0.2), (204, 186, 148))


def _roof(brush: Brush, sprite: Sprite, colour: Colour | None) -> None:
    """Four slopes, each lit differently, or a flat roof with skylights."""
    assert colour is not None
    brush.fill(sprite.polygon, colour)
    if sprite.kind == "warehouse":
        for i in range(4):
            brush.part(sprite, (-0.38 + 0.22 * i, -0.3, -0.34 + 0.22 * i, 0.3), _shade(colour, 1.25))
        return
    ends = [sprite.point(u, 0) for u in (0.22, -0.22)]
    a, b, c, d = sprite.polygon
    brush.fill([b, c, ends[1], ends[0]], _shade(colour, 0.88))
    brush.fill([a, b, ends[0]], _shade(colour, 1.1))
    brush.fill([c, d, ends[1]], _shade(colour, 0.95))


def _tree(brush: Brush, sprite: Sprite, colour: Colour | None) -> None:
    tone = LEAVES[int(sprite.size[0] * 1000) % len(LEAVES)]
    brush.fill(sprite.polygon, tone)
    for u, v, r in ((-0.12, -0.14, 0.26), (0.16, -0.05, 0.17), (-0.05, 0.2, 0.14)):
        circle = [sprite.point(u + r * math.cos(t), v + r * math.sin(t)) for t in _turns(13)]
        brush.fill(circle, _shade(tone, 1.18))


def _tank(brush: Brush, sprite: Sprite, colour: Colour | None) -> None:
    brush.fill(sprite.polygon, TANK)
    inner = [sprite.point(0.42 * math.cos(t), 0.42 * math.sin(t)) for t in _turns(32)]
    brush.fill(inner, _shade(TANK, 0.93))
    brush.part(sprite, (0.0, -0.03, 0.42, 0.03), _shade(TANK, 0.7))


def _water(brush: Brush, sprite: Sprite, colour: Colour | None) -> None:
    if sprite.kind == "body of water":
        brush.fill(sprite.polygon, WATER)
    else:
        brush.fill(sprite.polygon, (226, 224, 216))
        brush.part(sprite, (-0.42, -0.38, 0.42, 0.38), POOL)


def _court(brush: Brush, sprite: Sprite, colour: Colour | None) -> None:
    brush.fill(sprite.polygon, COURT_EDGE)
    white = (228, 228, 222)
    brush.part(sprite, (-0.36, -0.34, 0.36, 0.34), white)
    brush.part(sprite, (-0.355, -0.33, 0.355, 0.33), COURT)
    for box in ((-0.003, -0.38, 0.003, 0.38), (-0.355, -0.24, 0.355, -0.23), (-0.355, 0.23, 0.355, 0.24),
                (-0.19, -0.24, -0.185, 0.24), (0.185, -0.24, 0.19, 0.24), (-0.19, -0.004, 0.19, 0.004)):  # fmt: skip
        brush.part(sprite, box, white)


PAINTERS: dict[str, Callable[[Brush, Sprite, Colour | None], None]] = {
    "car": _vehicle, "van": _vehicle, "bus": _vehicle, "truck": _vehicle, "boat": _boat, "house": _roof,
    "warehouse": _roof, "storage tank": _tank, "tennis court": _court, "swimming pool": _water, "body of water": _water,
    "tree": _tree,
}  # fmt: skip
