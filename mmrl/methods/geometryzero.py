"""GeometryZero's GCPO (arXiv 2506.07160): an auxiliary construction is paid where it helps and charged where it hurts.

Adds: the rollout `with_and_without`, which asks half of a group to construct and the other half not to, and the link
`contrastive_mask`, which compares the halves. Its reward for length is `length_budget`. Only the paper's outline is
public: how large a difference must be (eps), and that both halves are trained on, is ours
(docs/methods/geometryzero.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from mmrl.advantages import named_score
from mmrl.plugins import ConfigError
from mmrl.policies.prompts import with_request
from mmrl.records import Rollouts, Sample
from mmrl.stages import Context, Policy

WITH = "Make an auxiliary construction first: TikZ code in <aux> </aux> tags. Then solve the problem with it."
WITHOUT = "Solve the problem without any auxiliary construction."
CONSTRUCTION = r"<aux>(?:(?!</aux>).)*\\(?:draw|path|coordinate|node|fill)(?:(?!</aux>).)*</aux>"


def with_and_without(
    policy: Policy,
    samples: Sequence[Sample],
    sizes: Sequence[int],
    context: Context,
    *,
    told: str = WITH,
    forbidden: str = WITHOUT,
) -> Rollouts:
    """Groups of two prompts: the first half of the rows (the larger one) was asked the question with `told` at its end,
    the others with `forbidden`. All are compared as one group."""
    if min(sizes) < 2:
        raise ConfigError("rollout: with_and_without compares two halves of a group, so each has at least 2 rows.")
    asked = [with_request(sample, text) for sample in samples for text in (told, forbidden)]
    rollouts = context.generate(asked, [half for size in sizes for half in (size - size // 2, size // 2)])
    # The samples as they were asked know what the model saw of their media; the question is the original one.
    seen = [replace(rollouts.samples[2 * i], messages=sample.messages) for i, sample in enumerate(samples)]
    return replace(rollouts, samples=seen, group=rollouts.group // 2)


def contrastive_mask(
    advantage: Tensor,
    rollouts: Rollouts,
    context: Context,
    *,
    accuracy: str | None = None,
    pattern: str = CONSTRUCTION,
    eps: float = 0.1,
    weight: float = 1.0,
    by: Literal["prompt", "construction"] = "prompt",
) -> Tensor:
    """Reward + weight * mask for rows that have a construction (a match of `pattern`); before the comparison.

    mask is 1 where the mean of `accuracy` (a reward's name; default the only one) with constructions is more than `eps`
    above that without, -1 where it is more than `eps` below, else 0. `by: prompt` compares the rows that were told to
    construct with those that were told not to (`with_and_without`); `by: construction`, for any rollout, the rows that
    did with those that did not. A side without a row has no mean, and the mask is 0. Signals: `constructions`, the
    share of rows that have one, and `contrastive_mask`.
    """
    _, score = named_score(accuracy, rollouts, stage="contrastive_mask")
    used = torch.tensor([re.search(pattern, text, re.DOTALL) is not None for text in rollouts.text])
    mask = torch.zeros(len(rollouts))
    for group in range(len(rollouts.samples)):
        rows = rollouts.group == group
        side = used if by == "construction" else rollouts.prompt == rollouts.prompt[rows][0]
        ahead = score[rows & side].nanmean() - score[rows & ~side].nanmean()
        mask[rows] = float(ahead > eps) - float(ahead < -eps)  # NaN is neither
    rollouts.signals |= {"constructions": used.float(), "contrastive_mask": mask}
    return advantage + (weight * mask * used)[:, None]
