"""Numbers that change over a run. Any number of a stage's settings may be written as a schedule:

    {name: kl, coef: {schedule: linear, start: 0.1, end: 0.04, until: 0.3}}

A schedule is a pure function of (step, total, metrics), so a resumed run sees the same numbers. Shapes: `linear`,
`cosine`, `exponential` (start to end, reached at `until`, a share of the run), or `file.py:function` with the
signature `(step, total, metrics) -> float`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
    curve = SHAPES[name]

    def value(step: int, total: int, metrics: Mapping[str, float]) -> float:
        span = max(1.0, until * total)
        return curve(start, end, min(1.0, step / span))

    return Schedule(value)


def as_schedule(value: Any, *, where: str) -> Schedule | None:
    """A schedule if `value` is written as one (a mapping with the key `schedule`), else None."""
    from mmrl.plugins import ConfigError, load, nearest

    if not (isinstance(value, Mapping) and "schedule" in value):
        return None
    name = str(value["schedule"])
    settings = {key: number for key, number in value.items() if key != "schedule"}
    if name not in SHAPES:
        if ":" not in name:
            raise ConfigError(f"{where}: there is no schedule named `{name}`.\n  {nearest(name, SHAPES)}")
        if settings:
            raise ConfigError(f"{where}: a schedule of your own takes no settings; found {sorted(settings)}.")
        return Schedule(load(name, {}, kind="schedule", where=where))
    unknown = set(settings) - {"start", "end", "until"}
    if unknown or not {"start", "end"} <= set(settings):
        raise ConfigError(
            f"{where}: a {name} schedule takes start, end and, if you like, until; found {sorted(settings)}."
        )
    try:
        settings = {key: float(number) for key, number in settings.items()}  # YAML reads 1e-3 as text
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: start, end and until are numbers; found {settings}.") from None
    if not 0 < settings.get("until", 1.0) <= 1:
        raise ConfigError(f"{where}.until is a share of the run in (0, 1]; found {settings['until']}.")
    if name == "exponential" and not (settings["start"] > 0 and settings["end"] > 0):
        raise ConfigError(f"{where}: an exponential schedule needs positive start and end.")
    return shape(name, **settings)
