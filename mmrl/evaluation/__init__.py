"""Held-out evaluation: the same prompts, media path and rewards as training, with a bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmrl.config import EvaluateConfig
from mmrl.plugins import Stage
from mmrl.randomness import derive, numpy_generator
from mmrl.records import Rollouts, Sample
from mmrl.stages import Policy
from rewards.scoring import Rewards

RESAMPLES = 2000


@dataclass(frozen=True)
class Evaluation:
    """Mean reward over prompts; `low` and `high` bound the 95 % percentile bootstrap over prompts."""

    score: float
    low: float
    high: float
    prompts: int
    scores: Mapping[str, float]
    """Mean of every reward alone."""
    rollouts: Rollouts


def evaluate(
    policy: Policy, rewards: Rewards, samples: Sequence[Sample], settings: EvaluateConfig, sampling: Stage, *, seed: int
) -> Evaluation:
    """Complete and score the samples with the training's sampling settings, but `settings.temperature`.

    The seed decides the completions, not the step, so evaluations of one run differ by the policy alone.
    """
    chosen = list(samples)[: settings.limit]
    at_start: Any = sampling.at(0, 1)
    how = at_start.at_temperature(settings.temperature)
    sizes = [settings.samples] * len(chosen)
    rollouts = policy.generate(chosen, sizes, how, seed=derive(seed, "evaluation"), step=0)
    rewards.score(rollouts, step=0, total=1)
    assert rollouts.reward is not None
    per_prompt = [float(part.nanmean()) for part in rollouts.reward.split(sizes)]
    per_prompt = [value for value in per_prompt if not math.isnan(value)]
    low, high = bootstrap(per_prompt, seed=seed)
    scores = {name: float(values.nanmean()) for name, values in rollouts.scores.items()}
    return Evaluation(sum(per_prompt) / len(per_prompt), low, high, len(per_prompt), scores, rollouts)


def bootstrap(values: Sequence[float], *, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean."""
    import numpy

    array = numpy.asarray(values)
    drawn = numpy_generator(seed, "bootstrap").integers(0, len(array), (RESAMPLES, len(array)))
    tail = 100 * (1 - level) / 2
    low, high = numpy.percentile(array[drawn].mean(1), [tail, 100 - tail])
    return float(low), float(high)
