"""Rewards for the form of a completion."""

from __future__ import annotations

import pytest

from mmrl.records import Sample
from rewards.form import point_format, think_format

ANY = Sample("s", ())


# The first six are the vector `mmr1_format`; the sixth earns 1 in the reference code, by accident.
@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("<think>a</think><answer>b</answer>", 1),
        ("<think>a</think>\n<answer>b</answer>\n", 1),
        ("<think>a</think> x <answer>b</answer> tail", 0),
        ("a<think>a</think><answer>b</answer>", 0),
        ("<think>a<answer>b</answer>", 0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0),
        ("<think>a</think><think>a</think><answer>b</answer>", 0),
        ("<think><answer>b</answer></think>", 0),
        ("<answer>b</answer><think>a</think>", 0),
        ("<think>a</think>", 0),
        ("", 0),
    ],
)
def test_think_format(completion, value):
    assert think_format(completion, ANY) == value


@pytest.mark.parametrize(
    ("completion", "value"),
    [("(1, 2)", 1), (" (1.5,-2)\n", 1), ("(1, 2).", 0), ("[1, 2]", 0), ("(1, 2) (1, 2)", 0), ("(1, 2, 3)", 0), ("", 0)],
)
def test_point_format(completion, value):
    assert point_format(completion, ANY) == value
