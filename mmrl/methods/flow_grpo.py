"""Flow-GRPO (arXiv 2505.05470): GRPO on rectified flows through an SDE with the marginals of the flow's ODE.

Adds: divergences from the model before training that need no samples, since both policies are Gaussians with the same
std. Its SDE, Flow-GRPO-Fast's window and Flow-CPS are settings of the sampling section, its advantage is
`{name: group_relative, std: batch, eps: 1.0e-4}`. Left out: KL as a reward per step (off in all its recipes).
"""

from __future__ import annotations

from torch import Tensor

from mmrl.plugins import needs
from mmrl.records import Rollouts


@needs("gaussian_kl", "step_size")
def gaussian_kl(logp: Tensor, rows: Rollouts, *, without_dt: bool = False) -> Tensor:
    """KL(policy || reference) of every step, |mean - mean_ref|^2 / (2 std^2), averaged over latent dimensions.

    `without_dt` multiplies it by the step's length |dt|, which cancels the dt in std = s sqrt|dt|: what Flow-GRPO's
    code for images computes, and what its coefficients 0.01 to 0.04 are for. Its code for Wan has the true KL, and so
    have steps whose std holds no dt (`noise: cps`, DDIM), for which `without_dt` is refused.
    """
    divergence = rows.signals["gaussian_kl"]
    return divergence * rows.signals["step_size"] if without_dt else divergence


gaussian_kl.needed_by = {"step_size": "without_dt"}


@needs("velocity_mse")
def velocity_kl(logp: Tensor, rows: Rollouts) -> Tensor:
    """|v - v_ref|^2, averaged over latent dimensions: the same weight for every step, which its author recommends."""
    return rows.signals["velocity_mse"]
