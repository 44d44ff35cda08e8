"""TW-GRPO (arXiv 2505.24718): tokens count more where the distributions of a group's rows differ.

Adds: `token_weights`, on the signal `intra_group_divergence` that the policy computes from whole vocabularies
(`policies/divergence.py`). The rest of the paper is elsewhere: partial credit for several right options is the reward
`soft_choices`, question-answer inversion the data transform `invert-questions`, its reduction `aggregate: token_mean`.
Differs from its code, which lets the gradient flow through the weights: here they are numbers. docs/methods/tw_grpo.md
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmrl.plugins import ConfigError, needs
from mmrl.records import Rollouts
from mmrl.stages import Context


@needs("intra_group_divergence")
def token_weights(advantage: Tensor, rollouts: Rollouts, context: Context, *, alpha: float = 1.7) -> Tensor:
    """Advantages times 1 + (alpha - 1) N, N the group's divergence from 0 at its least to 1 at its most divergent
    position; a link after the comparison.

    Positions are those of the group's longest row, so all its rows have the same weight at the same position.
    """
    if alpha < 0:
        raise ConfigError(f"token_weights: alpha = {alpha} makes weights negative; 1 is none, the paper has 1.7.")
    found = rollouts.signals["intra_group_divergence"]
    weight = torch.ones_like(found)
    for group in range(len(rollouts.samples)):
        rows = rollouts.group == group
        longest = int(rollouts.length[rows].max())
        here = found[rows, :longest]
        low, high = here.min(), here.max()
        weight[rows, :longest] += (alpha - 1) * (here - low) / (high - low + 1e-8)
    rollouts.signals["token_weight"] = weight  # for the records of the run
    return advantage * weight
