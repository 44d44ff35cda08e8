"""GRPO-Guard's ratio: its golden value, and what it promises about Gaussians."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.losses import weights
from mmrl.methods.grpo_guard import grpo_guard
from mmrl.policies.denoising import log_prob


def rows_of(make_rollouts, shift, std, size, advantage=1.0, logp_old=0.0):
    """Rollouts [n, T] with these signals; numbers count for every action."""
    shift = torch.as_tensor(shift, dtype=torch.float32)
    n, width = shift.shape

    def full(value):
        return torch.as_tensor(value, dtype=torch.float32).expand(n, width).clone()

    signals = {"mean_shift": shift, "step_std": full(std), "step_size": full(size)}
    return make_rollouts(
        [0.0] * n, [0] * n, [width] * n, signals=signals, advantage=full(advantage), logp_old=full(logp_old)
    )


def test_golden(vectors, make_rollouts):
    vector = vectors["grpo_guard_ratio"]
    inputs, expected = vector["inputs"], vector["expected"]
    std = inputs["std_dev_t"] * inputs["sqrt_dt"]
    squares = (torch.tensor(inputs["mu"]) - torch.tensor(inputs["mu_old"])).square().mean()
    shift = squares / (2 * std**2)
    assert shift.item() == pytest.approx(expected["bias"], rel=1e-6) and std == pytest.approx(expected["scale"])
    rows = rows_of(make_rollouts, [[shift]], std, inputs["sqrt_dt"] ** 2)
    loss = grpo_guard(torch.tensor([[inputs["logp_new_minus_old"]]]), rows, clip_low=0.2, clip_high=0.2)
    assert -loss.item() * expected["loss_divisor"] == pytest.approx(expected["ratio"], rel=1e-6)


@settings(max_examples=20)
@given(std=st.floats(0.01, 2), size=st.floats(0.005, 0.3), advantage=st.floats(-5, 5))
def test_on_policy_the_ratio_is_one_and_the_gradient_is_that_of_the_mean(make_rollouts, std, size, advantage):
    """Ratio 1 where nothing moved; the gradient is -A std / |dt| per action, whatever the clip."""
    rows = rows_of(make_rollouts, torch.zeros(2, 3), std, size, advantage, logp_old=0.7)
    logp = torch.full((2, 3), 0.7, requires_grad=True)
    loss = grpo_guard(logp, rows, clip_low=1e-6, clip_high=1e-6)
    torch.testing.assert_close(loss, torch.full((2, 3), -advantage / size), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), logp)
    torch.testing.assert_close(gradient, torch.full((2, 3), -advantage * std / size), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("std", [0.02, 0.1, 0.5])
def test_the_ratio_of_gaussians_has_the_same_law_at_every_std(make_rollouts, std):
    """log ratio = noise . dmean: mean 0, and a spread that does not know std. The plain one is below 0 and grows."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 64, generator=generator)
    move = 0.02 * torch.randn(64, generator=generator)
    old, stds = torch.zeros(4000, 64), torch.full((4000,), std)
    made = old + std * noise
    logp_old, logp = log_prob(made, old, stds)[:, None], log_prob(made, old + move, stds)[:, None]
    shift = (move.square().mean() / (2 * std**2)).expand(4000, 1)
    rows = rows_of(make_rollouts, shift, std, 1.0)
    rows.logp_old = logp_old
    log_ratios = (-grpo_guard(logp, rows, clip_low=0.9, clip_high=9.0)).log().flatten()
    expected = (noise * move).mean(1)
    torch.testing.assert_close(log_ratios, expected, atol=2e-5, rtol=1e-2)
    assert (logp - logp_old).mean().item() == pytest.approx(-shift[0].item(), rel=0.2)


def test_the_loss_does_not_depend_on_micro_batches(make_rollouts):
    generator = torch.Generator().manual_seed(0)
    shift, noise = 0.01 * torch.rand(6, 4, generator=generator), 0.01 * torch.randn(6, 4, generator=generator)
    rows = rows_of(make_rollouts, shift, 0.3, 0.05, torch.randn(6, 1, generator=generator))
    share = weights(rows.mask, "token_mean", constant_length=1)
    whole = (grpo_guard(noise, rows) * share).sum()
    split = sum((grpo_guard(noise[p], rows.select(p)) * share[p]).sum() for p in ([0, 5], [1, 2, 3], [4]))
    torch.testing.assert_close(split, whole)


def test_steps_outside_the_micro_batch_stay_finite(make_rollouts):
    """A policy leaves signals of steps it was not asked for at 0, and absurd log-ratios must not overflow."""
    rows = rows_of(make_rollouts, torch.zeros(1, 3), 0.0, 0.0)
    assert grpo_guard(torch.zeros(1, 3), rows).isfinite().all()
    rows = rows_of(make_rollouts, [[0.0, 0.0, 1e6]], 1.0, 1.0)
    assert grpo_guard(torch.tensor([[300.0, -300.0, 0.0]]), rows).isfinite().all()
