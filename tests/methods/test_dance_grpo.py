"""Best-of-N subsets, and the advantages of DanceGRPO by the standard links."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.advantages import group_relative, group_relative_each
from mmrl.methods.dance_grpo import best_and_worst
from mmrl.plugins import ConfigError

NAN = float("nan")
reward = st.one_of(st.floats(-10, 10, width=32), st.just(NAN))
groups = st.lists(st.lists(reward, min_size=1, max_size=12), min_size=1, max_size=4)


def flat(drawn):
    return [r for rows in drawn for r in rows], [g for g, rows in enumerate(drawn) for _ in rows]


def kept_rows(rollouts):
    kept = rollouts.mask.any(1)
    assert rollouts.mask[kept].equal(rollouts.made[kept])  # whole rows, never single actions
    return kept


def test_golden_group_advantage(vectors, make_rollouts, chain):
    vector = vectors["dance_group_advantage"]
    rewards, size = vector["inputs"]["rewards"], vector["inputs"]["num_generations"]
    rollouts = make_rollouts(rewards, [row // size for row in range(len(rewards))])
    result = chain(group_relative, rollouts, std="unbiased", eps=1e-8)
    torch.testing.assert_close(result, torch.tensor(vector["expected"]["advantages"]), atol=1e-6, rtol=1e-6)
    assert (result[size:] == 0).all()


def test_golden_two_rewards_summed_before_the_comparison(vectors, make_rollouts, chain):
    vector = vectors["multi_reward_reward_level_sum"]
    first, second = torch.tensor(vector["inputs"]["r1"]), torch.tensor(vector["inputs"]["r2"])
    total = vector["inputs"]["w1"] * first + vector["inputs"]["w2"] * second
    torch.testing.assert_close(total, torch.tensor(vector["expected"]["total"]), atol=1e-6, rtol=1e-6)
    result = chain(group_relative, make_rollouts(total, [0] * 4), std="unbiased", eps=1e-8)
    torch.testing.assert_close(result, torch.tensor(vector["expected"]["adv"]), atol=2e-6, rtol=1e-6)


def test_two_rewards_compared_before_the_sum_count_by_their_weights_alone(make_rollouts, chain):
    """0.7 HPS + 1.4 CLIP at the advantage level: multiplying a reward by 100 changes nothing."""
    first, second = torch.tensor([0.3, 0.34, 0.28, 0.31]), torch.tensor([0.2, 0.1, 0.4, 0.3])
    results = []
    for scale in (1.0, 100.0):
        scores, weights = {"hps": first * scale, "clip": second}, {"hps": 0.7, "clip": 1.4}
        rollouts = make_rollouts(first, [0] * 4, scores=scores, weights=weights)
        results.append(chain(group_relative_each, rollouts, eps=1e-8))
    by_hand = sum(w * (r - r.mean()) / r.std() for w, r in ((0.7, first), (1.4, second)))
    torch.testing.assert_close(results[0], by_hand, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(results[1], by_hand, atol=1e-5, rtol=1e-5)


def test_golden_best_of_n(vectors, make_rollouts, chain):
    vector = vectors["hunyuan_best_of_n_selection"]
    half = vector["inputs"]["bestofn"] // 2
    rollouts = make_rollouts(vector["inputs"]["scores"], [0] * len(vector["inputs"]["scores"]))
    chain(best_and_worst, rollouts, best=half, worst=half)
    wanted = sorted(vector["expected"]["top"] + vector["expected"]["bottom"])
    assert kept_rows(rollouts).nonzero().flatten().tolist() == wanted


@settings(max_examples=60)
@given(drawn=groups, best=st.integers(0, 5), worst=st.integers(0, 5))
def test_every_prompt_keeps_its_own_best_and_worst(make_rollouts, chain, drawn, best, worst):
    if best + worst == 0 or best + worst >= max(map(len, drawn)):
        return
    rewards, group = flat(drawn)
    rollouts = make_rollouts(rewards, group)
    chain(best_and_worst, rollouts, best=best, worst=worst)
    kept = kept_rows(rollouts)
    for g, rows in enumerate(drawn):
        chosen = [r for r, keep in zip(rows, kept[torch.tensor(group) == g].tolist(), strict=True) if keep]
        there = sorted((r for r in rows if r == r), reverse=True)
        assert len(chosen) == min(best + worst, len(there))
        if len(there) > best + worst:
            assert sorted(chosen, reverse=True) == there[:best] + there[len(there) - worst :]


def test_advantages_stay_those_of_the_whole_group(make_rollouts, context):
    rollouts = make_rollouts([0.0, 1.0, 2.0, 9.0], [0, 0, 0, 0])
    before = group_relative(rollouts.reward[:, None].expand(rollouts.mask.shape), rollouts, context)
    after = best_and_worst(before, rollouts, context, best=1, worst=1)
    assert after is before and kept_rows(rollouts).tolist() == [True, False, False, True]


def test_what_was_out_of_the_mask_stays_out(make_rollouts, chain):
    rollouts = make_rollouts([0.0, 1.0, 2.0], [0, 0, 0])
    rollouts.mask[:, 1] = False  # a denoising step that is not trained
    chain(best_and_worst, rollouts, best=1, worst=0)
    assert rollouts.mask.tolist() == [[False] * 3, [False] * 3, [True, False, True]]


@pytest.mark.parametrize(("best", "worst"), [(4, 0), (2, 2), (3, 4)])
def test_a_choice_that_leaves_nothing_out_is_an_error_at_the_start(make_rollouts, chain, context, best, worst):
    rollouts = make_rollouts([0.0, 1.0, NAN, 3.0, 0.0, 1.0], [0, 0, 0, 0, 1, 1])
    with pytest.raises(ConfigError, match=f"best = {best} and worst = {worst} keep all of a group of 4"):
        chain(best_and_worst, rollouts, best=best, worst=worst)
    later = replace(context, step=1)  # then it may be a step whose groups are small
    best_and_worst(rollouts.reward[:, None].expand(rollouts.mask.shape), rollouts, later, best=best, worst=worst)
    chain(best_and_worst, rollouts, best=2, worst=1)


@pytest.mark.parametrize(("best", "worst"), [(0, 0), (-1, 2), (2, -1)])
def test_a_choice_that_keeps_nothing_is_an_error(make_rollouts, chain, best, worst):
    with pytest.raises(ConfigError, match="keeps nothing"):
        chain(best_and_worst, make_rollouts([0.0, 1.0], [0, 0]), best=best, worst=worst)
