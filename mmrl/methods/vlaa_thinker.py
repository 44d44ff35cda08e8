"""VLAA-Thinker (arXiv 2504.11468): one run on five kinds of rewards, and form that is never paid but always needed.

Adds: `implicit_format`, by which a completion without an answer tag earns nothing. The five rewards exist and are
routed by task; its adaptive weight of the KL is the schedule `adaptive`; its data is `mmrl data convert vlaa`
(docs/methods/vlaa_thinker.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmrl.records import Rollouts
from mmrl.stages import Context
from rewards.parsing.tags import last_tag


def implicit_format(advantage: Tensor, rollouts: Rollouts, context: Context, *, tag: str = "answer") -> Tensor:
    """The reward, or 0 where the completion has no complete `<tag>...</tag>` with something in it.

    A link before the comparison. Logs the share of such completions as the metric `no_answer`.
    """
    missing = torch.tensor([not last_tag(text, tag) for text in rollouts.text])
    rollouts.signals["no_answer"] = missing
    return torch.where(missing[:, None] & ~advantage.isnan(), 0.0, advantage)
