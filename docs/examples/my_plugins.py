"""One of each: a reward, an advantage stage and a loss term, in a file of your own. See docs/extending.md."""

from __future__ import annotations

import torch
from torch import Tensor

from mmrl.advantages import group_mean, per_row, spread
from mmrl.records import Rollouts, Sample
from mmrl.stages import Context
from rewards import Score, reward
from rewards.parsing import last_point


@reward(range=(0, 1), needs=("box",))
def near_the_centre(completion: str, sample: Sample, *, reach: float = 16.0) -> Score:
    """1 on the element's centre, falling linearly to 0 at `reach` pixels from it."""
    point = last_point(completion)
    if point is None:
        return Score(0.0, why="no point in the completion")
    x1, y1, x2, y2 = sample.target["box"]
    distance = ((point[0] - (x1 + x2) / 2) ** 2 + (point[1] - (y1 + y2) / 2) ** 2) ** 0.5
    score = max(0.0, 1 - distance / reach)
    return Score(score, parsed={"point": list(point)}, why=f"{distance:.1f} px from the centre")


def above_the_mean(advantage: Tensor, rollouts: Rollouts, context: Context, *, scale: float = 2.0) -> Tensor:
    """Only completions better than their group's mean learn. f32[N, T] -> f32[N, T]."""
    reward = per_row(advantage)
    return spread(scale * (reward - group_mean(reward, rollouts.group)).clamp(min=0.0), rollouts)


def squared_log_ratio(logp: Tensor, rows: Rollouts) -> Tensor:
    """Stay near the policy that made the rollouts. f32[n, T] -> f32[n, T]."""
    return 0.5 * torch.square(logp - rows.logp_old)
