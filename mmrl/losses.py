"""The standard loss terms, and how per-action losses become one number.

A term maps log-probs f32[n, T] to a loss per action f32[n, T], to be minimised. `weights` gives every action its
share of the total from counts over the whole optimizer batch, so a loss does not depend on micro-batches.
With ratio = exp(logp - logp_old) = 1 all policy terms here have the gradient -advantage per action.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmrl.plugins import needs
from mmrl.records import Rollouts

Aggregate = Literal["token_mean", "sequence_mean", "sequence_sum", "constant"]
LOG_RATIO_LIMIT = 20.0
"""Log-ratios beyond this carry no information and overflow in exp."""


def weights(mask: Tensor, aggregate: Aggregate, *, constant_length: int) -> Tensor:
    """f32[N, T], each action's share of the loss; rows without any action count as absent.

    `token_mean`: 1 / actions of the batch. `sequence_mean`: mean over rows of the mean over actions (GRPO's paper).
    `sequence_sum`: mean over rows of the sum. `constant`: sum / (rows * constant_length), Dr.GRPO.
    """
    share, length = mask.float(), mask.sum(1, keepdim=True)
    rows = (length > 0).sum().clamp(min=1)
    if aggregate == "token_mean":
        return share / length.sum().clamp(min=1)
    if aggregate == "sequence_mean":
        return share / length.clamp(min=1) / rows
    if aggregate == "sequence_sum":
        return share / rows
    return share / (rows * constant_length)


def log_ratio(logp: Tensor, rows: Rollouts) -> Tensor:
    """f32[n, T], log(policy / policy that made the rollouts)."""
    assert rows.logp_old is not None
    return (logp - rows.logp_old).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def credit(rows: Rollouts) -> Tensor:
    assert rows.advantage is not None
    return rows.advantage


def sequence_mean(values: Tensor, rows: Rollouts) -> Tensor:
    """f32[n, T] -> f32[n, 1], mean over the row's actions."""
    return (values * rows.mask).sum(1, keepdim=True) / rows.mask.sum(1, keepdim=True).clamp(min=1)


def pessimistic(ratio: Tensor, advantage: Tensor, clip_low: float | None, clip_high: float | None) -> Tensor:
    """max(-A ratio, -A clip(ratio, 1 - clip_low, 1 + clip_high)); None leaves that side open."""
    clipped_ratio = ratio.clamp(
        min=None if clip_low is None else 1 - clip_low,
        max=None if clip_high is None else 1 + clip_high,
    ) if (clip_low, clip_high) != (None, None) else ratio  # fmt: skip
    return torch.maximum(-advantage * ratio, -advantage * clipped_ratio)


def clipped(
    logp: Tensor,
    rows: Rollouts,
    *,
    clip_low: float | None = 0.2,
    clip_high: float | None = 0.2,
    dual_clip: float | None = None,
) -> Tensor:
    """The clipped surrogate of PPO (arXiv 1707.06347, Eq. 7).

    `clip_high` above `clip_low` is DAPO's clip-higher; None leaves a side open, and both None is no clipping.
    `dual_clip` c bounds the loss of negative advantages by -A c (arXiv 1912.09729).
    """
    advantage = credit(rows)
    loss = pessimistic(log_ratio(logp, rows).exp(), advantage, clip_low, clip_high)
    if dual_clip is None:
        return loss
    return torch.where(advantage < 0, torch.minimum(loss, -advantage * dual_clip), loss)


def gspo(logp: Tensor, rows: Rollouts, *, clip_low: float = 3e-4, clip_high: float = 4e-4) -> Tensor:
    """GSPO (arXiv 2507.18071), token form: the ratio is the sequence's geometric mean, the gradient reaches each token.

    Meant for `aggregate: sequence_mean`.
    """
    mean = sequence_mean(log_ratio(logp, rows), rows).detach().clamp(max=10.0)
    ratio = (mean + logp - logp.detach()).exp()
    return pessimistic(ratio, credit(rows), clip_low, clip_high)


def cispo(logp: Tensor, rows: Rollouts, *, clip_low: float | None = None, clip_high: float = 0.28) -> Tensor:
    """CISPO (arXiv 2506.13585): the ratio is clipped and detached, so every token keeps a gradient.

    Bounds are relative, 1 - clip_low and 1 + clip_high; the value of this loss means nothing, only its gradient does.
    """
    low = None if clip_low is None else 1 - clip_low
    ratio = log_ratio(logp, rows).exp().clamp(min=low, max=1 + clip_high)
    return -ratio.detach() * credit(rows) * logp


def gmpo(logp: Tensor, rows: Rollouts, *, clip: float = 0.4) -> Tensor:
    """GMPO (arXiv 2507.20673): geometric mean of token ratios, each log-ratio clipped at +-clip on its harmful side.

    Meant for `aggregate: sequence_mean` and an advantage that is the same at every token.
    """
    ratio, advantage = log_ratio(logp, rows), credit(rows)
    sign = advantage.sign()
    one_sided = sign * torch.minimum(sign * ratio, sign * ratio.clamp(-clip, clip))
    return -advantage * sequence_mean(one_sided, rows).exp()


def sapo(logp: Tensor, rows: Rollouts, *, tau_positive: float = 1.0, tau_negative: float = 1.05) -> Tensor:
    """SAPO (arXiv 2511.20347): a sigmoid gate instead of a clip, 4 / tau * sigmoid(tau (ratio - 1)).

    Its slope at ratio 1 is 1 for every tau; a larger tau closes it sooner.
    """
    advantage = credit(rows)
    tau = torch.where(advantage > 0, tau_positive, tau_negative)
    gate = torch.sigmoid(tau * (log_ratio(logp, rows).exp() - 1)) * 4 / tau
    return -gate * advantage


@needs("logp_ref")
def kl(logp: Tensor, rows: Rollouts, *, estimator: Literal["k1", "k2", "k3"] = "k3") -> Tensor:
    """KL(policy || reference) per action, from one sample; k1 to k3 as in Schulman, "Approximating KL divergence".

    k1 as a loss has zero expected gradient; it is there for measuring.
    """
    assert rows.logp_ref is not None
    ahead = (logp - rows.logp_ref).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    if estimator == "k1":
        return ahead
    if estimator == "k2":
        return ahead**2 / 2
    return torch.exp(-ahead) + ahead - 1


@needs("entropy")
def entropy_bonus(logp: Tensor, rows: Rollouts) -> Tensor:
    """Minus the entropy of the policy, in nats; give it a small positive `coef` to keep exploring."""
    return -rows.signals["entropy"]
