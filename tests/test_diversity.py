"""How different completions are: golden values, and laws of both measures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.diversity import distinct, self_bleu

rows = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=2, max_size=6)


def test_golden_mmr1_diversity_2():
    same = [[1, 2, 3, 4, 5]] * 3
    assert self_bleu(same) == pytest.approx(1.0)
    assert distinct(same) == pytest.approx(0.3333333)


@pytest.mark.parametrize(
    ("completions", "expected"),
    [
        ([[1, 2, 3, 4, 5], [1, 2, 3, 9, 5], [7, 8, 3, 4, 5, 6]], 0.5842855231764577),
        ([[1, 1, 1, 1], [1, 2, 3], [4, 5, 6, 7, 8]], 0.053214753270177585),
    ],
)
def test_self_bleu_is_that_of_nltk(completions, expected):
    """nltk 3.10's sentence_bleu, weights (1/3, 1/3, 1/3), smoothing method1, averaged over the rows."""
    assert self_bleu(completions) == pytest.approx(expected, abs=1e-12)


@given(rows)
def test_both_lie_between_0_and_1_whatever_the_order(completions):
    for measure in (self_bleu, distinct):
        assert 0 <= measure(completions) <= 1 + 1e-12
        assert measure(completions[::-1]) == pytest.approx(measure(completions), abs=1e-12)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(2, 5))
def test_equal_completions_are_not_diverse_however_short(row, count):
    assert self_bleu([row] * count) == pytest.approx(1.0)
    assert distinct([row] * count) <= 1 / count + 1e-12


def test_completions_without_a_common_token_are_as_diverse_as_can_be():
    apart = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert self_bleu(apart) == 0.0
    assert distinct(apart) == 1.0
