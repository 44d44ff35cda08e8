"""Run the rewards of a config over rollouts: every score, the combined reward, and what went wrong.

A reward answers for a row in one of three ways, which are never mixed up:

    a number    counts with its weight
    None        does not apply to this row: drops out of the row's sum
    a failure   an exception, or an answer that is not one finite number in the declared range per completion.
                The rows of that call get NaN, the reason goes to `rollouts.notes`, and the row's reward is NaN, so it
                stays out of its group's statistics. When too many rows fail, the run stops.

Writing a reward: `registry.py`.
"""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, SupportsFloat

from mmrl.plugins import ConfigError, Stage, build
from mmrl.records import Rollouts, Sample
from mmrl.schedules import Schedule, as_schedule
from rewards.registry import BUILTIN, RewardInfo, Score, info_of

if TYPE_CHECKING:
    from torch import Tensor

FLOAT32_MAX = 3.4028235e38

Outcome = Score | Exception | None


class RewardFailure(RuntimeError):
    """A reward failed on too many completions of a step."""


@dataclass(frozen=True)
class Entry:
    """One entry of a config's list of rewards."""

    name: str
    """Its key in `rollouts.scores`, unique in the list."""
    stage: Stage
    info: RewardInfo
    weight: float | Schedule = 1.0
    tasks: tuple[str, ...] | None = None
    """The values of `sample.meta["task"]` it applies to; None is every sample."""

    @classmethod
    def from_config(cls, spec: Mapping[str, Any], *, where: str) -> Entry:
        stage = build(spec, BUILTIN, kind="reward", where=where, reserved=("weight", "task", "as"))
        info = info_of(stage.plugin)
        _check_signature(stage, info, where=where)
        weight = _weight(spec.get("weight", 1.0), where=f"{where}.weight")
        tasks = _tasks(spec.get("task"), where=f"{where}.task")
        return cls(str(spec.get("as", info.name)), stage, info, weight, tasks)

    def applies_to(self, sample: Sample) -> bool:
        return self.tasks is None or sample.meta.get("task") in self.tasks

    def calls(self, rollouts: Rollouts) -> list[list[int]]:
        """The rows of each call: one row, the rows of one group, or all; only rows it applies to."""
        rows = [row for row in range(len(rollouts)) if self.applies_to(rollouts.sample_of(row))]
        if self.info.scope == "row":
            return [[row] for row in rows]
        if self.info.scope == "group":
            return [list(group) for _, group in groupby(rows, key=lambda row: int(rollouts.group[row]))]
        return [rows] if rows else []

    def outcomes(self, rollouts: Rollouts, *, step: int, total: int) -> dict[int, Outcome]:
        """Row -> outcome, for every row it applies to."""
        function = self.stage.at(step, total)
        outcomes: dict[int, Outcome] = {}
        for rows in self.calls(rollouts):
            texts = [rollouts.text[row] for row in rows]
            samples = [rollouts.sample_of(row) for row in rows]
            try:
                results: Sequence[Outcome] = ask(function, self.info, texts, samples)
            except Exception as error:
                results = [error] * len(rows)
            outcomes.update(zip(rows, results, strict=True))
        return outcomes


@dataclass(frozen=True)
class Rewards:
    """The rewards of a run. A row's reward is the weighted sum of its scores."""

    entries: tuple[Entry, ...]
    max_failed: float = 0.2
    """The run stops when one reward fails on a larger share of the rows it applies to."""

    @classmethod
    def from_config(cls, specs: Sequence[Mapping[str, Any]], *, where: str, max_failed: float = 0.2) -> Rewards:
        """From entries `{name, weight: 1.0, task: None | str | list, as: name, **settings}`; `where`: file and key."""
        entries = tuple(Entry.from_config(spec, where=f"{where}.{index}") for index, spec in enumerate(specs))
        names = [entry.name for entry in entries]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ConfigError(f"{where}.{index}: a second reward named {name}; give one of them `as: other_name`.")
        return cls(entries, max_failed)

    def score(self, rollouts: Rollouts, *, step: int, total: int) -> None:
        """Fill `scores`, `reward` and `notes`; `step` of `total` evaluates scheduled weights and settings.

        reward[row] = sum of weight * score over the rewards that apply; NaN when none applies or any failed.
        Raises `RewardFailure` when a reward fails on more than `max_failed` of its rows.
        """
        import torch

        weighted = torch.zeros(len(rollouts))
        applies = torch.zeros(len(rollouts), dtype=torch.bool)
        failed = torch.zeros(len(rollouts), dtype=torch.bool)
        for entry in self.entries:
            outcomes = entry.outcomes(rollouts, step=step, total=total)
            scored = {row: outcome for row, outcome in outcomes.items() if isinstance(outcome, Score)}
            failures = {row: outcome for row, outcome in outcomes.items() if isinstance(outcome, Exception)}
            if len(failures) > self.max_failed * len(outcomes):
                raise _too_many(entry, failures, rollouts, asked=len(outcomes), allowed=self.max_failed, step=step)

            values = torch.full((len(rollouts),), math.nan)
            values[list(scored)] = torch.tensor([score.value for score in scored.values()])
            weight = entry.weight(step, total, {}) if isinstance(entry.weight, Schedule) else entry.weight
            weighted += weight * values.nan_to_num(nan=0.0)
            applies[list(scored)] = True
            failed[list(failures)] = True

            rollouts.scores[entry.name] = values
            for row, outcome in outcomes.items():
                if note := _note(outcome):
                    rollouts.notes[row][entry.name] = note
        rollouts.reward = weighted.masked_fill(failed | ~applies, math.nan)

    def halfway(self, rollouts: Rollouts) -> Tensor:
        """f32[N], the middle of the range of each row's reward; an unbounded reward counts as 0."""
        import torch

        middle = torch.zeros(len(rollouts))
        for entry in self.entries:
            low, high = entry.info.range
            if math.isfinite(low + high) and not isinstance(entry.weight, Schedule):
                middle += entry.weight * (low + high) / 2 * ~rollouts.scores[entry.name].isnan()
        return middle

    def metrics(self, rollouts: Rollouts) -> dict[str, float]:
        """Of scored rollouts: `score/<name>`, the mean over rows that have one (absent without any), and
        `failed/<name>`, the number of failed rows.
        """
        metrics: dict[str, float] = {}
        for entry in self.entries:
            mean = rollouts.scores[entry.name].nanmean().item()
            if not math.isnan(mean):
                metrics[f"score/{entry.name}"] = mean
            failed = sum("error" in notes.get(entry.name, {}) for notes in rollouts.notes)
            metrics[f"failed/{entry.name}"] = float(failed)
        return metrics


