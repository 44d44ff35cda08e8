"""What the tests of the diffusion policy share besides fixtures: settings and helpers for `tiny_pipelines.py`."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_pipelines
import torch

from mmrl.policies.diffusion import Denoising, DiffusionPolicy
from mmrl.records import Rollouts, Sample

NAMES = list(tiny_pipelines.BUILDERS)
STEPS = 4
GUIDED = 3.0
every_family = pytest.mark.parametrize("name", NAMES)
every_guidance = pytest.mark.parametrize("guidance", [1.0, GUIDED])


def settings(name: str, guidance: float = 1.0, **changes: Any) -> Denoising:
    return Denoising(**{"steps": STEPS, "guidance": guidance} | tiny_pipelines.SIZES[name] | changes)


def generate(
    policy: DiffusionPolicy, samples: list[Sample], how: Denoising, *sizes: int, step: int = 0, signals: Any = ()
) -> Rollouts:
    return policy.generate(samples, sizes or [3] * len(samples), how, seed=0, step=step, signals=signals)


def gradients(policy: DiffusionPolicy, loss: torch.Tensor) -> torch.Tensor:
    found = torch.autograd.grad(loss, [p for _, p in policy.trainable()], allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


def disturb(policy: DiffusionPolicy, scale: float = 0.05) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, weights in policy.trainable():
            weights += scale * torch.randn(weights.shape, generator=generator)


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5, rtol: float = 0.0) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=rtol)
