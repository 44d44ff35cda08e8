"""Rewards for length and repetition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.records import Sample
from rewards.length import length_penalty

ANY = Sample("s", ())


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
