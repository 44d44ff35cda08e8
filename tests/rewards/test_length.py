"""Rewards for length and repetition."""

from __future__ import annotations

import math
import time
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrl.plugins import ConfigError
from mmrl.records import Rollouts, Sample
from mmrl.schedules import shape
from rewards.length import (
    _ngrams,
    cosine_length,
    dast,
    length_budget,
    length_penalty,
    repetition,
    shorter_in_group,
    slow_thinking,
)
from rewards.scoring import Rewards

ANY = Sample("s", ())
NAN = math.nan


def group(lengths, text=(), **scores) -> Rollouts:
    """One group of completions with these token lengths and these scores so far."""
    count = len(lengths)
    return Rollouts(
        samples=[ANY],
        prompts=[None],
        group=torch.zeros(count, dtype=torch.long),
        prompt=torch.zeros(count, dtype=torch.long),
        actions=torch.zeros(count, 1, dtype=torch.long),
        length=torch.tensor(lengths, dtype=torch.long),
        mask=torch.ones(count, 1, dtype=torch.bool),
        text=list(text) or [""] * count,
        origin=["policy"] * count,
        scores={name: torch.tensor(values, dtype=torch.float32) for name, values in scores.items()},
    )


rows = st.lists(st.tuples(st.integers(1, 300), st.sampled_from([1.0, 0.0, NAN])), min_size=1, max_size=8)


def scored(pairs) -> Rollouts:
    return group([length for length, _ in pairs], accuracy=[score for _, score in pairs])


# The vector `reward_dapo_soft_overlong`: L_max 20480, L_c 4096.
@pytest.mark.parametrize(
    ("length", "value"), [(16384, 0), (17000, -0.150390625), (18432, -0.5), (20480, -1), (30000, -1)]
)
def test_length_penalty(length, value):
    settings = {"limit": 20480, "buffer": 4096}
    assert length_penalty(group([length, 1]), **settings) == [value, 0]
    assert length_penalty(group([1], ["x" * length]), **settings, unit="characters") == [value]
    assert length_penalty(group([1], ["xy " * length]), **settings, unit="words") == [value]


def test_without_a_buffer_the_penalty_is_a_step():
    assert length_penalty(group([2, 3]), limit=2, buffer=0) == [0, -1]
    with pytest.raises(ValueError, match="buffer"):
        length_penalty(group([1]), limit=2, buffer=3)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 120))
def test_the_penalty_never_rises_with_length(buffer, rest, length):
    shorter, longer = length_penalty(group([length, length + 1]), limit=buffer + rest, buffer=buffer)
    assert -1 <= longer <= shorter <= 0


def test_cosine_length():
    def cosine(lengths, score, **settings):
        return cosine_length(group(lengths, a=[score] * len(lengths)), max_length=1000, of="a", **settings)

    # The two bands of open-rs; from max_length on, where its code turns back, the value stays.
    assert cosine([0, 250, 500, 1000, 1500, 2000], 1) == pytest.approx([1, 0.9267767, 0.75, 0.5, 0.5, 0.5])
    assert cosine([0, 250, 500, 1000, 1500, 2000], 0) == pytest.approx([-1, -0.9267767, -0.75, -0.5, -0.5, -0.5])
    assert cosine([0, 500, 1000], 1, correct=(-0.2, 0.6)) == pytest.approx([0.6, 0.2, -0.2])
    assert cosine([0, 500, 1000], 0, wrong=(0, 0)) == [0, 0, 0]
    assert cosine([7], NAN) == [None]
    text = group([1], ["x " * 250], a=[1])
    assert cosine_length(text, max_length=1000, of="a", unit="characters") == pytest.approx([0.75])
    assert cosine_length(text, max_length=500, of="a", unit="words") == pytest.approx([0.75])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"correct": (1, 0.5)}, r"correct is \(lowest, highest\)"),
        ({"wrong": (-2, 0)}, r"wrong is .* inside \[-1, 1\]"),
        ({"max_length": 0}, "max_length is positive"),
    ],
)
def test_wrong_bands_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        cosine_length(group([1], a=[1]), **{"max_length": 10, "of": "a", **settings})


band = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(lambda pair: tuple(sorted(pair)))


@given(rows, st.integers(1, 400), band, band)
def test_cosine_length_is_monotone_and_stays_in_its_band(pairs, max_length, correct, wrong):
    values = cosine_length(scored(pairs), max_length=max_length, of="accuracy", correct=correct, wrong=wrong)
    for score, (low, high), sign in ((1.0, correct, -1), (0.0, wrong, 1)):
        found = sorted((pair[0], value) for pair, value in zip(pairs, values, strict=True) if pair[1] == score)
        assert all(low - 1e-12 <= value <= high + 1e-12 and -1 <= value <= 1 for _, value in found)
        assert all(sign * (b[1] - a[1]) >= -1e-12 for a, b in pairwise(found))


