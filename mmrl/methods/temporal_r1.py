"""Temporal-R1 (arXiv 2506.01908): learn only from rows on which the model's own completions differ in reward.

Adds: `mmrl data select`, which completes every row several times, scores it by a recipe's rewards and keeps the rows of
enough spread. The rest is made of what there is: the dual reward is routing by task (`letter_choice` for questions,
`tiou` or `temporal_json` for moments, `grounded_answer` for both at once), the loss GRPO with a KL and an
entropy bonus. The paper's k and thresholds are not public: docs/methods/temporal_r1.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from data_pipelines.reading import Problem
from data_pipelines.rows import row_of
from mmrl.plugins import ConfigError
from mmrl.recipe import Recipe
from mmrl.records import Rollouts, Sample
from mmrl.stages import Policy
from mmrl.survey import completed


def varied(
    policy: Policy,
    recipe: Recipe,
    samples: Sequence[Sample],
    *,
    completions: int = 8,
    spread: float = 0.05,
    metrics: Sequence[str] = (),
) -> Iterator[dict[str, Any] | Problem | None]:
    """The samples as rows, in order; None for those whose `completions` have a standard deviation (population) below
    `spread`, all right and all wrong ones among them. The row's `meta.selection` holds mean and spread.

    They are those of the recipe's reward, or of the sum of the rewards that `metrics` names and that apply.
    """
    for sample, rollouts in completed(policy, recipe, samples, completions=completions):
        values = judged(rollouts, metrics)
        values = values[~values.isnan()].double()
        if len(values) < 2:
            yield Problem(sample.where, f"{len(values)} of {completions} completions have a reward", "no reward")
            continue
        mean, std = float(values.mean()), float(values.std(unbiased=False))
        selection = {"mean": round(mean, 6), "std": round(std, 6), "completions": len(values)}
        yield row_of(sample) | {"meta": sample.meta | {"selection": selection}} if std >= spread else None


def judged(rollouts: Rollouts, metrics: Sequence[str]) -> Tensor:
    """f32[N]: the reward, or the sum of some scores; NaN where there is none."""
    unknown = set(metrics) - set(rollouts.scores)
    if unknown:
        there = ", ".join(rollouts.scores)
        raise ConfigError(f"--metric {min(unknown)}: no such reward in the recipe; there are {there}.")
    assert rollouts.reward is not None
    if not metrics:
        return rollouts.reward
    scores = torch.stack([rollouts.scores[name] for name in metrics])
    return scores.nansum(0).masked_fill(scores.isnan().all(0), torch.nan)
