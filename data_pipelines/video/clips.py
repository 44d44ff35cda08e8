"""What happens in a drawn clip: shapes that appear and leave, move, change colour and collide, at known times.

`draw_clip` makes a script; `render.py` paints it, `ask.py` asks about it. Every shape has cells of a grid to itself, so
shapes meet only where a collision is meant. All times are multiples of `Form.step`, which is a multiple of the time of
a frame: frame k shows the clip at k / fps seconds, and a shape seen from 2 to 5 s at 4 fps is in frames 8 to 19.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Literal

from data_pipelines.gui.shapes import COLOURS, THEMES
from mmrl.plugins import ConfigError

Scale = Literal["tiny", "full"]
Role = Literal["visitor", "changer", "mover", "pair", "still"]
Happening = Literal["appears", "leaves", "moves", "changes", "hits"]

FLAT = ("square", "circle", "diamond", "cross")
"""Kinds as wide as their box at half height, where colliding shapes touch."""
BACKGROUNDS = {name: theme.page for name, theme in THEMES.items()}
EDGE = 1
"""Pixels between a shape and the edge of its cells."""


@dataclass(frozen=True)
class Form:
    """How large, long and busy clips are."""

    size: tuple[int, int]
    """(width, height) in pixels, even."""
    fps: int
    seconds: int
    step: float
    """Seconds; every time is a multiple of it."""
    grid: tuple[int, int]
    """Columns and rows of cells."""
    actors: tuple[int, int]
    """Least and largest number of shapes."""
    kinds: tuple[str, ...]


FORMS: dict[Scale, Form] = {
    "tiny": Form((32, 32), 2, 8, 1.0, (2, 2), (1, 3), ("square", "triangle", "cross")),
    "full": Form((448, 336), 8, 12, 0.25, (4, 3), (3, 6), ("square", "circle", "triangle", "diamond", "star", "cross")),
}


@dataclass(frozen=True)
class Actor:
    """A shape. Times in seconds, places in pixels."""

    colour: str
    kind: str
    diameter: int
    seen: tuple[float, float]
    """From when until when it is in view; the end is the first moment it is not."""
    track: tuple[tuple[float, float, float], ...]
    """(time, x, y) of its centre: straight lines between, rest before the first and after the last."""
    turns: tuple[float, str] | None = None
    """When it changes colour, and to which."""

    @property
    def name(self) -> str:
        """What questions call it, by its first colour; unique within a clip."""
        return f"{self.colour} {self.kind}"

    @property
    def moving(self) -> tuple[float, float] | None:
        return (self.track[0][0], self.track[-1][0]) if len(self.track) > 1 else None

    def colour_at(self, time: float) -> str:
        return self.turns[1] if self.turns and time >= self.turns[0] else self.colour

    def in_view(self, time: float) -> bool:
        return self.seen[0] <= time < self.seen[1]

    def place(self, time: float) -> tuple[float, float]:
        """(x, y) of the centre."""
        for (t0, x0, y0), (t1, x1, y1) in pairwise(self.track):
            if t0 <= time <= t1:
                share = (time - t0) / (t1 - t0)
                return x0 + share * (x1 - x0), y0 + share * (y1 - y0)
        return self.track[0][1:] if time < self.track[0][0] else self.track[-1][1:]


@dataclass(frozen=True)
class Event:
    """Something that happens at a moment, `moves` being the moment a movement begins."""

    what: Happening
    time: float
    actor: Actor
    other: Actor | None = None
    """Of `hits`, the shape that is hit."""


@dataclass(frozen=True)
class Clip:
    form: Form
    background: str
    actors: tuple[Actor, ...]
    hits: tuple[tuple[float, int, int], ...] = ()
    """(time, actor, actor) of every collision, the left one first."""

    def events(self) -> list[Event]:
        """Everything that happens after the first moment and before the end, by time."""
        found = []
        for actor in self.actors:
            if actor.seen[0] > 0:
                found.append(Event("appears", actor.seen[0], actor))
            if actor.seen[1] < self.form.seconds:
                found.append(Event("leaves", actor.seen[1], actor))
            if actor.moving:
                found.append(Event("moves", actor.moving[0], actor))
            if actor.turns:
                found.append(Event("changes", actor.turns[0], actor))
        found += [Event("hits", time, self.actors[a], self.actors[b]) for time, a, b in self.hits]
        return sorted(found, key=lambda event: (event.time, event.what, event.actor.name))

    def in_view(self, time: float) -> list[Actor]:
        return [actor for actor in self.actors if actor.in_view(time)]


def form_of(
    scale: Scale, *, size: tuple[int, int] | None = None, fps: int | None = None, seconds: int | None = None
) -> Form:
    """The form of a scale with other measures; ConfigError for measures that no clip can have."""
    form = FORMS[scale]
    width, height = size or form.size
    form = replace(form, size=(width, height), fps=fps or form.fps, seconds=seconds or form.seconds)
    if width % 2 or height % 2:
        raise ConfigError(f"size = {width}x{height}: video is stored in pairs of pixels; both must be even.")
    if min(width // form.grid[0], height // form.grid[1]) < 16:
        least = tuple(16 * cells for cells in form.grid)
        raise ConfigError(f"size = {width}x{height}: {scale} clips are at least {least[0]}x{least[1]}.")
    if (form.fps * form.step) % 1:
        raise ConfigError(f"fps = {form.fps}: times are multiples of {form.step} s, so it must be a multiple of "
                          f"{round(1 / form.step)}.")  # fmt: skip
    if form.seconds < 6:
        raise ConfigError(f"seconds = {form.seconds}: clips last at least 6.")
    return form


def draw_clip(rng: Random, form: Form) -> Clip:
    """The same `rng` state draws the same clip. At least one thing happens in it."""
    roles = _roles(rng, form)
    looks = _looks(rng, form, roles)
    actors: list[Actor] = []
    hits = []
    for role, cells in roles:
        if role == "pair":
            time, left, right = _collision(rng, form, cells, next(looks), next(looks))
            hits.append((time, len(actors), len(actors) + 1))
            actors += [left, right]
        else:
            actors.append(_alone(rng, form, role, cells, next(looks)))
    return Clip(form, rng.choice(list(BACKGROUNDS)), tuple(actors), tuple(hits))


Cells = tuple[int, int, int]
"""Column, row, and how many cells to the right."""


def _roles(rng: Random, form: Form) -> list[tuple[Role, Cells]]:
    """What the shapes of a clip do, and where; two cells side by side for those that move."""
    wanted = rng.randint(*form.actors)
    columns, rows = form.grid
    free = {(column, row) for column in range(columns) for row in range(rows)}
    roles: list[tuple[Role, Cells]] = []
    count = 0
    while count < wanted and free:
        wide = sorted(c for c in free if (c[0] + 1, c[1]) in free)
        choices: dict[Role, int] = {"visitor": 4, "changer": 2}
        if roles:
            choices["still"] = 1
        if wide:
            choices["mover"] = 3
        if wide and wanted - count >= 2:
            choices["pair"] = 3
        role = rng.choices(list(choices), weights=list(choices.values()))[0]
        width = 2 if role in ("mover", "pair") else 1
        column, row = rng.choice(wide if width == 2 else sorted(free))
        free -= {(column + i, row) for i in range(width)}
        roles.append((role, (column, row, width)))
        count += 2 if role == "pair" else 1
    return roles


def _looks(rng: Random, form: Form, roles: list[tuple[Role, Cells]]) -> Iterator[tuple[str, str, str]]:
    """(colour, kind, second colour) per shape: no two shapes ever look alike, and tiny ones share no colour."""
    used: set[str] = set()
    alone = form.size[0] < 64
    for role, _ in roles:
        for _ in range(2 if role == "pair" else 1):
            while True:
                kind = rng.choice([kind for kind in form.kinds if role != "pair" or kind in FLAT])
                first, second = rng.sample(list(COLOURS), 2)
                new = {first if alone else f"{first} {kind}"}
                if role == "changer":
                    new.add(second if alone else f"{second} {kind}")
                if not new & used:
                    break
            used |= new
            yield first, kind, second


def _times(rng: Random, form: Form, count: int, *, least: float = 1.0) -> list[float]:
    """Increasing times, multiples of the step, at least `least` seconds apart and covering 3/4 of the clip at most."""
    last = round(form.seconds / form.step)
    apart = max(1, round(least / form.step))
    while True:
        times = sorted(rng.randint(0, last) for _ in range(count))
        if all(b - a >= apart for a, b in pairwise(times)) and times[-1] - times[0] <= 0.75 * last:
            return [time * form.step for time in times]


def _box(form: Form, cells: Cells) -> tuple[float, float, float, float]:
    width, height = form.size[0] / form.grid[0], form.size[1] / form.grid[1]
    column, row, wide = cells
    return (
        column * width + EDGE,
        row * height + EDGE,
        (column + wide) * width - EDGE,
        (row + 1) * height - EDGE,
    )


def _diameter(rng: Random, form: Form, shares: tuple[float, float] = (0.56, 0.75)) -> int:
    """Pixels; a share of the shorter side of a cell."""
    side = min(form.size[0] // form.grid[0], form.size[1] // form.grid[1])
    return rng.randint(*(round(share * side) for share in shares))


def _alone(rng: Random, form: Form, role: Role, cells: Cells, look: tuple[str, str, str]) -> Actor:
    colour, kind, second = look
    diameter = _diameter(rng, form)
    x1, y1, x2, y2 = _box(form, cells)
    half = diameter / 2

    def anywhere() -> tuple[float, float]:
        return round(rng.uniform(x1 + half, x2 - half), 2), round(rng.uniform(y1 + half, y2 - half), 2)

    seen: tuple[float, float] = (0.0, float(form.seconds))
    turns = None
    track = [(0.0, *anywhere())]
    if role == "visitor":
        seen = tuple(_times(rng, form, 2))  # type: ignore[assignment]
    elif role == "changer":
        # Late and early enough for both colours to be seen.
        turns = (rng.randint(round(1 / form.step), round((form.seconds - 1) / form.step)) * form.step, second)
    elif role == "mover":
        start, end = _times(rng, form, 2)
        track, time = [(start, *anywhere())], start
        while time < end:
            time = min(time + 1, end)
            place = anywhere()
            while abs(place[0] - track[-1][1]) < 0.3 * (x2 - x1 - diameter):
                place = anywhere()
            track.append((time, *place))
    return Actor(colour, kind, diameter, seen, tuple(track), turns)


def _collision(
    rng: Random, form: Form, cells: Cells, left: tuple[str, str, str], right: tuple[str, str, str]
) -> tuple[float, Actor, Actor]:
    """Two shapes that come from the sides, touch at half height, and go back: (time of contact, left, right)."""
    start, contact, end = _times(rng, form, 3)
    x1, y1, x2, y2 = _box(form, cells)
    sizes = [_diameter(rng, form, (0.44, 0.6)) for _ in range(2)]  # smaller, to have a way to go
    largest = max(sizes) / 2
    y = round(rng.uniform(y1 + largest, y2 - largest), 2)
    room = (x2 - x1 - sum(sizes)) / 2
    touch = round(x1 + sizes[0] + room * rng.uniform(0.8, 1.2), 2)
    actors = []
    for (colour, kind, _), size, outer, side in zip((left, right), sizes, (x1, x2), (-1, 1), strict=True):
        at_touch = touch + side * size / 2
        away = [round(at_touch + (outer - side * size / 2 - at_touch) * rng.uniform(0.7, 1), 2) for _ in range(2)]
        track = ((start, away[0], y), (contact, at_touch, y), (end, away[1], y))
        actors.append(Actor(colour, kind, size, (0.0, float(form.seconds)), track))
    return contact, actors[0], actors[1]
