"""Run directories for the viewer's tests, written by the writer that trainings use."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mmrl.records import Media, Rollouts, Sample
from mmrl.runs.writer import RunWriter

CONFIG = """\
steps: 10
model: {path: tiny}
data: {train: data/gui/train.jsonl}
sampler: {name: shuffled}
rollout: {name: on_policy}
rewards: [{name: hit}, {name: form, weight: 0.5}]
advantages: [{name: group_relative}]
loss: {terms: [{name: clipped}]}
"""


def screen(folder: Path, name: str = "screen.png", *, size: tuple[int, int] = (64, 32)) -> Media:
    """An image file and its record; the model saw it at half its size."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (hash(name) % 255, 120, 200)).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Media("image", str(path), digest, size, seen=(size[0] // 2, size[1] // 2))


def sample(
    name: str = "s0", text: str = "click it", *, media: Sequence[Media] = (), target: Any = None, **meta: Any
) -> Sample:
    parts = [{"type": item.kind, item.kind: item.path} for item in media]
    content = [*parts, {"type": "text", "text": text}]
    return Sample(name, ({"role": "user", "content": content},), tuple(media), target or {}, meta)


def rollouts(
    samples: Sequence[Sample],
    texts: Sequence[Sequence[str]],
    rewards: Sequence[Sequence[float]],
    *,
    notes: Sequence[dict[str, Any]] | None = None,
) -> Rollouts:
    """One group per sample. The scores are `hit`, the reward itself, and `form`, which falls from row to row."""
    count = sum(map(len, texts))
    group = torch.arange(len(samples)).repeat_interleave(torch.tensor([len(rows) for rows in texts]))
    flat = [text for rows in texts for text in rows]
    length = torch.tensor([max(1, len(text.split())) for text in flat])
    mask = torch.arange(int(length.max())) < length[:, None]
    reward = torch.tensor([value for row in rewards for value in row], dtype=torch.float32)
    return Rollouts(
        samples=list(samples),
        prompts=[None] * len(samples),
        group=group,
        prompt=group,
        actions=torch.ones(mask.shape, dtype=torch.long),
        length=length,
        mask=mask,
        text=flat,
        origin=["policy"] * count,
        logp_rollout=torch.full(mask.shape, -1.0),
        logp_old=torch.full(mask.shape, -0.5),
        scores={"hit": reward.clone(), "form": 1 - torch.arange(count) / max(count - 1, 1)},
        reward=reward,
        advantage=(reward[:, None] - reward.nanmean()).expand(mask.shape).clone(),
        signals={"truncated": torch.tensor([text.endswith("...") for text in flat])},
        notes=[dict(note) for note in notes] if notes else [],
    )


def pieces(made: Rollouts) -> list[list[str]]:
    """A word per token."""
    return [(text.split() or [""]) for text in made.text]


def write_run(folder: Path, steps: int = 3, *, groups: int = 2, rows: int = 4, finished: bool = True) -> RunWriter:
    """A run on one image: group g of step s asks `click button s.g`, row r answers `(s, r)` and earns r / rows."""
    writer = RunWriter.create(folder, CONFIG)
    media = screen(folder.parent / "data")
    for step in range(steps):
        write_step(writer, step, media, groups=groups, rows=rows)
    if finished:
        writer.event("finished", steps=steps)
    return writer


def write_step(writer: RunWriter, step: int, media: Media, *, groups: int = 2, rows: int = 4) -> None:
    samples = [
        sample(f"s{g}", f"click button {step}.{g}", media=[media], target={"box": [10, 5, 30, 20]}, task="gui")
        for g in range(groups)
    ]
    made = rollouts(
        samples,
        [[f"I click ({step + 1}, {row + 1})" for row in range(rows)] for _ in samples],
        [[row / rows for row in range(rows)] for _ in samples],
        notes=[{"hit": {"parsed": {"point": [step + 1.0, row + 1.0]}}} for _ in samples for row in range(rows)],
    )
    writer.record(step, made, {"reward": float(made.reward.mean()), "kl": float("nan")}, pieces=pieces(made))
