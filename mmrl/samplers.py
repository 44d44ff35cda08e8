"""Which prompts a step uses. A sampler is a class whose constructor takes (samples, prompts, group_size, seed) and, as
keyword-only parameters, its settings; see `stages.Sampler`. `samples` are the training samples by id, in the data's
order, of which most samplers read the ids alone."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from mmrl.randomness import numpy_generator
from mmrl.records import Rollouts
from mmrl.stages import Plan


@lru_cache(maxsize=4)
def shuffled_order(count: int, seed: int, request: int, epoch: int) -> list[int]:
    """The order of an epoch of stream number `request`."""
    order: list[int] = numpy_generator(seed, "epoch", request, epoch).permutation(count).tolist()
    return order


class Shuffled:
    """Every sample once per epoch, each epoch in an order of its own."""

    def __init__(self, ids: Collection[str], prompts: int, group_size: int, seed: int) -> None:
        self.ids, self.prompts, self.group_size, self.seed = list(ids), prompts, group_size, seed

    def plan(self, step: int, *, request: int = 0) -> Plan:
        """`prompts` samples from position step * prompts of the endless shuffled stream number `request`."""
        first = step * self.prompts
        return [(self._at(position, request), self.group_size) for position in range(first, first + self.prompts)]

    def _at(self, position: int, request: int) -> str:
        epoch, index = divmod(position, len(self.ids))
        return self.ids[shuffled_order(len(self.ids), self.seed, request, epoch)[index]]

    def observe(self, step: int, rollouts: Rollouts) -> None:
        """Nothing to learn: the plan depends on the step alone."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""
