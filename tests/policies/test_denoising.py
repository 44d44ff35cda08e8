"""Denoising steps as Gaussians: golden numbers of the reference implementations, and the laws of the formulas."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrl.policies.denoising import (
    ddim,
    draw,
    flow_cps,
    flow_grpo_scale,
    flow_sde,
    log_prob,
    log_prob_unscaled,
    shifted_sigmas,
)

GOLDEN = {v["name"]: v for v in json.loads((Path(__file__).parents[1] / "golden" / "diffusion.json").read_text())}


def f32(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def close(found, expected, **tolerance) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), **tolerance)


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("dance_sigma_schedule")])
def test_shifted_sigmas(name):
    vector = GOLDEN[name]
    close(torch.tensor(shifted_sigmas(vector["inputs"]["N"], vector["inputs"]["shift"])), vector["expected"]["sigmas"])


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("dance_flux_step")])
def test_flow_sde_is_dancegrpos_step(name):
    given, expected = GOLDEN[name]["inputs"], GOLDEN[name]["expected"]
    x, v, noise, following = (torch.tensor(given[key]) for key in ("x", "v", "noise", "next_given"))
    here, there = f32(given["sigma"]), f32(given["sigma_next"])
    mean, std = flow_sde(v, x, here, there, f32(given["eta"]))
    close(mean, expected["mean"])
    close(std, [expected["std"]])
    close(draw(mean, std, noise, torch.float32), expected["next_from_noise"])
    close(flow_sde(v, x, here, there, f32(0))[0], expected["ode_mean"])
    close(log_prob(following, mean, std), expected["logprob_next_given"], rtol=1e-4, atol=1e-4)


def test_flow_cps():
    given, expected = GOLDEN["cps_step_sd35_idx5"]["inputs"], GOLDEN["cps_step_sd35_idx5"]["expected"]
    x, v, noise = (torch.tensor(given[key]) for key in ("x", "v", "noise"))
    mean, std = flow_cps(v, x, f32(given["sigma"]), f32(given["sigma_next"]), f32(given["noise_level"]))
    close(mean, expected["mean"])
    close(std, [expected["step_std"]])
    close(draw(mean, std, noise, torch.float32), expected["next_from_noise"])
    close(log_prob_unscaled(x, mean, std), [expected["logprob_of_next_equal_x"]])


def test_ddim_is_the_ddpm_posterior_at_eta_1():
    vector = GOLDEN["ddim_step_sd14_50steps_eta1_t501"]
    given, expected = vector["inputs"], vector["expected"]
    x, eps, noise = (torch.tensor(given[key]) for key in ("x", "eps", "noise"))
    mean, std = ddim(eps, x, f32(given["alpha_bar_t"]), f32(given["alpha_bar_prev"]), f32(1), prediction="epsilon")
    close(mean, expected["mean"], rtol=1e-5, atol=1e-5)
    close(std, [expected["std"]], rtol=1e-5, atol=1e-6)
    close(draw(mean, std, noise, torch.float32), expected["next_from_noise"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("timestep", [981, 501, 21])
def test_ddim_is_diffusers_step(eta, timestep):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False
    )
    scheduler.set_timesteps(50)
    x, eps, noise = torch.randn(3, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    theirs = scheduler.step(eps, timestep, x, eta=eta, variance_noise=noise if eta else None).prev_sample
    here, there = (scheduler.alphas_cumprod[t].expand(2) for t in (timestep, timestep - 20))
    mean, std = ddim(eps, x, here, there, f32(eta, eta), prediction="epsilon")
    close(draw(mean, std, noise, torch.float32), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_every_prediction_of_the_same_noise_gives_the_same_step(prediction):
    x0, eps = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    ab, ab_next = f32(0.3, 0.5, 0.9), f32(0.4, 0.6, 0.95)
    root, rest = ab.sqrt()[:, None, None], (1 - ab).sqrt()[:, None, None]
    output = {"epsilon": eps, "sample": x0, "v_prediction": root * eps - rest * x0}[prediction]
    mean, std = ddim(output, root * x0 + rest * eps, ab, ab_next, f32(0, 0, 0), prediction=prediction)
    close(mean, ab_next.sqrt()[:, None, None] * x0 + (1 - ab_next).sqrt()[:, None, None] * eps, rtol=1e-4, atol=1e-5)
    assert not std.any()


sigmas = st.floats(0.02, 0.99)


@given(sigmas, sigmas)
def test_without_noise_every_flow_step_is_the_euler_step(one, other):
    here, there = f32(max(one, other)), f32(min(one, other) * 0.99)
    x, v = torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(2))
    euler = x + v * (there - here)
    for step in (flow_sde, flow_cps):
        mean, std = step(v, x, here, there, f32(0))
        close(mean, euler, rtol=1e-4, atol=1e-5)
        assert std == 0


@pytest.mark.parametrize("scale", ["constant", "flow_grpo", "cps"])
def test_noise_keeps_the_marginals(scale):
    """Gaussian data have an exact velocity; many steps of every law must end where the ODE ends: in the data."""
    mean_0, std_0, steps, n = 0.7, 0.5, 400, 40_000
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, 1, generator=generator)
    schedule = [1 - 0.999 * index / steps for index in range(steps + 1)]
    for here, there in itertools.pairwise(schedule):
        variance = (1 - here) ** 2 * std_0**2 + here**2
        shifted = x - (1 - here) * mean_0
        clean = mean_0 + (1 - here) * std_0**2 / variance * shifted
        noise = here / variance * shifted
        level = {"constant": 0.5, "flow_grpo": flow_grpo_scale(0.7, here, schedule[1]), "cps": 0.05}[scale]
        step = flow_cps if scale == "cps" else flow_sde
        mean, std = step(noise - clean, x, *(f32(value).expand(n) for value in (here, there, level)))
        x = draw(mean, std, torch.randn(n, 1, generator=generator), torch.float32)
    assert float(x.mean()) == pytest.approx(mean_0, abs=0.02)
    assert float(x.std()) == pytest.approx(std_0, abs=0.03)


def test_the_density_is_the_normal_one_averaged_over_dimensions():
    mean, std = torch.randn(2, 3, 4), f32(0.3, 2.0)
    following = torch.randn(2, 3, 4)
    expected = torch.distributions.Normal(mean, std[:, None, None]).log_prob(following).flatten(1).mean(1)
    close(log_prob(following, mean, std), expected)


def test_a_deterministic_step_has_no_density_and_no_gradient():
    mean = torch.zeros(1, 3, requires_grad=True)
    for score in (log_prob, log_prob_unscaled):
        value = score(torch.ones(1, 3), mean, f32(0))
        assert value == 0
        (gradient,) = torch.autograd.grad(value.sum(), mean)
        assert not gradient.any()
    assert GOLDEN["ddim_terminal_step_offset0_is_degenerate"]["expected"]["logprob"] == ["nan"]  # what it would be


def test_flow_grpo_scale():
    assert flow_grpo_scale(0.7, 0.70727849, 0.9) == pytest.approx(0.7 * math.sqrt(0.70727849 / (1 - 0.70727849)))
    first = flow_grpo_scale(0.7, 1.0, 0.9601)
    assert first * math.sqrt(1 - 0.9601) == pytest.approx(0.7)  # the std of the first step is the level itself


def test_what_is_scored_is_what_is_fed_on():
    mean, std, noise = torch.rand(2, 64), f32(0.1, 0.1), torch.randn(2, 64)
    drawn = draw(mean, std, noise, torch.bfloat16)
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn, drawn.to(torch.bfloat16).float())
