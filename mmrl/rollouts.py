"""Where completions come from: the policy itself, or the policy until enough groups are worth learning from.

The settings of sampling (`max_new_tokens`, `temperature`, ...) belong to the policy; `context.generate` applies them.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmrl.advantages import group_std
from mmrl.records import Rollouts, Sample, concatenate
from mmrl.stages import Context, Policy


def on_policy(policy: Policy, samples: Sequence[Sample], sizes: Sequence[int], context: Context) -> Rollouts:
    """Completions of the current policy."""
    return context.generate(samples, sizes)


def dynamic(
    policy: Policy,
    samples: Sequence[Sample],
    sizes: Sequence[int],
    context: Context,
    *,
    metric: str | None = None,
    max_requests: int = 10,
) -> Rollouts:
    """DAPO's dynamic sampling (arXiv 2503.14476, section 3.2): only prompts whose completions differ are kept.

    Further prompts are drawn until the step is full; surplus groups are dropped. `metric` names the reward that must
    differ (default: the combined one); name the accuracy when another reward, of length say, makes every group differ.
    After `max_requests` further draws the step goes on with what there is, at least one group.
    """
    wanted = len(samples)
    kept: list[Rollouts] = []
    for request in range(1, max_requests + 2):
        rollouts = context.generate(samples, sizes)
        context.score(rollouts)
        mixed = mixed_groups(rollouts, metric)[: wanted - sum(len(part.samples) for part in kept)]
        if mixed:
            kept.append(rollouts.select_groups(mixed))
        if sum(len(part.samples) for part in kept) == wanted or request > max_requests:
            break
        samples, sizes = context.draw(request)
    return concatenate(kept) if kept else rollouts.select_groups([0])


def mixed_groups(rollouts: Rollouts, metric: str | None = None) -> list[int]:
    """Groups whose rows differ in the metric; rows without a value do not count."""
    values = rollouts.reward if metric is None else rollouts.scores.get(metric)
    if values is None:
        raise ValueError(f"rollout.metric = {metric}: no such reward; there are {', '.join(rollouts.scores)}.")
    mixed: list[int] = rollouts.group[group_std(values, rollouts.group).nan_to_num() > 0].unique().tolist()
    return mixed
