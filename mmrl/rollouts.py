"""Where completions come from: the policy itself, or the policy until enough groups are worth learning from.

The settings of sampling (`max_new_tokens`, `temperature`, ...) belong to the policy; `context.generate` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from mmrl.advantages import group_std
from mmrl.plugins import ConfigError
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


def add_rows(rollouts: Rollouts, policy: Policy, texts: Mapping[int, str | Sequence[int]], *, origin: str) -> Rollouts:
    """One more row at the end of each group in `texts` (group -> completion): what the policy did not write.

    A completion is a text, or tokens with the end-of-turn among them if it ended. The row belongs to the prompt of the
    group's last row. Rollouts are not scored yet. Nobody generated the row, so its `logp_rollout` is 0 and its signals
    are 0 or False; its log-probs are those of the training pass.
    """
    writer: Any = policy
    if policy.makes != "text":
        raise ConfigError(f"rollout: completions of origin `{origin}` are texts, and this policy makes {policy.makes}.")
    if not texts:
        return rollouts

    def tokens_of(row: str | Sequence[int]) -> torch.Tensor:
        tokens: torch.Tensor = writer.tokens_of(row) if isinstance(row, str) else torch.tensor(row)
        return tokens

    groups = sorted(texts)
    prompts = rollouts.prompt[[rollouts.rows_of(group)[-1] for group in groups]]
    added: Rollouts = writer.assemble(
        [rollouts.samples[group] for group in groups],
        [rollouts.prompts[prompt] for prompt in prompts.tolist()],
        [[tokens_of(texts[group])] for group in groups],
        origin,
    )
    if rollouts.logp_rollout is not None:
        added.logp_rollout = torch.zeros(added.actions.shape)
    added.signals = {name: value.new_zeros(len(groups), *value.shape[1:]) for name, value in rollouts.signals.items()}
    joined = replace(
        concatenate([rollouts, added]),
        samples=rollouts.samples,
        prompts=rollouts.prompts,
        group=torch.cat([rollouts.group, torch.tensor(groups)]),
        prompt=torch.cat([rollouts.prompt, prompts]),
    )
    return joined.select(joined.group.argsort(stable=True).tolist())
