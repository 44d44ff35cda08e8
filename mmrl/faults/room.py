"""What fits into memory: how many tokens go through the model at once, halved where they did not fit.

An update does not depend on how its rows are cut into micro-batches, so a pass that ran out of memory is done again in
smaller ones. The smaller budget holds for the rest of the run and, as an event, for `--resume`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mmrl.faults.endings import OutOfMemory

if TYPE_CHECKING:
    from mmrl.records import Rollouts
    from mmrl.stages import Policy

T = TypeVar("T")

SAID = (
    "not enough memory: you tried",
    "can't allocate memory",
    "out of memory",
    "alloc_failed",
    "cannot allocate memory",
)
"""What errors without a class of their own say: of the CPU's allocator, of CUDA and of its libraries."""


class Room:
    """`budget` is `micro_batch_tokens` as it is now. `note` is called with every change: what it is now, and why."""

    def __init__(self, budget: int, *, note: Callable[[int, str], None] = lambda budget, why: None) -> None:
        self.budget, self._note = budget, note

    def fit(
        self,
        policy: Policy,
        rollouts: Rollouts,
        work: Callable[[int], T],
        *,
        again: bool = True,
        what: str = "training",
    ) -> T:
        """`work(budget)`, which can be begun anew, with the first budget that fits. OutOfMemory if none does, and, with
        the budget halved for the next start, where it cannot be done `again` because other ranks take part in it."""
        while True:
            try:
                return work(self.budget)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                said = first_line(error)
            release()  # outside, where the error no longer holds what was computed
            smaller = finer(policy, rollouts, self.budget)
            if smaller is None:
                raise OutOfMemory(
                    f"{what} ran out of memory, and one row alone does not fit ({said}).\n"
                    "  Lower sampling.max_new_tokens, data.budget.max_pixels or max_tokens, or the model's size; "
                    "model.gradient_checkpointing=true, model.adapter or distribution.strategy=zero3 need less."
                )
            self._note(smaller, said)
            self.budget = smaller
            if not again:
                raise OutOfMemory(
                    f"{what} ran out of memory ({said}). With this distribution.strategy all ranks take part in every "
                    f"micro-batch, so it cannot be tried again in this process.\n  `--resume` goes on with "
                    f"micro_batch_tokens={smaller}."
                )


def finer(policy: Policy, rollouts: Rollouts, budget: int) -> int | None:
    """The first half of a half of the budget that cuts the rows into more parts; None if none does."""
    parts = len(policy.micro_batches(rollouts, budget=budget))
    while budget > 1:
        budget //= 2
        if len(policy.micro_batches(rollouts, budget=budget)) > parts:
            return budget
    return None


def out_of_memory(error: BaseException) -> bool:
    import torch

    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and not isinstance(error, OutOfMemory) and any(said in text for said in SAID)
    )


def first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__


def release() -> None:
    """Give what nothing holds any more back to the device."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
