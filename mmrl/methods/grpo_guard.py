"""GRPO-Guard (arXiv 2510.22319): ratios of all denoising steps on one scale, so that the clip acts on all of them.

Adds: the loss `grpo_guard`, in place of `clipped`. For steps whose log-prob is the Gaussian's (all but `noise: cps`).
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
    """
    signals = rows.signals
    balanced = (log_ratio(logp, rows) + signals["mean_shift"]) * signals["step_std"]
    ratio = balanced.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    length = signals["step_size"]
    return pessimistic(ratio, credit(rows), clip_low, clip_high) / torch.where(length > 0, length, 1.0)
