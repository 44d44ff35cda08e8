"""ARPO (arXiv 2505.16282): a group that only fails gets one stored success of the same prompt.

Adds: the rollout `success_replay` with its memory of successes, which checkpoints hold. Its filter of tasks, those
that the base model solves at least once, is `mmrl data select`. Left out: trajectories of many turns in an environment;
a completion is one step of a recorded task here. Differs from its code: tokens are stored and not screens, and a prompt
that comes twice in a step makes two groups (docs/methods/arpo.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmrl.advantages import named_score
from mmrl.plugins import ConfigError
from mmrl.randomness import numpy_generator
from mmrl.records import Rollouts, Sample
from mmrl.rollouts import add_rows
from mmrl.stages import Context, Policy

Memory = dict[str, list[list[int]]]
"""Sample id -> the tokens of its latest successes, oldest first."""


def success_replay(
    policy: Policy,
    samples: Sequence[Sample],
    sizes: Sequence[int],
    context: Context,
    *,
    metric: str | None = None,
    size: int = 8,
    success: float = 0.1,
    mean_below: float = 0.2,
    std_below: float = 0.05,
) -> Rollouts:
    """Completions of the policy; where a group failed, one of them makes room for a success of earlier steps.

    A group has failed when the mean of `metric` (a reward's name; default the only one) is under `mean_below` and its
    population standard deviation under `std_below`. Its first row then goes, and a random one of the prompt's up to
    `size` latest completions with a metric above `success` joins (origin `replay`), if there is any. A step's successes
    are stored after its replays. Signal `success_stored`: share of the step's prompts that had one in store.
    """
    if size < 1:
        raise ConfigError(f"rollout.size = {size}: successes kept per prompt, at least 1.")
    memory: Memory = context.memory.setdefault("success_replay", {})
    fresh = context.generate(samples, sizes)
    context.score(fresh)
    _, score = named_score(metric, fresh, stage="success_replay")
    kept, replayed = list(range(len(fresh))), {}
    for group, sample in enumerate(samples):
        rows, stored = fresh.rows_of(group), memory.get(sample.id)
        if stored and len(rows) > 1 and failed(score[rows], mean_below=mean_below, std_below=std_below):
            chance = numpy_generator(context.seed, "replay", context.step, group, sample.id)
            replayed[group] = stored[int(chance.integers(len(stored)))]
            kept.remove(rows[0])
    known = torch.tensor([float(sample.id in memory) for sample in samples])
    remember(memory, fresh, (score > success).tolist(), size=size)
    if not replayed:
        fresh.signals["success_stored"] = known[fresh.group]
        return fresh
    # Rewards that compare the rows of a group must see the one that joined, so all are scored anew.
    unscored = replace(fresh.select(kept), scores={}, weights={}, reward=None, notes=[])
    rollouts = add_rows(unscored, policy, replayed, origin="replay")
    rollouts.signals["success_stored"] = known[rollouts.group]
    return rollouts


def failed(score: Tensor, *, mean_below: float, std_below: float) -> bool:
    """Whether a group's scores, f32[n] with NaN for none, are all low."""
    score = score[~score.isnan()]
    return len(score) > 0 and bool(score.mean() < mean_below) and bool(score.std(unbiased=False) < std_below)


def remember(memory: Memory, rollouts: Rollouts, succeeded: Sequence[bool], *, size: int) -> None:
    """Store the tokens of successful rows, at most `size` per prompt: the oldest make room."""
    for row, right in enumerate(succeeded):
        if right:
            stored = memory.setdefault(rollouts.sample_of(row).id, [])
            stored.append(rollouts.actions[row, : rollouts.length[row]].tolist())
            del stored[:-size]
