"""DanceGRPO (arXiv 2505.07818): GRPO on the denoising steps of images and videos.

Adds: `best_and_worst`, with which only the extremes of a large group are trained (its HunyuanVideo runs: 4 + 4 of 24).
The rest of it is settings: `group_relative_each` for several rewards, a reward's `threshold` for a binary one,
`clip_advantage`, and the sampling section for shared noise and the share of trained steps (docs/methods/diffusion.md).
Differs from its code, which sorts all rows of a GPU at once and so mixes prompts as soon as a GPU has two of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmrl.advantages import per_row
from mmrl.plugins import ConfigError
from mmrl.records import Rollouts
from mmrl.stages import Context


def best_and_worst(advantage: Tensor, rollouts: Rollouts, context: Context, *, best: int, worst: int) -> Tensor:
    """Only the `best` highest and `worst` lowest rows of every prompt receive loss; a link after the comparison.

    Advantages stay those of the whole group. Of equal rows the earlier counts as higher. Rows without reward are never
    kept; a group with no more than best + worst rows keeps all others. Where that is every group from the start, the
    link would do nothing, and is refused.
    """
    if best < 0 or worst < 0 or best + worst == 0:
        raise ConfigError(f"best_and_worst: best = {best}, worst = {worst} keeps nothing; one of them is at least 1.")
    largest = max(rollouts.group_sizes())
    if context.step == 0 and best + worst >= largest:
        raise ConfigError(
            f"best_and_worst: best = {best} and worst = {worst} keep all of a group of {largest}. Lower them, raise "
            "group_size, or leave this link out."
        )
    value, keep = per_row(advantage), torch.zeros(len(rollouts), dtype=torch.bool)
    for g in range(len(rollouts.samples)):
        rows = ((rollouts.group == g) & ~value.isnan()).nonzero().flatten()
        ranked = rows[value[rows].argsort(descending=True, stable=True)]
        keep[ranked[:best]] = True
        keep[ranked[max(0, len(ranked) - worst) :]] = True
    rollouts.mask = rollouts.mask & keep[:, None]
    return advantage
