"""Means over seeds with their t intervals, differences of runs of the same seed, and whether a claim holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from mmrl.replication.experiment import Expectation

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean, and the bounds of its 95 % interval by Student's t; equal to the mean for a single value."""

    mean: float
    low: float
    high: float


class Verdict(NamedTuple):
    difference: Interval
    """Of arm - over, in units of the measure, whatever the expectation is in."""
    relative: float
    """The mean difference, relative to the mean of `over`; NaN where that is 0."""
    holds: bool


def interval(values: Sequence[float]) -> Interval:
    """Of one value per seed, taken as independent draws of a normal distribution."""
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Interval(mean, mean, mean)
    from scipy.stats import t

    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(t.ppf(0.5 + LEVEL / 2, count - 1)) * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half)


Bounds = tuple[float, float]


def judge(
    expected: Expectation,
    arm: Sequence[float],
    over: Sequence[float],
    *,
    prompts: tuple[Bounds | None, Bounds | None] = (None, None),
) -> Verdict:
    """Values by seed, the same seeds in both; one alone, of a model as it is, stands for all seeds.

    Where both are alone the interval is over prompts, from those of the two evaluations in `prompts`.
    """
    if len(arm) == len(over) == 1:
        difference = _over_prompts(arm[0] - over[0], *prompts)
    else:
        seeds = max(len(arm), len(over))
        arm, over = ([*values] * seeds if len(values) == 1 else values for values in (arm, over))
        difference = interval([a - b for a, b in zip(arm, over, strict=True)])
    base = interval(over).mean
    relative = difference.mean / abs(base) if base else math.nan
    if expected.within is not None:
        return Verdict(difference, relative, difference.low >= -expected.within)
    amount, is_relative = expected.amount
    reached = relative if is_relative else difference.mean
    sure = difference.low > 0 if amount > 0 else difference.high < 0
    # Bounds that are met exactly do not fail by a rounding error.
    enough = reached >= amount - 1e-9 if amount > 0 else reached <= amount + 1e-9
    return Verdict(difference, relative, bool(sure and enough))


def _over_prompts(difference: float, arm: Bounds | None, over: Bounds | None) -> Interval:
    """As if the prompts of the two were independent: too wide where, as usual, they are the same. Without bounds
    nothing is known."""
    if arm is None or over is None:
        return Interval(difference, -math.inf, math.inf)
    half = math.hypot((arm[1] - arm[0]) / 2, (over[1] - over[0]) / 2)
    return Interval(difference, difference - half, difference + half)
