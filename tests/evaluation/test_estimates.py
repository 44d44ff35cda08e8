"""Intervals and pass@k: laws, against slower forms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrl.evaluation import passes
from mmrl.evaluation.estimates import bootstrap, estimate, pass_at, per_prompt

NAN = math.nan


def test_the_interval_of_a_known_case():
    """100 coins of which half fall on 1: the standard error is 0.05."""
    found = estimate([0.0, 1.0] * 50, seed=0)
    assert found.mean == 0.5 and found.prompts == 100
    assert found.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)
    assert estimate([0.0, 1.0] * 50, seed=0) == found


def test_equal_values_have_no_spread_and_missing_ones_do_not_count():
    assert estimate([0.25, NAN, 0.25], seed=3) == (0.25, 0.25, 0.25, 2)
    nothing = estimate([NAN], seed=0)
    assert nothing.prompts == 0 and math.isnan(nothing.mean)


def test_many_prompts_are_resampled_in_parts(monkeypatch):
    values = torch.rand(50, generator=torch.Generator().manual_seed(0)).tolist()
    whole = bootstrap(values, seed=1)
    monkeypatch.setattr("mmrl.evaluation.estimates.TOGETHER", 300)
    assert bootstrap(values, seed=1) == whole


def test_the_mean_of_a_prompt_leaves_out_what_does_not_count():
    assert per_prompt(torch.tensor([1.0, 0.0, NAN, 1.0]), [2, 2]) == [0.5, 1.0]


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.integers(1, 7))
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(right, k):
    """By listing all draws of k completions."""
    values = torch.tensor([*map(float, right), NAN])
    (found,) = pass_at(k, values, [len(values)])
    if k > len(right):
        assert math.isnan(found)
        return
    draws = list(itertools.combinations(right, k))
    assert found == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_is_given_of_the_first_name_if_it_is_right_or_wrong():
    accuracy, error = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 1.0, 3.0])
    found = passes({"counting/accuracy": accuracy, "counting/error": error}, [4], seed=0)
    assert {name: list(counts) for name, counts in found.items()} == {"counting/accuracy": [2, 4]}
    assert found["counting/accuracy"][2].mean == 0.5
    assert found["counting/accuracy"][4].mean == 1
    assert passes({"error": error}, [4], seed=0) == passes({"a": accuracy}, [1] * 4, seed=0) == passes({}, [], seed=0)
    assert list(passes({"a": torch.tensor([1.0] * 6)}, [6], seed=0)["a"]) == [2, 4, 6]
