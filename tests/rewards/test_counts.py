"""Counts: the last number of an answer, right or by how far off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.records import Sample
from rewards.boxes import count
from rewards.parsing.quantities import last_number


def counted(number) -> Sample:
    return Sample("s", (), target={"count": number})


@pytest.mark.parametrize(
    ("completion", "exact", "relative"),
    [
        ("4", 1, 1),
        ("4.0", 1, 1),
        ("There are 9 shapes, 4 of them red.", 1, 1),
        ("<think>1, 2, 3, 4</think><answer>3</answer>", 0, 0.75),
        ("<think>4</think><answer>three</answer>", 0, 0),
        ("5", 0, 0.75),
        ("8", 0, 0),
        ("800", 0, 0),
        ("-4", 0, 0),
        ("1e300", 0, 0),
        ("1e999 nan inf", 0, 0),
        ("9" * 5000, 0, 0),
        ("", 0, 0),
    ],
)
def test_count(completion, exact, relative):
    assert count(completion, counted(4)).value == exact
    assert count(completion, counted(4), shape="relative").value == relative


def test_a_count_of_none():
    for shape in ("exact", "relative"):
        assert count("0", counted(0), shape=shape).value == 1
        assert count("1", counted(0), shape=shape).value == 0
    with pytest.raises(ValueError, match="shape is exact or relative"):
        count("0", counted(0), shape="log")


@given(st.integers(0, 50), st.integers(0, 200))
def test_a_count_is_worth_less_the_further_off_it_is(target, off):
    gold = counted(target)

    def worth(number):
        return count(str(number), gold, shape="relative").value

    assert worth(target + off) == pytest.approx(max(0, 1 - off / max(target, 1)))
    assert worth(target + off) >= worth(target + off + 1)
    assert count(str(target + off), gold).value == (off == 0)


@pytest.mark.parametrize(
    ("completion", "number"),
    [("There are 1,000 people", 1000), ("1,234,567", 1234567), (".5", 0.5), ("minus \u22125", -5), ("1, 2 and 3", 3),
     ("(100,200)", 200), ("10,00", 0)],
)  # fmt: skip
def test_the_last_number_of_a_sentence(completion, number):
    assert last_number(completion) == number
