"""Metrics: what one completion is worth by the rules of a benchmark, under one or more names; and which rows they fit.

    @metric(needs=("target.span|target.spans",))
    def grounding(completion: str, sample: Sample) -> dict[str, float]: ...

A name that is absent does not count the completion; every name is averaged over the prompts it counts. Keyword-only
parameters are settings. `METRICS` in `mmrl/registry.py` names the families; any reward that reads one completion is a
metric too, under its own name. A family reads completions as training does, or says where its benchmark differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from mmrl.mappings import settings_from
from mmrl.plugins import ConfigError, Stage, build, nearest
from mmrl.records import Rollouts, Sample
from mmrl.registry import METRICS
from rewards.registry import available
from rewards.scoring import Rewards, check_targets

TASKS: dict[str, str] = {
    "gui": "screenspot", "locate": "screenspot", "aitz_action": "aitz",
    "grounding": "grounding", "highlight": "highlights",
    "count": "counting", "digits": "letter_choice", "mcq": "letter_choice", "mcq_several": "soft_choices,partial=false",
    "chart_number": "relaxed_accuracy", "chart_text": "exact_match", "chart_list": "list_match",
    **dict.fromkeys(("presence", "area", "size", "place", "colour", "shape", "comparison", "function"), "exact_match"),
}  # fmt: skip
"""`meta.task` -> the metric that its rows have without being asked for."""


def metric(*, needs: Sequence[str] = (), source: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare what a metric needs of a sample, `target.key` or `meta.key` (`a|b`: either), and its source."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        function.metric_needs, function.metric_source = tuple(needs), source  # type: ignore[attr-defined]
        return function

    return declare


@dataclass(frozen=True)
class Metric:
    """One family with its settings, and the rows it is asked for."""

    stage: Stage
    """A function of (completion, sample) -> {name: value}, or the reward of `reward`."""
    reward: Rewards | None = None
    tasks: tuple[str, ...] | None = None
    """Values of `meta.task`; None is every row that has what the metric needs."""

    @property
    def needs(self) -> tuple[str, ...]:
        if self.reward is not None:
            return tuple(f"target.{key}" for key in self.reward.entries[0].info.needs)
        return tuple(getattr(self.stage.plugin, "metric_needs", ()))

    def fits(self, sample: Sample) -> bool:
        asked = self.tasks is None or sample.meta.get("task") in self.tasks
        return asked and all(any(has(sample, key) for key in need.split("|")) for need in self.needs)

    def measure(self, rollouts: Rollouts) -> dict[str, Tensor]:
        """f32[N] per name, `family/name` (of a reward its name); NaN where it does not count."""
        rows = [row for row in range(len(rollouts)) if self.fits(rollouts.sample_of(row))]
        if self.reward is not None:
            return self._score(rollouts, rows)
        values: dict[str, dict[int, float]] = {}
        function = self.stage.at(0, 1)
        for row in rows:
            for name, value in function(rollouts.text[row], rollouts.sample_of(row)).items():
                values.setdefault(f"{self.stage.name}/{name}", {})[row] = float(value)
        return {name: column(found, len(rollouts)) for name, found in values.items()}

    def _score(self, rollouts: Rollouts, rows: Sequence[int]) -> dict[str, Tensor]:
        assert self.reward is not None
        part = replace(rollouts.select(rows), scores={}, weights={}, reward=None, notes=[])
        try:
            self.reward.score(part, step=0, total=1)
        finally:
            self.reward.close()
        ((name, scores),) = part.scores.items()
        return {name: column(dict(zip(rows, scores.tolist(), strict=True)), len(rollouts))}


def has(sample: Sample, key: str) -> bool:
    """Whether the sample has a value at `target.key` or `meta.key`."""
    part, _, name = key.partition(".")
    found: Mapping[str, Any] = getattr(sample, part)
    return found.get(name) is not None


def column(values: Mapping[int, float], rows: int) -> Tensor:
    import torch

    return torch.tensor([values.get(row, math.nan) for row in range(rows)])


def choose(names: Sequence[str], samples: Sequence[Sample]) -> list[Metric]:
    """The metrics asked for by `NAME[,setting=value...]`, each for the rows that have what it needs; without names
    those of the rows' tasks. ConfigError for one that fits no row."""
    if not names:
        return list(by_task(samples))
    chosen = [made(name) for name in names]
    for found in chosen:
        if found.reward is not None:
            check_targets(found.reward, samples)
        if not any(map(found.fits, samples)):
            first = samples[0].where or samples[0].id
            raise ConfigError(
                f"--metrics {found.stage.name} needs {', '.join(found.needs).replace('|', ' or ')}, which no row has.\n"
                f"  The first ({first}) has target: {', '.join(samples[0].target) or 'nothing'}; "
                f"meta: {', '.join(samples[0].meta) or 'nothing'}."
            )
    return chosen


def by_task(samples: Sequence[Sample]) -> Iterator[Metric]:
    """One per metric of `TASKS`, for the rows of its tasks. A task whose rows lack what it needs has none."""
    wanted: dict[str, list[str]] = {}
    for task in sorted({str(sample.meta.get("task")) for sample in samples}):
        if task in TASKS:
            wanted.setdefault(TASKS[task], []).append(task)
    for name, tasks in wanted.items():
        found = replace(made(name), tasks=tuple(tasks))
        if any(map(found.fits, samples)):
            yield found


def made(text: str) -> Metric:
    """From `NAME[,setting=value...]`: a family, a reward, or a function of yours as `path/to/file.py:name`."""
    name, *settings = text.split(",")
    spec = {**settings_from(settings), "name": name}
    if name in METRICS or name not in available():
        if name not in METRICS and ":" not in name:
            known = nearest(name, [*METRICS, *available()])
            raise ConfigError(f"--metrics {name}: there is no metric and no reward of this name.\n  {known}")
        return Metric(build(spec, METRICS, kind="metric", where="--metrics"))
    reward = Rewards.from_config([spec], where="--metrics")
    entry = reward.entries[0]
    if (entry.info.scope, entry.info.reads) != ("row", "text") or entry.weight != 1.0:
        raise ConfigError(
            f"--metrics {name}: it compares completions, or reads no text; a metric judges one text alone."
        )
    return Metric(entry.stage, reward)
