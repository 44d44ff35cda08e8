"""GRPO-Guard (arXiv 2510.22319): ratios of all denoising steps on one scale, so that the clip acts on all of them.

Adds: the loss `grpo_guard`, in place of `clipped`. For steps of flows whose log-prob is the Gaussian's: not for
`noise: cps`, nor for DDIM, whose steps have no dt. Other policies than those are refused (`DiffusionPolicy.lacks`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmrl.losses import LOG_RATIO_LIMIT, credit, log_ratio, pessimistic
from mmrl.plugins import needs
from mmrl.records import Rollouts


@needs("mean_shift", "step_std", "step_size")
def grpo_guard(logp: Tensor, rows: Rollouts, *, clip_low: float = 1e-4, clip_high: float = 1e-4) -> Tensor:
    """The clipped surrogate of exp((logp - logp_old + mean_shift) std), divided by the step's length |dt|.

    logp - logp_old is noise . dmean / std - |dmean|^2 / (2 std^2), averaged: always below 0 on average, so that without
    `mean_shift` good rows are rarely clipped; and larger the smaller std is, which the factor std takes back.

    `mean_shift` compares with the means of the rollout, also where `logp_old` is the training pass's. Theirs differ by
    rounding alone: off by r std they move the ratio by r^2 std / 2, for bfloat16's r of 1 % and a std of 0.1 by 5e-6.
    """
    signals = rows.signals
    balanced = (log_ratio(logp, rows) + signals["mean_shift"]) * signals["step_std"]
    ratio = balanced.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    length = signals["step_size"]
    return pessimistic(ratio, credit(rows), clip_low, clip_high) / torch.where(length > 0, length, 1.0)
