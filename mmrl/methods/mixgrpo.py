"""MixGRPO (arXiv 2507.21802): noise and training in a window of denoising steps that moves, the ODE outside.

Adds: `behaviour_kl`, off in its script. The window is `sampling.window: progressive`; its several rewards are
`group_relative_each`. Differs: the window never shrinks or runs empty before it begins again. Left out: the
higher-order solver after the window (MixGRPO-Flash).
"""

from __future__ import annotations

from torch import Tensor

from mmrl.losses import log_ratio
from mmrl.records import Rollouts


def behaviour_kl(logp: Tensor, rows: Rollouts) -> Tensor:
    """(logp - logp_old)^2 / 2: the k2 estimate of the divergence from the policy that made the rollouts."""
    return 0.5 * log_ratio(logp, rows) ** 2
