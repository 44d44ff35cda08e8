"""Held-out evaluation: the same prompts, media path, budget and rewards as training, with bootstrap intervals.

evaluate()      completions, their rewards, their metrics, and what a vote makes of several completions
metrics.py      what a benchmark counts, and which rows it fits; a module per family: moments, screens, answers
votes.py        several completions decided into one
estimates.py    intervals, pass@k · table.py: what `mmrl eval` prints and writes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmrl.config import EvaluateConfig
from mmrl.evaluation.estimates import Estimate, estimate, pass_at, per_prompt
from mmrl.plugins import Stage
from mmrl.randomness import derive
from mmrl.records import Rollouts, Sample
from mmrl.stages import Policy
from rewards.scoring import Rewards

if TYPE_CHECKING:
    from torch import Tensor

    from mmrl.evaluation.metrics import Metric


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
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    """Of single completions."""
    voted: Mapping[str, Estimate] = field(default_factory=dict)
    """The same of what the vote decided."""
    passed: Mapping[str, Mapping[int, Estimate]] = field(default_factory=dict)
    """name -> k -> pass@k, of each family's first name, if it is right or wrong."""


def evaluate(
    policy: Policy,
    rewards: Rewards,
    samples: Sequence[Sample],
    settings: EvaluateConfig,
    sampling: Stage,
    *,
    seed: int,
    metrics: Sequence[Metric] = (),
    vote: Stage | None = None,
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
    reward = estimate(per_prompt(rollouts.reward, sizes), seed=seed)
    scores = {name: float(values.nanmean()) for name, values in rollouts.scores.items()}

    found: dict[str, Tensor] = {}
    passed: dict[str, dict[int, Estimate]] = {}
    for family in metrics:
        measured = family.measure(rollouts)
        found |= measured
        passed |= passes(measured, sizes, seed=seed)
    decided: dict[str, Tensor] = {}
    if vote is not None:
        from mmrl.evaluation.votes import decide

        votes = decide(policy, rollouts, vote)
        decided = {name: values for family in metrics for name, values in family.measure(votes).items()}
    return Evaluation(
        reward.mean,
        reward.low,
        reward.high,
        reward.prompts,
        scores,
        rollouts,
        metrics={name: estimate(per_prompt(values, sizes), seed=seed) for name, values in found.items()},
        voted={name: estimate(values.tolist(), seed=seed) for name, values in decided.items()},
        passed=passed,
    )


def passes(measured: Mapping[str, Tensor], sizes: Sequence[int], *, seed: int) -> dict[str, dict[int, Estimate]]:
    """pass@2, @4, ... and @K of a family's first name, where several completions are right (1) or wrong (0)."""
    name, values = next(iter(measured.items()), ("", None))
    most = max(sizes, default=1)
    if most < 2 or values is None or not bool(((values == 0) | (values == 1) | values.isnan()).all()):
        return {}
    counts = sorted({2**i for i in range(1, most.bit_length()) if 2**i <= most} | {most})
    return {name: {k: estimate(pass_at(k, values, sizes), seed=seed) for k in counts}}
