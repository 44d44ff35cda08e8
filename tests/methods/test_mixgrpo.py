"""MixGRPO's divergence from the policy that made the rollouts."""

from __future__ import annotations

import pytest
import torch

from mmrl.methods.mixgrpo import behaviour_kl


def test_golden(vectors, make_rollouts):
    vector = vectors["mixgrpo_kl_proxy"]
    rows = make_rollouts([0.0], [0], [1], logp_old=torch.tensor([vector["inputs"]["logp_old"]]))
    value = behaviour_kl(torch.tensor([vector["inputs"]["logp_new"]]), rows).item()
    assert value == pytest.approx(vector["expected"]["kl"], rel=1e-4)


def test_nothing_pulls_on_policy(make_rollouts):
    old = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    logp = old.clone().requires_grad_()
    loss = behaviour_kl(logp, make_rollouts([0.0, 0.0], [0, 0], logp_old=old)).sum()
    (gradient,) = torch.autograd.grad(loss, logp)
    assert loss == 0 and (gradient == 0).all()
