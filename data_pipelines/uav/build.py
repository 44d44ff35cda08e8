"""Data sets from drawn pictures: rows for reinforcement learning, and noisy chats for a cold start.

Tiny pictures (`tiny.py`) have short questions with answers of one token; full ones (`scene.py`, up to 4K) are asked
about as annotated photographs are, and their annotations lie beside them, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, Literal

from data_pipelines.dataset import write_samples
from data_pipelines.drawing import canvases
from data_pipelines.reading import Problem, Row
from data_pipelines.uav.pictures import BadLine, Picture, number
from data_pipelines.uav.prompts import units
from data_pipelines.uav.questions import Question, Thing, View, ask_about, check_tasks, rows_of
from data_pipelines.uav.scene import FUNCTIONS, KINDS, TRANSPORT, draw_scene
from data_pipelines.uav.tiny import Seen, ask_tiny, draw_tiny, mistake
from mmrl.plugins import ConfigError

Scale = Literal["tiny", "full"]
Size = tuple[int, int]

SIZES: dict[Scale, tuple[Size, ...]] = {
    "tiny": ((64, 64),),
    "full": ((1024, 768), (1280, 720), (1920, 1080)),
}
"""Picture sizes (width, height) in pixels. Tiny ones have sides of 64 to 128, full ones of 320 to 4096."""
NOISE = 0.4
"""Default share of wrong answers in a cold start."""
TURNS = 5
"""Questions about one picture in a cold-start chat, at most."""


def make_uav(
    out: str | Path,
    *,
    count: int = 2048,
    test_count: int = 256,
    seed: int = 0,
    scale: Scale = "tiny",
    sizes: Sequence[Size] | None = None,
    questions: int = 1,
    tasks: Sequence[str] | None = None,
    coordinates: str = "pixel",
    think: bool = False,
) -> dict[str, Path]:
    """Draw `count` pictures for `train.jsonl` and `test_count` for `test.jsonl`, each with up to `questions` rows.

    No picture is in both. `tasks` (full pictures) keeps some kinds of question only; `coordinates` is the convention in
    which a full picture's boxes are asked for, and `think` asks for a thought before the answer. Returns the path per
    split.
    """
    out = Path(out)
    if scale not in SIZES:
        raise ConfigError(f"scale = {scale}: one of {', '.join(SIZES)}.")
    if scale == "tiny" and (tasks is not None or think or coordinates != "pixel"):
        raise ConfigError("tasks, think and coordinates are settings of full pictures (scale=full).")
    units(coordinates)
    check_tasks(tasks or ())
    paths = {}
    for split, pictures in (("train", count), ("test", test_count)):
        drawn = sizes or SIZES[scale]
        if scale == "tiny":
            rows = _tiny_rows(out, split, pictures, seed, drawn, questions)
        else:
            rows = _full_rows(out, split, pictures, seed, drawn, questions, tasks, coordinates, think)
        paths[split] = write_samples(out / f"{split}.jsonl", rows)
    return paths


def make_uav_cold_start(
    out: str | Path, *, count: int = 4096, seed: int = 0, noise: float = NOISE, sizes: Sequence[Size] | None = None
) -> dict[str, Path]:
    """Draw tiny pictures and write `cold_start.jsonl`: `count` chats of up to `TURNS` different questions each.

    With probability `noise` an answer is wrong in the way of `tiny.mistake`, drawn anew for every question.
    """
    out = Path(out)
    if not 0 <= noise <= 1:
        raise ValueError(f"noise = {noise}; it is the share of wrong answers, 0 to 1.")
    pictures = _tiny_pictures(out, "cold_start", count, seed, sizes or SIZES["tiny"])
    return {"cold_start": write_samples(out / "cold_start.jsonl", _chats(pictures, noise))}


def _chats(pictures: Iterator[tuple[int, Random, str, list[Seen]]], noise: float) -> Iterator[Row]:
    for index, rng, path, seen in pictures:
        messages: list[dict[str, Any]] = []
        for question in _different(rng, seen, TURNS):
            answer = mistake(rng, question) if rng.random() < noise else question.answer
            text = {"type": "text", "text": question.text}
            content = [text] if messages else [{"type": "image", "image": path}, text]
            messages += [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
        meta = {"task": "uav", "source": "drawn", "split": "cold_start", "coordinates": "pixel"}
        yield {"id": f"uav-cold-{index:06d}", "messages": messages, "meta": meta | {"objects": _listed(seen)}}


def _different(rng: Random, seen: list[Seen], number: int) -> list[Question]:
    """Up to `number` questions; twice as many are drawn, and those drawn before are dropped."""
    drawn = (ask_tiny(rng, seen) for _ in range(2 * number))
    return list({question.text: question for question in drawn}.values())[:number]


def _listed(seen: list[Seen]) -> list[dict[str, Any]]:
    return [asdict(thing) | {"box": list(thing.box)} for thing in seen]


def _tiny_rows(out: Path, split: str, count: int, seed: int, sizes: Sequence[Size], questions: int) -> Iterator[Row]:
    for index, rng, path, seen in _tiny_pictures(out, split, count, seed, sizes):
        asked = [ask_tiny(rng, seen)] if questions == 1 else _different(rng, seen, questions)
        for place, question in enumerate(asked):
            yield {
                "id": f"uav-{split}-{index:06d}" + (f"-{place}" if questions > 1 else ""),
                "messages": [{"role": "user", "content": [
                    {"type": "image", "image": path}, {"type": "text", "text": question.text},
                ]}],
                "target": {"answer": question.answer} | question.gold,
                "meta": {
                    "task": question.task, "source": "drawn", "split": split, "coordinates": "pixel",
                    "objects": _listed(seen),
                },
            }  # fmt: skip


def _tiny_pictures(
    out: Path, split: str, count: int, seed: int, sizes: Sequence[Size]
) -> Iterator[tuple[int, Random, str, list[Seen]]]:
    """Draw and store pictures; each has a generator of its own, seeded by (seed, split, index)."""
    for index, rng, path in canvases(out / split, f"uav/{seed}/{split}", count=count):
        image, seen = draw_tiny(rng, rng.choice(sizes))
        image.save(path)
        yield index, rng, str(path), seen


def _full_rows(
    out: Path, split: str, count: int, seed: int, sizes: Sequence[Size], questions: int, tasks: Sequence[str] | None,
    coordinates: str, think: bool,
) -> Iterator[Row]:  # fmt: skip
    for index, rng, path in canvases(out / split, f"uav/{seed}/full/{split}", count=count, suffix=".jpg"):
        image, view = draw_scene(rng, rng.choice(sizes))
        image.save(path, quality=92, subsampling=0)
        path.with_suffix(".json").write_text(json.dumps(annotation(view)))
        asked = ask_about(view, rng, number=questions, tasks=tasks, coordinates=coordinates)
        meta = {"source": "drawn", "split": split, "image": path.stem, "metres": view.metres}
        yield from rows_of(
            asked, image=str(path), name=f"uav-{split}-{index:06d}", meta=meta, think=think, coordinates=coordinates
        )


def annotation(view: View) -> dict[str, Any]:
    """What is known about a drawn scene, for JSON; polygons in pixels."""
    things = [
        {"kind": thing.kind, "colour": thing.colour, "polygon": [[round(x, 3), round(y, 3)] for x, y in thing.polygon]}
        for thing in view.things
    ]
    return {"metres": view.metres, "function": view.function, "things": things}


def scene_pictures(path: Path) -> Iterator[Picture | Problem]:
    """The inverse of `annotation`, from a file."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        things = tuple(_thing(thing) for thing in stored["things"])
        metres = number(str(stored["metres"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Problem(str(path), f"not the annotations of a drawn scene ({error})")
        return
    functions = tuple(FUNCTIONS.values())
    view = View(things, KINDS, TRANSPORT, metres=metres, function=stored.get("function"), functions=functions)
    yield Picture(path.stem, str(path), view)


def _thing(stored: dict[str, Any]) -> Thing:
    if stored["kind"] not in KINDS:
        raise BadLine(f"kind {stored['kind']!r} is none of {', '.join(KINDS)}")
    return Thing(
        stored["kind"],
        tuple((float(x), float(y)) for x, y in stored["polygon"]),
        stored["colour"],
        whole=stored["kind"] != "road",
    )
