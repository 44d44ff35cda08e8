"""One denoising step as an action: a Gaussian around what the model predicts. Pure functions in float32.

    flow_sde    rectified flows (SD3, FLUX, Wan, Qwen-Image, HunyuanVideo): DanceGRPO, Flow-GRPO, and the ODE
    flow_cps    rectified flows: Flow-CPS, coefficients preserved
    ddim        DDPM and DDIM with eta (Stable Diffusion 1.x): DDPO, DanceGRPO

each give the Gaussian (mean, std) of a transition; `draw` takes the next latent from it and `log_prob` scores one.
A std of 0 is a deterministic step: it has no density, is never trained, and its log-prob is 0.

Flows: x_sigma = (1 - sigma) x_0 + sigma eps, sigma falls from 1 to 0, the model predicts v = eps - x_0.
Per-row numbers (sigma, std, ...) are f32[n], latents f32[n, ...].
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "sample", "v_prediction"]


def wide(value: Tensor, like: Tensor) -> Tensor:
    """[n] -> [n, 1, ...], to multiply latents of `like`'s shape."""
    return value.float().reshape(-1, *[1] * (like.dim() - 1))


def shifted_sigmas(steps: int, shift: float) -> list[float]:
    """`steps + 1` sigmas from 1 to 0: shift * u / (1 + (shift - 1) * u) for u falling evenly (DanceGRPO)."""
    even = [1 - index / steps for index in range(steps + 1)]
    return [shift * u / (1 + (shift - 1) * u) for u in even]


def flow_grpo_scale(level: float, sigma: float, below_one: float) -> float:
    """Diffusion coefficient of Flow-GRPO (arXiv 2505.05470): level * sqrt(sigma / (1 - sigma)).

    Where sigma is 1, the next sigma of the schedule, `below_one`, takes its place under the fraction.
    """
    return level * math.sqrt(sigma / (1 - (sigma if sigma < 1 else below_one)))


def flow_sde(velocity: Tensor, x: Tensor, sigma: Tensor, sigma_next: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Euler-Maruyama step of the reverse SDE that keeps the flow's marginals, with diffusion coefficient `scale`.

    mean = x (1 + s^2 dt / (2 sigma)) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt, std = s sqrt(-dt). Scale 0 is the ODE.
    """
    velocity, x = velocity.float(), x.float()
    dt = sigma_next - sigma
    drift = scale**2 * dt / (2 * sigma)
    mean = x * wide(1 + drift, x) + velocity * wide(dt + drift * (1 - sigma), x)
    return mean, scale * (-dt).sqrt()


def flow_cps(velocity: Tensor, x: Tensor, sigma: Tensor, sigma_next: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients-preserving sampling, Flow-CPS (arXiv 2509.05952): std = sigma_next sin(level pi / 2).

    mean = (1 - sigma_next) x_0 + sqrt(sigma_next^2 - std^2) eps, with x_0 and eps as the model predicts them.
    """
    velocity, x = velocity.float(), x.float()
    clean = x - wide(sigma, x) * velocity
    noise = x + wide(1 - sigma, x) * velocity
    std = sigma_next * torch.sin(level * math.pi / 2)
    mean = wide(1 - sigma_next, x) * clean + wide((sigma_next**2 - std**2).clamp(min=0).sqrt(), x) * noise
    return mean, std


def ddim(
    output: Tensor, x: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, eta: Tensor, *, prediction: Prediction
) -> tuple[Tensor, Tensor]:
    """DDIM with eta (arXiv 2010.02502, Eq. 12 and 16); eta 1 is the DDPM posterior; `alpha_bar` cumulative.

    mean = sqrt(ab') x_0 + sqrt(1 - ab' - std^2) eps, std = eta sqrt((1 - ab') / (1 - ab) (1 - ab / ab')).
    """
    output, x = output.float(), x.float()
    signal, rest = wide(alpha_bar.sqrt(), x), wide((1 - alpha_bar).sqrt(), x)
    if prediction == "epsilon":
        clean, noise = (x - rest * output) / signal, output
    elif prediction == "sample":
        clean, noise = output, (x - signal * output) / rest
    else:
        clean, noise = signal * x - rest * output, signal * output + rest * x
    variance = (1 - alpha_bar_next) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_next)
    std = eta * variance.clamp(min=0).sqrt()
    mean = wide(alpha_bar_next.sqrt(), x) * clean + wide((1 - alpha_bar_next - std**2).clamp(min=0).sqrt(), x) * noise
    return mean, std


def draw(mean: Tensor, std: Tensor, noise: Tensor, dtype: torch.dtype) -> Tensor:
    """The next latent, f32, rounded to what `dtype` can hold: what is fed on is what is stored and scored."""
    return (mean + wide(std, mean) * noise.float()).to(dtype).float()


def log_prob(following: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """f32[n], Gaussian log-density of the next latent, averaged over its dimensions; 0 where std is 0.

    The average, not the sum, is what DDPO, DanceGRPO, Flow-GRPO and MixGRPO take, and what their clip ranges of 1e-4
    and 1e-5 are made for.
    """
    safe = torch.where(std > 0, std, torch.ones_like(std))
    squares = (following.detach().float() - mean).square().flatten(1).mean(1)
    logp = -squares / (2 * safe**2) - safe.log() - 0.5 * math.log(2 * math.pi)
    return torch.where(std > 0, logp, torch.zeros_like(logp))


def log_prob_unscaled(following: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """f32[n], -(next - mean)^2 averaged: Flow-CPS drops every constant and 1 / (2 std^2). 0 where std is 0."""
    squares = (following.detach().float() - mean).square().flatten(1).mean(1)
    return torch.where(std > 0, -squares, torch.zeros_like(squares))
