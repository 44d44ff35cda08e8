"""Rewards that only read the text: its form, its answer, its length."""

from __future__ import annotations

from typing import Literal

from mmrl.records import Sample
from rewards import parsing
from rewards.registry import Score, reward


@reward(range=(0, 1))
def think_format(completion: str, sample: Sample) -> float:
    """1 if the completion is one `<think>...</think>`, then one `<answer>...</answer>`, and nothing else, else 0.

    Stricter than the usual regular expression, which lets a second answer block through (MMR1, EasyR1).
    """
    return float(parsing.think_answer(completion) is not None)


@reward(range=(0, 1))
def point_format(completion: str, sample: Sample) -> float:
    """1 if the completion is one point `(x, y)` and nothing else, else 0."""
    return float(parsing.is_point(completion))


@reward(range=(0, 1), needs=("answer",))
def letter_choice(completion: str, sample: Sample) -> Score:
    """1 if the option letter that the completion chooses (`parsing.option_letter`) is `target.answer`, else 0."""
    gold = str(sample.target["answer"]).strip()
    if not (len(gold) == 1 and "A" <= gold <= "Z"):
        raise ValueError(f"target.answer is an option's letter, A to Z; found {gold!r}")
    letter = parsing.option_letter(completion)
    if letter is None:
        return Score(0.0, why="no clear choice of a letter")
    return Score(float(letter == gold), parsed=letter)


@reward(range=(0, 1), needs=("answer",))
def exact_match(completion: str, sample: Sample) -> Score:
    """1 if the answer (the last answer tag, else the whole text) is `target.answer`, else 0.

    Both are normalised: case, blanks and a final full stop do not count (`parsing.normalised`).
    """
    gold = sample.target["answer"]
    if not isinstance(gold, str | int | float):
        raise TypeError(f"target.answer is a text or a number; found {gold!r}")
    answer = parsing.normalised(parsing.answer_or_text(completion))
    return Score(float(answer == parsing.normalised(str(gold))), parsed=answer)


@reward(range=(-1, 0))
def length_penalty(
    completion: str,
    sample: Sample,
    *,
    limit: int,
    buffer: int,
    unit: Literal["characters", "words"] = "characters",
) -> float:
    """DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13) on the length n of the text, in [-1, 0].

    0 if n <= limit - buffer; (limit - buffer - n) / buffer up to the limit; -1 beyond. The paper counts tokens, which
    a text reward does not see. 0 <= buffer <= limit.
    """
    if not 0 <= buffer <= limit:
        raise ValueError(f"0 <= buffer <= limit does not hold: buffer {buffer}, limit {limit}")
    length = len(completion.split()) if unit == "words" else len(completion)
    excess = length - (limit - buffer)
    if excess <= 0:
        return 0.0
    return -1.0 if excess >= buffer else -excess / buffer
