"""AdamW and its learning rate, shared by reinforcement learning and supervised fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch
from torch import Tensor

from mmrl import distributed
from mmrl.config import Config, OptimizerConfig, SftConfig
from mmrl.runs.checkpoints import OptimizerState, flatten_optimizer, restore_optimizer

if TYPE_CHECKING:
    from mmrl.stages import Policy

T = TypeVar("T")
BUCKET = 2**26


def make_optimizer(policy: Policy, config: OptimizerConfig) -> torch.optim.AdamW:
    """Weight decay acts on matrices only, not on norms and biases."""
    parameters = [parameter for _, parameter in policy.trainable()]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps)


def learning_rate(config: OptimizerConfig, step: int, total: int) -> float:
    """Linear warm-up from learning_rate / warmup_steps, then constant, linear or cosine to 0 at `total`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    shapes = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return config.learning_rate * shapes[config.schedule]


class Updater:
    """Gradients of an optimizer batch and the update made from them; every rank has all weights and makes the same one.

    Losses are shares of the whole batch (`losses.weights`), so the gradients of the ranks are added, not averaged.
    `zero.py` has the same for weights or optimizer states that are spread over the ranks.
    """

    retries: ClassVar[bool] = True
    """Whether a rank can begin its backward passes anew without the others."""

    def __init__(self, policy: Policy, config: OptimizerConfig) -> None:
        self.config = config
        self.optimizer = make_optimizer(policy, config)
        self.parameters = [parameter for _, parameter in policy.trainable()]
        self.followers: list[Callable[[], None]] = []
        """Called after every update."""
        self.bad_in_a_row = 0
        """Updates since the last one that was made."""

    def turns(self, batches: Sequence[T]) -> Iterator[tuple[T | None, bool]]:
        """(micro-batch, whether it is the last). None is a turn in which this rank has none and another has."""
        for index, batch in enumerate(batches):
            yield batch, index + 1 == len(batches)

    def whole_weights(self, *, saving: bool = False) -> AbstractContextManager[None]:
        """Inside, every rank can use all weights at its own pace, without gradient, or `saving`, rank 0 save them.
        Entered on all ranks."""
        return nullcontext()

    def run(self, call: Callable[[], T]) -> T:
        """A forward pass whose result a `backward` will follow."""
        return call()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        loss.backward()

    def update(self, *, rate: float, skip: bool = False) -> float:
        """One update from the accumulated gradients, which it then clears. Returns their norm before clipping.

        With a norm that is not finite, or to be `skip`ped, weights and states stay as they are; all ranks decide the
        same, for all have the same norm.
        """
        norm = self.step(rate=rate, skip=skip)
        if skip or not math.isfinite(norm):
            self.bad_in_a_row += 1
            return norm
        self.bad_in_a_row = 0
        for follow in self.followers:
            follow()
        return norm

    def step(self, *, rate: float, skip: bool) -> float:
        add_up_gradients(self.parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        if math.isfinite(norm) and not skip:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        self.clear()
        return norm

    def clear(self) -> None:
        """Forget the gradients so far."""
        self.optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def states_to_come(self) -> Iterator[None]:
        """Inside, the memory is taken that the optimizer's states take from the first update on."""
        held = [
            torch.empty_like(parameter) for parameter in self.parameters for _ in range(2) if not self.optimizer.state
        ]
        yield
        del held

    def state(self) -> OptimizerState:
        """The state of the optimizer, on rank 0 all of it; asked on every rank."""
        return flatten_optimizer(self.optimizer)

    def restore(self, state: OptimizerState) -> None:
        """The inverse of `state`, bit for bit. ConfigError if the optimizer has other parameters."""
        restore_optimizer(self.optimizer, *state)


def make_updater(policy: Policy, config: Config | SftConfig) -> Updater:
    """As `distribution.strategy` has it."""
    if config.distribution.strategy == "ddp" or distributed.size() == 1:
        return Updater(policy, config.optimizer)
    from mmrl.zero import ZeroUpdater

    return ZeroUpdater(policy, config.optimizer, config.distribution)


@torch.no_grad()
def add_up_gradients(parameters: Sequence[Tensor]) -> None:
    """Give every rank the sum of all ranks' gradients; a parameter that nobody used keeps none, as alone."""
    if distributed.size() == 1 or not parameters:
        return
    used = torch.tensor([float(parameter.grad is not None) for parameter in parameters])
    there = [p for p, users in zip(parameters, distributed.add_up(used).tolist(), strict=True) if users]
    for parameter in there:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in buckets(there):
        flat = distributed.add_up(torch.cat([gradient_of(parameter).flatten() for parameter in bucket]))
        for parameter, values in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
            gradient_of(parameter).copy_(values.view_as(parameter))


def gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one dtype, at most `BUCKET` numbers together: what one collective carries."""
    bucket: list[Tensor] = []
    for parameter in parameters:
        full = sum(p.numel() for p in bucket) + parameter.numel() > BUCKET
        if bucket and (full or bucket[0].dtype != parameter.dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
