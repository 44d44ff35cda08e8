from __future__ import annotations

import torch

from mmrl.report import describe
from rewards.scoring import Rewards

REWARDS = Rewards(())


def test_entropy_and_tokens_are_of_tokens_only(make_rollouts):
    made = torch.full((2, 3), -0.5)
    tokens = make_rollouts([0.0, 1.0], [0, 0], [2, 3], logp_rollout=made)
    metrics = describe(tokens, REWARDS)
    assert (metrics["entropy"], metrics["tokens"], metrics["length"]) == (0.5, 5, 2.5)

    latents = make_rollouts([0.0, 1.0], [0, 0], logp_rollout=made)
    latents.actions = torch.randn(2, 4, 1, 2, 2)
    metrics = describe(latents, REWARDS)
    assert "entropy" not in metrics and "tokens" not in metrics and metrics["length"] == 3


def test_kl_is_of_the_actions_that_have_log_probs(make_rollouts):
    """A diffusion policy scores the trained steps only; the others hold zeros, which say nothing."""
    mask = torch.tensor([[True, False, False]] * 2)
    old, ref = torch.where(mask, -1.0, 0.0), torch.where(mask, -1.5, 0.0)
    metrics = describe(make_rollouts([0.0, 1.0], [0, 0], mask=mask, logp_old=old, logp_ref=ref), REWARDS)
    assert abs(metrics["kl"] - (torch.tensor(-0.5).exp().item() + 0.5 - 1)) < 1e-6