# The vector `curriculum_length_reward_and_budget`.
def test_length_budget():
    values = length_budget(group([0, 50, 100, 150, 200, 250]), budget=100)
    assert values == pytest.approx([0, 0.5, 1, 0.5, 0, 0])
    assert length_budget(group([0, 1, 2]), budget=0.2) == [0, 1, 0]  # B(t) = max(1, ...)
    for budget in (0, -1, NAN, math.inf):
        with pytest.raises(ValueError, match="budget"):
            length_budget(group([1]), budget=budget)
    # B(t) = 256 * 0.7 ** floor(t / 100): a schedule is continuous and meets the stairs at every 100th step.
    schedule = shape("exponential", start=256, end=256 * 0.7**3)
    assert [schedule(step, 300, {}) for step in (0, 100, 200, 300)] == pytest.approx([256, 179.2, 125.44, 87.808])


def test_a_budget_shrinks_over_the_run():
    budget = {"schedule": "exponential", "start": 200, "end": 50}
    rewards = Rewards.from_config([{"name": "length_budget", "budget": budget}], where="w")
    for step, expected in ((0, [0.5, 1]), (10, [0, 0]), (5, [1, 0])):
        rolled = group([100, 200])
        rewards.score(rolled, step=step, total=10)
        assert rolled.reward.tolist() == pytest.approx(expected)


def test_shorter_in_group():
    assert shorter_in_group(group([10, 20, 30], a=[1, 1, 1]), of="a") == [0.5, 0, -0.5]
    assert shorter_in_group(group([10, 20, 30], a=[0, 0, 0]), of="a") == [0, 0, -0.5]
    assert shorter_in_group(group([15, 20, 10, 30], a=[0, 1, 1, 0]), of="a") == [0, 0, 0.5, -0.5]
    assert shorter_in_group(group([10, 10], a=[1, 0]), of="a") == [0, 0]
    # A row without a score is nobody's yardstick.
    assert shorter_in_group(group([1, 10, 20], a=[NAN, 1, 1]), of="a") == [None, 0.5, -0.5]
    assert shorter_in_group(group([1, 2], a=[NAN, NAN]), of="a") == [None, None]
    assert shorter_in_group(group([1, 1], ["x x x", "x"], a=[1, 1]), of="a", unit="words") == [-0.5, 0.5]


# The vectors `uir1e_dast_3` and `uir1e_dast_4`: rewards before and after; right is a sum of 3.
@pytest.mark.parametrize(
    ("lengths", "before", "after"),
    [
        ([10, 20, 30, 40], [2, 1, 0, 2], [1.225, 0.45, -0.325, 1.9]),
        ([100, 100, 20, 20], [3, 3, 2, 2], [3.5, 3.5, 1.1800001, 1.1800001]),
    ],
)
def test_dast(lengths, before, after):
    added = dast(group(lengths, total=before), of="total", correct_at=3)
    assert [a + b for a, b in zip(before, added, strict=True)] == pytest.approx(after, abs=1e-6)


def test_dast_against_a_fixed_maximum():
    # p = 1/2, budget = (100 + 300) / 2 = 200; excess -0.5 and 0.
    assert dast(group([100, 200], a=[1, 0]), of="a", max_length=300) == pytest.approx([0.75, -0.1])
    assert dast(group([100, 200, 5], a=[1, 0, NAN]), of="a", max_length=300) == [0.75, -0.1, None]
    assert dast(group([900, 1], a=[1, 0]), of="a", max_length=1) == pytest.approx([0.1, -0.1 - 0.9 * (1 - 2 / 901)])
    assert dast(group([0, 0], a=[1, 0]), of="a") == [0.5, -0.1]
    assert dast(group([3], a=[NAN]), of="a") == [None]
    with pytest.raises(ValueError, match="max_length"):
        dast(group([1], a=[1]), of="a", max_length=0)


@given(rows, st.sampled_from(["group", 1, 300]))
def test_dast_pays_right_answers_for_being_short_and_wrong_ones_for_being_long(pairs, max_length):
    values = dast(scored(pairs), of="accuracy", max_length=max_length)
    assert [value is None for value in values] == [math.isnan(score) for _, score in pairs]
    right = sorted((pair[0], value) for pair, value in zip(pairs, values, strict=True) if pair[1] == 1)
    wrong = sorted((pair[0], value) for pair, value in zip(pairs, values, strict=True) if pair[1] == 0)
    assert all(0.1 <= value <= 1 for _, value in right)
    assert all(-1 <= value <= -0.1 for _, value in wrong)
    assert all(a[1] >= b[1] - 1e-12 for a, b in pairwise(right))
    assert all(a[1] <= b[1] + 1e-12 for a, b in pairwise(wrong))


