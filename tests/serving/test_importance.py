"""Truncated importance weights and the numbers of the mismatch."""

from __future__ import annotations

import math

import pytest
import torch

from mmrl.serving.importance import mismatch, truncated_importance


def rows(make_rollouts, **fields):
    # By hand: trainer's probability / server's is 2, 1/2, 8 | 1, 1/4 and padding.
    server = torch.tensor([[0.25, 0.5, 0.1], [0.5, 0.8, 1.0]]).log()
    trainer = torch.tensor([[0.5, 0.25, 0.8], [0.5, 0.2, 0.5]]).log()
    return make_rollouts([1.0, 0.0], [0, 0], [3, 2], logp_rollout=server, logp_old=trainer, **fields)


@pytest.mark.parametrize(
    ("cap", "expected"),
    [(2.0, [[2.0, 0.5, 2.0], [1.0, 0.25, 1.0]]), (10.0, [[2.0, 0.5, 8.0], [1.0, 0.25, 1.0]])],
)
def test_a_token_weighs_its_ratio_up_to_the_cap(make_rollouts, context, cap, expected):
    advantage = torch.tensor([[3.0, 3.0, 3.0], [-1.0, -1.0, -1.0]])
    weighed = truncated_importance(advantage, rows(make_rollouts), context, cap=cap)
    torch.testing.assert_close(weighed, advantage * torch.tensor(expected))


def test_rows_from_elsewhere_and_rows_without_a_reward_are_left_as_they_are(make_rollouts, context):
    rolled = rows(make_rollouts)
    rolled.origin[0] = "ground_truth"
    advantage = torch.tensor([[3.0] * 3, [float("nan")] * 3])
    weighed = truncated_importance(advantage, rolled, context)
    assert torch.equal(weighed[0], advantage[0]) and weighed[1].isnan().all()


def test_nothing_is_weighed_where_there_are_no_log_probs(make_rollouts, context):
    rolled = rows(make_rollouts)
    rolled.logp_rollout = None
    with pytest.raises(ValueError, match="gave no log-probs"):
        truncated_importance(torch.ones(2, 3), rolled, context)
    assert mismatch(rolled) == {}


def test_the_mismatch_of_hand_made_numbers(make_rollouts):
    ratios = [2.0, 0.5, 8.0, 1.0, 0.25]
    logs = [abs(math.log(ratio)) for ratio in ratios]
    found = mismatch(rows(make_rollouts))
    assert found["mismatch/mean"] == pytest.approx(sum(logs) / 5, rel=1e-5)
    assert found["mismatch/max"] == pytest.approx(math.log(8), rel=1e-5)
    assert found["mismatch/kl"] == pytest.approx(sum(r - 1 - math.log(r) for r in ratios) / 5, rel=1e-5)


def test_on_average_the_weights_give_the_trainers_expectation_back(make_rollouts, context):
    """E_server[w A] = E_trainer[A] where nothing is cut, and with a cap E_trainer[A min(1, cap / w)], on random
    distributions over 50 tokens: every token is a row, and the server's probabilities are summed over exactly."""
    generator = torch.Generator().manual_seed(0)
    server, trainer = torch.randn(2, 50, generator=generator).softmax(-1)
    advantage = torch.randn(50, generator=generator)
    logs = {"logp_rollout": server.log()[:, None], "logp_old": trainer.log()[:, None]}
    rolled = make_rollouts([0.0] * 50, [0] * 50, [1] * 50, **logs)
    for cap, kept in ((1e6, torch.ones(50)), (2.0, (2 * server / trainer).clamp(max=1))):
        weighed = truncated_importance(advantage[:, None], rolled, context, cap=cap)[:, 0]
        torch.testing.assert_close((server * weighed).sum(), (trainer * advantage * kept).sum())
    assert kept.min() < 1, "the cap of 2 cuts some weights"
