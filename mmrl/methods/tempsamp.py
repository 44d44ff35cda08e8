"""TempSamp-R1 (arXiv 2509.18056): the ground truth joins the group as a completion that the policy did not make.

Adds: the rollout `ground_truth`, and the paper's three remedies for its bias: `soft_advantage` (Eq. 4, the
default), `downscale_off_policy`, `anchor_off_policy`. Its training without and then with a thought are two runs on data
asked in two styles. Left out: its "mixed" score, which picks the better of two answers by the label. Where the paper is
silent (the row's form reward, the scope of Eq. 4) and what we chose: docs/methods/tempsamp.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mmrl.advantages import group_relative, named_score, per_row
from mmrl.gold import Style, gold_kind, gold_text
from mmrl.plugins import needs
from mmrl.records import Rollouts, Sample
from mmrl.rollouts import add_rows
from mmrl.stages import Context, Policy


@needs("target")
def ground_truth(
    policy: Policy,
    samples: Sequence[Sample],
    sizes: Sequence[int],
    context: Context,
    *,
    style: Style = "answer",
    decimals: int = 2,
    thought: str | None = None,
) -> Rollouts:
    """Groups of size - 1 completions of the policy and, as the last, the target's text (origin `ground_truth`).

    `style` and `decimals` (of seconds) are those that the prompt asks for. `thought` names the key of `meta` that holds
    a thought to put before the answer in think tags; without it the row is the bare answer. A group whose text cannot
    be built (no known target, no thought), or of one row, stays purely on policy.
    """

    def known(sample: Sample) -> bool:
        return gold_kind(sample) is not None and (thought is None or isinstance(sample.meta.get(thought), str))

    given = [group for group, size in enumerate(sizes) if size > 1 and known(samples[group])]
    rollouts = context.generate(samples, [size - (group in given) for group, size in enumerate(sizes)])
    texts = {}
    for group in given:
        sample = rollouts.samples[group]
        before = "" if thought is None else f"<think>{sample.meta[thought]}</think>"
        texts[group] = before + gold_text(sample, style=style, decimals=decimals)
    return add_rows(rollouts, policy, texts, origin="ground_truth")


def soft_reward(reward: Tensor, *, tau: float = 0.8, alpha_high: float = 0.01, alpha_low: float = 1.0) -> Tensor:
    """Eq. 4: rewards above `tau` are nearly tied, lower ones spread by an exponential. Any shape, of 0 to 1."""
    above = tau + alpha_high * torch.log1p((reward - tau).clamp(min=0))
    below = tau - torch.expm1(alpha_low * (tau - reward)) / math.expm1(alpha_low)
    return torch.where(reward >= tau, above, below)


def soft_advantage(
    advantage: Tensor,
    rollouts: Rollouts,
    context: Context,
    *,
    reward: str | None = None,
    tau: float = 0.8,
    alpha_high: float = 0.01,
    alpha_low: float = 1.0,
) -> Tensor:
    """Eq. 4 on one reward of every row, the others added as they are; a link before the comparison.

    `reward` names it; it may be left out where there is but one. Rows that it does not apply to stay as they are.
    """
    name, score = named_score(reward, rollouts, stage="soft_advantage")
    shaped = soft_reward(score, tau=tau, alpha_high=alpha_high, alpha_low=alpha_low)
    return advantage + (rollouts.weights[name] * (shaped - score).nan_to_num(0.0))[:, None]


def downscale_off_policy(advantage: Tensor, rollouts: Rollouts, context: Context, *, scale: float = 0.8) -> Tensor:
    """The reward of rows from elsewhere times `scale`; a link before the comparison."""
    return torch.where(rollouts.own[:, None], advantage, scale * advantage)


def anchor_off_policy(
    advantage: Tensor, rollouts: Rollouts, context: Context, *, factor: float = 1.2, eps: float = 1e-6
) -> Tensor:
    """The comparison among the policy's own rows alone; rows from elsewhere get `factor` times the group's best.

    Instead of `group_relative`. Where all own rows are equal, the best advantage is 0, and so is theirs.
    """
    own, reward = rollouts.own, per_row(advantage)
    result = group_relative(advantage.masked_fill(~own[:, None], math.nan), rollouts, context, eps=eps)
    for group in range(len(rollouts.samples)):
        mine = result[own & (rollouts.group == group), 0]
        mine = mine[~mine.isnan()]
        guests = ~own & (rollouts.group == group) & ~reward.isnan()
        result[guests] = factor * mine.max() if len(mine) else 0.0
    return result


def format_off_policy(
    advantage: Tensor, rollouts: Rollouts, context: Context, *, reward: str, credit: Literal["full", "skip"] = "full"
) -> Tensor:
    """What a row from elsewhere earns by the reward of form, whose thought it cannot have; before the comparison.

    `full`: 1; `skip`: the mean of the policy's own rows of the group, so that form decides nothing between them.
    """
    name, score = named_score(reward, rollouts, stage="format_off_policy")
    wanted = torch.ones_like(score)
    if credit == "skip":
        for group in range(len(rollouts.samples)):
            rows = rollouts.group == group
            wanted[rows] = score[rows & rollouts.own].nanmean()
    missing = torch.where(rollouts.own, 0.0, (wanted - score).nan_to_num(0.0))
    return advantage + (rollouts.weights[name] * missing)[:, None]
