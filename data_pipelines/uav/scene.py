"""Pictures from above as a drone takes them, up to 4K: blocks between roads, each with a use, and what belongs there.

Everything is laid out in metres and drawn from polygons that are also the annotations. Things do not overlap each
other, and no edge cuts one; roads, which cross, parking lots and lakes, which carry things, are annotated as well.
Shadows, markings and the rest of the ground are decoration. `sprites.py` paints single things; this file says what
goes where.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from PIL import Image

from data_pipelines.gui.shapes import COLOURS, Colour
from data_pipelines.uav.questions import Thing, View
from data_pipelines.uav.sprites import SIZES, Sprite, ground, paint, place
from data_pipelines.uav.tiles import Polygon, corners, hull

KINDS = {
    "car": "cars", "van": "vans", "bus": "buses", "truck": "trucks", "boat": "boats", "house": "houses",
    "warehouse": "warehouses", "storage tank": "storage tanks", "tennis court": "tennis courts",
    "swimming pool": "swimming pools", "body of water": "bodies of water", "parking lot": "parking lots",
    "tree": "trees", "road": "roads",
}  # fmt: skip
"""Everything that is annotated -> its plural."""
TRANSPORT = frozenset({"car", "van", "bus", "truck", "boat"})
PAINTS: dict[str, Colour] = COLOURS | {"white": (240, 240, 238), "black": (26, 27, 30)}
"""Colours of vehicles and boats."""
ROOFS: dict[str, Colour] = {
    "red": (166, 60, 48), "brown": (116, 82, 58), "gray": (138, 140, 144), "blue": (62, 92, 142),
}  # fmt: skip
FUNCTIONS = {
    "homes": "living", "lot": "parking", "courts": "playing tennis", "park": "recreation", "industry": "storing goods",
    "lake": "boating",
}  # fmt: skip
"""Use of a block -> what such a place is for."""
DOMINANT = 1.5
"""How many times the ground of any other use the largest must have to be what the place is for."""

SMALLEST, LARGEST = 320, 4096
"""Sides of a scene in pixels."""
METRES = (0.08, 0.2)
"""Least and largest side of a pixel on the ground."""
ROAD, SIDEWALK = 8.0, 1.6
"""Widths in metres."""

Rectangle = tuple[float, float, float, float]
"""x1, y1, x2, y2 in metres."""


@dataclass
class Site:
    """A scene being laid out, in metres."""

    rng: Random
    size: tuple[float, float]
    surfaces: list[tuple[Rectangle, str]] = field(default_factory=list)
    """Rectangles of ground, later ones over earlier ones."""
    places: list[tuple[Rectangle, str]] = field(default_factory=list)
    """Rectangles of ground that are annotated, with their kind."""
    sprites: list[Sprite] = field(default_factory=list)
    grid: dict[tuple[int, int], list[Rectangle]] = field(default_factory=dict)
    """What is taken, by cells of `CELL` metres."""

    def add(
        self, kind: str, centre: tuple[float, float], angle: float, size: tuple[float, float], colour: str | None = None
    ) -> bool:
        """Put a thing down, if it is inside the picture and nothing is there; `size` is its length and breadth."""
        sprite = place(kind, centre, angle, size, colour)
        x1, y1, x2, y2 = box = hull(sprite.polygon)
        cells = [
            (i, j)
            for i in range(int(x1 // CELL), int(x2 // CELL) + 1)
            for j in range(int(y1 // CELL), int(y2 // CELL) + 1)
        ]
        if x1 < 0.3 or y1 < 0.3 or x2 > self.size[0] - 0.3 or y2 > self.size[1] - 0.3:
            return False
        if any(_meet(box, other) for cell in cells for other in self.grid.get(cell, ())):
            return False
        for cell in cells:
            self.grid.setdefault(cell, []).append(box)
        self.sprites.append(sprite)
        return True


CELL = 16.0


def _meet(a: Rectangle, b: Rectangle, gap: float = 0.35) -> bool:
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def draw_scene(rng: Random, size: tuple[int, int], *, metres: float | None = None) -> tuple[Image.Image, View]:
    """An RGB picture of `size` (width, height) in pixels and all that is known about it; the same `rng` state draws the
    same. `metres` is the side of a pixel on the ground, drawn from `METRES` if None."""
    if min(size) < SMALLEST or max(size) > LARGEST:
        raise ValueError(f"no scene of {size[0]}x{size[1]} pixels: its sides are {SMALLEST} to {LARGEST}.")
    if metres is None:
        metres = round(rng.uniform(*METRES), 3)
    elif not METRES[0] / 2 <= metres <= METRES[1] * 2:
        raise ValueError(f"metres = {metres}; a pixel covers {METRES[0] / 2} to {METRES[1] * 2} metres.")
    site = Site(rng, (size[0] * metres, size[1] * metres))
    used = _lay_out(site)
    image = ground(rng, size, [(_pixels(corners(r), metres), name) for r, name in site.surfaces])
    colours = {sprite: (ROOFS if sprite.kind in ("house", "warehouse") else PAINTS).get(sprite.colour or "")
               for sprite in site.sprites}  # fmt: skip
    paint(image, site.sprites, metres, colours)
    things = [Thing(kind, _pixels(corners(place), metres), whole=kind != "road") for place, kind in site.places]
    things += [Thing(sprite.kind, _pixels(sprite.polygon, metres), sprite.colour) for sprite in site.sprites]
    return image, View(
        tuple(things), KINDS, TRANSPORT, metres=metres, function=_function(used), functions=tuple(FUNCTIONS.values())
    )


def _pixels(polygon: Polygon, metres: float) -> Polygon:
    return tuple((x / metres, y / metres) for x, y in polygon)


def _function(used: dict[str, float]) -> str | None:
    ranked = sorted(used.items(), key=lambda item: -item[1])
    if not ranked or (len(ranked) > 1 and ranked[0][1] < DOMINANT * ranked[1][1]):
        return None
    return FUNCTIONS[ranked[0][0]]


def _lay_out(site: Site) -> dict[str, float]:
    """Roads, then blocks between them; returns the square metres of every use."""
    rng, (width, height) = site.rng, site.size
    site.surfaces.append(((0, 0, width, height), "grass"))
    across = list(_cuts(rng, height))  # y of roads from left to right
    down = list(_cuts(rng, width))
    roads: list[Rectangle] = [(0, y, width, y + ROAD) for y in across] + [(x, 0, x + ROAD, height) for x in down]
    for x1, y1, x2, y2 in roads:
        edge = (0, SIDEWALK) if x1 == 0 and x2 == width else (SIDEWALK, 0)
        site.surfaces.append(((x1 - edge[0], y1 - edge[1], x2 + edge[0], y2 + edge[1]), "sidewalk"))
    site.surfaces += [(road, "road") for road in roads]
    site.places += [(road, "road") for road in roads]
    _mark(site, across, down)
    favourite = rng.choice(list(FUNCTIONS))
    used: dict[str, float] = {}
    for y1, y2 in _between(across, height):
        for x1, x2 in _between(down, width):
            if min(x2 - x1, y2 - y1) < 6:
                continue
            block = (x1 + 1, y1 + 1, x2 - 1, y2 - 1)
            use = favourite if rng.random() < 0.6 else rng.choice(list(FUNCTIONS))
            if min(x2 - x1, y2 - y1) < 22:
                use = "park"
            USES[use](site, block)
            used[use] = used.get(use, 0.0) + (x2 - x1) * (y2 - y1)
    _traffic(site, across, down)
    return used


def _cuts(rng: Random, length: float) -> Iterator[float]:
    """Where roads begin."""
    at = rng.uniform(-10, min(45, length))
    while at + ROAD + SIDEWALK < length:
        if at > SIDEWALK:
            yield at
        at += ROAD + rng.uniform(42, 90)


def _between(starts: list[float], length: float) -> list[tuple[float, float]]:
    edges = [0.0, *(edge for start in starts for edge in (start - SIDEWALK, start + ROAD + SIDEWALK)), length]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _mark(site: Site, across: list[float], down: list[float]) -> None:
    """Dashes along the middle of roads, not on crossings."""
    for starts, others, length, lying in ((across, down, site.size[0], True), (down, across, site.size[1], False)):
        for start in starts:
            middle = start + ROAD / 2
            at = 1.0
            while at + 2.5 < length:
                if not any(other - 3 < at < other + ROAD + 1 for other in others):
                    dash = (at, middle - 0.1, at + 2.5, middle + 0.1)
                    site.surfaces.append((dash if lying else (dash[1], dash[0], dash[3], dash[2]), "line"))
                at += 6.5


def _traffic(site: Site, across: list[float], down: list[float]) -> None:
    """Vehicles that keep to the right, not on crossings."""
    rng = site.rng
    gap = rng.choice((12.0, 30.0, 80.0))
    for starts, others, length, lying in ((across, down, site.size[0], True), (down, across, site.size[1], False)):
        for start in starts:
            for lane in (0, 1):
                offset = start + (0.25 + 0.5 * lane) * ROAD
                # On the screen, with y down: to the left in the upper lane, downwards in the left one.
                angle = (math.pi if lane == 0 else 0.0) if lying else (math.pi / 2 if lane == 0 else -math.pi / 2)
                at = rng.expovariate(1 / gap)
                while at < length:
                    kind = rng.choices(("car", "van", "bus", "truck"), weights=(12, 3, 1, 2))[0]
                    long = SIZES[kind][0]
                    middle = at + long / 2
                    if not any(
                        other - SIDEWALK < middle + long / 2 and middle - long / 2 < other + ROAD + SIDEWALK
                        for other in others
                    ):
                        centre = (middle, offset + rng.uniform(-0.3, 0.3))
                        _vehicle(site, kind, centre if lying else centre[::-1], angle + rng.gauss(0, 0.02))
                    at += long + 2 + rng.expovariate(1 / gap)


def _vehicle(site: Site, kind: str, centre: tuple[float, float], angle: float) -> bool:
    long, wide = SIZES[kind]
    scale = site.rng.uniform(0.95, 1.05)
    return site.add(kind, centre, angle, (long * scale, wide), site.rng.choice(list(PAINTS)))


def _trees(site: Site, block: Rectangle, number: int) -> None:
    x1, y1, x2, y2 = block
    for _ in range(number):
        across = site.rng.uniform(2.8, 7.0)
        if min(x2 - x1, y2 - y1) > across + 0.5:
            r = across / 2
            site.add(
                "tree", (site.rng.uniform(x1 + r, x2 - r), site.rng.uniform(y1 + r, y2 - r)), 0.0, (across, across)
            )


def _size(block: Rectangle) -> float:
    return (block[2] - block[0]) * (block[3] - block[1])


def _park(site: Site, block: Rectangle) -> None:
    x1, y1, x2, y2 = block
    rng = site.rng
    if min(x2 - x1, y2 - y1) > 24:
        long, wide = rng.uniform(10, 16), rng.uniform(7, 10)
        site.add("body of water", (rng.uniform(x1 + 9, x2 - 9), rng.uniform(y1 + 9, y2 - 9)), 0.0, (long, wide))
    _trees(site, block, round(_size(block) * rng.uniform(0.002, 0.009)))


def _homes(site: Site, block: Rectangle) -> None:
    x1, y1, x2, y2 = block
    rng = site.rng
    columns, rows = max(1, int((x2 - x1) // 19)), max(1, int((y2 - y1) // 19))
    wide, high = (x2 - x1) / columns, (y2 - y1) / rows
    for i in range(columns):
        for j in range(rows):
            x, y = x1 + i * wide, y1 + j * high
            if rng.random() < 0.85:
                size = (rng.uniform(9, 12.5), rng.uniform(7, 9.5))
                turned = rng.random() < 0.5
                centre = (x + wide / 2 + rng.uniform(-1.5, 1.5), y + high / 2 + rng.uniform(-1.5, 1.5))
                site.add("house", centre, math.pi / 2 if turned else 0.0, size, rng.choice(list(ROOFS)))
            if rng.random() < 0.2:
                site.add("swimming pool", (x + 4.2, y + rng.uniform(3, high - 3)), math.pi / 2, (5.0, 2.8))
            if rng.random() < 0.35:
                _vehicle(
                    site, rng.choice(("car", "car", "van")), (x + wide - 2, y + rng.uniform(4, high - 4)), math.pi / 2
                )
    _trees(site, block, round(_size(block) * 0.003))


def _lot(site: Site, block: Rectangle) -> None:
    """Rows of stalls, straight or slanted, on asphalt; trees around."""
    x1, y1, x2, y2 = block
    rng = site.rng
    x2, y2 = min(x2, x1 + rng.uniform(30, 60)), min(y2, y1 + rng.uniform(24, 40))
    site.surfaces.append(((x1, y1, x2, y2), "asphalt"))
    site.places.append(((x1, y1, x2, y2), "parking lot"))
    slant = rng.choice((math.pi / 2, math.pi / 2, math.pi / 3))
    step = 2.9 / math.sin(slant)
    full = rng.choice((0.06, 0.3, 0.75))
    y = y1 + 1.5
    while y + 5.6 < y2:
        x = x1 + 2.6
        while x + 2.6 < x2:
            half = math.cos(slant) * 2.5
            for side in (-1, 1):
                foot = x + side * step / 2
                if side < 0 or x + step + 2.6 >= x2:
                    site.surfaces.append(((foot - 0.06, y + 0.2, foot + 0.06, y + 5.2), "line")) if half < 0.1 else None
            if rng.random() < full:
                turn = 0.0 if rng.random() < 0.5 else math.pi
                kind = rng.choices(("car", "van"), weights=(6, 1))[0]
                _vehicle(site, kind, (x, y + 2.8), slant + turn + rng.gauss(0, 0.015))
            x += step
        y += 5.6 + 6.4
    _trees(site, (x1, y2 + 1, block[2], block[3]), 4)


def _courts(site: Site, block: Rectangle) -> None:
    x1, y1, x2, y2 = block
    rng = site.rng
    y = y1 + 3
    while y + 19 < y2:
        x = x1 + 3
        while x + 38 < x2:
            if rng.random() < 0.8:
                site.add("tennis court", (x + 18, y + 9), 0.0, (34.0, 17.0))
            x += 39
        y += 21
    _trees(site, block, round(_size(block) * 0.003))


def _industry(site: Site, block: Rectangle) -> None:
    x1, y1, x2, y2 = block
    rng = site.rng
    site.surfaces.append((block, "concrete"))
    for _ in range(max(2, round(_size(block) / 900))):
        kind = rng.choice(("warehouse", "warehouse", "storage tank"))
        if kind == "warehouse":
            size = (rng.uniform(18, 34), rng.uniform(12, 20))
            angle = rng.choice((0.0, math.pi / 2))
        else:
            size, angle = (rng.uniform(8, 13),) * 2, 0.0
        half = [side / 2 + 1 for side in (size if angle == 0 else size[::-1])]
        if x2 - x1 > 2 * half[0] and y2 - y1 > 2 * half[1]:
            centre = (rng.uniform(x1 + half[0], x2 - half[0]), rng.uniform(y1 + half[1], y2 - half[1]))
            site.add(kind, centre, angle, size, rng.choice(list(ROOFS)) if kind == "warehouse" else None)
    for _ in range(round(_size(block) / 400)):
        kind = rng.choice(("truck", "truck", "van", "car"))
        centre = (rng.uniform(x1 + 6, x2 - 6), rng.uniform(y1 + 6, y2 - 6))
        _vehicle(site, kind, centre, rng.uniform(0, 2 * math.pi))


def _lake(site: Site, block: Rectangle) -> None:
    x1, y1, x2, y2 = block
    rng = site.rng
    shore = 4.0
    water = (x1 + shore, y1 + shore, x2 - shore, y2 - shore)
    site.surfaces += [((x1 + 2.5, y1 + 2.5, x2 - 2.5, y2 - 2.5), "sand"), (water, "water")]
    site.places.append((water, "body of water"))
    for _ in range(rng.randint(1, 3 + int(_size(block) / 500))):
        centre = (rng.uniform(water[0] + 5, water[2] - 5), rng.uniform(water[1] + 5, water[3] - 5))
        site.add(
            "boat",
            centre,
            rng.uniform(0, 2 * math.pi),
            (rng.uniform(6, 9), rng.uniform(2.2, 2.8)),
            rng.choice(list(PAINTS)),
        )


USES = {"homes": _homes, "lot": _lot, "courts": _courts, "park": _park, "industry": _industry, "lake": _lake}
