"""Rewards that compare a short answer with the gold text."""

from __future__ import annotations

import pytest

from mmrl.records import Sample
from rewards.text import exact_match


def asking(answer) -> Sample:
    return Sample("s", (), target={"answer": answer})


@pytest.mark.parametrize(
    ("completion", "answer", "value"),
    [
        ("New  york.", "new York", 1),
        ("<think>Rome?</think><answer>Paris</answer>", "Paris", 1),
        ("Paris, France", "Paris", 0),
        ("7", 7, 1),
        ("7.5", 7.5, 1),
        ("", "x", 0),
    ],
)
def test_exact_match(completion, answer, value):
    assert exact_match(completion, asking(answer)).value == value


def test_a_gold_that_cannot_match_is_an_error_not_a_zero():
    with pytest.raises(TypeError, match=r"target\.answer"):
        exact_match("x", asking(["x"]))
