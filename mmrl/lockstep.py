"""Forward passes of a model whose weights are spread over the ranks: a part of it runs on all of them at once.

Ranks differ in what they do: one has a picture where another has only text, one completion is longer. So before a rank
runs one of the policy's `parts` it says so, and of the parts that were asked for, all run the one that comes first;
who did not ask for it runs it on next to nothing and asks again. Before any other word between ranks each takes part
like this until nobody asks. (DeepSpeed's ZeRO-3 gathers a layer's weights when the layer is run: a rank that did not
come would leave the others waiting for ever.)

Backward passes must gather in one order too. Autograd goes back through what was run last first, so it is enough that
all ranks run their parts in one order, with or without gradient alike, and that the same layers get a gradient: what a
rank has filled in therefore flows, times 0, into the part that comes next (`Part.joins`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmrl import distributed

DONE = 2**30
"""Asks for no part."""


class Part(NamedTuple):
    """A module that a forward pass may go through, once, often or not at all, and that is called from outside."""

    module: torch.nn.Module
    smallest: Callable[[], Any] | None = None
    """Runs it on next to nothing; None runs it again on what it was last given."""
    joins: str | None = None
    """The argument, a keyword, by which the outputs of the parts before it come in."""


class Lockstep:
    """Watches the `parts`, in the order in which a forward pass needs them.

    `everywhere`: all ranks run a part at once; otherwise each for itself, and only `complete` matters.
    """

    def __init__(self, parts: list[Part], *, everywhere: bool) -> None:
        self.parts, self.everywhere = parts, everywhere
        self.loose: list[Tensor] = []
        """Zeros that hang on the weights of parts that were run on nothing: added to what comes next, or to the loss,
        they make gradients of 0 on this rank where others have theirs."""
        self._passed: set[int] = set()
        self._on = self._filling = False
        self._last: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        for index, part in enumerate(parts):
            # Before DeepSpeed's own hook, which gathers the weights.
            part.module.register_forward_pre_hook(partial(self._before, index), with_kwargs=True, prepend=True)

    @contextmanager
    def section(self) -> Iterator[None]:
        """Inside, parts run on all ranks at once; left when all ranks are through."""
        if not self.everywhere:
            yield
            return
        self._on = True
        with distributed.preceded_by(self.finish):
            yield
            self.finish()
        self._on = False

    def run(self, call: Callable[[], Any]) -> Any:
        """A pass that a backward follows: every part that is trained gets a gradient, be it 0, on every rank."""
        self._passed = set()
        with self.section():
            found = call()
        for index, part in enumerate(self.parts):
            if not self.everywhere and index not in self._passed and trained(part.module):
                self._fill_in(index)
        return found

    def finish(self) -> None:
        """Take part in what others run until nobody asks any more."""
        self._agree_on(DONE)

    def _before(
        self, index: int, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        self._passed.add(index)
        if self._filling:
            return None
        _, smallest, joins = self.parts[index]
        if smallest is None:
            self._last[index] = (args, dict(kwargs))
        if self._on:
            self._agree_on(2 * index + (not torch.is_grad_enabled()))
        if joins is None or not self.loose:
            return None
        kwargs = {**kwargs, joins: kwargs[joins] + torch.stack(self.loose).sum()}
        self.loose.clear()
        return args, kwargs

    def _agree_on(self, wanted: int) -> None:
        """`wanted`: twice the part's index, and one more where it is run without gradient."""
        while (first := distributed.smallest(wanted)) != wanted:
            index, without_gradient = divmod(first, 2)
            with torch.set_grad_enabled(not without_gradient):
                self._fill_in(index)

    def _fill_in(self, index: int) -> None:
        module, smallest, _ = self.parts[index]
        self._filling = True
        try:
            if smallest is not None:
                output = smallest()
            else:
                args, kwargs = self._last[index]
                output = module(*args, **kwargs)
        finally:
            self._filling = False
        found = [0.0 * values.sum() for values in tensors_of(output) if values.requires_grad]
        if found:
            self.loose.append(torch.stack(found).sum())


def tensors_of(output: Any) -> Iterator[Tensor]:
    """The tensors in what a module returned."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_of(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from tensors_of(value)


def trained(module: torch.nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
