"""Run the rewards of a config over rollouts: every score, the combined reward, and what went wrong.

Of the three answers a reward can give for a row (`calling.py`), a number counts with its weight, None drops out of the
row's sum, and a failure makes score and reward of the row NaN, so that it stays out of its group's statistics; the
reason goes to `rollouts.notes`. When too many rows fail, the run stops.

Writing a reward: `registry.py`. One entry of the list: `entry.py`.
"""

from __future__ import annotations

import inspect
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmrl import distributed
from mmrl.plugins import ConfigError, nearest
from mmrl.records import Rollouts, Sample
from mmrl.schedules import Schedule
from rewards.calling import Outcome, describe
from rewards.entry import Entry
from rewards.registry import Score

if TYPE_CHECKING:
    from torch import Tensor


SLOW = 30.0
"""Seconds after which a reward that still works on a step is named."""


class Elsewhere(Exception):
    """What went wrong with a reward in another process, in words."""


class RewardFailure(RuntimeError):
    """A reward failed on too many completions of a step."""


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
            depends = entries[index].info.reads == "rollouts"
            earlier = entries[index].stage.settings.get("of", ()) if depends else ()
            for of in [earlier] if isinstance(earlier, str) else earlier:
                if of not in names[:index]:
                    raise ConfigError(
                        f"{where}.{index}: {name} depends on the reward {of}, which must stand before it.\n"
                        f"  {nearest(of, names[:index])}"
                    )
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
        for entry, outcomes in self._outcomes(rollouts, step=step, total=total):
            scored = {row: outcome for row, outcome in outcomes.items() if isinstance(outcome, Score)}
            failures = {row: outcome for row, outcome in outcomes.items() if isinstance(outcome, Exception)}
            if len(failures) > self.max_failed * len(outcomes):
                raise _too_many(entry, failures, rollouts, asked=len(outcomes), allowed=self.max_failed, step=step)

            values = torch.full((len(rollouts),), math.nan)
            values[list(scored)] = torch.tensor([score.value for score in scored.values()])
            weight = entry.weight_at(step, total)
            weighted += weight * values.nan_to_num(nan=0.0)
            applies[list(scored)] = True
            failed[list(failures)] = True

            rollouts.scores[entry.name] = values
            rollouts.weights[entry.name] = weight
            for row, outcome in outcomes.items():
                if note := _note(outcome):
                    rollouts.notes[row][entry.name] = note
        rollouts.reward = weighted.masked_fill(failed | ~applies, math.nan)

    def _outcomes(self, rollouts: Rollouts, *, step: int, total: int) -> Iterator[tuple[Entry, dict[int, Outcome]]]:
        """Every entry's outcomes, in order. Entries that wait for a server or a worker process do so side by side."""
        waiting = [entry for entry in self.entries if entry.waits]
        targets = deepcopy([sample.target for sample in rollouts.samples])
        with ThreadPoolExecutor(len(waiting) or 1) as pool:
            pending = {entry.name: pool.submit(entry.outcomes, rollouts, step=step, total=total) for entry in waiting}
            try:
                for entry in self.entries:
                    found = pending.get(entry.name)
                    with _said_when_slow(entry, step):
                        outcomes = found.result() if found else entry.outcomes(rollouts, step=step, total=total)
                    outcomes = _of_all_ranks(outcomes)
                    if targets != [sample.target for sample in rollouts.samples]:
                        raise RewardFailure(f"reward {entry.name} changed sample.target, which all rewards share.")
                    yield entry, outcomes
            except BaseException:
                self.close()  # or leaving the pool would wait for calls that nobody wants any more
                raise

    def load(self) -> None:
        """Load models and start workers before the first completion exists; `ConfigError` names what cannot be."""
        for entry in self.entries:
            try:
                entry.load(entry.stage.settings_at(0, 1))
            except Exception as error:
                self.close()
                raise ConfigError(f"reward {entry.name} cannot be loaded: {describe(error)}") from error

    def close(self) -> None:
        """End the worker processes of all entries; scoring again starts new ones."""
        for entry in self.entries:
            entry.close()

    def halfway(self, rollouts: Rollouts) -> Tensor:
        """f32[N], the middle of the range of each row's reward; an unbounded reward counts as 0."""
        import torch

        middle = torch.zeros(len(rollouts))
        for entry in self.entries:
            low, high = entry.range
            if math.isfinite(low + high) and not isinstance(entry.weight, Schedule):
                middle += entry.weight * (low + high) / 2 * ~rollouts.scores[entry.name].isnan()
        return middle

    def metrics(self, rollouts: Rollouts) -> dict[str, float]:
        """Of scored rollouts: `score/<name>`, the mean over the policy's own rows that have one (absent without any),
        and `failed/<name>`, the number of failed rows, whoever made them.
        """
        metrics: dict[str, float] = {}
        own = rollouts.own
        for entry in self.entries:
            mean = rollouts.scores[entry.name][own].nanmean().item()
            if not math.isnan(mean):
                metrics[f"score/{entry.name}"] = mean
            failed = sum("error" in notes.get(entry.name, {}) for notes in rollouts.notes)
            metrics[f"failed/{entry.name}"] = float(failed)
        return metrics


