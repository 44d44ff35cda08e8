"""The numbers of an experiment: one per run and measure, from run directories and the JSON of `mmrl eval`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrl.plugins import ConfigError, nearest
from mmrl.replication.experiment import Measure
from mmrl.runs.plot import Curves, smooth

HELD_OUT = "held_out"


@dataclass(frozen=True)
class Value:
    number: float
    reached: bool = True
    """False where a level was not reached: the number is all the steps there were."""
    bounds: tuple[float, float] | None = None
    """The 95 % interval over prompts, of an evaluation that has one."""


def of_training(run: Path, measure: Measure) -> Value:
    """From metrics.jsonl or, `held_out`, the evaluations in events.jsonl. ConfigError if it is nowhere recorded."""
    steps, values = curve_of(run, HELD_OUT if measure.source == HELD_OUT else measure.metric)
    where = f"{run}: {measure.name}"
    if not np.isfinite(values).any():
        raise ConfigError(f"{where}: {measure.source} has no number called {measure.metric}.\n  {_recorded(run)}")
    if measure.reach is not None:
        curve = values if measure.source == HELD_OUT else smooth(values)
        there = steps[curve >= measure.reach]
        last = Curves(run).steps[-1] + 1
        return Value(float(there[0] + 1), True) if len(there) else Value(float(last), False)
    tenth = max(1, round(len(values) / 10))
    part = {"all": values, "first_tenth": values[:tenth], "last_tenth": values[-tenth:], "last": values[-1:]}
    chosen = part[measure.over or "all"]
    if not np.isfinite(chosen).any():
        raise ConfigError(f"{where}: {measure.metric} is missing in the steps that `{measure.over}` means.")
    return Value(float(np.nanmean(chosen)))


def curve_of(run: Path, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps from 0 and values [S], of a name of metrics.jsonl or of the evaluations during training."""
    curves = Curves(run)
    if name != HELD_OUT:
        return curves.steps, curves[name]
    return (
        np.array([event["step"] for event in curves.evaluations], dtype=float),
        np.array([event["score"] for event in curves.evaluations], dtype=float),
    )


def of_evaluation(file: Path, measure: Measure) -> Value:
    """From what `mmrl eval --json` wrote. A name is one of its metrics (what the vote decided, where there is one), a
    reward of its scores, `reward` or `length`; a path with dots is any number of it."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    metrics = content["metrics"] | content["voted"]
    named: dict[str, Any] = content["scores"] | metrics | {key: content[key] for key in ("reward", "length")}
    found = named.get(measure.metric) if measure.metric in named else _at(content, measure.metric)
    bounds = None
    if isinstance(found, Mapping):
        low, high = found.get("low"), found.get("high")
        bounds = None if low is None or high is None else (float(low), float(high))
        found = found.get("mean", found.get("score"))
    if not isinstance(found, (int, float)) or not math.isfinite(found):
        raise ConfigError(f"{file}: {measure.name}: no number called {measure.metric}.\n  "
                          f"{nearest(measure.metric, named)}")  # fmt: skip
    return Value(float(found), bounds=bounds)


def _at(content: Any, path: str) -> Any:
    """`pass_at.accuracy.8`; a key may itself hold dots, so the longest that fits is taken."""
    if not path:
        return content
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        key = ".".join(parts[:count])
        if isinstance(content, Mapping) and key in content:
            return _at(content[key], ".".join(parts[count:]))
    return None


def _recorded(run: Path) -> str:
    names = {key for line in Curves(run).lines for key, value in line.items() if isinstance(value, (int, float))}
    return f"Recorded: {', '.join(sorted(names))}."
