"""Rewards for multiple choice."""

from __future__ import annotations

from mmrl.records import Sample
from rewards import parsing
from rewards.registry import Score, reward


@reward(range=(0, 1), needs=("answer",), source="mmrl")
def letter_choice(completion: str, sample: Sample) -> Score:
    """1 if the option letter that the completion chooses (`parsing.option_letter`) is `target.answer`, else 0."""
    gold = str(sample.target["answer"]).strip()
    if not (len(gold) == 1 and "A" <= gold <= "Z"):
        raise ValueError(f"target.answer is an option's letter, A to Z; found {gold!r}")
    letter = parsing.option_letter(completion)
    if letter is None:
        return Score(0.0, why="no clear choice of a letter")
    return Score(float(letter == gold), parsed=letter)
