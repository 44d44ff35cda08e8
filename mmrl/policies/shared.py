"""One policy on several ranks: each works on the groups it holds, and all see the whole step.

`SharedPolicy` is the Policy that the trainer, rollouts and evaluations are given when there are several processes. What
it returns is about all rows; prompts, and pictures of rows that another rank holds are None. What it computes for
single rows is 0 where another rank holds them, and is added up by whoever asked (`distributed.add_up`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmrl import distributed
from mmrl.records import MicroBatch, Rollouts, Sample, concatenate


class SharedPolicy:
    """The policy `inner`, the same weights on every rank, which share the work."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._spare: Rollouts | None = None
        """One row, of whatever step, for `idle`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def generate(
        self,
        samples: Sequence[Sample],
        sizes: Sequence[int],
        how: Any,
        *,
        seed: int,
        step: int,
        signals: Collection[str] = (),
    ) -> Rollouts:
        """All completions, on every rank; this one holds the prompts of its own share."""
        plan = distributed.shares(sizes, [sample.id for sample in samples], distributed.size())
        mine = plan[distributed.rank()]
        made: Rollouts | None = None
        if mine:
            made = self.inner.generate(
                [samples[i] for i in mine], [sizes[i] for i in mine], how, seed=seed, step=step, signals=signals
            )
        if made is not None:
            self._spare = made.select([0])
        elif self._spare is None:
            self._spare = self.inner.generate([samples[0]], [1], how, seed=seed, step=step)
        records = distributed.gather(None if made is None else without_prompts(made))
        parts = [
            made if rank == distributed.rank() else record for rank, record in enumerate(records) if record is not None
        ]
        together = concatenate([part for part in parts if part is not None])
        order = [group for groups in plan for group in groups]
        place = {group: position for position, group in enumerate(order)}
        return together.select_groups([place[group] for group in range(len(samples))])

    def idle(self) -> Tensor:
        """A forward pass of one row whose gradient is 0, for strategies in which all ranks must take part in each."""
        assert self._spare is not None, "nothing has been generated yet"
        return 0.0 * self.inner.logp(self._spare)[0].sum()

    def compare(self, rollouts: Rollouts, *, signals: Sequence[str], budget: int) -> dict[str, Tensor]:
        """Of all rows, put together from those of every rank."""
        rows = held_rows(rollouts)
        mine = self.inner.compare(rollouts.select(rows), signals=signals, budget=budget) if rows else {}
        found = {name: torch.zeros(rollouts.mask.shape) for name in signals}
        for name, values in mine.items():
            found[name][rows, : values.shape[1]] = values
        return {name: distributed.add_up(values) for name, values in found.items()}

    def micro_batches(self, rollouts: Rollouts, *, budget: int) -> list[MicroBatch]:
        """Those of the rows that this rank holds."""
        rows = held_rows(rollouts)
        if not rows:
            return []
        batches = self.inner.micro_batches(rollouts.select(rows), budget=budget)
        return [replace(batch, rows=[rows[row] for row in batch.rows]) for batch in batches]


def held_rows(rollouts: Rollouts) -> list[int]:
    return rollouts.held.nonzero().flatten().tolist()


def without_prompts(rollouts: Rollouts) -> Rollouts:
    """What travels to the other ranks: latents and what else is as large as they are stay behind, as zeros."""

    def light(values: Tensor) -> Tensor:
        return values.new_zeros(()).expand(values.shape) if values.dim() > 2 else values

    return replace(
        rollouts,
        prompts=[None] * len(rollouts.prompts),
        images=None if rollouts.images is None else [None] * len(rollouts),
        actions=light(rollouts.actions),
        signals={name: light(values) for name, values in rollouts.signals.items()},
    )
