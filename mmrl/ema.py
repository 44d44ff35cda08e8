"""A moving average of the trained weights, which is often a better model than the weights of any one step.

    average = min((1 + n) / (10 + n), decay) * average + the rest * weights    every `every` updates, n before this one

in float32, as Flow-GRPO has it (decay 0.9 every 8 updates); DanceGRPO's is 0.995 every update. Training goes on with
the weights themselves; evaluations and the model of a checkpoint are the average. Of no average (`optimizer.ema: null`)
every method does nothing, so that nobody has to ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmrl.config import OptimizerConfig
from mmrl.plugins import ConfigError

if TYPE_CHECKING:
    from mmrl.stages import Policy


class MovingAverage:
    """The average begins as the policy's weights; `follow` is called after every update."""

    def __init__(self, policy: Policy, config: OptimizerConfig) -> None:
        self.decay, self.every = config.ema, config.ema_every
        self.updates = 0
        self._trained = dict(policy.trainable()) if self.decay is not None else {}
        for name, weights in self._trained.items():
            if weights.dtype != torch.float32:
                raise ConfigError(
                    f"optimizer.ema = {self.decay}: {name} trains in {str(weights.dtype).removeprefix('torch.')}, too "
                    "coarse to average. Train it in float32, or leave optimizer.ema out."
                )
        self._average = {name: weights.detach().clone() for name, weights in self._trained.items()}

    @torch.no_grad()
    def follow(self) -> None:
        self.updates += 1
        if not self._trained or self.updates % self.every:
            return
        n = self.updates - 1
        share = 1 - min((1 + n) / (10 + n), self.decay or 0.0)
        for name, weights in self._trained.items():
            self._average[name].lerp_(weights, share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the policy has the average for its weights. They change places, so no third copy is made."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, weights in self._trained.items():
            weights.data, self._average[name] = self._average[name], weights.data

    def other(self) -> dict[str, Tensor]:
        """What the policy has not now, by name: the average, or inside `applied` the weights that training goes on
        with. Empty without an average."""
        return {name: weights.detach() for name, weights in self._average.items()}

    @torch.no_grad()
    def resume(self, policy: Policy, trained: Mapping[str, Tensor], updates: int) -> None:
        """After a policy that had the average of a checkpoint for its weights: give it those that training goes on
        with, if there are any; a checkpoint without them was written without an average."""
        self.updates = updates
        for name, weights in policy.trainable():
            if trained:
                weights.copy_(trained[name])
