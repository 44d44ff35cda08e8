"""Questions about annotated objects seen from above, with answers computed from the annotations.

A question is asked only where its answer is certain: what the annotations leave open (difficult objects, regions that
nobody annotated, lines that could not be read) is never counted, and its absence never claimed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from random import Random
from typing import Any

from data_pipelines.reading import Row
from data_pipelines.uav.prompts import listed, prompt, units
from data_pipelines.uav.tiles import Box, Polygon, area, hull
from mmrl.plugins import ConfigError, nearest

BINS = ((10.0, "between 0m2 and 10m2"), (100.0, "between 10m2 and 100m2"), (1000.0, "between 100m2 and 1000m2"))
"""HRVQA's: upper end, included, and name."""
LARGEST_BIN, NO_AREA = "more than 1000m2", "0m2"
BIN_NAMES = (*(name for _, name in BINS), LARGEST_BIN)

CLEAR = 0.1
"""An area closer than this share to the end of a bin is not asked for; outlines are drawn by hand."""
LARGER = 1.5
"""How many times as much the larger of two things covers, for the question which one does."""
STRAIGHT = 2.0
"""How many times as far apart two things are along one axis as along the other, for the question where one is."""


@dataclass(frozen=True)
class Thing:
    """An annotated object."""

    kind: str
    polygon: Polygon
    """Corners in pixels of the stored picture."""
    colour: str | None = None
    hard: bool = False
    """Whether it is called difficult, is mostly hidden, or is cut by an edge: it may or may not be counted."""
    whole: bool = True
    """Whether all of it is in the picture, so that its area is known."""

    @property
    def box(self) -> Box:
        return hull(self.polygon)

    @property
    def centre(self) -> tuple[float, float]:
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True)
class View:
    """What is known about a picture."""

    things: tuple[Thing, ...]
    kinds: Mapping[str, str]
    """Every kind that was looked for, present or not -> its plural."""
    transport: frozenset[str] = frozenset()
    """Kinds that are means of transport."""
    unsure: frozenset[str] = frozenset()
    """Kinds of which there may be more."""
    complete: bool = True
    """Whether all things of other kinds are among `things`, outside `ignored`."""
    ignored: tuple[Box, ...] = ()
    """Regions in which things were not annotated."""
    bounded: bool = True
    """Whether no thing leaves the picture."""
    metres: float | None = None
    """Side of a pixel on the ground."""
    function: str | None = None
    functions: tuple[str, ...] = ()
    """What places may be for, `function` among them."""

    def of(self, kind: str) -> list[Thing]:
        return [thing for thing in self.things if thing.kind == kind]

    def certain(self, kind: str) -> bool:
        """Whether `of(kind)` are all there are, and each of them counts."""
        known = self.complete and not self.ignored and kind not in self.unsure
        return known and not any(thing.hard for thing in self.of(kind))


@dataclass(frozen=True)
class Question:
    """What is asked and what is right."""

    task: str
    text: str
    answer: str | None = None
    gold: dict[str, Any] = field(default_factory=dict)
    """Further keys of the target."""


Asker = Callable[[View, Random], Question | None]
"""Draws a question of one task; None if the view has none to ask (this time)."""


def area_bin(square_metres: float) -> str:
    """HRVQA's name for an area."""
    return next((name for end, name in BINS if square_metres <= end), LARGEST_BIN) if square_metres > 0 else NO_AREA


def pixel_box(thing: Thing) -> list[float]:
    """The upright box of a thing as rewards read it, pixels of the picture, none negative."""
    return [round(max(value, 0.0), 2) for value in thing.box]


def ask_about(
    view: View,
    rng: Random,
    *,
    number: int,
    tasks: Sequence[str] | None = None,
    coordinates: str = "pixel",
    most: int = 30,
) -> Iterator[Question]:
    """Up to `number` different questions, each task once before any is asked again, tasks in random order.

    Objects of which there are more than `most` are not counted.
    """
    askers = asking(coordinates, most)
    names = list(askers) if tasks is None else check_tasks(tasks)
    asked: set[str] = set()
    for _ in range(number):  # rounds
        rng.shuffle(names)
        for name in names:
            question = askers[name](view, rng)
            if question is not None and question.text not in asked:
                asked.add(question.text)
                yield question
                if len(asked) == number:
                    return


