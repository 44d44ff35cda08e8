"""How much the next-token distributions of a group's rows differ, position by position: TW-GRPO's measure.

It needs every row's distribution over the whole vocabulary at once, G x T x V numbers; they are made, and left, a few
positions at a time. Rows are aligned where completions start, whatever their texts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmrl.policies.shared_prefix import SharedPrefix

LIMIT = 11.0
"""Log-ratios are cut there, as in the original."""


def divergence(engine: SharedPrefix, hidden: Tensor, length: Tensor, *, temperature: float) -> Tensor:
    """f32[T] of one group, from the hidden states [G, T, D] that predict its tokens and the rows' lengths int64[G].

    Of the tempered distributions that are sampled; tokens that can never be drawn are no part of the vocabulary.
    """
    alive = torch.arange(hidden.shape[1], device=hidden.device) < length.to(hidden.device)[:, None]
    chunk = max(1, engine.head_chunk // len(hidden))
    found = []
    for states, here in zip(hidden.split(chunk, 1), alive.split(chunk, 1), strict=True):
        log_probs = engine.allowed_log_probs(states.flatten(0, 1), temperature)
        found.append(position_divergence(log_probs.unflatten(0, here.shape), here))
    return torch.cat(found)


def position_divergence(log_probs: Tensor, alive: Tensor) -> Tensor:
    """Mean over rows of sum_v exp(m - l) - (m - l) - 1, m being the mean of the rows' log-probs l: f32[T].

    f32[G, T, V], bool[G, T]. A row that has ended counts as uniform. The sum has no probability before it: a token that
    all rows find unlikely counts as much as any other.
    """
    log_probs = torch.where(alive[..., None], log_probs, -math.log(log_probs.shape[-1]))
    ratio = (log_probs.mean(0) - log_probs).clamp(-LIMIT, LIMIT)
    return (torch.expm1(ratio) - ratio).sum(-1).mean(0)