@given(rows, st.randoms())
def test_the_order_of_a_group_does_not_matter(pairs, random):
    order = random.sample(range(len(pairs)), len(pairs))
    for reward in (dast, shorter_in_group):
        values = reward(scored(pairs), of="accuracy")
        moved = reward(scored([pairs[i] for i in order]), of="accuracy")
        assert moved == pytest.approx([values[i] for i in order])


def test_right_is_what_every_named_reward_says():
    rolled = group([5, 5, 5, 5], a=[0.7, 0.7, 0.1, 1], b=[1, 0.5, 1, NAN])

    def right(**settings):
        values = cosine_length(rolled, max_length=9, **settings)
        return [None if value is None else value > 0 for value in values]

    assert right(of="a") == [False, False, False, True]
    assert right(of="a", correct_at=0.7) == [True, True, False, True]
    assert right(of=["a", "b"], correct_at=0.7) == [True, False, False, None]


@pytest.mark.parametrize("reward", [dast, shorter_in_group, partial(cosine_length, max_length=9)])
def test_a_name_that_has_no_score_is_an_error_that_says_which_have(reward):
    with pytest.raises(ValueError, match=r"no score 'c' yet.* stands earlier .*: a, b"):
        reward(group([1], a=[1], b=[1]), of="c")
    with pytest.raises(ValueError, match="empty"):
        reward(group([1]), of=[])


def test_the_reward_that_says_what_is_right_stands_earlier_in_the_list():
    point = {"name": "point_format", "as": "accuracy"}
    shorter = {"name": "shorter_in_group", "of": "accuracy"}
    rolled = group([4, 8, 6], ["(1, 2)", "(1, 2)", "?"])
    Rewards.from_config([point, shorter], where="w").score(rolled, step=0, total=1)
    assert rolled.reward.tolist() == [1.5, 0.5, 0]
    with pytest.raises(
        ConfigError, match=r"w\.0: shorter_in_group depends on the reward accuracy, which must stand before"
    ):
        Rewards.from_config([shorter, point], where="w")
    rolled.scores = {}
    with pytest.raises(ValueError, match="stands earlier in the list; earlier ones: none"):
        shorter_in_group(rolled, of="accuracy")


# The vector `mmr1_repetition`.
@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("a " * 50, -0.4545455),
        (" ".join(f"w{i}" for i in range(60)), 0),
        ("a " * 39, 0),
        ("", 0),
        ("a b " * 25, -0.4090909),
        ("A a\n" * 25, -0.4545455),
    ],
)
def test_repetition(completion, value):
    assert repetition(completion, ANY).value == pytest.approx(value, abs=1e-6)


def test_repetition_of_three_words():
    score = repetition("a b c a b c", ANY, n=3, scale=1)  # abc bca cab abc
    assert score.value == -0.25
    assert score.why == "1 of 4 3-grams are repetitions"
    assert repetition("a b", ANY, n=3, scale=1).value == 0
    for settings in ({"n": 0}, {"scale": 2}, {"scale": -1}):
        with pytest.raises(ValueError, match="n is at least 1 and scale"):
            repetition("a", ANY, **settings)


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 12))
def test_ngrams_are_numbered_by_what_they_are(words, n):
    written = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    numbers = _ngrams(words, n)
    assert len(numbers) == len(written)
    assert len(set(numbers)) == len(set(written)) == len(set(zip(numbers, written, strict=True)))
    assert -1 <= repetition(" ".join(words), ANY, n=n, scale=1).value <= 0


def test_repetition_is_fast():
    start = time.process_time()
    repetition("a b c d " * 50_000, ANY)
    assert time.process_time() - start < 2


# The vector `autovla_reward`: 10 * (pdms - 0.3 * sigmoid(0.002 * (characters - 400))); without the phrase 10 * pdms.
@pytest.mark.parametrize(
    ("pdms", "characters", "phrase", "reward"),
    [
        (1.0, 400, "complex scenario", 8.5),
        (1.0, 900, "complex scenario", 7.8068242),
        (0.8, 100, "complex scenario", 6.9369689),
        (0.9, 900, "simple scenario", 9.0),
        (0.0, 900, "complex scenario", -2.1931758),
    ],
)
def test_slow_thinking(pdms, characters, phrase, reward):
    penalty = slow_thinking(phrase.ljust(characters, "."), ANY)
    assert 10 * (pdms + 0.3 * penalty) == pytest.approx(reward, abs=1e-6)


def test_slow_thinking_of_any_length_is_in_range():
    for characters in (16, 10**6):
        for slope in (0.002, 1e6, -1e6):
            assert -1 <= slow_thinking("complex scenario".ljust(characters), ANY, slope=slope) <= 0
