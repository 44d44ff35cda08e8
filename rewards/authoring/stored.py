"""The completions of a run directory as the `Rollouts` a reward may read. What is stored: `mmrl/runs/table.py`.

Everything a text reward sees is stored with a rollout, so its samples are rebuilt from there; the run's data file is
asked only for what has been added to it since (a key of the target) and for media the run could not keep.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl.plugins import ConfigError
from mmrl.records import Media, Rollouts, Sample
from mmrl.runs import layout
from rewards.entry import Entry

if TYPE_CHECKING:
    from torch import Tensor


class DataFiles:
    """The samples of the run's data files by id, read when the first is asked for."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.files: list[str] = []
        self._samples: dict[str, Sample] | None = None

    def sample(self, name: str) -> Sample | None:
        if self._samples is None:
            self._samples = {sample.id: sample for sample in self._read()}
        return self._samples.get(name)

    def _read(self) -> Iterator[Sample]:
        import yaml

        from data_pipelines.dataset import read_samples

        config = yaml.safe_load((self.run / layout.CONFIG).read_text(encoding="utf-8")) or {}
        data = config.get("data") or {}
        self.files = [data[split] for split in ("train", "test") if data.get(split)]
        for file in self.files:
            if Path(file).is_file():
                yield from read_samples(file)


def rollouts_of(stored: Sequence[dict[str, Any]], run: Path, entry: Entry, data: DataFiles) -> Rollouts:
    """What a reward may read of the rows of one step; tokens themselves are not stored, only their number."""
    import torch

    firsts = [next(members) for _, members in groupby(stored, key=lambda row: row["group"])]
    samples = [_sample(row, run, entry, data) for row in firsts]
    number = {row["group"]: i for i, row in enumerate(firsts)}
    group = torch.tensor([number[row["group"]] for row in stored])
    length = torch.tensor([row["tokens"] for row in stored])
    mask = torch.arange(int(length.max())) < length[:, None]
    names = dict.fromkeys(name for row in stored for name in row["scores"])
    return Rollouts(
        samples=samples,
        prompts=[None] * len(samples),
        group=group,
        prompt=group,
        actions=torch.zeros(mask.shape, dtype=torch.long),
        length=length,
        mask=mask,
        text=[row["completion"] for row in stored],
        origin=[row["origin"] for row in stored],
        scores={name: _tensor([row["scores"].get(name) for row in stored]) for name in names},
        reward=_tensor([row["reward"] for row in stored]),
        signals={"truncated": torch.tensor([bool(row["truncated"]) for row in stored])},
        notes=[dict(row["notes"]) for row in stored],
    )


def _tensor(values: Sequence[float | None]) -> Tensor:
    import torch

    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float32)


def _sample(row: dict[str, Any], run: Path, entry: Entry, data: DataFiles) -> Sample:
    """The sample of a stored row; ConfigError where it lacks what the reward needs and the data file has it not."""
    sample = Sample(
        id=row["sample_id"],
        messages=tuple(row["messages"]),
        target=row["target"] or {},
        meta={"coordinates": row["coordinates"], **(row["meta"] or {})},
        where=f"{run}, step {row['step']}",
    )
    if any(media["file"] is None for media in row["media"]):
        now = data.sample(sample.id)
        files = [media.path for media in now.media] if now else _paths(sample)
    else:
        files = []
    sample = replace(sample, media=tuple(_media(item, i, run, files) for i, item in enumerate(row["media"])))
    missing = [key for key in entry.info.needs if sample.target.get(key) is None]
    if missing and entry.applies_to(sample):
        now = data.sample(sample.id)
        target = now.target if now else {}
        if lacking := [key for key in missing if target.get(key) is None]:
            raise ConfigError(
                f"{entry.name} needs target.{lacking[0]}; sample {sample.id} of {run} was stored with "
                f"{', '.join(sample.target) or 'no target'}.\n  Nor is it in the run's data "
                f"({', '.join(data.files) or 'none named'}); add it there, or replay a run whose data have it."
            )
        sample = replace(sample, target={**target, **sample.target, **{key: target[key] for key in missing}})
    return sample


def _paths(sample: Sample) -> list[str]:
    """The files of a sample as its messages name them."""
    parts = [part for message in sample.messages if isinstance(message["content"], list) for part in message["content"]]
    return [str(part[part["type"]]) for part in parts if part.get("type") in ("image", "video")]


def _media(item: dict[str, Any], index: int, run: Path, files: Sequence[str]) -> Media:
    kept = item["file"]
    seen = (item["seen_width"], item["seen_height"])
    return Media(
        kind=item["kind"],
        path=str((run / kept).absolute()) if kept else files[index] if index < len(files) else "",
        digest=Path(kept).stem if kept else "",
        size=(item["width"], item["height"]),
        seen=None if None in seen else seen,
        times=tuple(item["times"]),
    )