def rows_of(
    questions: Iterator[Question], *, image: str, name: str, meta: dict[str, Any], think: bool, coordinates: str
) -> Iterator[Row]:
    """Rows of a picture's questions; ids are `name`-0, `name`-1, ..."""
    for number, question in enumerate(questions):
        answer = {} if question.answer is None else {"answer": question.answer}
        yield {
            "id": f"{name}-{number}",
            "messages": [{"role": "user", "content": [
                {"type": "image", "image": image},
                {"type": "text", "text": prompt(question.text, think=think)},
            ]}],
            "target": answer | question.gold,
            "meta": {"task": question.task, "coordinates": coordinates} | meta,
        }  # fmt: skip


def asking(coordinates: str, most: int) -> dict[str, Asker]:
    """Task -> what asks for it."""
    unit = units(coordinates)

    def count(view: View, rng: Random) -> Question | None:
        named = {(thing.kind, colour) for thing in view.things for colour in {None, thing.colour}}
        options = sorted((pair for pair in named if view.certain(pair[0])), key=str)
        if not options:
            return None
        kind, colour = rng.choice(options)
        counted = [thing for thing in view.of(kind) if colour in (None, thing.colour)]
        if len(counted) > most:
            return None
        gold = {"count": len(counted)} | ({"boxes": [pixel_box(t) for t in counted]} if view.bounded else {})
        text = f"How many {_named(view.kinds[kind], colour)} are there?"
        return Question("count", text, str(len(counted)), gold)

    def locate(view: View, rng: Random) -> Question | None:
        singles = _singles(view)
        if not singles:
            return None
        name, thing = rng.choice(singles)
        x1, y1, x2, y2 = box = pixel_box(thing)
        if not (x1 < x2 and y1 < y2):
            return None
        text = f"Where is the {name}? Answer with its box [x1, y1, x2, y2] {unit}."
        return Question("locate", text, None, {"box": box, "point": [round((x1 + x2) / 2, 2), round((y1 + y2) / 2, 2)]})

    return {
        "count": count, "presence": _presence, "transport": _transport, "colour": _colour, "place": _place,
        "area": _area, "comparison": _comparison, "function": _function, "locate": locate,
    }  # fmt: skip


def check_tasks(tasks: Sequence[str]) -> list[str]:
    """The tasks as a list; ConfigError for one that does not exist."""
    known = list(asking("pixel", 0))
    for task in tasks:
        if task not in known:
            raise ConfigError(f"tasks: {task} is not a task. {nearest(task, known)}")
    return list(tasks)


def _named(noun: str, colour: str | None) -> str:
    return f"{colour} {noun}" if colour else noun


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _singles(view: View) -> list[tuple[str, Thing]]:
    """Things of which a name says which one is meant: the only one of its kind, or of its kind and colour."""
    certain = {kind for kind in view.kinds if view.certain(kind)}
    kinds = Counter(thing.kind for thing in view.things)
    colours = Counter((thing.kind, thing.colour) for thing in view.things)
    singles = []
    for thing in view.things:
        if thing.kind not in certain:
            continue
        if kinds[thing.kind] == 1:
            singles.append((thing.kind, thing))
        elif thing.colour and colours[thing.kind, thing.colour] == 1:
            singles.append((f"{thing.colour} {thing.kind}", thing))
    return singles


def _presence(view: View, rng: Random) -> Question | None:
    """Yes and no equally often where both are possible."""
    present = sorted({thing.kind for thing in view.things if not thing.hard})
    absent = [kind for kind in view.kinds if view.certain(kind) and not view.of(kind)]
    if not present and not absent:
        return None
    yes = bool(present) and (not absent or rng.random() < 0.5)
    kind = rng.choice(present if yes else absent)
    return Question("presence", f"Is there {_article(kind)} in the picture?", "yes" if yes else "no")


