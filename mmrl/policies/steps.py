"""Which denoising steps carry noise, and which of those are trained. Functions of (seed, step), never of the rank.

The last step is deterministic and untrained unless asked for: a flow's ends in the model's own x_0, and the densities
there are the sharpest. A choice that leaves nothing to train is an error, not an empty loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmrl.plugins import ConfigError
from mmrl.randomness import numpy_generator, torch_generator

if TYPE_CHECKING:
    from mmrl.policies.diffusion import Denoising

UNREAD = {
    "all": ("size", "first", "last", "every", "stride"),
    "random": ("every", "stride"),
    "progressive": (),
    "start": ("every", "stride"),
}
"""The settings `window_...` that a kind of window does not read."""


def check_window(how: Denoising) -> None:
    """ConfigError for a setting of the window that this kind of window does not read."""
    for name in UNREAD[how.window]:
        if (value := getattr(how, f"window_{name}")) is not None:
            other = "random, progressive or start" if how.window == "all" else "progressive"
            raise ConfigError(
                f"sampling.window_{name} = {value} has no effect with sampling.window = {how.window}.\n"
                f"  Leave it out (or null), or set sampling.window to {other}."
            )


def noisy_steps(how: Denoising, *, seed: int, step: int) -> list[int]:
    """The denoising steps, of `how.steps` numbered from 0, that are drawn rather than deterministic.

    `all`: every usable one. `random`: `window_size` neighbours that fit between `window_first` and `window_last`, drawn
    anew for every training step (Flow-GRPO-Fast). `progressive`: neighbours that move by `window_stride` every
    `window_every` training steps and begin again when the last place is reached (MixGRPO, arXiv 2507.21802, whose own
    windows shrink and run empty there). `start`: the first ones.
    """
    usable = list(range(how.steps if how.last_step else how.steps - 1))
    if not usable:
        raise ConfigError("sampling.steps = 1 trains nothing: set sampling.last_step to train the last step as well.")
    size = len(usable)
    if how.window != "all":
        if how.window_size is None:
            raise ConfigError(f"sampling.window = {how.window} needs sampling.window_size, its number of steps.")
        first, end = how.window_first or 0, how.steps if how.window_last is None else how.window_last
        usable = [index for index in usable if first <= index < end]
        size = how.window_size
        if size > len(usable):
            raise ConfigError(
                f"sampling.window_size = {size}: only {len(usable)} of {how.steps} steps are between window_first = "
                f"{first} and window_last = {end}, the last step {'' if how.last_step else 'not '}included."
            )
    stride = how.window_stride or 1 if how.window == "progressive" else 1
    places = range(0, len(usable) - size + 1, stride)
    place = 0
    if how.window == "random":
        place = int(numpy_generator(seed, "window", step).integers(len(places)))
    elif how.window == "progressive":
        place = (step // (how.window_every or 25)) % len(places)
    return usable[places[place] :][:size]


def trained_steps(how: Denoising, noisy: list[int], *, rows: int, seed: int) -> Tensor:
    """bool[rows, steps], the actions that receive loss: int(noisy * fraction) of the noisy steps.

    `trained: first` takes the earliest, `random` (DanceGRPO) draws for every row by itself.
    """
    count = int(len(noisy) * how.fraction + 1e-6)
    if count < 1:
        raise ConfigError(f"sampling.fraction = {how.fraction} of {len(noisy)} noisy steps trains nothing.")
    mask = torch.zeros(rows, how.steps, dtype=torch.bool)
    for row in range(rows):
        order = list(range(len(noisy)))
        if how.trained == "random":
            order = torch.randperm(len(noisy), generator=torch_generator(seed, "trained", row)).tolist()
        mask[row, [noisy[index] for index in order[:count]]] = True
    return mask
