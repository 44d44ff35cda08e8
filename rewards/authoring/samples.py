"""Samples to try a reward on when there is no data yet, and their right answers as a completion writes them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipelines.coordinates import from_pixels
from mmrl.records import Media, Sample

SIZE = (640, 480)
"""Pixels of the sample's image and of its film."""

TARGETS: dict[str, tuple[Any, ...]] = {
    "answer": ("Paris", "42", "B", ["red", "blue"]),
    "answers": (["Paris", "the city of Paris"],),
    "solution": ("Paris", "42", "<answer>Paris</answer>"),
    "ground_truth": ("Paris", "42"),
    "choices": (["A", "C"],),
    "count": (3,),
    "box": ([200, 120, 320, 200],),
    "boxes": ([[200, 120, 320, 200], [20, 30, 90, 60]],),
    "point": ([260, 160],),
    "action": ("click",),
    "position": ([0.4, 0.33],),
    "span": ([2.5, 7.5],),
    "spans": ([[2.5, 7.5], [9.0, 12.0]],),
    "highlights": ([[2.0, 3.0], [4.0, 4.5]],),
    "text": ("a red circle",),
    "colour": ("red",),
    "reference": ("It is Paris.",),
}
"""Values of a target's keys; a reward may take one of several forms."""

SETTINGS: dict[str, dict[str, Any]] = {
    "length_penalty": {"limit": 100, "buffer": 20},
    "cosine_length": {"of": "first", "max_length": 100},
    "length_budget": {"budget": 100},
    "shorter_in_group": {"of": "first"},
    "dast": {"of": "first"},
    "json_format": {"schema": {"type": "object"}},
    "clip_score": {"model": "tiny"},
    "clip_probability": {"model": "tiny", "labels": ["a red circle", "a blue square"]},
    "colour": {"like": "red"},
    "better_than_reference": {"scorer": {"name": "rouge"}},
}
"""What the built-in rewards that need settings, or weights, are tried with; `first` is a score that is made up."""


def own_samples(needs: Sequence[str], folder: Path) -> list[Sample]:
    """One sample per combination of the forms of the keys a reward needs, with an image in `folder`.

    Who needs a span gets a film instead: its size and the times of its frames, but no file.
    """
    values = itertools.product(*(TARGETS[key] for key in needs))
    targets = [dict(zip(needs, combination, strict=True)) for combination in values]
    media = _film(folder) if {"span", "spans", "highlights"} & set(needs) else _image(folder)
    asked = [{"type": media.kind, media.kind: media.path}, {"type": "text", "text": "a red circle on white ground"}]
    messages = ({"role": "user", "content": asked},)
    return [Sample(f"own-{i}", messages, (media,), target, {}) for i, target in enumerate(targets)]


def prepared(sample: Sample) -> Sample:
    """A sample of a data file as a policy would leave it: its media are seen as they are stored."""
    return replace(sample, media=tuple(replace(media, seen=media.seen or media.size) for media in sample.media))


def right_answers(sample: Sample, keys: Sequence[str]) -> list[str]:
    """These keys of the target in the forms a completion may have: in an answer tag, after a thought, and bare."""
    target = {key: sample.target[key] for key in keys if sample.target.get(key) is not None}
    if not target:
        return []
    bare = [form for key, value in target.items() for form in written(key, value, sample)]
    bare.append(json.dumps(target, ensure_ascii=False))
    tagged = [f"<answer>{text}</answer>" for text in bare]
    return [*tagged, *(f"<think>It is so.</think>{text}" for text in tagged), *bare]


def written(key: str, value: Any, sample: Sample) -> list[str]:
    """The ways to write one value of a target, the usual one first; boxes and points in the sample's coordinates."""
    if key in ("box", "point"):
        return [_bracketed(_in_convention(value, sample), "()" if key == "point" else "[]")]
    if key == "boxes":
        return [", ".join(_bracketed(_in_convention(box, sample), "[]") for box in value)]
    if key == "action":
        x1, y1, x2, y2 = sample.target.get("box") or (0, 0, 0, 0)
        point = _bracketed(_in_convention([(x1 + x2) / 2, (y1 + y2) / 2], sample), "[]")
        forms = [f"[{{'action': '{value}', 'coordinate': {point}}}]", str(value)]
        if place := sample.target.get("position"):
            forms.append(
                f"<action>{{'action': '{value}', 'value': None, 'position': {_bracketed(place, '[]')}}}</action>"
            )
        return forms
    if key == "span":
        start, end = f"{value[0]:g}", f"{value[1]:g}"
        return [f"{start} to {end}", json.dumps({"start_time": start, "end_time": end})]
    if key == "spans":
        return ["[" + ", ".join(_bracketed(span, "()") for span in value) + "]"]
    if key == "highlights":
        times, saliencies = (", ".join(f"{number:g}" for number in column) for column in zip(*value, strict=True))
        return [f"The highlight timestamps are in the {times} seconds. Their saliency scores are {saliencies}."]
    if key == "answers":
        return [str(value[0])]
    return [", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]


def _bracketed(numbers: Sequence[float], brackets: str) -> str:
    return brackets[0] + ", ".join(f"{number:g}" for number in numbers) + brackets[1]


def _in_convention(values: Sequence[float], sample: Sample) -> list[float]:
    """Pixels of the stored image in the convention of the sample's completions; before encoding, seen as stored."""
    if not sample.media:
        return list(values)
    media = sample.media[0]
    return list(from_pixels(values, sample.coordinates, media.size, seen=media.seen or media.size))


def _image(folder: Path) -> Media:
    from PIL import Image, ImageDraw

    from data_pipelines.media import probe

    image = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(image).ellipse((200, 120, 320, 200), fill="red")
    image.save(folder / "sample.png")
    media = probe(folder / "sample.png", "image")
    return Media(media.kind, media.path, media.digest, media.size, seen=media.size)


def _film(folder: Path) -> Media:
    times = tuple(second / 2 for second in range(31))
    return Media("video", str(folder / "sample.mp4"), "0" * 64, SIZE, seen=SIZE, times=times)