def check_targets(rewards: Rewards, samples: Iterable[Sample], *, shown: int = 5) -> None:
    """Raise `ConfigError` naming the samples (up to `shown`) whose target lacks what a reward applied to them needs."""
    missing = [
        f"{sample.where or f'sample {sample.id}'}: reward {entry.name} needs target.{key}"
        for sample in samples
        for entry in rewards.entries
        if entry.applies_to(sample)
        for key in entry.info.needs
        if sample.target.get(key) is None
    ]
    if missing:
        more = [f"... and {len(missing) - shown} more."] if len(missing) > shown else []
        raise ConfigError("\n".join(missing[:shown] + more))


def ask(
    function: Callable[..., Any], info: RewardInfo, texts: Sequence[str], samples: Sequence[Sample]
) -> list[Score | None]:
    """Call a reward on the completions of one call, one sample each, and check its answer: one outcome per completion.

    Raises what the function raises, TypeError for something that is no number or no list, and ValueError for a wrong
    count, a value that is not finite in float32, or one outside `info.range`.
    """
    if info.scope == "row":
        return [_checked(function(texts[0], samples[0]), info.range)]
    returned = function(list(texts), samples[0] if info.scope == "group" else list(samples))
    values = returned.tolist() if hasattr(returned, "tolist") else returned
    if not isinstance(values, list | tuple):
        raise TypeError(
            f"returned {reprlib.repr(values)}; a {info.scope} reward returns a list, one value per completion"
        )
    if len(values) != len(texts):
        raise ValueError(f"returned {len(values)} values for {len(texts)} completions")
    return [_checked(value, info.range) for value in values]


def _checked(value: Any, bounds: tuple[float, float]) -> Score | None:
    if value is None:
        return None
    score = value if isinstance(value, Score) else Score(value)
    if not isinstance(score.value, SupportsFloat):
        raise TypeError(f"returned {reprlib.repr(score.value)}, which is not a number")
    number = float(score.value)
    if not abs(number) <= FLOAT32_MAX:
        raise ValueError(f"returned {number}, which is not finite in float32")
    if not bounds[0] <= number <= bounds[1]:
        raise ValueError(f"returned {number}, outside its range [{bounds[0]}, {bounds[1]}]")
    return replace(score, value=number)


def _note(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return {"error": _describe(outcome)}
    if outcome is None:
        return {}
    shown = {"parsed": outcome.parsed, "why": outcome.why or None}
    return {key: value for key, value in shown.items() if value is not None}


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _too_many(
    entry: Entry, failures: Mapping[int, Exception], rollouts: Rollouts, *, asked: int, allowed: float, step: int
) -> RewardFailure:
    row, error = next(iter(failures.items()))
    sample, text = rollouts.sample_of(row), rollouts.text[row]
    short = text if len(text) <= 240 else f"{text[:160]} ... {text[-60:]}"
    failure = RewardFailure(
        f"reward {entry.name} ({_file_of(entry.stage.plugin)}) failed on {len(failures)} of {asked} completions "
        f"at step {step}; max_failed allows {allowed:.0%}.\n"
        f"  First failure: {sample.where or 'sample'} (id {sample.id}): {_describe(error)}\n"
        f"  Completion ({len(text)} characters): {short!r}"
    )
    failure.__cause__ = error
    return failure


def _file_of(function: Callable[..., Any]) -> str:
    return getattr(inspect.getmodule(function), "__file__", None) or "unknown file"


def _check_signature(stage: Stage, info: RewardInfo, *, where: str) -> None:
    try:
        inspect.signature(stage.plugin).bind("", None, **stage.settings)
    except TypeError as error:
        arguments = {"row": "completion, sample", "group": "completions, sample", "batch": "completions, samples"}
        raise ConfigError(
            f"{where}: {stage.name} cannot be called as a {info.scope} reward: {error}.\n"
            f"  Write it as def {info.name}({arguments[info.scope]}, *, <settings>)."
        ) from None


def _weight(value: Any, *, where: str) -> float | Schedule:
    schedule = as_schedule(value, where=where)
    if schedule is not None:
        return schedule
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where} is a number or a schedule; found {value!r}.")
    return float(value)


def _tasks(value: Any, *, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    tasks = [value] if isinstance(value, str) else value
    if not (isinstance(tasks, list | tuple) and tasks and all(isinstance(task, str) for task in tasks)):
        raise ConfigError(f"{where} is a task or a list of tasks (values of meta.task); found {value!r}.")
    return tuple(tasks)
