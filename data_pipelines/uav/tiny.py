"""Tiny pictures from above, 64x64 pixels, for a model of a million parameters: a road or two with up to nine coloured
cars, perhaps a house, trees, a river. Questions have answers of one token.

Cars and houses have the six colours of `gui/shapes.py`; ground, road, trees and water have colours of their own. No
two things touch, and nothing covers a thing that is asked about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from random import Random

from PIL import Image, ImageDraw

from data_pipelines.gui.shapes import COLOURS, Box, overlap
from data_pipelines.uav.questions import Question

GRASS = ((150, 166, 108), (172, 158, 118), (134, 150, 110))
ROAD, LINE = (104, 106, 112), (206, 204, 196)
LEAVES, BRANCHES = (44, 84, 40), (62, 106, 52)
WATER, WAVES = (120, 156, 176), (150, 182, 198)
RIDGE, WINDOW = (236, 236, 232), (28, 30, 36)

SMALLEST, LARGEST = 64, 128
"""Sides of a tiny picture in pixels."""
MOST_CARS = 9
WIDTH = 14
"""Of a road, in pixels: two lanes."""
LENGTH, BREADTH = 9, 5
"""Of a car, in pixels."""
SLOT = 12
"""Pixels of a lane for one car."""


@dataclass(frozen=True)
class Seen:
    """One thing of a tiny picture."""

    kind: str
    """`car`, `house`, `tree` or `river`."""
    colour: str | None
    box: Box
    """(x1, y1, x2, y2) in pixels, tight, end exclusive."""

    @property
    def name(self) -> str:
        return f"{self.colour} car" if self.kind == "car" else self.kind


def draw_tiny(rng: Random, size: tuple[int, int] = (64, 64)) -> tuple[Image.Image, list[Seen]]:
    """An RGB picture of `size` (width, height) and all that is in it; 0 to 9 cars, each number equally often."""
    if min(size) < SMALLEST or max(size) > LARGEST:
        raise ValueError(f"no tiny picture of {size[0]}x{size[1]} pixels: its sides are {SMALLEST} to {LARGEST}.")
    image = Image.new("RGB", size, rng.choice(GRASS))
    draw = ImageDraw.Draw(image)
    seen: list[Seen] = []
    taken: list[Box] = []
    lying = rng.random() < 0.5  # roads run from left to right
    long, high = size if lying else size[::-1]
    first, last = 2, high - WIDTH - 2
    if rng.random() < 0.5:
        river = _river(rng, size)
        _paint_river(draw, river)
        seen.append(Seen("river", None, river))
        taken.append(river)
        x1, y1, x2, y2 = _turned(river, lying)
        if x2 - x1 == long:  # beside a road, not under it
            first, last = (y2 + 1, last) if y1 == 0 else (first, y1 - WIDTH - 1)
    roads = [rng.randint(first, last)]
    second = rng.randint(first, last)
    if rng.random() < 0.4 and abs(second - roads[0]) > WIDTH + 2:
        roads.append(second)
    slots = []
    for top in roads:
        taken.append(_turned((0, top, long, top + WIDTH), lying))
        _rectangle(draw, taken[-1], ROAD)
        for x in range(1, long, 8):
            _rectangle(draw, _turned((x, top + WIDTH // 2, x + 4, top + WIDTH // 2 + 1), lying), LINE)
        lanes = (top + 1, top + WIDTH - BREADTH - 1)
        slots += [(x, y) for y in lanes for x in range(0, long - SLOT + 1, SLOT)]
    palette = rng.sample(list(COLOURS), rng.randint(1, 4))
    for x, y in rng.sample(slots, rng.randint(0, MOST_CARS)):
        x += rng.randint(1, SLOT - LENGTH - 1)
        car = Seen("car", rng.choice(palette), _turned((x, y, x + LENGTH, y + BREADTH), lying))
        _paint_car(draw, car, lying)
        seen.append(car)
    for kind, number, sides in (("house", rng.randint(0, 1), (14, 19)), ("tree", rng.choice((0, 0, 1, 2, 3)), (8, 11))):
        for _ in range(number):
            box = _room(rng, size, sides, taken)
            if box is not None:
                taken.append(box)
                thing = Seen(kind, rng.choice(list(COLOURS)) if kind == "house" else None, box)
                (_paint_house if kind == "house" else _paint_tree)(draw, thing)
                seen.append(thing)
    return image, seen


def ask_tiny(rng: Random, seen: list[Seen]) -> Question:
    """A question of a random task; `colour`, `place` and `comparison` only where the picture has one."""
    while True:
        question = rng.choice(ASKERS)(rng, seen)
        if question is not None:
            return question


def mistake(rng: Random, question: Question) -> str:
    """A wrong answer of the same kind: a number one or two off, another colour, the other word."""
    assert question.answer is not None
    if question.task == "count":
        near = [number for number in range(MOST_CARS + 1) if 0 < abs(number - int(question.answer)) <= 2]
        return str(rng.choice(near))
    words = question.text.rstrip("?").split()
    others: dict[str, tuple[str, ...]] = {
        "presence": ("yes", "no"),
        "colour": tuple(COLOURS),
        "place": ("left", "right") if "left" in words else ("above", "below"),
        "comparison": (words[1], words[3 % len(words)], "same"),
    }
    return rng.choice([other for other in others[question.task] if other != question.answer])


def _cars(seen: list[Seen]) -> Counter[str]:
    return Counter(str(thing.colour) for thing in seen if thing.kind == "car")


def _count(rng: Random, seen: list[Seen]) -> Question:
    cars = _cars(seen)
    if rng.random() < 0.5 or not cars:
        number, text = cars.total(), "how many cars?"
    else:
        colour = rng.choice(sorted(cars) if rng.random() < 0.9 else list(COLOURS))
        number, text = cars[colour], f"how many {colour} cars?"
    return Question("count", text, str(number), {"count": number})


def _presence(rng: Random, seen: list[Seen]) -> Question:
    kind = rng.choice(("river", "house", "tree", "car"))
    if kind == "car":
        present = sorted(_cars(seen))
        absent = [colour for colour in COLOURS if colour not in present]
        kind = f"{rng.choice(present if present and rng.random() < 0.5 else absent)} car"
    there = any(thing.name == kind for thing in seen)
    return Question("presence", f"is there a {kind}?", "yes" if there else "no")


def _colour(rng: Random, seen: list[Seen]) -> Question | None:
    kinds = Counter(thing.kind for thing in seen if thing.colour)
    alone = [thing for thing in seen if thing.colour and kinds[thing.kind] == 1]
    if not alone:
        return None
    thing = rng.choice(alone)
    return Question("colour", f"what color is the {thing.kind}?", thing.colour)


def _place(rng: Random, seen: list[Seen]) -> Question | None:
    """Along an axis on which the two are apart."""
    names = Counter(thing.name for thing in seen)
    alone = [thing for thing in seen if names[thing.name] == 1 and thing.kind != "river"]
    pairs = [
        (a, b, axis)
        for a, b in permutations(alone, 2)
        for axis in (0, 1)
        if a.box[axis + 2] <= b.box[axis] or b.box[axis + 2] <= a.box[axis]
    ]
    if not pairs:
        return None
    a, b, axis = rng.choice(pairs)
    words = (("left", "right"), ("above", "below"))[axis]
    asked = "left or right of" if axis == 0 else "above or below"
    answer = words[0] if a.box[axis] < b.box[axis] else words[1]
    return Question("place", f"is the {a.name} {asked} the {b.name}?", answer)


def _comparison(rng: Random, seen: list[Seen]) -> Question | None:
    cars = _cars(seen)
    if len(cars) < 2:
        return None
    first, second = rng.sample(sorted(cars), 2)
    answer = "same" if cars[first] == cars[second] else max(first, second, key=lambda colour: cars[colour])
    return Question("comparison", f"more {first} or {second} cars?", answer)


ASKERS: tuple[Callable[[Random, list[Seen]], Question | None], ...] = (_count, _presence, _colour, _place, _comparison)


def _turned(box: Box, lying: bool) -> Box:
    return box if lying else (box[1], box[0], box[3], box[2])


def _rectangle(draw: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int]) -> None:
    draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=colour)


def _river(rng: Random, size: tuple[int, int]) -> Box:
    """A band along one edge."""
    wide, (width, height) = rng.randint(8, 11), size
    return rng.choice(((0, 0, wide, height), (width - wide, 0, width, height), (0, 0, width, wide),
                       (0, height - wide, width, height)))  # fmt: skip


def _paint_river(draw: ImageDraw.ImageDraw, box: Box) -> None:
    _rectangle(draw, box, WATER)
    lying = box[2] - box[0] > box[3] - box[1]
    x1, y1, x2, _ = _turned(box, lying)
    for i, x in enumerate(range(x1 + 2, x2 - 5, 7)):
        y = y1 + 2 + 3 * (i % 2)
        _rectangle(draw, _turned((x, y, x + 5, y + 1), lying), WAVES)


def _paint_car(draw: ImageDraw.ImageDraw, car: Seen, lying: bool) -> None:
    _, y1, x2, y2 = _turned(car.box, lying)
    _rectangle(draw, car.box, COLOURS[str(car.colour)])
    _rectangle(draw, _turned((x2 - 4, y1 + 1, x2 - 2, y2 - 1), lying), WINDOW)


def _paint_house(draw: ImageDraw.ImageDraw, house: Seen) -> None:
    x1, y1, x2, y2 = house.box
    _rectangle(draw, house.box, COLOURS[str(house.colour)])
    _rectangle(draw, (x1 + 2, (y1 + y2) // 2, x2 - 2, (y1 + y2) // 2 + 1), RIDGE)


def _paint_tree(draw: ImageDraw.ImageDraw, tree: Seen) -> None:
    x1, y1, x2, y2 = tree.box
    draw.ellipse((x1, y1, x2 - 1, y2 - 1), fill=LEAVES)
    draw.ellipse((x1 + 2, y1 + 1, x2 - 4, y2 - 4), fill=BRANCHES)


def _room(rng: Random, size: tuple[int, int], sides: tuple[int, int], taken: list[Box]) -> Box | None:
    """A free place a pixel from everything; None if forty tries find none."""
    for _ in range(40):
        side = rng.randint(*sides)
        x, y = rng.randint(1, size[0] - side - 1), rng.randint(1, size[1] - side - 1)
        box = (x, y, x + side, y + side)
        if not any(overlap(box, other, margin=1) for other in taken):
            return box
    return None
