"""Votes without labels: golden values, what the entropy term does and does not do, and completions that cast none."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.records import Sample
from rewards.votes import majority_vote, vote_frequency

SAMPLE = Sample("s", ())
VOTES = st.lists(st.sampled_from(["A", "(B)", "the answer is C", "D.", "a dog", ""]), min_size=1, max_size=12)


def values(scores):
    return [score.value for score in scores]


def frequencies(completions, **settings):
    return values(vote_frequency(completions, SAMPLE, **settings))


def test_ttrv_reward_1():
    votes = ["A", "A", "A", "B"]
    assert frequencies(votes) == [0.75, 0.75, 0.75, 0.25]
    assert frequencies(votes, entropy=0.75) == pytest.approx([0.1415414] * 3 + [-0.3584586], abs=1e-6)
    paper = frequencies(votes, entropy=0.75, normalised=False)
    assert paper == pytest.approx([0.3282486] * 3 + [-0.1717514], abs=1e-6)


def test_ttrv_reward():
    votes = ["x", "x", "x", "y", "z", "x", "y", "x"]
    expected = {"x": 0.0104137211, "y": -0.3645862789, "z": -0.4895862789}
    assert frequencies(votes, answer="text", entropy=0.75) == pytest.approx([expected[v] for v in votes], abs=1e-6)


def test_ttrl_majority_reward_2():
    votes = ["1", "2", "3", "1", "2"]
    for answer in ("number", "text"):
        assert values(majority_vote(votes, SAMPLE, answer=answer)) == [1, 0, 0, 1, 0]


@given(VOTES, st.floats(0, 2), st.booleans())
def test_the_entropy_term_cancels_within_the_group(votes, entropy, normalised):
    plain = frequencies(votes)
    shifted = frequencies(votes, entropy=entropy, normalised=normalised)
    shifts = {round(a - b, 9) for a, b in zip(plain, shifted, strict=True)}
    assert len(shifts) == 1
    assert 0 <= shifts.pop() <= entropy * (1 if normalised else math.log(len(votes))) + 1e-9


@given(VOTES)
def test_frequencies_are_shares_of_the_votes(votes):
    scores = vote_frequency(votes, SAMPLE)
    shares = {score.parsed: score.value for score in scores if score.parsed}
    assert all(0 <= score.value <= 1 for score in scores)
    assert sum(shares.values()) == pytest.approx(1 if shares else 0)
    winners = {score.parsed for score in majority_vote(votes, SAMPLE) if score.value == 1}
    assert len(winners) == bool(shares)
    assert all(shares[winner] == max(shares.values()) for winner in winners)


def test_what_cannot_be_read_never_votes_and_never_wins():
    completions = ["a dog", "a cat", "A man", "", "B"]
    assert frequencies(completions) == [0, 0, 0, 0, 1]
    assert values(majority_vote(completions, SAMPLE)) == [0, 0, 0, 0, 1]
    assert "vote" in vote_frequency(completions, SAMPLE)[0].why
    for answer in ("choice", "number", "text"):
        assert frequencies(["", " "], answer=answer, entropy=0.75) == [0, 0]
        assert values(majority_vote(["", " "], SAMPLE, answer=answer)) == [0, 0]


# Vector ttrv_extract_choice: upper-casing made "This is a cat" a vote for A there.
def test_an_article_is_no_vote():
    assert [score.parsed for score in majority_vote(["This is a cat", "a", "A cat", "B."], SAMPLE)] == [None] * 3 + [
        "B"
    ]


def test_equal_answers_are_one_vote_however_they_are_written():
    numbers = ["12%", "0.12", "so it is 0.120", "<think>9</think><answer>12 %</answer>", "12", "nan"]
    assert frequencies(numbers, answer="number") == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.2, 0])
    assert frequencies(["12.3%", "0.123"], answer="number") == [1, 1]
    assert frequencies(["-0", "0"], answer="number") == [1, 1]
    assert frequencies(["1,000", "1e3", "$1000"], answer="number") == [1, 1, 1]
    assert frequencies(["The Cat.", "the  cat"], answer="text") == [1, 1]
    assert frequencies(["(B)", "B.", "answer: B"]) == [1, 1, 1]


def test_the_first_seen_wins_a_tie():
    assert values(majority_vote(["", "B", "A", "A", "B"], SAMPLE)) == [0, 1, 0, 0, 1]


def test_settings_are_checked():
    with pytest.raises(ValueError, match="entropy"):
        vote_frequency(["A"], SAMPLE, entropy=-1)
    with pytest.raises(ValueError, match="answer"):
        majority_vote(["A"], SAMPLE, answer="letter")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=6), st.sampled_from(["choice", "number", "text"]))
def test_any_texts_may_vote(completions, answer):
    for score in vote_frequency(completions, SAMPLE, answer=answer, entropy=0.75):
        assert -0.75 - 1e-9 <= score.value <= 1
    assert all(value in (0, 1) for value in values(majority_vote(completions, SAMPLE, answer=answer)))


def test_hostile_completions_take_no_time():
    hostile = ["9" * 5000, "1e999", "A" * 100_000, "(" * 100_000, "1," * 50_000, "\ud800", "<answer>" * 20_000]
    for answer in ("choice", "number", "text"):
        start = time.process_time()
        vote_frequency(hostile, SAMPLE, answer=answer)
        assert time.process_time() - start < 2


def test_numbers_with_separators_are_different_votes():
    texts = ["The total is 1,000 items", "The total is 2,000 items", "I see 2,000 birds"]
    assert [score.value for score in majority_vote(texts, SAMPLE, answer="number")] == [0, 1, 1]
