"""Rewards for multiple choice: one right option, or several."""

from __future__ import annotations

from mmrl.records import Sample
from rewards import parsing
from rewards.parsing.choices import option_letters
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


@reward(range=(0, 1), source="TW-GRPO, arXiv 2505.24718")
def soft_choices(completion: str, sample: Sample, *, partial: bool = True) -> Score:
    """|chosen| / |right| if every option the completion chooses (`parsing.option_letters`) is right, else 0.

    The right ones are `target.choices`, a list of letters, or `target.answer`, such as `A,C`. One wrong letter costs
    everything; no letter is worth 0. `partial=False` pays 1 for exactly the right set only. The original compares the
    texts between commas, so that `A.` and `A and C` are wrong there.
    """
    right = _right(sample)
    chosen = set(option_letters(completion))
    if not chosen:
        return Score(0.0, why="no clear choice of letters")
    wrong = sorted(chosen - right)
    value = 0.0 if wrong else len(chosen) / len(right)
    if not partial:
        value = float(value == 1)
    return Score(value, parsed=sorted(chosen), why=f"not right: {', '.join(wrong)}" if wrong else "")


def _right(sample: Sample) -> set[str]:
    choices = sample.target.get("choices")
    if choices is not None:
        letters = [str(letter).strip() for letter in choices] if isinstance(choices, list | tuple) else []
        if not letters or not all(len(letter) == 1 and "A" <= letter <= "Z" for letter in letters):
            raise ValueError(f"target.choices is a list of option letters, A to Z; found {choices!r}")
        return set(letters)
    answer = sample.target.get("answer")
    letters = option_letters(answer) if isinstance(answer, str) else []
    if not letters:
        raise ValueError(f"target.answer is option letters such as 'A,C', or target.choices a list; found {answer!r}")
    return set(letters)
