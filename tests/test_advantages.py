"""Advantage links: golden numbers, and the laws every link of the chain keeps."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.advantages import (
    best_only,
    clip_advantage,
    group_relative,
    group_relative_each,
    leave_one_out,
    length_weighted_baseline,
    overlong_filter,
    overlong_penalty,
    whiten,
)

NAN = float("nan")
GROUP_LINKS = {
    "group_relative": group_relative,
    "population": functools.partial(group_relative, std="population"),
    "none": functools.partial(group_relative, std="none"),
    "leave_one_out": leave_one_out,
    "length_weighted_baseline": length_weighted_baseline,
    "best_only": best_only,
}
COMPARING_LINKS = GROUP_LINKS | {"batch": functools.partial(group_relative, std="batch")}
every_group_link = pytest.mark.parametrize("link", GROUP_LINKS.values(), ids=GROUP_LINKS)
pytestmark = pytest.mark.filterwarnings("ignore:std")  # std of a batch with one reward
every_comparing_link = pytest.mark.parametrize("link", COMPARING_LINKS.values(), ids=COMPARING_LINKS)

score = st.floats(-10, 10, width=32)
ragged = st.lists(st.lists(st.tuples(score, st.integers(1, 9)), min_size=2, max_size=9), min_size=1, max_size=4)


def rows_of(drawn):
    """(rewards, group, lengths) of drawn ragged groups of (reward, length)."""
    flat = [(reward, g, length) for g, rows in enumerate(drawn) for reward, length in rows]
    return [list(column) for column in zip(*flat, strict=True)]


# -- golden --------------------------------------------------------------------------------------------------------

GOLDEN = {
    "group std": ("adv_grpo_group_std", "adv", group_relative, {"eps": 1e-6}),
    "trl group": ("adv_grpo_trl_eps", "adv_group_scale", group_relative, {"eps": 1e-4}),
    "trl batch": ("adv_grpo_trl_eps", "adv_batch_scale", group_relative, {"eps": 1e-4, "std": "batch"}),
    "dr.grpo": ("adv_grpo_trl_eps", "adv_none", group_relative, {"std": "none"}),
    "rloo": ("adv_rloo", "adv", leave_one_out, {}),
    "opo": ("adv_opo_length_weighted_baseline", "adv", length_weighted_baseline, {}),
    "pass@k": ("adv_grpo_passk", "adv", best_only, {}),
}


@pytest.mark.parametrize(("name", "key", "link", "options"), GOLDEN.values(), ids=GOLDEN)
def test_golden(golden, make_rollouts, chain, name, key, link, options):
    vector = golden[name]
    rollouts = make_rollouts(vector["inputs"]["rewards"], vector["inputs"]["group_id"], vector["inputs"]["lengths"])
    result = chain(link, rollouts, each=True, **options)
    expected = torch.tensor(vector["expected"][key])[:, None].expand_as(result)
    torch.testing.assert_close(result, expected, atol=2e-6, rtol=1e-6)


def test_golden_bigcharts_group_of_four(golden, make_rollouts, chain):
    vector = golden["bigcharts_group_advantage"]
    rollouts = make_rollouts(vector["inputs"]["total_rewards"], [0, 0, 0, 0])
    result = chain(group_relative, rollouts, eps=1e-4)
    torch.testing.assert_close(result, torch.tensor(vector["expected"]), atol=2e-6, rtol=1e-6)


# -- laws ----------------------------------------------------------------------------------------------------------


@every_comparing_link
@settings(max_examples=40)
@given(drawn=st.lists(st.tuples(score, st.lists(st.integers(1, 9), min_size=1, max_size=20)), min_size=1, max_size=4))
def test_a_group_with_equal_rewards_moves_nothing(make_rollouts, chain, link, drawn):
    """Exactly nothing: a rounding error of the mean, divided by std + eps, would be a large advantage."""
    rewards, group, lengths = rows_of([[(reward, length) for length in lengths] for reward, lengths in drawn])
    assert (chain(link, make_rollouts(rewards, group, lengths), each=True) == 0).all()


@every_comparing_link
@settings(max_examples=15)
@given(drawn=ragged, seed=st.integers(0, 99))
def test_reordering_the_rows_of_a_group_reorders_the_advantages(make_rollouts, chain, link, drawn, seed):
    rewards, group, lengths = rows_of([list({r[0]: r for r in rows}.values()) for rows in drawn])  # no ties
    key = torch.rand(len(group), generator=torch.Generator().manual_seed(seed))
    order = (torch.tensor(group) + key).argsort().tolist()
    before = chain(link, make_rollouts(rewards, group, lengths))
    after = chain(link, make_rollouts([rewards[i] for i in order], group, [lengths[i] for i in order]))
    torch.testing.assert_close(after, before[order], atol=1e-4, rtol=1e-4)


@every_group_link
@settings(max_examples=15)
@given(drawn=ragged)
def test_a_group_does_not_see_the_other_groups(make_rollouts, chain, link, drawn):
    together = chain(link, make_rollouts(*rows_of(drawn), width=9))
    alone = [chain(link, make_rollouts(*rows_of([rows]), width=9)) for rows in drawn]
    torch.testing.assert_close(together, torch.cat(alone), atol=0, rtol=0)


@every_comparing_link
@settings(max_examples=15)
@given(drawn=ragged, failed=st.lists(st.booleans(), min_size=4, max_size=4))
def test_rows_without_reward_stay_nan_and_change_nothing_for_the_others(make_rollouts, chain, link, drawn, failed):
    """A failed row, put before each chosen group's rows, leaves the others as they would be without it."""
    with_failed = [[(NAN, 9), *rows] if fail else rows for rows, fail in zip(drawn, failed, strict=False)]
    rewards, group, lengths = rows_of(with_failed)
    result = chain(link, make_rollouts(rewards, group, lengths, width=9), each=True)
    there = ~torch.tensor(rewards).isnan()
    expected = chain(link, make_rollouts(*rows_of(drawn), width=9), each=True)
    assert result[~there].isnan().all()
    torch.testing.assert_close(result[there], expected, atol=1e-6, rtol=1e-6)


