"""The divergences of Flow-GRPO, and its advantage by the standard link."""

from __future__ import annotations

import pytest
import torch

from mmrl.advantages import group_relative
from mmrl.losses import weights
from mmrl.methods.flow_grpo import gaussian_kl, velocity_kl


def golden_rows(vector, make_rollouts):
    """The two rows of the vector with the signals a policy would give."""
    inputs = vector["inputs"]
    squares = (torch.tensor(inputs["mu"]) - torch.tensor(inputs["mu_ref"])).square().mean(1, keepdim=True)
    std = inputs["std_dev_t"] * inputs["dt_abs"] ** 0.5
    signals = {"gaussian_kl": squares / (2 * std**2), "step_size": torch.full((2, 1), inputs["dt_abs"])}
    return make_rollouts([0.0, 0.0], [0, 0], [1, 1], signals=signals)


@pytest.mark.parametrize(("without_dt", "key"), [(True, "flowgrpo_code"), (False, "gaussian_kl_mean_reduced")])
def test_golden_kl(vectors, make_rollouts, without_dt, key):
    vector = vectors["kl_variants_same_means"]
    rows = golden_rows(vector, make_rollouts)
    value = gaussian_kl(torch.zeros(2, 1), rows, without_dt=without_dt).mean().item()
    assert value == pytest.approx(vector["expected"][key], rel=1e-6)


def test_golden_advantage(vectors, make_rollouts, chain):
    """By prompt, population std, eps 1e-4. Rows of a group are not adjacent in the vector; statistics do not mind."""
    vector = vectors["flowgrpo_per_prompt_advantage_global_std_False"]
    names = sorted(set(vector["inputs"]["prompts"]))
    group = [names.index(prompt) for prompt in vector["inputs"]["prompts"]]
    result = chain(group_relative, make_rollouts(vector["inputs"]["rewards"], group), std="population", eps=1e-4)
    torch.testing.assert_close(result, torch.tensor(vector["expected"]["advantages"]), atol=2e-6, rtol=1e-6)


def test_the_std_of_all_rewards_keeps_the_proportions_between_groups(make_rollouts, chain):
    """Flow-GRPO's default: a group whose rewards hardly differ gets small advantages."""
    rewards = torch.tensor([0.50, 0.51, 0.2, 0.8])
    result = chain(group_relative, make_rollouts(rewards, [0, 0, 1, 1]), std="batch", eps=1e-4)
    centred = torch.tensor([-0.005, 0.005, -0.3, 0.3])
    torch.testing.assert_close(result, centred / (rewards.std() + 1e-4), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("term", [gaussian_kl, velocity_kl])
def test_the_loss_does_not_depend_on_micro_batches(make_rollouts, term):
    generator = torch.Generator().manual_seed(0)
    names = ("gaussian_kl", "velocity_mse", "step_size")
    signals = {name: torch.rand(6, 5, generator=generator) for name in names}
    rows = make_rollouts([0.0] * 6, [0, 0, 1, 1, 2, 2], [5, 2, 3, 4, 1, 5], signals=signals)
    logp, share = torch.zeros(6, 5), weights(rows.mask, "token_mean", constant_length=1)
    whole = (term(logp, rows) * share).sum()
    parts = [[0, 3], [1, 2, 4], [5]]
    split = sum((term(logp[part], rows.select(part)) * share[part]).sum() for part in parts)
    torch.testing.assert_close(split, whole)


def test_they_say_what_they_read():
    assert gaussian_kl.needs == ("gaussian_kl", "step_size")
    assert velocity_kl.needs == ("velocity_mse",)
