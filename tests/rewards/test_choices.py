"""Rewards for multiple choice."""

from __future__ import annotations

import pytest

from mmrl.records import Sample
from rewards.choices import letter_choice


def asking(answer) -> Sample:
    return Sample("s", (), target={"answer": answer})


def test_letter_choice():
    assert letter_choice("<answer>B</answer>", asking("B")).value == 1
    assert letter_choice("(C)", asking("B")).value == 0
    assert letter_choice("(C)", asking("B")).parsed == "C"
    assert letter_choice("a red car", asking("A")).value == 0
    assert letter_choice("A red car", asking("A")).value == 0
    with pytest.raises(ValueError, match="letter"):
        letter_choice("B", asking("blue"))
