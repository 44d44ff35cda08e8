"""A mean over prompts with its bootstrap interval, and pass@k. The unit is the prompt, not the completion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from mmrl.randomness import numpy_generator

RESAMPLES = 2000
TOGETHER = 1 << 22
"""Draws of the bootstrap in memory at a time."""


class Estimate(NamedTuple):
    """`low` and `high` bound the 95 % percentile bootstrap over prompts; all NaN without any prompt."""

    mean: float
    low: float
    high: float
    prompts: int


def estimate(per_prompt: Sequence[float], *, seed: int) -> Estimate:
    """Of one value per prompt; NaN is left out."""
    values = [value for value in per_prompt if not math.isnan(value)]
    if not values:
        return Estimate(math.nan, math.nan, math.nan, 0)
    low, high = bootstrap(values, seed=seed)
    return Estimate(sum(values) / len(values), low, high, len(values))


def bootstrap(values: Sequence[float], *, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean."""
    import numpy

    array = numpy.asarray(values)
    generator, means = numpy_generator(seed, "bootstrap"), numpy.empty(RESAMPLES)
    step = max(1, TOGETHER // len(array))
    for first in range(0, RESAMPLES, step):
        part = means[first : first + step]
        part[:] = array[generator.integers(0, len(array), (len(part), len(array)))].mean(1)
    tail = 100 * (1 - level) / 2
    low, high = numpy.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def per_prompt(values: Tensor, sizes: Sequence[int]) -> list[float]:
    """f32[N] -> one mean per prompt, NaN left out; NaN for a prompt with nothing else."""
    return [float(part.nanmean()) for part in values.split(list(sizes))]


def pass_at(k: int, values: Tensor, sizes: Sequence[int]) -> list[float]:
    """Per prompt the chance that at least one of k completions is right, 1 - C(n - c, k) / C(n, k), without bias.

    `values` f32[N] are 1 (right), 0 or NaN (not counted); n counts and c are right. NaN where n < k. The estimator is
    that of Codex (arXiv 2107.03374, Eq. 1).
    """
    chances = []
    for part in values.split(list(sizes)):
        n, c = int((~part.isnan()).sum()), int(part.nansum())
        chances.append(1 - math.comb(n - c, k) / math.comb(n, k) if n >= k else math.nan)
    return chances
