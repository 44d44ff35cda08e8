"""Rewards that read only the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.records import Sample
from rewards.text import exact_match, length_penalty, letter_choice, point_format, think_format

ANY = Sample("s", ())


def asking(answer) -> Sample:
    return Sample("s", (), target={"answer": answer})


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


def test_letter_choice():
    assert letter_choice("<answer>B</answer>", asking("B")).value == 1
    assert letter_choice("(C)", asking("B")).value == 0
    assert letter_choice("(C)", asking("B")).parsed == "C"
    assert letter_choice("a red car", asking("A")).value == 0
    assert letter_choice("A red car", asking("A")).value == 0
    with pytest.raises(ValueError, match="letter"):
        letter_choice("B", asking("blue"))


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


# The vector `reward_dapo_soft_overlong`: L_max 20480, L_c 4096.
@pytest.mark.parametrize(
    ("length", "value"), [(16384, 0), (17000, -0.150390625), (18432, -0.5), (20480, -1), (30000, -1)]
)
def test_length_penalty(length, value):
    assert length_penalty("x" * length, ANY, limit=20480, buffer=4096) == value
    assert length_penalty("x " * length, ANY, limit=20480, buffer=4096, unit="words") == value


def test_without_a_buffer_the_penalty_is_a_step():
    assert length_penalty("xx", ANY, limit=2, buffer=0) == 0
    assert length_penalty("xxx", ANY, limit=2, buffer=0) == -1
    with pytest.raises(ValueError, match="buffer"):
        length_penalty("x", ANY, limit=2, buffer=3)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 120))
def test_the_penalty_never_rises_with_length(buffer, rest, length):
    shorter, longer = (length_penalty("x" * n, ANY, limit=buffer + rest, buffer=buffer) for n in (length, length + 1))
    assert -1 <= longer <= shorter <= 0
