"""The standard links of the chain from reward to advantage. Every link maps f32[N, T] to f32[N, T].

The chain starts with the combined reward at every action; links that shape the reward stand before the one that
compares it with others. NaN marks a row without reward: it stays NaN and counts in no mean, spread or total.
Equal rewards in a group give exactly 0. What single papers add is in `methods/`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmrl.plugins import ConfigError
from mmrl.records import Rollouts
from mmrl.stages import Context
from rewards.length import length_penalty


def group_sum(values: Tensor, group: Tensor) -> Tensor:
    """[N] -> f64[N]: every row gets the sum over its group, NaN left out.

    In float64 the sum of equal float32 numbers is exact, and so is their mean: equal rewards must give exactly 0,
    and dividing a rounding error by std + eps would not.
    """
    totals = torch.zeros(int(group.max()) + 1, dtype=torch.float64).index_add(0, group, values.nan_to_num(0.0).double())
    return totals[group]


def group_count(values: Tensor, group: Tensor) -> Tensor:
    """f32[N], rows of the same group that are not NaN."""
    return group_sum((~values.isnan()).to(values.dtype), group).to(values.dtype)


def group_mean(values: Tensor, group: Tensor) -> Tensor:
    """f32[N], mean over the row's group, NaN left out; NaN where the group has nothing else."""
    return (group_sum(values, group) / group_count(values, group)).to(values.dtype)


def group_std(values: Tensor, group: Tensor, *, unbiased: bool = True) -> Tensor:
    """f32[N], standard deviation over the row's group; 0 for a group of one."""
    squares = group_sum((values - group_mean(values, group)) ** 2, group)
    return (squares / (group_count(values, group) - int(unbiased)).clamp(min=1)).sqrt().to(values.dtype)


def per_row(advantage: Tensor) -> Tensor:
    """f32[N] from a chain value that is the same at every action, as rewards are."""
    return advantage[:, 0]


def spread(row: Tensor, rollouts: Rollouts) -> Tensor:
    """f32[N] -> f32[N, T], the same at every action."""
    return row[:, None].expand(rollouts.mask.shape).clone()


def named_score(reward: str | None, rollouts: Rollouts, *, stage: str) -> tuple[str, Tensor]:
    """The name of a reward and its raw scores, f32[N], for a stage that acts on one; None is the only one there is."""
    there = ", ".join(rollouts.scores)
    if reward is None and len(rollouts.scores) != 1:
        raise ConfigError(f"{stage}: `reward` names the one it acts on; there are {there}.")
    name = reward or next(iter(rollouts.scores))
    if name not in rollouts.scores:
        raise ConfigError(f"{stage}: reward = {name}: no such reward; there are {there}.")
    return name, rollouts.scores[name]


def group_relative(
    advantage: Tensor,
    rollouts: Rollouts,
    context: Context,
    *,
    std: Literal["unbiased", "population", "batch", "none"] = "unbiased",
    eps: float = 1e-6,
    single: Literal["zero", "reward"] = "zero",
) -> Tensor:
    """(r - group mean) / (std + eps), GRPO (arXiv 2402.03300, Eq. 3); `std: none` is Dr.GRPO (arXiv 2503.20783).

    `batch` divides by the unbiased std of all rewards of the batch. A group of one (others failed, or a ragged
    sampler) has nothing to be compared with: 0, or with `single: reward` the reward itself, as verl does.
    """
    reward, group = per_row(advantage), rollouts.group
    centred = reward - group_mean(reward, group)
    scale = torch.ones_like(centred)
    if std == "batch":
        scale = reward[~reward.isnan()].std() + eps
    elif std != "none":
        scale = group_std(reward, group, unbiased=std == "unbiased") + eps
    alone = group_count(reward, group) == 1
    relative = torch.where(alone, reward if single == "reward" else centred, centred / scale)
    return spread(relative, rollouts)


