"""DDPO (arXiv 2305.13301): the policy gradient on denoising steps, before groups.

Adds: `per_prompt`, its statistics per prompt with those of the step where a prompt has too few rows. Left out: the
buffer that carries a prompt's last rewards from step to step, for an advantage here is a function of the step alone.
With as many completions per prompt and step as the buffer holds (16 in its recipes) the two are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmrl.advantages import group_count, group_mean, group_relative, group_std, per_row, spread
from mmrl.records import Rollouts
from mmrl.stages import Context


def per_prompt(
    advantage: Tensor, rollouts: Rollouts, context: Context, *, min_count: int = 16, eps: float = 1e-6
) -> Tensor:
    """(r - mean) / (population std + eps): of the prompt where at least `min_count` rows have a reward, else of all."""
    reward, everybody = per_row(advantage), torch.zeros_like(rollouts.group)
    centred = reward - group_mean(reward, everybody)
    of_all = centred / (group_std(reward, everybody, unbiased=False) + eps)
    of_prompt = group_relative(advantage, rollouts, context, std="population", eps=eps)
    enough = group_count(reward, rollouts.group) >= min_count
    return torch.where(enough[:, None], of_prompt, spread(of_all, rollouts))
