"""Ranks that do different things run the parts of a model in one order. Here ranks are threads that meet at a barrier;
`test_distributed.py` has processes and DeepSpeed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmrl import distributed
from mmrl.lockstep import Lockstep, Part

PARTS = 3


class Layer(torch.nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed)))

    def forward(self, *, inputs: Tensor) -> Tensor:
        return torch.tanh(inputs @ self.weight)


class Rank:
    """Its copy of the model, in lockstep, and the order in which the parts were run, each with or without gradient."""

    def __init__(self, *, everywhere: bool = True) -> None:
        self.layers = [Layer(seed) for seed in range(PARTS)]
        self.ran: list[tuple[int, bool]] = []
        parts = [
            Part(layer, smallest=lambda layer=layer: layer(inputs=torch.ones(1, 4)), joins="inputs" if i else None)
            for i, layer in enumerate(self.layers)
        ]
        self.lockstep = Lockstep(parts, everywhere=everywhere)
        for index, layer in enumerate(self.layers):
            layer.register_forward_hook(lambda *_, index=index: self.ran.append((index, torch.is_grad_enabled())))

    def forward(self, calls: Sequence[int], hidden: Tensor) -> Tensor:
        for index in calls:
            hidden = self.layers[index](inputs=hidden)
        return hidden

    def gradients(self, calls: Sequence[int], hidden: Tensor) -> list[Tensor | None]:
        loss = self.lockstep.run(lambda: self.forward(calls, hidden)).sum()
        if self.lockstep.loose:
            loss = loss + torch.stack(self.lockstep.loose).sum()
            self.lockstep.loose.clear()
        loss.backward()
        return [layer.weight.grad for layer in self.layers]


@contextmanager
def meeting(size: int) -> Iterator[Callable[[Callable[[int], Any]], list[Any]]]:
    """Runs a call per rank, in threads for which `distributed.smallest` is that of their numbers."""
    here, barrier, numbers = threading.local(), threading.Barrier(size, timeout=5), [0] * size

    def smallest(number: int) -> int:
        numbers[here.rank] = number
        barrier.wait()
        found = min(numbers)
        barrier.wait()
        return found

    def one(call: Callable[[int], Any], rank: int) -> Any:
        here.rank = rank
        try:
            return call(rank)
        except BaseException:
            barrier.abort()
            raise

    with patch.object(distributed, "smallest", smallest), ThreadPoolExecutor(size) as pool:
        yield lambda call: list(pool.map(lambda rank: one(call, rank), range(size)))


some_parts = st.sets(st.integers(0, PARTS - 1), min_size=1).map(sorted)


@settings(max_examples=40, deadline=None)
@given(plans=st.lists(st.lists(st.integers(0, PARTS - 1), max_size=6), min_size=2, max_size=4))
def test_whatever_the_ranks_generate_all_run_the_same_parts_in_the_same_order(plans: list[list[int]]):
    ranks = [Rank() for _ in plans]
    hidden = torch.ones(2, 4)

    @torch.no_grad()
    def generate(rank: int) -> Tensor:
        with ranks[rank].lockstep.section():
            return ranks[rank].forward(plans[rank], hidden)

    with meeting(len(plans)) as together:
        made = together(generate)
    assert all(rank.ran == ranks[0].ran for rank in ranks)
    assert len(ranks[0].ran) >= max(map(len, plans))
    for found, plan in zip(made, plans, strict=True):
        torch.testing.assert_close(found, Rank(everywhere=False).forward(plan, hidden), rtol=0, atol=0)


@settings(max_examples=40, deadline=None)
@given(plans=st.lists(st.tuples(some_parts, some_parts), min_size=2, max_size=4))
def test_gradients_are_a_ranks_own_and_there_for_every_part_that_any_rank_ran(plans: list[tuple[list[int], ...]]):
    """Over two passes, whose gradients add up."""
    ranks = [Rank() for _ in plans]
    hidden = torch.ones(2, 4)

    def train(rank: int) -> list[Tensor | None]:
        return [ranks[rank].gradients(plan, hidden) for plan in plans[rank]][-1]

    with meeting(len(plans)) as together:
        found = together(train)
    assert all(rank.ran == ranks[0].ran for rank in ranks)
    used = {index for two in plans for plan in two for index in plan}
    for gradients, two in zip(found, plans, strict=True):
        alone = Rank(everywhere=False)
        for plan in two:
            alone.forward(plan, hidden).sum().backward()
        for index, gradient in enumerate(gradients):
            assert (gradient is not None) == (index in used)
            if gradient is not None:
                expected = alone.layers[index].weight.grad
                torch.testing.assert_close(gradient, torch.zeros(4, 4) if expected is None else expected)


def test_a_rank_without_gradient_and_one_with_agree_on_both():
    ranks = [Rank(), Rank()]

    def work(rank: int) -> None:
        with torch.set_grad_enabled(rank == 1), ranks[rank].lockstep.section():
            ranks[rank].forward([0], torch.ones(2, 4))

    with meeting(2) as together:
        together(work)
    assert ranks[0].ran == ranks[1].ran == [(0, True), (0, False)]


def test_where_each_rank_runs_for_itself_a_part_without_rows_gets_a_gradient_of_zero():
    rank = Rank(everywhere=False)
    gradients = rank.gradients([0], torch.ones(2, 4))
    assert [gradient is not None and bool(gradient.any()) for gradient in gradients] == [True, False, False]
    assert rank.ran == [(0, True), (1, True), (2, True)]
    rank.ran.clear()
    rank.gradients([1], torch.ones(2, 4))
    assert sorted(rank.ran) == [(0, True), (1, True), (2, True)], "the second pass too"


def test_after_a_section_a_part_meets_nobody():
    rank = Rank()
    with meeting(1) as together:
        together(lambda _: rank.lockstep.run(lambda: None))
    rank.forward([0], torch.ones(2, 4))
    assert rank.ran[-1] == (0, True)