def _of_all_ranks(outcomes: dict[int, Outcome]) -> dict[int, Outcome]:
    """The outcomes for all rows, from those of the rows that each process holds."""
    if distributed.size() == 1:
        return outcomes
    # An exception may hold anything; what is told of it is its text.
    told = {row: Elsewhere(describe(o)) if isinstance(o, Exception) else o for row, o in outcomes.items()}
    found = {row: outcome for part in distributed.gather(told) for row, outcome in part.items()}
    return {row: outcomes[row] if row in outcomes else found[row] for row in sorted(found)}


@contextmanager
def _said_when_slow(entry: Entry, step: int) -> Iterator[None]:
    """Inside, a reward that takes long is named on stderr: without a `timeout` it can stop the run."""
    hint = "" if entry.timeout is not None else "; `timeout:` in its entry would bound a call"

    def say() -> None:
        print(f"step {step}: still waiting for reward {entry.name} after {SLOW:g} s{hint}", file=sys.stderr, flush=True)

    timer = threading.Timer(SLOW, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_reads(rewards: Rewards, makes: str, *, where: str) -> None:
    """Raise `ConfigError` for a reward that reads something else than the policy makes: text, image or video."""
    for index, entry in enumerate(rewards.entries):
        if entry.reads in (makes, "any", "rollouts"):
            continue
        what = entry.reads if entry.frame is None else f"a frame of a video (frame: {entry.frame})"
        hint = "\n  With `frame: first` (middle, last, a number, mean) in its entry it reads frames of the videos."
        raise ConfigError(
            f"{where}: rewards.{index}: {entry.name} reads {what}, but this policy makes {makes}."
            f"{hint if (entry.reads, makes) == ('image', 'video') else ''}"
        )


def check_targets(rewards: Rewards, samples: Iterable[Sample], *, shown: int = 5) -> None:
    """Raise `ConfigError` for samples (up to `shown`) whose target lacks what a reward applied to them needs, and for a
    reward whose `task` no sample has.
    """
    samples = list(samples)
    missing = [
        f"{sample.where or f'sample {sample.id}'}: {lack}" for sample in samples for lack in lacking(rewards, sample)
    ]
    if missing:
        more = [f"... and {len(missing) - shown} more."] if len(missing) > shown else []
        raise ConfigError("\n".join(missing[:shown] + more))
    if samples and (idle := unapplied(rewards, [sample.meta.get("task") for sample in samples])):
        raise ConfigError(f"{idle[0]}.")


def lacking(rewards: Rewards, sample: Sample) -> list[str]:
    """The keys of the target that rewards applied to this sample need and do not find, in words."""
    return [
        f"reward {entry.name} needs target.{key}"
        for entry in rewards.entries
        if entry.applies_to(sample)
        for key in entry.info.needs
        if sample.target.get(key) is None
    ]


def unapplied(rewards: Rewards, tasks: Sequence[Any]) -> list[str]:
    """The rewards that apply to none of the samples of a dataset, in words; `tasks` are the samples' `meta.task`."""
    known = ", ".join(sorted({str("none" if task is None else task) for task in tasks}))
    return [
        f"reward {entry.name} applies to no sample: its task is {', '.join(entry.tasks)}, and the values of meta.task "
        f"in the data are {known}"
        for entry in rewards.entries
        if entry.tasks is not None and not any(task in entry.tasks for task in tasks)
    ]


def _note(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return {"error": describe(outcome)}
    if outcome is None:
        return {}
    shown = {"parsed": outcome.parsed, "why": outcome.why or None}
    return {key: value for key, value in shown.items() if value is not None}


def _too_many(
    entry: Entry, failures: Mapping[int, Exception], rollouts: Rollouts, *, asked: int, allowed: float, step: int
) -> RewardFailure:
    row, error = next(iter(failures.items()))
    sample, text = rollouts.sample_of(row), rollouts.text[row]
    short = text if len(text) <= 240 else f"{text[:160]} ... {text[-60:]}"
    completion = f"\n  Completion ({len(text)} characters): {short!r}" if rollouts.images is None else ""
    failure = RewardFailure(
        f"reward {entry.name} ({_file_of(entry.reward.plugin)}) failed on {len(failures)} of {asked} completions "
        f"at step {step}; max_failed_rewards allows {allowed:.0%}.\n"
        f"  First failure: {sample.where or f'sample {sample.id}'}: {describe(error)}{completion}"
    )
    failure.__cause__ = error
    return failure


def _file_of(function: Callable[..., Any]) -> str:
    return getattr(inspect.getmodule(function), "__file__", None) or "unknown file"