def _transport(view: View, rng: Random) -> Question | None:
    """One means of transport that is there, among two or three that are not."""
    present = sorted({thing.kind for thing in view.things if thing.kind in view.transport and not thing.hard})
    absent = sorted(kind for kind in view.transport if view.certain(kind) and not view.of(kind))
    if not present or len(absent) < 2:
        return None
    answer = rng.choice(present)
    options = [answer, *rng.sample(absent, min(3, len(absent)))]
    rng.shuffle(options)
    return Question("transport", f"Which means of transport can be seen: {listed(options)}?", answer)


def _colour(view: View, rng: Random) -> Question | None:
    singles = [(name, thing) for name, thing in _singles(view) if thing.colour and name == thing.kind]
    if not singles:
        return None
    name, thing = rng.choice(singles)
    return Question("colour", f"What colour is the {name}?", thing.colour)


def direction(a: Thing, b: Thing) -> str | None:
    """Where `a` is, seen from `b`, as the picture shows it (above is towards its upper edge); None if that is not
    clear: they must be apart along one axis, and their centres at least `STRAIGHT` times as far as along the other."""
    dx, dy = (p - q for p, q in zip(a.centre, b.centre, strict=True))
    axis = 0 if abs(dx) >= abs(dy) else 1
    near, far = sorted((abs(dx), abs(dy)))
    first, second = (a, b) if (dx, dy)[axis] < 0 else (b, a)
    if far < STRAIGHT * near or first.box[axis + 2] > second.box[axis]:
        return None
    return (("left", "right"), ("above", "below"))[axis][0 if first is a else 1]


def _place(view: View, rng: Random) -> Question | None:
    singles = _singles(view)
    if len(singles) > 12:
        singles = rng.sample(singles, 12)
    pairs = [(a, b, where) for a, b in permutations(singles, 2) if (where := direction(a[1], b[1]))]
    if not pairs:
        return None
    (name, _), (other, _), where = rng.choice(pairs)
    text = f"Where is the {name}, seen from the {other}: left, right, above or below?"
    return Question("place", text, where)


def _area(view: View, rng: Random) -> Question | None:
    if view.metres is None:
        return None
    ground = [(name, area(thing.polygon) * view.metres**2) for name, thing in _singles(view) if thing.whole]
    clear = [(name, size) for name, size in ground if size > 0 and all(abs(size / end - 1) > CLEAR for end, _ in BINS)]
    if not clear:
        return None
    name, size = rng.choice(clear)
    text = f"How large is the area of the {name}: {listed(list(BIN_NAMES))}?"
    return Question("area", text, area_bin(size), {"area": round(size, 2)})


def _comparison(view: View, rng: Random) -> Question | None:
    """Of two numbers, or of the areas of two things."""
    if rng.random() < 0.5:
        return _which_is_larger(view, rng)
    counts = {kind: len(view.of(kind)) for kind in view.kinds if view.certain(kind)}
    present = [kind for kind, number in counts.items() if number]
    others = present if len(present) > 1 else list(counts)
    if not present or len(others) < 2:
        return None
    first = rng.choice(present)
    second = rng.choice([kind for kind in others if kind != first])
    pair = [first, second]
    rng.shuffle(pair)
    names = [view.kinds[kind] for kind in pair]
    difference = counts[pair[0]] - counts[pair[1]]
    answer = "equal" if difference == 0 else names[0 if difference > 0 else 1]
    text = f"Are there more {names[0]} or more {names[1]}? Answer {listed([*names, 'equal'])}."
    return Question("comparison", text, answer)


def _which_is_larger(view: View, rng: Random) -> Question | None:
    singles = _singles(view)
    if len(singles) < 2:
        return None
    pair = rng.sample(singles, 2)
    sizes = [area(thing.polygon) for _, thing in pair]
    if max(sizes) < LARGER * min(sizes):
        return None
    names = [name for name, _ in pair]
    text = f"Which covers more of the picture: the {names[0]} or the {names[1]}?"
    return Question("comparison", text, names[sizes.index(max(sizes))])


def _function(view: View, rng: Random) -> Question | None:
    if view.function is None:
        return None
    options = list(view.functions)
    rng.shuffle(options)
    return Question("function", f"What is this place for: {listed(options)}?", view.function)
