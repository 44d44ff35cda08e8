"""The diffusion policy scores what it made: replay, signals, weights, on every pipeline family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tiny_pipelines
import torch
from tiny_policies import (
    GUIDED,
    STEPS,
    close,
    disturb,
    every_family,
    every_guidance,
    generate,
    gradients,
    settings,
)

from mmrl.config import AdapterConfig, ModelConfig
from mmrl.policies.diffusion import DiffusionPolicy
from mmrl.policies.pipelines import Pipeline
from mmrl.records import Rollouts


def check_replay(policy: DiffusionPolicy, rolled: Rollouts) -> None:
    """The rollout's log-probs: exactly at the rollout's batch, within 1e-5 at others."""
    assert rolled.mask[:, :-1].all()
    with torch.no_grad():
        for group in range(len(rolled.samples)):
            for step in range(STEPS - 1):
                mask = torch.zeros_like(rolled.mask)
                mask[rolled.rows_of(group), step] = True
                logp, _ = policy.logp(replace(rolled, mask=mask))
                assert torch.equal(logp[mask], rolled.logp_rollout[mask])
        tokens = rolled.prompts[0].conditioning.tokens
        for budget in (1, 2 * tokens, 5 * tokens, 10**9):
            seen = torch.zeros(rolled.mask.shape)
            for batch in policy.micro_batches(rolled, budget=budget):
                part = rolled.part(batch)
                assert part.mask.sum() <= max(1, budget // tokens)
                logp, _ = policy.logp(part)
                close(logp[part.mask], part.logp_rollout[part.mask])
                assert not logp[~part.mask].any()
                seen[batch.rows] += part.mask
            assert torch.equal(seen, rolled.mask.float())  # every trained action once


# -- replay ----------------------------------------------------------------------------------------------------------


@every_guidance
@every_family
def test_replay_gives_the_log_probs_of_the_rollout(name, guidance, shared, rollouts):
    check_replay(shared(name), rollouts(name, guidance))


@pytest.mark.parametrize("noise", ["flow_grpo", "cps"])
def test_replay_with_other_laws_of_noise_and_a_shifted_schedule(noise, shared, samples):
    check_replay(shared("sd3"), generate(shared("sd3"), samples, settings("sd3", GUIDED, noise=noise, shift=3.0)))


@pytest.mark.parametrize("name", ["sd", "flux", "wan_i2v"])
def test_replay_with_lora(name, build, samples):
    policy = build(name, lora=True)
    disturb(policy)
    assert all("lora" in parameter for parameter, _ in policy.trainable())
    check_replay(policy, generate(policy, samples, settings(name)))


@every_family
def test_replay_in_half_precision_is_exact_at_equal_batch(name, folder, samples):
    """What bfloat16 rounds in the rollout (latents, times, the sum of guidance) is rounded in the replay as well."""
    torch.manual_seed(0)
    pipe = tiny_pipelines.BUILDERS[name]().to(torch.bfloat16)
    policy = DiffusionPolicy(Pipeline(pipe, ModelConfig(path="mine", adapter=AdapterConfig(rank=2))))
    disturb(policy)
    assert all(weights.dtype == torch.float32 for _, weights in policy.trainable())
    rolled = generate(policy, samples[:1], settings(name, GUIDED))
    for step in range(STEPS - 1):
        mask = torch.zeros_like(rolled.mask)
        mask[:, step] = True
        logp, _ = policy.logp(replace(rolled, mask=mask))
        assert torch.equal(logp[mask], rolled.logp_rollout[mask])


@every_family
def test_the_gradients_of_micro_batches_add_up(name, shared, rollouts):
    policy, rolled = shared(name), rollouts(name, GUIDED)
    weights = torch.randn(rolled.mask.shape, generator=torch.Generator().manual_seed(2))

    def gradient(part: Rollouts, rows: Any) -> torch.Tensor:
        return gradients(policy, (policy.logp(part)[0] * weights[rows]).sum())

    whole = gradient(rolled, slice(None))
    tokens = rolled.prompts[0].conditioning.tokens
    parts = [gradient(rolled.part(b), b.rows) for b in policy.micro_batches(rolled, budget=4 * tokens)]
    assert whole.norm() > 0
    assert (sum(parts) - whole).norm() < 1e-4 * whole.norm()


@every_family
def test_gradient_checkpointing_changes_no_gradient(name, build, shared, rollouts):
    rolled = rollouts(name).select([0, 1])
    saving = build(name, gradient_checkpointing=True)
    found, expected = (gradients(policy, policy.logp(rolled)[0].sum()) for policy in (saving, shared(name)))
    assert saving.pipeline.denoiser.is_gradient_checkpointing
    assert (found - expected).norm() <= 1e-6 * expected.norm()


# -- reference, weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", ["sd", "sd3", "wan"])
def test_the_distance_to_the_reference(name, lora, build, samples):
    policy, signals = build(name, lora=lora), ("velocity_mse", "gaussian_kl", "mean_shift", "step_std")
    rolled = generate(policy, samples[:1], settings(name, GUIDED), signals=signals)
    mask = rolled.mask
    _, found = policy.logp(rolled, signals=signals)
    assert not found["velocity_mse"].any() and not found["gaussian_kl"].any()
    close(found["mean_shift"], torch.zeros(mask.shape))
    close(policy.reference_logp(rolled)[mask], rolled.logp_rollout[mask])

    disturb(policy)
    logp, found = policy.logp(rolled, signals=signals)
    assert not torch.allclose(logp[mask], rolled.logp_rollout[mask])
    for signal in signals:
        assert (found[signal][mask] > 0).all() and not found[signal][~mask].any()
    for signal in ("velocity_mse", "gaussian_kl", "mean_shift"):
        gradient = gradients(policy, policy.logp(rolled, signals=[signal])[1][signal].sum())
        assert gradient.norm() > 0 and gradient.isfinite().all()
    close(policy.reference_logp(rolled)[mask], rolled.logp_rollout[mask])  # still as it was before training


def test_means_are_kept_only_for_what_compares_with_them(shared, samples):
    with_means = generate(shared("sd3"), samples, settings("sd3"), signals={"mean_shift", "entropy"})
    without = generate(shared("sd3"), samples, settings("sd3"), signals={"step_std"})
    assert with_means.signals["mean"].shape == with_means.actions[:, 1:].shape
    assert set(without.signals) == set(with_means.signals) - {"mean"}
    assert not any(values.dim() > 2 for values in without.signals.values())


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@every_family
def test_saved_weights_come_back_bit_for_bit(name, lora, build, tmp_path):
    policy = build(name, lora=lora)
    disturb(policy)
    kept = {parameter: weights.detach().clone() for parameter, weights in policy.trainable()}
    policy.save(tmp_path)
    fresh = build(name, lora=lora)
    assert any(not torch.equal(weights, kept[parameter]) for parameter, weights in fresh.trainable())
    fresh.restore(tmp_path)
    assert len(kept) == len(fresh.trainable()) > 0
    assert all(torch.equal(weights, kept[parameter]) for parameter, weights in fresh.trainable())
