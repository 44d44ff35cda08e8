"""Rewards that compare a short answer with the gold text."""

from __future__ import annotations

from mmrl.records import Sample
from rewards import parsing
from rewards.registry import Score, reward


@reward(range=(0, 1), needs=("answer",), source="mmrl")
def exact_match(completion: str, sample: Sample) -> Score:
    """1 if the answer (the last answer tag, else the whole text) is `target.answer`, else 0.

    Both are normalised: case, blanks and a final full stop do not count (`parsing.normalised`).
    """
    gold = sample.target["answer"]
    if not isinstance(gold, str | int | float):
        raise TypeError(f"target.answer is a text or a number; found {gold!r}")
    answer = parsing.normalised(parsing.answer_or_text(completion))
    return Score(float(answer == parsing.normalised(str(gold))), parsed=answer)
