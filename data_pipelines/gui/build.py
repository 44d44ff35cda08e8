"""GUI data sets from drawn screens: rows for reinforcement learning, and noisy chats for a cold start.

A row of `make_gui` is one screen and one instruction with the element's box as its target. A row of
`make_gui_cold_start` is one screen and several questions with answers, some of them deliberately wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, Literal

from data_pipelines.dataset import write_samples
from data_pipelines.drawing import canvases
from data_pipelines.gui.prompts import ask_for_click
from data_pipelines.gui.render import draw_screen
from data_pipelines.gui.shapes import THEMES, Element
from mmrl.plugins import ConfigError

Scale = Literal["tiny", "full"]
Size = tuple[int, int]
Screen = tuple[int, Random, dict[str, Any], str, list[Element]]
"""Index, generator, media part with its size, theme, elements."""

SIZES: dict[Scale, tuple[Size, ...]] = {
    "tiny": ((64, 64),),
    "full": ((640, 480), (960, 540), (420, 900)),
}
"""Screen sizes (width, height) in pixels. Tiny ones may also be 96x64 and 64x96."""
NOISE = 1.2
"""Default label noise, at which 40 % of the noisy points on tiny screens fall inside their box, edges included
(0.9: 59 %, 1.0: 52 %, 1.1: 46 %)."""


def make_gui(
    out: str | Path,
    *,
    count: int = 2048,
    test_count: int = 256,
    seed: int = 0,
    scale: Scale = "tiny",
    sizes: Sequence[Size] | None = None,
    coordinates: str = "pixel",
) -> dict[str, Path]:
    """Draw screens and write `train.jsonl` (`count` rows) and `test.jsonl` (`test_count` rows) with their PNGs.

    One screen serves one row, so no screen is in both. Tiny screens are asked about in three words and answered in
    pixels; full ones as real screenshots are, in the convention `coordinates`. Returns the path per split.
    """
    out = Path(out)
    if scale == "tiny" and coordinates != "pixel":
        raise ConfigError(f"coordinates = {coordinates}: tiny screens are answered in pixels (coordinates=pixel).")
    paths = {}
    for split, rows in (("train", count), ("test", test_count)):
        screens = _screens(out, split, rows, seed, sizes or SIZES[scale])
        paths[split] = write_samples(out / f"{split}.jsonl", _clicks(screens, split, scale, coordinates))
    return paths


def make_gui_cold_start(
    out: str | Path,
    *,
    count: int = 4096,
    seed: int = 0,
    noise: float = NOISE,
    scale: Scale = "tiny",
    sizes: Sequence[Size] | None = None,
    elements: tuple[int, int] = (3, 5),
) -> dict[str, Path]:
    """Draw screens and write `cold_start.jsonl`: `count` chats of `supervised_rows`, with their PNGs."""
    out = Path(out)
    screens = _screens(out, "cold_start", count, seed, sizes or SIZES[scale], elements)
    rows = supervised_rows(screens, noise=noise)
    return {"cold_start": write_samples(out / "cold_start.jsonl", rows)}


def supervised_rows(screens: Iterator[Screen], *, noise: float) -> Iterator[dict[str, Any]]:
    """Chats with dense supervision: one question and answer for every element of a screen, in random order.

    Three kinds of question (`ask`), clicks most often. No element is asked for twice, or a model could copy its
    earlier answer instead of looking.
    """
    for index, rng, image, theme, elements in screens:
        asked = rng.sample(elements, len(elements))
        messages: list[dict[str, Any]] = []
        for turn, element in enumerate(asked):
            question, answer = ask(rng, element, noise=noise, size=image["size"])
            text = {"type": "text", "text": question}
            content = [{"type": "image", "image": image["path"]}, text] if turn == 0 else [text]
            messages += [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
        meta = {"task": "gui", "coordinates": "pixel", "theme": theme, "elements": [asdict(e) for e in elements]}
        yield {"id": f"gui-cold-{index:06d}", "messages": messages, "meta": meta}


def ask(rng: Random, element: Element, *, noise: float, size: Size) -> tuple[str, str]:
    """A question about an element and its answer; `size` of the screen clips noisy answers.

    `click the X` -> `(x, y)`, the centre plus Gaussian noise; 60 %.
    `where is the X` -> `[x1, y1, x2, y2]`, every edge with half that noise; 20 %.
    `what is at (x, y)` -> the name, for a point in the middle half of the box, without noise; 20 %.

    The standard deviation is `noise` times half the width and half the height, so about erf(1 / (noise * sqrt 2))
    squared of the points stay inside the box; rounding and clipping add a little on small elements.
    """
    kind = rng.choices(("click", "where", "what"), weights=(6, 2, 2))[0]
    x1, y1, x2, y2 = element.box
    half = (x2 - x1) / 2, (y2 - y1) / 2
    if kind == "what":
        x, y = (int(c + h * rng.uniform(-0.5, 0.5)) for c, h in zip(element.centre, half, strict=True))
        return f"what is at {(x, y)}", element.name

    def jitter(value: float, axis: int, scale: float) -> int:
        return min(max(round(rng.gauss(value, scale * noise * half[axis])), 0), size[axis] - 1)

    if kind == "click":
        point = tuple(jitter(element.centre[axis], axis, 1.0) for axis in (0, 1))
        return f"click the {element.name}", f"{point}"
    xs, ys = (sorted(jitter(edge, axis, 0.5) for edge in (element.box[axis], element.box[axis + 2])) for axis in (0, 1))
    return f"where is the {element.name}", f"{[xs[0], ys[0], xs[1], ys[1]]}"


def _clicks(screens: Iterator[Screen], split: str, scale: Scale, coordinates: str) -> Iterator[dict[str, Any]]:
    for index, rng, image, theme, elements in screens:
        wanted = rng.choice(elements)
        name = f"the {wanted.name}"
        question = f"click {name}" if scale == "tiny" else ask_for_click(name, coordinates)
        yield {
            "id": f"gui-{split}-{index:06d}",
            "messages": [{"role": "user", "content": [
                {"type": "image", "image": image["path"]},
                {"type": "text", "text": question},
            ]}],
            "target": {"box": wanted.box, "point": wanted.centre},
            "meta": {
                "task": "gui", "coordinates": coordinates, "data_type": wanted.type, "theme": theme,
                "elements": [asdict(element) for element in elements],
            },
        }  # fmt: skip


def _screens(
    out: Path, split: str, count: int, seed: int, sizes: Sequence[Size], elements: tuple[int, int] = (3, 5)
) -> Iterator[Screen]:
    """Draw and store `count` screens of a split; each has a generator of its own, seeded by (seed, split, index)."""
    for index, rng, path in canvases(out / split, f"gui/{seed}/{split}", count=count):
        theme = rng.choice(list(THEMES))
        image, drawn = draw_screen(rng, rng.choice(sizes), theme, elements=elements)
        image.save(path)
        yield index, rng, {"path": str(path), "size": image.size}, theme, drawn