def group_relative_each(
    advantage: Tensor,
    rollouts: Rollouts,
    context: Context,
    *,
    std: Literal["unbiased", "population", "batch", "none"] = "unbiased",
    eps: float = 1e-6,
) -> Tensor:
    """`group_relative` of every score by itself, then their weighted sum; a link that stands first.

    Several rewards at the advantage level, as DanceGRPO (arXiv 2505.07818) and MixGRPO (arXiv 2507.21802) do: no
    reward dominates by its scale. Followed by `whiten` it is GDPO (arXiv 2601.05242). A score that does not apply to a
    row adds nothing to it; a row with a failed score stays out of the statistics of all.
    """
    total = torch.zeros_like(advantage)
    failed = per_row(advantage).isnan()
    for name, score in rollouts.scores.items():
        values = spread(score.masked_fill(failed, float("nan")), rollouts)
        relative = group_relative(values, rollouts, context, std=std, eps=eps)
        total += rollouts.weights[name] * relative.nan_to_num(nan=0.0)
    return total.masked_fill(failed[:, None], float("nan"))


def leave_one_out(advantage: Tensor, rollouts: Rollouts, context: Context) -> Tensor:
    """r - mean of the other rows of the group, RLOO (arXiv 2402.14740). 0 for a group of one."""
    reward, group = per_row(advantage), rollouts.group
    count = group_count(reward, group)
    centred = reward - group_mean(reward, group)
    return spread(centred * count / (count - 1).clamp(min=1), rollouts)


def length_weighted_baseline(advantage: Tensor, rollouts: Rollouts, context: Context) -> Tensor:
    """r - sum(length * r) / sum(length) over the group, the optimal baseline of OPO (arXiv 2505.23585)."""
    reward, group = per_row(advantage), rollouts.group
    length = rollouts.length.double().masked_fill(reward.isnan(), 0.0)
    baseline = group_sum(length * reward, group) / group_sum(length, group)
    return spread(reward - baseline.to(reward.dtype), rollouts)


def best_only(advantage: Tensor, rollouts: Rollouts, context: Context, *, eps: float = 1e-6) -> Tensor:
    """Only the best row of a group learns: (best - second best) / (std + eps); pass@k training (arXiv 2503.19595)."""
    reward, group = per_row(advantage), rollouts.group
    scale = group_std(reward, group) + eps
    result = torch.zeros_like(reward).masked_fill(reward.isnan(), float("nan"))
    for g in range(len(rollouts.samples)):
        rows = ((group == g) & ~reward.isnan()).nonzero().flatten()
        if len(rows) > 1:
            best, second = reward[rows].topk(2).values
            result[rows[reward[rows].argmax()]] = (best - second) / scale[rows[0]]
    return spread(result, rollouts)


def whiten(advantage: Tensor, rollouts: Rollouts, context: Context, *, eps: float = 1e-8) -> Tensor:
    """Zero mean and unit variance over all actions of the batch, as REINFORCE++ does (arXiv 2501.03262).

    After `{name: group_relative, std: none}` it is REINFORCE++-baseline. Token-weighted: long rows count more.
    """
    counted = rollouts.mask & ~advantage.isnan()
    values = advantage[counted]
    return (advantage - values.mean()) * torch.rsqrt(values.var() + eps)


def clip_advantage(advantage: Tensor, rollouts: Rollouts, context: Context, *, limit: float) -> Tensor:
    """Between -limit and +limit."""
    return advantage.clamp(-limit, limit)


def overlong_penalty(advantage: Tensor, rollouts: Rollouts, context: Context, *, limit: int, buffer: int) -> Tensor:
    """Soft overlong punishment, DAPO Eq. 13 (arXiv 2503.14476), added to the reward; a link before the comparison.

    0 up to `limit - buffer` tokens, falling linearly to -1 at `limit`, -1 beyond.
    """
    penalty = length_penalty(rollouts, limit=limit, buffer=buffer)
    return advantage + advantage.new_tensor(penalty)[:, None]


def overlong_filter(advantage: Tensor, rollouts: Rollouts, context: Context) -> Tensor:
    """Truncated rows receive no loss and leave the denominators, DAPO section 3.4. They still count in their group."""
    rollouts.mask = rollouts.mask & ~rollouts.signals["truncated"][:, None]
    return advantage
