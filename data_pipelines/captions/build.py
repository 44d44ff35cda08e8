"""A data set of captioned pictures: prompts for a text-to-image policy, with the pictures a supervised one learns from.

A row is a chat: the caption, answered by the picture. Reinforcement learning uses the caption (`sample.prompt`), and
rewards that compare captions use the target:

    {"messages": [{"role": "user", "content": "a red circle above a blue star"},
                  {"role": "assistant", "content": [{"type": "image", "image": "train/000000.png"}]}],
     "target": {"caption": ..., "captions": [the caption and wrong ones]},
     "meta": {"task": "captions", "figures": [...], "relation": ..., "background": ...}}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_pipelines.captions.render import paint
from data_pipelines.captions.scenes import HEADINGS, NAMES, SHAPES, draw_description, draw_mistake, draw_scene
from data_pipelines.dataset import write_samples
from data_pipelines.drawing import canvases
from data_pipelines.gui.shapes import COLOURS

CHOICES = 8
"""Captions of `target.captions`, the right one among them."""


def make_captions(
    out: str | Path, *, count: int = 4096, test_count: int = 256, seed: int = 0, size: int = 64, pairs: float = 0.5
) -> dict[str, Path]:
    """Draw pictures of `size` x `size` pixels and write `train.jsonl` (`count` rows) and `test.jsonl` (`test_count`).

    `pairs` is the share of pictures with two shapes. Returns the path per split.
    """
    out = Path(out)
    if not 0 <= pairs <= 1:
        raise ValueError(f"pairs = {pairs}; it is the share of pictures with two shapes, 0 to 1.")
    return {
        split: write_samples(out / f"{split}.jsonl", _rows(out, split, rows, seed, size, pairs))
        for split, rows in (("train", count), ("test", test_count))
    }


def make_figures(out: str | Path, *, moving: bool = False) -> dict[str, Path]:
    """Every prompt that the tiny text-to-image pipelines know, without pictures: `a red circle`, 30 in all; with
    `moving` those of the tiny text-to-video pipeline, `a red circle moving left`, 120.

    Six pairs of colour and shape are in `test.jsonl` and never in `train.jsonl`, where each colour and shape still is.
    """
    pairs = [(colour, shape) for colour in NAMES for shape in SHAPES]
    held_out = {(colour, SHAPES[index % len(SHAPES)]) for index, colour in enumerate(NAMES)}
    splits = {"train": [pair for pair in pairs if pair not in held_out], "test": sorted(held_out)}
    return {
        split: write_samples(Path(out) / f"{split}.jsonl", _prompts(split, chosen, moving))
        for split, chosen in splits.items()
    }


def _prompts(split: str, pairs: list[tuple[str, str]], moving: bool) -> Iterator[dict[str, Any]]:
    """The captions of a target are about single pictures, and so say nothing of a heading."""
    for colour, shape in pairs:
        others = {f"a {other} {shape}" for other in NAMES} | {f"a {colour} {other}" for other in SHAPES}
        caption = f"a {colour} {shape}"
        for heading in HEADINGS if moving else ("",):
            yield {
                "id": "-".join(filter(None, ("figures", colour, shape, heading))),
                "messages": [{"role": "user", "content": f"{caption} moving {heading}" if heading else caption}],
                "target": {
                    "caption": caption,
                    "captions": sorted(others),
                    "colour": "#{:02x}{:02x}{:02x}".format(*COLOURS[colour]),
                },
                "meta": {"task": "figures", "split": split} | ({"heading": heading} if heading else {}),
            }


def _rows(out: Path, split: str, count: int, seed: int, size: int, pairs: float) -> Iterator[dict[str, Any]]:
    for index, rng, path in canvases(out / split, f"captions/{seed}/{split}", count=count):
        scene = draw_scene(rng, pairs=pairs)
        paint(scene, rng, size=size).save(path)
        said = draw_description(rng, scene)
        captions = {said.caption}
        while len(captions) < CHOICES:
            captions.add(draw_mistake(rng, said).caption)
        yield {
            "id": f"captions-{split}-{index:06d}",
            "messages": [
                {"role": "user", "content": said.caption},
                {"role": "assistant", "content": [{"type": "image", "image": str(path)}]},
            ],
            "target": {"caption": said.caption, "captions": sorted(captions)},
            "meta": {
                "task": "captions", "figures": [asdict(figure) for figure in scene.figures],
                "relation": scene.relation, "background": scene.background,
            },
        }  # fmt: skip
