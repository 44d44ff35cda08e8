"""A pass forward and backward of the largest rows before the first step, so that what does not fit is found, and the
budget halved, before an hour of training. It leaves weights, gradients and random numbers as they are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from mmrl import distributed
from mmrl.faults.room import Room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmrl.optimization import Updater
    from mmrl.recipe import Recipe
    from mmrl.records import Sample
    from mmrl.stages import Policy


def probe_memory(
    policy: Policy, updater: Updater, recipe: Recipe, samples: Sequence[Sample], room: Room
) -> dict[str, Any] | None:
    """What was tried: rows, prompt tokens, the budget that fits; None where the policy has no `largest` or the config
    wants no probe (`memory_probe`). All ranks make the same one."""
    config = recipe.config
    wanted = config.memory_probe == "on" or (config.memory_probe == "auto" and policy.device.type != "cpu")
    if not wanted or not hasattr(policy, "largest"):
        return None
    how: Any = recipe.sampling.at(0, config.steps)
    rollouts = policy.largest(
        samples, how, group_size=config.group_size, prompts=config.prompts_per_step, budget=room.budget
    )
    signals = sorted(recipe.loss_needs & policy.provides)

    def once(budget: int) -> int:
        if updater.retries:
            updater.clear()
        with updater.states_to_come():
            for batch, last in updater.turns(policy.micro_batches(rollouts, budget=budget)[:1]):
                assert batch is not None
                logp, _ = updater.run(partial(policy.logp, rollouts.part(batch), signals=signals))
                updater.backward(0.0 * logp.sum(), last=last)
                rows = len(batch.rows)
        return rows

    devices = [policy.device] if policy.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        rows = room.fit(policy, rollouts, once, again=updater.retries, what="the memory probe before the first step")
    updater.clear()
    distributed.wait()
    return {"rows": rows, "micro_batch_tokens": room.budget}
