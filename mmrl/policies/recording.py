"""Schedulers that draw every denoising step themselves and remember it, in place of a pipeline's own.

A pipeline calls `scheduler.step` once per step with the guided model output; here that call becomes an action: the
Gaussian of `denoising.py`, a draw from the row's own generator, its log-prob. Everything else of a pipeline stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from mmrl.policies import denoising
from mmrl.policies.denoising import draw, flow_grpo_scale, log_prob

Transition = Literal["flow_sde", "flow_cps", "ddim"]


@dataclass
class Trajectory:
    """What the steps of one call of a pipeline left, for its n rows."""

    latents: list[Tensor] = field(default_factory=list)
    """T + 1 of f32[n, ...], the initial noise first."""
    means: list[Tensor] = field(default_factory=list)
    logp: list[Tensor] = field(default_factory=list)
    """T of f32[n]."""
    timesteps: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    """Diffusion coefficient (flow_sde), level (flow_cps) or eta (ddim) of every step; 0 is deterministic."""
    schedule: list[float] = field(default_factory=list)
    """T + 1 of sigma (flows) or of the cumulative alpha (DDIM)."""


def gaussian(
    transition: Transition, output: Tensor, x: Tensor, here: Tensor, there: Tensor, level: Tensor, prediction: str
) -> tuple[Tensor, Tensor]:
    """Mean f32[n, ...] and std f32[n] of the step from `here` to `there` on the schedule, f32[n] each."""
    if transition == "ddim":
        return denoising.ddim(output, x, here, there, level, prediction=prediction)  # type: ignore[arg-type]
    if transition == "flow_cps":
        return denoising.flow_cps(output, x, here, there, level)
    return denoising.flow_sde(output, x, here, there, level)


def score(transition: Transition, following: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (denoising.log_prob_unscaled if transition == "flow_cps" else log_prob)(following, mean, std)


class Recorder:
    """What both kinds of scheduler share. `begin` before a pipeline's call, `trajectory` after it."""

    place: Callable[[int], tuple[float, float]]
    """Of step `index`: where on the schedule it begins and where it ends."""

    transition: Transition
    law: str
    prediction = "epsilon"

    def begin(
        self, transition: Transition, levels: Sequence[float], generators: Sequence[torch.Generator], *, law: str
    ) -> None:
        """`levels`: strength of the noise of every step, by the `law` of it (`constant` or `flow_grpo`);
        `generators`: one per row, for the noise of the steps.
        """
        self.transition, self.law = transition, law
        self.pending = list(levels)
        self.generators = list(generators)
        self.trajectory = Trajectory()

    def take(self, output: Tensor, timestep: Any, x: Tensor) -> Tensor:
        """One action: the next latents, in the dtype they came in."""
        index, record = len(self.trajectory.levels), self.trajectory
        here, there = self.place(index)
        level = self.pending[index]
        if self.transition == "flow_sde" and self.law == "flow_grpo":
            level = flow_grpo_scale(level, here if here < 1 - 1e-6 else 1.0, there)
        rows = x.shape[0]

        def each(value: float) -> Tensor:
            return torch.full((rows,), value, device=x.device)

        mean, std = gaussian(self.transition, output, x, each(here), each(there), each(level), self.prediction)
        noise = torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in self.generators])
        following = draw(mean, std, noise.to(x.device), x.dtype)
        if not record.latents:
            record.latents.append(x.float().cpu())
            record.schedule.append(here)
        record.latents.append(following.cpu())
        record.means.append(mean.cpu())
        record.logp.append(score(self.transition, following, mean, std).cpu())
        record.timesteps.append(float(timestep))
        record.levels.append(level if float(std[0]) > 0 else 0.0)
        record.schedule.append(there)
        return following.to(x.dtype)


_Flow: Any = FlowMatchEulerDiscreteScheduler
_DDIM: Any = DDIMScheduler


class RecordingFlow(Recorder, _Flow):
    """Rectified flows. `fixed_sigmas` (T + 1 values, the last 0) replace the schedule a pipeline asks for."""

    fixed_sigmas: Sequence[float] | None = None

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
        timesteps: list[float] | None = None,
    ) -> None:
        super().set_timesteps(num_inference_steps, device, sigmas, mu, timesteps)
        if self.fixed_sigmas is not None:
            self.sigmas = torch.tensor(self.fixed_sigmas, dtype=torch.float32, device=device)
            self.timesteps = self.sigmas[:-1] * self.config.num_train_timesteps

    def place(self, index: int) -> tuple[float, float]:
        return float(self.sigmas[index]), float(self.sigmas[index + 1])

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        return (self.take(model_output, timestep, sample),)


class RecordingDDIM(Recorder, _DDIM):
    """DDPM-trained models; `level` of a step is its eta."""

    def place(self, index: int) -> tuple[float, float]:
        here = int(self.timesteps[index])
        there = here - self.config.num_train_timesteps // self.num_inference_steps
        final = float(self.final_alpha_cumprod)
        return float(self.alphas_cumprod[here]), float(self.alphas_cumprod[there]) if there >= 0 else final

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        return (self.take(model_output, timestep, sample),)
