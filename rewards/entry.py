"""One entry of a config's list of rewards: a reward with its settings, weight and the rows it applies to."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mmrl.plugins import ConfigError, Stage, check_settings, load, settings_of
from mmrl.records import Rollouts, Sample
from mmrl.schedules import Schedule, as_schedule
from rewards.adapters import adapt
from rewards.calling import Outcome, attempt
from rewards.frames import Frame, as_frame, by_frame, over_frames
from rewards.registry import RewardInfo, Score, available

if TYPE_CHECKING:
    from rewards.workers import Workers

RESERVED = ("weight", "task", "as", "threshold", "frame", "timeout", "workers", "form")
"""Keys of an entry that are not settings of the reward."""


class Loaded:
    """What a reference names, ready to be called in this process. A class is built once per set of settings."""

    def __init__(self, name: str, *, form: str | None = None, where: str) -> None:
        plugin = load(name, available(), kind="reward", where=where)
        if not callable(plugin):
            raise ConfigError(f"{where}: {name} is a {type(plugin).__name__}; a reward is a function or a class.")
        self.name = name
        self.form = form
        self.plugin, self.info = adapt(plugin, form, where=where)
        self._built: dict[str, Callable[..., Any]] = {}

    def attempt(
        self, settings: Mapping[str, Any], completions: Sequence[Any] | Rollouts, samples: Sequence[Sample]
    ) -> list[Outcome]:
        """Score the completions of one call; a failure is an outcome, never an exception."""
        try:
            function = self.bind(settings)
        except Exception as error:
            return [error] * len(completions)
        return attempt(function, self.info, completions, samples)

    def bind(self, settings: Mapping[str, Any]) -> Callable[..., Any]:
        """The reward as a callable of its positional arguments; a class is built here, with what it loads."""
        if not inspect.isclass(self.plugin):
            return partial(self.plugin, **settings)
        key = repr(sorted(settings.items()))
        if key not in self._built:
            plugin: Any = self.plugin
            self._built[key] = plugin(**settings)
        return self._built[key]


@dataclass(frozen=True)
class Entry:
    """One entry of a config's list of rewards."""

    name: str
    """Its key in `rollouts.scores`, unique in the list."""
    reward: Loaded
    stage: Stage
    """Its settings, some of them schedules."""
    weight: float | Schedule = 1.0
    tasks: tuple[str, ...] | None = None
    """The values of `sample.meta["task"]` it applies to; None is every sample."""
    threshold: float | None = None
    """Set, the score is 1 where the value is at least this, else 0."""
    frame: Frame | None = None
    """Set, an image reward reads these frames of videos (`frames.py`)."""
    timeout: float | None = None
    """Seconds a call may take; set, calls run in worker processes."""
    workers: int = 1
    """Worker processes, with `timeout`."""
    _pool: list[Workers] = field(default_factory=list, repr=False)

    @classmethod
    def from_config(cls, spec: Mapping[str, Any], *, where: str) -> Entry:
        if not spec.get("name"):
            raise ConfigError(f"{where} has no `name`; its keys are {', '.join(map(str, spec)) or 'none'}.")
        reward = Loaded(str(spec["name"]), form=spec.get("form"), where=where)
        given = {key: value for key, value in spec.items() if key != "name" and key not in RESERVED}
        settings = check_settings(reward.plugin, given, name=reward.name, where=where, reserved=RESERVED)
        _check_signature(reward, settings, where=where)
        if "device" in settings_of(reward.plugin):
            settings.setdefault("device", chosen_device())
        timeout = spec.get("timeout", reward.info.timeout)
        workers = spec.get("workers", 1)
        for key, value in (("timeout", timeout), ("threshold", spec.get("threshold"))):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ConfigError(f"{where}.{key} is a number; found {value!r}.")
        if timeout is not None and not 0 < timeout < math.inf:
            raise ConfigError(f"{where}.timeout is a positive number of seconds; found {timeout!r}.")
        if not isinstance(workers, int) or workers < 1:
            raise ConfigError(f"{where}.workers is a number of processes, at least 1; found {workers!r}.")
        if "workers" in spec and timeout is None:
            raise ConfigError(f"{where}.workers needs a `timeout` in seconds per call.")
        low, high = reward.info.range
        threshold = spec.get("threshold")
        if threshold is not None and not low < threshold <= high:
            raise ConfigError(f"{where}.threshold = {threshold}: {reward.name} lies between {low:g} and {high:g}.")
        name = str(spec.get("as", reward.info.name))
        if not name.strip() or "/" in name:
            raise ConfigError(f"{where}.as = {name!r}: a name without a slash.")
        if reward.info.reads == "rollouts" and timeout is not None:
            raise ConfigError(f"{where}: {reward.name} reads rollouts, so it cannot run in worker processes.")
        return cls(
            name=name,
            reward=reward,
            stage=Stage(reward.name, reward.plugin, settings),
            weight=_weight(spec.get("weight", 1.0), where=f"{where}.weight"),
            tasks=_tasks(spec.get("task"), where=f"{where}.task"),
            threshold=spec.get("threshold"),
            frame=as_frame(spec.get("frame"), reward.info, where=f"{where}.frame"),
            timeout=timeout,
            workers=workers,
        )

    @property
    def info(self) -> RewardInfo:
        return self.reward.info

    @property
    def reads(self) -> str:
        """What the policy has to make: what the reward reads, or videos if it reads frames of them."""
        return self.info.reads if self.frame is None else "video"

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest score, the threshold applied."""
        return self.info.range if self.threshold is None else (0.0, 1.0)

    @property
    def waits(self) -> bool:
        """Whether its time is spent in another process or on a server."""
        return self.timeout is not None or getattr(self.reward.plugin, "waits", False)

    def weight_at(self, step: int, total: int) -> float:
        return self.weight(step, total, {}) if isinstance(self.weight, Schedule) else self.weight

    def applies_to(self, sample: Sample) -> bool:
        return self.tasks is None or sample.meta.get("task") in self.tasks

    def calls(self, rollouts: Rollouts) -> list[list[int]]:
        """The rows of each call: one row, the rows of one group, or all; only rows it applies to.

        Of several processes, each calls for the rows, or groups by their first row, that it holds; for all, every one.
        """
        rows = [row for row in range(len(rollouts)) if self.applies_to(rollouts.sample_of(row))]
        if self.info.scope == "batch":
            return [rows] if rows else []
        calls = [[row] for row in rows]
        if self.info.scope == "group":
            calls = [list(group) for _, group in groupby(rows, key=lambda row: int(rollouts.group[row]))]
        held = rollouts.held.tolist()
        return [call for call in calls if held[call[0]]]

    def outcomes(self, rollouts: Rollouts, *, step: int, total: int) -> dict[int, Outcome]:
        """Row -> outcome, for every row it applies to."""
        settings = self.stage.settings_at(step, total)
        calls = [(rows, self._read(rollouts, rows)) for rows in self.calls(rollouts)]
        found: dict[int, list[Outcome]] = {row: [] for rows, _ in calls for row in rows}
        if self.frame is not None:
            calls = [call for rows, videos in calls for call in by_frame(rows, videos, self.frame)]
        asked = [(completions, [rollouts.sample_of(row) for row in rows]) for rows, completions in calls]
        for (rows, _), outcomes in zip(calls, self.attempt_all(settings, asked), strict=True):
            for row, outcome in zip(rows, outcomes, strict=True):
                found[row].append(outcome)
        for row in (row for row, outcomes in found.items() if not outcomes):
            assert rollouts.images is not None
            found[row] = [IndexError(f"the video has no frame {self.frame}; it has {len(rollouts.images[row])}")]
        return {row: self._cut(over_frames(outcomes)) for row, outcomes in found.items()}

    def attempt_all(
        self, settings: Mapping[str, Any], calls: Sequence[tuple[Any, Sequence[Sample]]]
    ) -> list[list[Outcome]]:
        """The outcomes of every call, (completions, samples) each: in this process, or with a timeout in workers."""
        if self.timeout is None:
            return [self.reward.attempt(settings, completions, samples) for completions, samples in calls]
        return self._workers().attempt_all(settings, calls)

    def load(self, settings: Mapping[str, Any]) -> None:
        """Load now what the first call would load: models, workers, connections. Raises what that raises."""
        if self.timeout is not None:
            self._workers().start(settings)
        elif inspect.isclass(self.reward.plugin):
            ping = getattr(self.reward.bind(settings), "ping", None)
            if ping is not None:
                ping()

    def _read(self, rollouts: Rollouts, rows: list[int]) -> Any:
        """What the reward reads of these rows."""
        reads = self.reads
        if reads == "rollouts":
            return rollouts.select(rows)
        if reads == "text" or (reads == "any" and rollouts.images is None):
            return [rollouts.text[row] for row in rows]
        if rollouts.images is None:
            raise ConfigError(f"reward {self.name} reads {reads}s; these completions are texts.")
        made = [rollouts.images[row] for row in rows]
        if self.frame is not None and not all(isinstance(one, list | tuple) for one in made):
            raise ConfigError(f"reward {self.name} reads a frame of videos; these completions are images.")
        return made

    def _cut(self, outcome: Outcome) -> Outcome:
        if self.threshold is None or not isinstance(outcome, Score):
            return outcome
        why = f"{outcome.value:.4g} against the threshold {self.threshold:g}"
        return replace(outcome, value=float(outcome.value >= self.threshold), why=outcome.why or why)

    def _workers(self) -> Workers:
        if not self._pool:
            from rewards.workers import Workers

            assert self.timeout is not None
            self._pool.append(
                Workers(self.reward.name, form=self.reward.form, count=self.workers, timeout=self.timeout)
            )
        return self._pool[0]

    def close(self) -> None:
        """End its worker processes."""
        while self._pool:
            self._pool.pop().close()


def chosen_device() -> str:
    """The GPU of this rank if there is one, else the CPU."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def _check_signature(reward: Loaded, settings: Mapping[str, Any], *, where: str) -> None:
    plugin: Any = reward.plugin
    info = reward.info
    if inspect.isclass(plugin):
        scheduled = [key for key, value in settings.items() if isinstance(value, Schedule)]
        if scheduled:
            raise ConfigError(f"{where}.{scheduled[0]}: {reward.name} is built once, so its settings have no schedule.")
    try:
        if inspect.isclass(plugin):
            arguments: list[Any] = [None]  # self
            signature = inspect.signature(plugin.__call__)
            settings = {}
        else:
            arguments = []
            signature = inspect.signature(plugin)
        signature.bind(*arguments, *([None] if info.reads == "rollouts" else ["", None]), **settings)
    except TypeError as error:
        first = {"text": "completion", "any": "completion", "image": "image", "video": "video"}.get(info.reads, "")
        many = first if info.scope == "row" else f"{first}s"
        written = "rollouts" if info.reads == "rollouts" else f"{many}, sample{'s' * (info.scope == 'batch')}"
        raise ConfigError(
            f"{where}: {reward.name} cannot be called as a {info.scope} reward: {error}.\n"
            f"  Write it as def {info.name}({written}, *, <settings>)."
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
