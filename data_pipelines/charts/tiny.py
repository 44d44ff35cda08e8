"""Charts of 64x64 pixels for the tiny model: three to five coloured bars over a scale from 0 to 9, one-token answers.

A unit of the scale is six pixels, so that every value has its own height and a bar can be measured again. Drawn with
PIL alone: some thousands a second. Chats for a cold start are about the same pictures; a share of their answers is
wrong on purpose, so that reinforcement learning has something to improve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw

from data_pipelines.charts.questions import TASKS, AnswerType
from data_pipelines.dataset import write_samples
from data_pipelines.drawing import canvases
from data_pipelines.gui.shapes import COLOURS, THEMES, Colour
from mmrl.plugins import ConfigError

SIZE = 64
UNIT = 6
"""Pixels of one unit of the scale."""
FLOOR = 60
"""The row of pixels in which the axis lies; a bar of value v fills the rows FLOOR - UNIT * v up to FLOOR - 1."""
LEFT = 8
"""The column of the vertical axis; left of it stand the numbers."""
VALUES = range(1, 10)
"""A bar of 0 could not be told from one that is not there."""
BARS = (3, 5)
NOISE = 0.4
"""Default share of wrong answers in a cold start."""
QUESTIONS: dict[str, int] = {
    "highest": 3, "lowest": 3, "value": 6, "count": 2, "difference": 3, "comparison": 2, "above": 2,
}  # fmt: skip
"""Kind of question -> how often it is drawn, relative to the others."""
DIGITS = {
    0: ("###", "#.#", "#.#", "#.#", "###"), 3: ("###", "..#", "###", "..#", "###"),
    6: ("###", "#..", "###", "#.#", "###"), 9: ("###", "#.#", "###", "..#", "###"),
}  # fmt: skip
"""The numbers at the scale, 3x5 pixels."""


@dataclass(frozen=True)
class Bar:
    """A bar."""

    colour: str
    value: int
    left: int
    right: int
    """Columns of pixels, the right one not included."""


@dataclass(frozen=True)
class Asked:
    """A question, its answer, and wrong answers that a careless eye might give."""

    kind: str
    text: str
    answer: str
    type: AnswerType
    wrong: tuple[str, ...]


Picture = tuple[int, Random, str, list[Bar], dict[str, Any]]
"""Index, generator, path, bars, what `meta` says of it."""


def make_charts_tiny(
    out: str | Path, *, count: int = 2048, test_count: int = 256, seed: int = 0,
    questions: Sequence[str] = tuple(QUESTIONS),
) -> dict[str, Path]:  # fmt: skip
    """Draw charts and write `train.jsonl` (`count` rows) and `test.jsonl` (`test_count` rows) with their PNGs.

    One picture serves one row; `questions` are the kinds of `QUESTIONS` to ask. A picture has at least three bars of
    different colours, so the splits share next to none. Returns the path per split.
    """
    out = Path(out)
    _known(questions)
    return {
        split: write_samples(out / f"{split}.jsonl", _rows(out, split, rows, seed, questions))
        for split, rows in (("train", count), ("test", test_count))
    }


def make_charts_cold_start(
    out: str | Path, *, count: int = 4096, seed: int = 0, noise: float = NOISE, turns: int = 6,
    questions: Sequence[str] = tuple(QUESTIONS),
) -> dict[str, Path]:  # fmt: skip
    """Write `cold_start.jsonl`: `count` chats of up to `turns` different questions and answers about one picture each.

    With probability `noise` an answer is a wrong one (`Asked.wrong`), drawn for every question by itself.
    """
    out = Path(out)
    _known(questions)
    if not 0 <= noise <= 1 or turns < 1:
        raise ConfigError(f"noise = {noise}, turns = {turns}: a share of wrong answers, 0 to 1, and at least one turn.")
    return {"cold_start": write_samples(out / "cold_start.jsonl", _chats(out, count, seed, noise, turns, questions))}


def draw_bars(rng: Random) -> list[Bar]:
    """Bars from left to right: different colours, one of them highest and one lowest, some width and room between."""
    count = rng.randint(*BARS)
    values = [0] * count
    while values.count(max(values)) > 1 or values.count(min(values)) > 1:
        values = [rng.choice(VALUES) for _ in range(count)]
    colours = rng.sample(list(COLOURS), count)
    room = (SIZE - 2 - (LEFT + 1)) // count
    width = rng.randint(max(5, room // 2), room - 2)
    shift = LEFT + 2 + rng.randint(0, SIZE - 2 - (LEFT + 2) - room * count + (room - width) // 2)
    lefts = [shift + i * room for i in range(count)]
    drawn = zip(colours, values, lefts, strict=True)
    return [Bar(colour, value, x, x + width) for colour, value, x in drawn]


def paint_bars(bars: Sequence[Bar], theme: str, *, grid: bool = True) -> Image.Image:
    """The picture: a scale with numbers at 0, 3, 6 and 9, lines across there with `grid`, ticks at every unit."""
    look = THEMES[theme]
    image = Image.new("RGB", (SIZE, SIZE), look.page)
    draw = ImageDraw.Draw(image)
    for value in range(10):
        row = FLOOR - UNIT * value
        marked = value % 3 == 0
        if marked and grid:
            draw.line((LEFT, row, SIZE - 1, row), fill=look.line)
        draw.line((LEFT - (2 if marked else 1), row, LEFT, row), fill=look.ink)
        if marked:
            _digit(image, value, (1, row - 2), look.ink)
    for bar in bars:
        top = FLOOR - UNIT * bar.value
        draw.rectangle((bar.left, top, bar.right - 1, FLOOR - 1), fill=COLOURS[bar.colour])
    draw.line((LEFT, 4, LEFT, FLOOR), fill=look.ink)
    draw.line((LEFT, FLOOR, SIZE - 1, FLOOR), fill=look.ink)
    return image


def draw_question(rng: Random, bars: Sequence[Bar], kind: str) -> Asked | None:
    """A question of that kind; None where the drawn bars are equally high and one should be higher."""
    values = {bar.colour: bar.value for bar in bars}
    names = list(values)
    if kind in ("highest", "lowest"):
        name = (max if kind == "highest" else min)(names, key=values.__getitem__)
        wrong = tuple(colour for colour in names if colour != name)
        return Asked(kind, f"which bar is {kind}?", name, "text", wrong)
    if kind == "count":
        wrong = tuple(str(n) for n in range(BARS[0], BARS[1] + 1) if n != len(bars))
        return Asked(kind, "how many bars?", str(len(bars)), "integer", wrong)
    if kind == "above":
        bound = rng.choice(range(2, 9))
        number = sum(value > bound for value in values.values())
        wrong = tuple(str(n) for n in range(len(bars) + 1) if n != number)
        return Asked(kind, f"how many bars above {bound}?", str(number), "integer", wrong)
    first = rng.choice(names)
    if kind == "value":
        near = [str(values[first] + step) for step in (-2, -1, 1, 2) if values[first] + step in VALUES]
        return Asked(kind, f"value of the {first} bar?", str(values[first]), "integer", tuple(near))
    second = rng.choice([name for name in names if name != first])
    a, b = values[first], values[second]
    if kind == "difference":
        near = [str(n) for n in range(len(VALUES)) if 0 < abs(n - abs(a - b)) <= 2]
        return Asked(kind, f"difference between {first} and {second}?", str(abs(a - b)), "integer", tuple(near))
    if a == b:
        return None
    # Which of the two is named first is drawn by itself, so that yes is as likely as no.
    return Asked(kind, f"is {first} above {second}?", "yes" if a > b else "no", "yes_no", ("no" if a > b else "yes",))


def _known(questions: Sequence[str]) -> None:
    if not questions or not set(questions) <= set(QUESTIONS):
        raise ConfigError(f"questions = {list(questions)}: one or more of {', '.join(QUESTIONS)}.")


def _digit(image: Image.Image, value: int, corner: tuple[int, int], ink: Colour) -> None:
    for y, line in enumerate(DIGITS[value]):
        for x, dot in enumerate(line):
            if dot == "#":
                image.putpixel((corner[0] + x, corner[1] + y), ink)


def _pictures(out: Path, split: str, count: int, seed: int) -> Iterator[Picture]:
    """Draw and store `count` pictures; each has a generator of its own, seeded by (seed, split, index)."""
    for index, rng, path in canvases(out / split, f"charts-tiny/{seed}/{split}", count=count):
        bars = draw_bars(rng)
        theme, grid = rng.choice(list(THEMES)), rng.random() < 0.7
        paint_bars(bars, theme, grid=grid).save(path)
        meta = {"source": "charts-tiny", "split": split, "theme": theme, "bars": [asdict(bar) for bar in bars]}
        yield index, rng, str(path), bars, meta


def _some_question(rng: Random, bars: Sequence[Bar], questions: Sequence[str]) -> Asked:
    """Of one of these kinds, which has an answer: `_pictures` draws bars that all kinds can be asked of."""
    weights = [QUESTIONS[kind] for kind in questions]
    while (asked := draw_question(rng, bars, rng.choices(questions, weights)[0])) is None:
        pass
    return asked


def _rows(out: Path, split: str, count: int, seed: int, questions: Sequence[str]) -> Iterator[dict[str, Any]]:
    for index, rng, path, bars, meta in _pictures(out, split, count, seed):
        asked = _some_question(rng, bars, questions)
        yield {
            "id": f"charts-tiny-{split}-{index:06d}",
            "messages": [{"role": "user", "content": [
                {"type": "image", "image": path}, {"type": "text", "text": asked.text},
            ]}],
            "target": {"answer": asked.answer, "type": asked.type, "tolerance": 0.0},
            "meta": {"task": TASKS[asked.type], "question": asked.kind} | meta,
        }  # fmt: skip


def _chats(
    out: Path, count: int, seed: int, noise: float, turns: int, questions: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for index, rng, path, bars, meta in _pictures(out, "cold_start", count, seed):
        messages: list[dict[str, Any]] = []
        told: set[str] = set()
        for _ in range(10 * turns):  # few kinds of question have few questions
            asked = _some_question(rng, bars, questions)
            if asked.text in told or len(told) == turns:
                continue
            told.add(asked.text)
            answer = rng.choice(asked.wrong) if rng.random() < noise else asked.answer
            parts = [{"type": "image", "image": path}] if not messages else []
            messages += [
                {"role": "user", "content": [*parts, {"type": "text", "text": asked.text}]},
                {"role": "assistant", "content": answer},
            ]
        yield {"id": f"charts-cold-{index:06d}", "messages": messages, "meta": {"task": "chart_text"} | meta}
