"""`mmrl rewards check my.py:fn`: what an author should know about a reward before it trains anything.

The reward is called on right answers, ordinary and hostile completions (`battery.py`), twice and in two worker
processes, so that one that hangs or dies is a finding and not the end of the check. A reward that reads rollouts runs
in this process. What a finding says and when it fails: `findings.py`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from rich import get_console
from rich.progress import track

from mmrl.plugins import ConfigError
from mmrl.records import Sample
from rewards.authoring.battery import Call, calls, make_rollouts, whole_group
from rewards.authoring.samples import TARGETS, own_samples, prepared
from rewards.authoring.show import as_written, source_file
from rewards.calling import Outcome
from rewards.entry import Entry
from rewards.registry import RewardInfo, Score
from rewards.scoring import Rewards, check_targets

LIMIT = 10.0
"""Seconds a call may take, unless the reward or its entry says otherwise."""
SLOW = 1.0
"""Seconds from which on a call is slow."""
WASTED = 3
"""After so many calls that hung, or failed slowly, the rest are not tried."""
SPEED_SECONDS = 0.3


@dataclass(frozen=True)
class Result:
    """What came of one call."""

    call: Call
    outcomes: list[Outcome]
    """One per completion of the call; those of a second run in `again`."""
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """Of the completion the call was made for."""
        return self.outcomes[0]


@dataclass(frozen=True)
class Trial:
    """Everything `findings` judges."""

    reference: str
    info: RewardInfo
    keys: tuple[str, ...]
    """Keys of the target that are its right answer: those it needs, and those it turned out to read."""
    file: str
    """Where it is written."""
    native: bool
    """Whether it is in mmrl's form, which declares facts with `@reward`."""
    results: list[Result]
    again: list[Result]
    """The same calls in another process, but those that hung."""
    not_tried: int
    """Calls left out after too many slow failures."""
    order: list[tuple[float, float]] | None
    """Scores of a group that differ from those of the same group in another order; None where a call failed."""
    per_second: float | None
    """Ordinary completions per second on one core."""
    limit: float
    own: bool
    """Whether the samples are the check's own."""


class Caller(Protocol):
    def __call__(self, call: Call) -> list[Outcome]: ...
    def close(self) -> None: ...


def try_out(spec: Mapping[str, Any], *, data: Path | None = None, limit: int = 8) -> Trial:
    """Call the reward of a recipe's entry `spec` on everything. `limit`: rows of `data` to use.

    ConfigError for settings that are wrong and samples that lack what the reward needs.
    """
    entry = Entry.from_config(spec, where=f"mmrl rewards check {spec['name']}")
    settings = entry.stage.settings_at(0, 1)
    seconds = entry.timeout or entry.info.timeout or LIMIT
    with TemporaryDirectory() as folder:
        with closing(_caller(entry, settings, seconds)) as caller:
            if data is None:
                keys, samples = _own(caller, entry, Path(folder))
            else:
                keys, samples = entry.info.needs, _samples_of(data, entry, limit)
            made = calls(entry.info, keys, samples)
            results = _all(caller, made, "calling")
            order = _order(caller, entry.info, made)
        results = [_here_again(entry, settings, result) for result in results]
        tried = [result.call for result in results if not _hung(result)]
        with closing(_caller(entry, settings, seconds)) as caller:
            again = _all(caller, tried, "calling again")
        per_second = _speed(entry, settings, results)
    written = as_written(entry.reward)
    return Trial(
        reference=entry.reward.name,
        info=entry.info,
        keys=keys,
        file=source_file(written),
        native=entry.reward.plugin is written,
        results=results,
        again=again,
        not_tried=len(made) - len(results),
        order=order,
        per_second=per_second,
        limit=seconds,
        own=data is None,
    )


def _samples_of(data: Path, entry: Entry, limit: int) -> list[Sample]:
    from data_pipelines.dataset import read_samples

    samples = [sample for sample in read_samples(data, need_target=False) if entry.applies_to(sample)][:limit]
    if not samples:
        raise ConfigError(f"{entry.name} applies to no row of {data}.")
    check_targets(Rewards((entry,)), samples)
    return [prepared(sample) for sample in samples]


def _own(caller: Caller, entry: Entry, folder: Path) -> tuple[tuple[str, ...], list[Sample]]:
    """Samples of our own for a reward, and the keys of their targets.

    What it reads without declaring it is found out by its errors. Of the forms a target may have, those are kept for
    which a right answer gets a value; all of them, if there are none.
    """
    keys = entry.info.needs
    while True:
        if unknown := [key for key in keys if key not in TARGETS]:
            raise ConfigError(
                f"{entry.name} reads target.{unknown[0]}, for which the check has no samples of its own.\n"
                f"  Give it rows of yours: mmrl rewards check {entry.reward.name} --data FILE.jsonl"
            )
        samples = own_samples(keys, folder)
        errors = [_refused(caller, calls(entry.info, keys, [sample], hostile=False)) for sample in samples]
        fit = [sample for sample, refused in zip(samples, errors, strict=True) if not refused]
        asked = [key for error in errors[0] for key in _missing(error, keys)]
        if fit or not asked:
            return keys, fit or samples
        keys = (*keys, asked[0])


