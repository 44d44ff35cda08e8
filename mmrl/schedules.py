"""Numbers that change over a run. Any number of a stage's settings may be written as a schedule:

    {name: kl, coef: {schedule: linear, start: 0.1, end: 0.04, until: 0.3}}

A schedule is a pure function of (step, total, metrics), so a resumed run sees the same numbers. Shapes: `linear`,
`cosine`, `exponential` (start to end, reached at `until`, a share of the run); `piecewise`, straight lines between
`points`; `adaptive`, a coefficient that holds its loss term near a `target`; or `file.py:function` with the signature
`(step, total, metrics) -> float`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHAPES: dict[str, Callable[[float, float, float], float]] = {
    "linear": lambda start, end, t: start + (end - start) * t,
    "cosine": lambda start, end, t: end + (start - end) * 0.5 * (1 + math.cos(math.pi * t)),
    "exponential": lambda start, end, t: start * (end / start) ** t,
}


@dataclass(frozen=True)
class Schedule:
    """`function(step, total, metrics)`; steps count from 0, `metrics` are those of the previous step."""

    function: Callable[[int, int, Mapping[str, float]], float]

    def __call__(self, step: int, total: int, metrics: Mapping[str, float]) -> float:
        return float(self.function(step, total, metrics))


def shape(name: str, *, start: float, end: float, until: float = 1.0) -> Schedule:
    """From `start` at step 0 to `end` at `until` (a share of the run, in (0, 1]), constant afterwards."""
    if not 0 < until <= 1:
        raise ValueError("until is a share of the run in (0, 1]")
    if name == "exponential" and not (start > 0 and end > 0):
        raise ValueError("an exponential schedule needs positive start and end")
    curve = SHAPES[name]

    def value(step: int, total: int, metrics: Mapping[str, float]) -> float:
        span = max(1.0, until * total)
        return curve(start, end, min(1.0, step / span))

    return Schedule(value)


def piecewise(*, points: Sequence[tuple[float, float]]) -> Schedule:
    """Straight lines between (share of the run, value), shares rising; constant before the first and after the last."""
    shares = [share for share, _ in points]
    if len(points) < 2 or shares != sorted(set(shares)) or not (shares[0] >= 0 and shares[-1] <= 1):
        raise ValueError("points are two or more [share of the run, value], with shares rising within 0 to 1")

    def value(step: int, total: int, metrics: Mapping[str, float]) -> float:
        t = step / max(1, total)
        for (before, low), (after, high) in itertools.pairwise(points):
            if t <= after:
                return low + (high - low) * max(0.0, (t - before) / (after - before))
        return points[-1][1]

    return Schedule(value)


def adaptive(*, start: float, target: float, term: str = "kl", gain: float = 0.05, limit: float = 0.2) -> Schedule:
    """The controller of arXiv 1909.08593, section 2.2: c *= 1 + gain * clip(loss / target - 1, -limit, limit).

    For the coefficient c of the loss term `term`, by the values of both at the previous step (`loss/<term>`,
    `coef/<term>`). `gain` is its K: rollouts per step / horizon elsewhere.
    """
    if not (start > 0 and target > 0 and gain > 0 and limit > 0):
        raise ValueError("start, target, gain and limit are positive")

    def value(step: int, total: int, metrics: Mapping[str, float]) -> float:
        if f"coef/{term}" not in metrics:
            return start
        error = metrics[f"loss/{term}"] / target - 1
        return metrics[f"coef/{term}"] * (1 + gain * max(-limit, min(limit, error)))

    return Schedule(value)


BUILT: dict[str, Callable[..., Schedule]] = {
    **dict.fromkeys(SHAPES, shape),
    "piecewise": piecewise,
    "adaptive": adaptive,
}


def as_schedule(value: Any, *, where: str) -> Schedule | None:
    """A schedule if `value` is written as one (a mapping with the key `schedule`), else None."""
    from mmrl.plugins import ConfigError, check_settings, load, nearest

    if not (isinstance(value, Mapping) and "schedule" in value):
        return None
    name = str(value["schedule"])
    settings = {key: setting for key, setting in value.items() if key != "schedule"}
    if name in BUILT:
        positional = (name,) if name in SHAPES else ()
        try:
            return BUILT[name](*positional, **check_settings(BUILT[name], settings, name=name, where=where))
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"{where}: {error}; found {settings}.") from None
    if ":" not in name:
        raise ConfigError(f"{where}: there is no schedule named `{name}`.\n  {nearest(name, BUILT)}")
    if settings:
        raise ConfigError(f"{where}: a schedule of your own takes no settings; found {sorted(settings)}.")
    return Schedule(load(name, {}, kind="schedule", where=where))