@every_comparing_link
def test_a_group_whose_rewards_all_failed_is_nan_and_leaves_the_others_alone(make_rollouts, chain, link):
    result = chain(link, make_rollouts([NAN, NAN, 1.0, 0.0], [0, 0, 1, 1]))
    assert result[:2].isnan().all() and result[2:].isfinite().all() and (result[2:] != 0).any()


@pytest.mark.parametrize("std", ["unbiased", "population", "none"])
@settings(max_examples=15)
@given(drawn=ragged)
def test_group_relative_equals_a_plain_loop(make_rollouts, chain, std, drawn):
    result = chain(group_relative, make_rollouts(*rows_of(drawn)), std=std, eps=1e-3)
    expected = []
    for rows in drawn:
        reward = torch.tensor([r[0] for r in rows], dtype=torch.float64)
        scale = 1.0 if std == "none" else reward.std(correction=int(std == "unbiased")) + 1e-3
        expected.append((reward - reward.mean()) / scale)
    torch.testing.assert_close(result.double(), torch.cat(expected), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("std", ["unbiased", "population", "batch", "none"])
def test_a_group_of_one_gets_nothing_or_its_reward(make_rollouts, chain, std):
    rollouts = make_rollouts([0.7, 1.0, 0.0, NAN, 0.3], [0, 1, 1, 2, 2])  # groups 0 and 2 have one reward each
    zero = chain(group_relative, rollouts, std=std)
    kept = chain(group_relative, rollouts, std=std, single="reward")
    assert zero[[0, 4]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(kept[[0, 4]], torch.tensor([0.7, 0.3]), atol=0, rtol=0)
    torch.testing.assert_close(kept[1:3], zero[1:3], atol=0, rtol=0)


@pytest.mark.parametrize("link", [leave_one_out, best_only, length_weighted_baseline])
def test_a_group_of_one_gets_nothing_from_the_other_links(make_rollouts, chain, link):
    assert chain(link, make_rollouts([0.7, 0.1, 0.9], [0, 1, 1]))[0] == 0


def test_leave_one_out_subtracts_the_mean_of_the_others(make_rollouts, chain):
    rewards = torch.rand(7, generator=torch.Generator().manual_seed(0))
    result = chain(leave_one_out, make_rollouts(rewards, [0, 0, 0, 1, 1, 1, 1]))
    for rows in (range(3), range(3, 7)):
        for i in rows:
            others = torch.stack([rewards[j] for j in rows if j != i])
            assert result[i].item() == pytest.approx((rewards[i] - others.mean()).item(), abs=1e-6)


# -- whitening -----------------------------------------------------------------------------------------------------


def whiten_loop(values, mask):
    """Mean and unbiased variance over the actions that count, rsqrt(var + 1e-8), by hand."""
    counted = [float(v) for row, keep in zip(values, mask, strict=True) for v, k in zip(row, keep, strict=True) if k]
    mean = sum(counted) / len(counted)
    variance = sum((v - mean) ** 2 for v in counted) / (len(counted) - 1)
    return (values.double() - mean) / (variance + 1e-8) ** 0.5


def test_whiten_is_reinforce_plus_plus(make_rollouts, chain):
    """Token-weighted: a long row counts once per action."""
    rollouts = make_rollouts([1.0, 0.0, 0.5, -1.0], [0, 0, 1, 1], [5, 1, 2, 3])
    result = chain(whiten, rollouts, each=True)
    values = rollouts.reward[:, None].expand(result.shape)
    torch.testing.assert_close(result.double(), whiten_loop(values, rollouts.mask), atol=1e-6, rtol=1e-6)
    counted = result[rollouts.mask]
    assert counted.mean().item() == pytest.approx(0, abs=1e-6) and counted.std().item() == pytest.approx(1, abs=1e-5)


def test_group_mean_then_whiten_is_reinforce_plus_plus_baseline(make_rollouts, chain, context):
    rollouts = make_rollouts([1.0, 0.0, 0.5, -1.0, 0.25], [0, 0, 1, 1, 1], [5, 1, 2, 3, 4])
    centred = chain(group_relative, rollouts, each=True, std="none")
    by_hand = torch.tensor([0.5, -0.5, 0.5833333, -0.9166667, 0.3333333])
    torch.testing.assert_close(centred[:, 0], by_hand, atol=1e-6, rtol=0)
    result = whiten(centred, rollouts, context)
    torch.testing.assert_close(result.double(), whiten_loop(centred, rollouts.mask), atol=1e-6, rtol=1e-6)


def test_whiten_leaves_failed_rows_out(make_rollouts, chain):
    result = chain(whiten, make_rollouts([1.0, NAN, 0.0], [0, 0, 1], [2, 9, 3], width=9), each=True)
    expected = chain(whiten, make_rollouts([1.0, 0.0], [0, 1], [2, 3], width=9), each=True)
    assert result[1].isnan().all()
    torch.testing.assert_close(result[[0, 2]], expected, atol=0, rtol=0)


# -- shaping and masking -------------------------------------------------------------------------------------------


def test_overlong_penalty_falls_linearly_over_the_buffer(make_rollouts, chain):
    anchors = {1: 0.0, 16384: 0.0, 17000: -0.150390625, 18432: -0.5, 20480: -1.0, 30000: -1.0}
    rollouts = make_rollouts([0.25] * len(anchors), [0] * len(anchors))
    rollouts.length = torch.tensor(list(anchors))
    result = chain(overlong_penalty, rollouts, limit=20480, buffer=4096)
    torch.testing.assert_close(result, 0.25 + torch.tensor(list(anchors.values())), atol=1e-7, rtol=0)


def test_overlong_penalty_leaves_failed_rows_failed(make_rollouts, chain):
    assert chain(overlong_penalty, make_rollouts([NAN], [0], [9]), limit=8, buffer=4).isnan().all()


def test_overlong_filter_edits_the_mask_only(make_rollouts, chain):
    rollouts = make_rollouts(
        [1.0, 0.0, 0.5], [0, 0, 0], [2, 4, 3], signals={"truncated": torch.tensor([False, True, False])}
    )
    mask, length = rollouts.mask.clone(), rollouts.length.clone()
    result = chain(overlong_filter, rollouts)
    assert result.tolist() == [1.0, 0.0, 0.5]  # the truncated row still counts in its group
    assert not rollouts.mask[1].any() and rollouts.mask[[0, 2]].equal(mask[[0, 2]])
    assert rollouts.length.equal(length) and rollouts.made.equal(mask)


def test_clip_advantage_bounds_both_sides_and_keeps_nan(make_rollouts, chain):
    result = chain(clip_advantage, make_rollouts([-7.0, 0.5, 7.0, NAN], [0, 0, 0, 0]), limit=2.0)
    assert result[:3].tolist() == [-2.0, 0.5, 2.0] and result[3].isnan()


# -- several rewards -----------------------------------------------------------------------------------------------


def two_scores(make_rollouts, first, second, weights=(1.0, 1.0), group=(0, 0, 0, 0)):
    a, b = torch.tensor(first), torch.tensor(second)
    reward = weights[0] * a + weights[1] * b
    return make_rollouts(reward, list(group), scores={"a": a, "b": b}, weights={"a": weights[0], "b": weights[1]})


def chain_start(rollouts):
    return rollouts.reward[:, None].expand(rollouts.mask.shape).clone()


def test_every_score_is_compared_by_itself_and_then_weighed(make_rollouts, context):
    """The rewards of the vector `multi_reward_reward_level_sum`, at the advantage level instead."""
    rollouts = two_scores(make_rollouts, [0.30, 0.34, 0.28, 0.31], [0.2, 0.1, 0.4, 0.3], weights=(0.7, 1.4))
    parts = [
        (values - values.mean()) / (values.std() + 1e-8) * weight
        for values, weight in ((rollouts.scores["a"], 0.7), (rollouts.scores["b"], 1.4))
    ]
    found = group_relative_each(chain_start(rollouts), rollouts, context, eps=1e-8)
    torch.testing.assert_close(found[:, 0], sum(parts))
    summed = group_relative(chain_start(rollouts), rollouts, context, eps=1e-8)
    torch.testing.assert_close(summed[:, 0], torch.tensor([-0.45443967, -1.13081467, 1.15195096, 0.433302671]))


def test_the_scale_of_one_reward_does_not_drown_the_other(make_rollouts, context):
    small = two_scores(make_rollouts, [0.0, 1.0, 0.0, 1.0], [3.0, 1.0, 2.0, 5.0])
    large = two_scores(make_rollouts, [0.0, 1000.0, 0.0, 1000.0], [3.0, 1.0, 2.0, 5.0])
    torch.testing.assert_close(
        group_relative_each(chain_start(small), small, context),
        group_relative_each(chain_start(large), large, context),
        rtol=1e-4,
        atol=1e-4,
    )


def test_one_reward_of_weight_one_is_the_plain_comparison(make_rollouts, context):
    values = torch.tensor([0.0, 1.0, 0.25, 0.5])
    rollouts = make_rollouts(values, [0, 0, 1, 1], scores={"a": values}, weights={"a": 1.0})
    start = chain_start(rollouts)
    assert torch.equal(group_relative_each(start, rollouts, context), group_relative(start, rollouts, context))


def test_a_failed_row_counts_for_no_score_and_an_inapplicable_score_adds_nothing(make_rollouts, context):
    rollouts = two_scores(make_rollouts, [0.0, 1.0, NAN, 9.0], [1.0, 3.0, 2.0, NAN])
    rollouts.reward = torch.tensor([1.0, 4.0, 2.0, NAN])  # `a` does not apply to row 2; `b` failed on row 3
    found = group_relative_each(chain_start(rollouts), rollouts, context, std="none")[:, 0]
    torch.testing.assert_close(found[:3], torch.tensor([-0.5 - 1, 0.5 + 1, 0.0]))
    assert found[3].isnan()