def _refused(caller: Caller, made: Sequence[Call]) -> list[Exception]:
    """The errors of the calls; none if one of them is answered, or fails slowly, which says nothing."""
    errors: list[Exception] = []
    for call in made:
        start = time.perf_counter()
        outcome = caller(call)[0]
        slow = errors and time.perf_counter() - start > SLOW  # the first call may import something
        if not isinstance(outcome, Exception) or isinstance(outcome, TimeoutError) or slow:
            return []
        errors.append(outcome)
    return errors


def _missing(error: Exception, keys: Sequence[str]) -> list[str]:
    """The keys of the target that an error asks for, besides those it has."""
    text = str(error)
    asked = re.findall(r"target\.(\w+)|the column (\w+)", text)
    named = [first or second for first, second in asked] + [key for key in TARGETS if text.endswith(f"'{key}'")]
    return [key for key in named if key not in keys]


def _caller(entry: Entry, settings: Mapping[str, Any], seconds: float) -> Caller:
    if entry.info.reads == "rollouts":
        return _Here(entry, settings)
    return _InWorker(entry, settings, seconds)


class _Here:
    """Calls in this process."""

    def __init__(self, entry: Entry, settings: Mapping[str, Any]) -> None:
        self.entry = entry
        self.settings = settings

    def __call__(self, call: Call) -> list[Outcome]:
        given: Any = call.completions
        if self.entry.info.reads == "rollouts":
            given = make_rollouts(call.completions, call.samples[0], self.settings)
        return self.entry.reward.attempt(self.settings, given, call.samples)

    def close(self) -> None:
        pass


class _InWorker:
    """Calls in a worker process that is replaced when a call takes longer than its limit."""

    def __init__(self, entry: Entry, settings: Mapping[str, Any], seconds: float) -> None:
        from rewards.workers import Workers

        self.workers = Workers(entry.reward.name, form=entry.reward.form, count=1, timeout=seconds)
        self.settings = settings
        try:
            self.workers.start(settings)
        except Exception as error:
            raise ConfigError(f"{entry.reward.name} cannot be loaded: {error}") from error

    def __call__(self, call: Call) -> list[Outcome]:
        [outcomes] = self.workers.attempt_all(self.settings, [(list(call.completions), list(call.samples))])
        return outcomes

    def close(self) -> None:
        self.workers.close()


def _all(caller: Caller, made: Sequence[Call], doing: str) -> list[Result]:
    """The results of all calls, or of those up to the last slow failure that is allowed."""
    results: list[Result] = []
    wasted = 0
    for call in track(made, doing, transient=True, disable=not get_console().is_terminal):
        start = time.perf_counter()
        outcomes = caller(call)
        results.append(Result(call, outcomes, time.perf_counter() - start))
        wasted += _hung(results[-1]) or (isinstance(outcomes[0], Exception) and results[-1].seconds > SLOW)
        if wasted == WASTED:
            break
    return results


def _here_again(entry: Entry, settings: Mapping[str, Any], result: Result) -> Result:
    """A slow call that came back is timed again in this process: the time in a worker includes sending it there."""
    if result.seconds < SLOW or isinstance(result.outcome, TimeoutError | ChildProcessError):
        return result
    here, seconds = _Here(entry, settings), []
    for _ in range(2):  # the first may import something
        start = time.perf_counter()
        here(result.call)
        seconds.append(time.perf_counter() - start)
    return replace(result, seconds=min(seconds))


def _hung(result: Result) -> bool:
    return isinstance(result.outcome, TimeoutError)


def _order(caller: Caller, info: RewardInfo, made: Sequence[Call]) -> list[tuple[float, float]] | None:
    """Where a group's scores differ from those of the same group shuffled: (as it was, shuffled) per completion."""
    if info.scope == "row":
        return []
    group = whole_group(info, made)
    order = list(range(len(group.completions)))
    Random(0).shuffle(order)
    shuffled = Call(group.label, group.role, tuple(group.completions[i] for i in order), group.samples, "")
    before, after = caller(group), caller(shuffled)
    pairs = [(before[i], after[place]) for place, i in enumerate(order)]
    if any(isinstance(outcome, Exception) for pair in pairs for outcome in pair):
        return None
    values = [tuple(outcome.value if isinstance(outcome, Score) else 0.0 for outcome in pair) for pair in pairs]
    return [(first, second) for first, second in values if abs(first - second) > 1e-6 * max(1.0, abs(first))]


def _speed(entry: Entry, settings: Mapping[str, Any], results: Sequence[Result]) -> float | None:
    """Completions per second, in this process: of the calls that are not hostile, None if all of them failed."""
    usual = [
        result for result in results if result.call.role != "hostile" and not isinstance(result.outcome, Exception)
    ]
    if not usual:
        return None
    here = _Here(entry, settings)
    here(usual[0].call)
    done, spent = 0, 0.0
    while spent < SPEED_SECONDS:
        for result in usual:
            start = time.perf_counter()
            done += len(here(result.call))
            spent += time.perf_counter() - start
            if spent > SPEED_SECONDS and done:
                break
    return done / spent
