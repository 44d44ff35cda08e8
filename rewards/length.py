"""Rewards for length and repetition. Most pay for the length of right answers, so they follow the reward that says
which are right: `of` names it (its `as`, or its name), and it stands earlier in the list.

A row is right when the score of every reward in `of` is at least `correct_at`; a row without such a score (the
reward does not apply, or failed) gets None. Lengths are tokens, the end-of-turn included, unless `unit` says otherwise.
"""

from __future__ import annotations

import math
from typing import Literal

from mmrl.records import Rollouts, Sample
from rewards.registry import Score, reward

Unit = Literal["tokens", "characters", "words"]
Values = list[float | None]


@reward(range=(-1, 0), scope="group", reads="rollouts", source="DAPO, arXiv 2503.14476")
def length_penalty(rows: Rollouts, *, limit: int, buffer: int, unit: Unit = "tokens") -> list[float]:
    """0 up to length `limit - buffer`, falling linearly to -1 at `limit`, -1 beyond: DAPO's soft overlong punishment.

    In between (limit - buffer - length) / buffer (Eq. 13); 0 <= buffer <= limit.
    """
    if not 0 <= buffer <= limit:
        raise ValueError(f"0 <= buffer <= limit does not hold: buffer {buffer}, limit {limit}")

    def penalty(length: int) -> float:
        excess = length - (limit - buffer)
        if excess <= 0:
            return 0.0
        return -1.0 if excess >= buffer else -excess / buffer

    return [penalty(length) for length in _lengths(rows, unit)]


@reward(range=(-1, 1), scope="group", reads="rollouts", source="Demystifying Long CoT, arXiv 2502.03373; open-rs; MMR1")
def cosine_length(
    rows: Rollouts,
    *,
    max_length: float,
    of: str | list[str],
    correct_at: float = 1.0,
    correct: tuple[float, float] = (0.5, 1.0),
    wrong: tuple[float, float] = (-1.0, -0.5),
    unit: Unit = "tokens",
) -> Values:
    """Half a cosine over length / max_length: right answers fall from 1 to 0.5, wrong ones rise from -1 to -0.5.

    end + (start - end) / 2 * (1 + cos(pi * min(1, length / max_length))); `correct` and `wrong` are (lowest, highest),
    inside [-1, 1]. open-rs (arXiv 2503.16219) and MMR1 (arXiv 2509.21268) count characters (`unit`), and without the
    min() a text of twice the maximum earns there what an empty one does.
    """
    if max_length <= 0:
        raise ValueError(f"max_length is positive; found {max_length}")
    for name, (low, high) in (("correct", correct), ("wrong", wrong)):
        if not -1 <= low <= high <= 1:
            raise ValueError(f"{name} is (lowest, highest) inside [-1, 1]; found {(low, high)}")

    def value(length: int, right: bool) -> float:
        end, start = correct if right else reversed(wrong)
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, length / max_length)))
        return start * share + end * (1 - share)

    return [
        None if right is None else value(length, right)
        for length, right in zip(_lengths(rows, unit), _right(rows, of, correct_at), strict=True)
    ]


@reward(range=(0, 1), scope="group", reads="rollouts", source="Train Long, Think Short, arXiv 2508.08940")
def length_budget(rows: Rollouts, *, budget: float, unit: Unit = "tokens") -> list[float]:
    """max(0, 1 - |length - budget| / budget): 1 at the budget, 0 for nothing and from twice the budget on.

    A curriculum lowers the budget over the run: `budget: {schedule: exponential, start: 256, end: 88}`. The paper
    lowers it in steps (start * 0.7 every 100) and counts the thought alone; a budget under 1 counts as 1.
    """
    if not 0 < budget < math.inf:
        raise ValueError(f"budget is a positive number; found {budget}")
    budget = max(1.0, budget)
    return [max(0.0, 1 - abs(length - budget) / budget) for length in _lengths(rows, unit)]


@reward(range=(-0.5, 0.5), scope="group", reads="rollouts", source="Kimi k1.5, arXiv 2501.12599")
def shorter_in_group(rows: Rollouts, *, of: str | list[str], correct_at: float = 1.0, unit: Unit = "tokens") -> Values:
    """0.5 - (length - shortest) / (longest - shortest) of the group; for wrong answers min(0, that).

    0 for all where all are equally long. Shortest and longest are those of all rows that are known right or wrong.
    """
    lengths, right = _lengths(rows, unit), _right(rows, of, correct_at)
    known = [length for length, is_right in zip(lengths, right, strict=True) if is_right is not None]
    if not known:
        return [None] * len(right)
    shortest, longest = min(known), max(known)
    if shortest == longest:
        return [None if is_right is None else 0.0 for is_right in right]
    shares = [0.5 - (length - shortest) / (longest - shortest) for length in lengths]
    return [
        None if is_right is None else share if is_right else min(0.0, share)
        for share, is_right in zip(shares, right, strict=True)
    ]


@reward(range=(-1, 1), scope="group", reads="rollouts", source="UI-R1-E, arXiv 2503.21620; DAST, arXiv 2503.04472")
def dast(
    rows: Rollouts,
    *,
    of: str | list[str],
    correct_at: float = 1.0,
    max_length: int | Literal["group"] = "group",
) -> Values:
    """Relative to a budget between the mean right length and the maximum: right answers earn more if shorter.

    p = share of right rows, budget = p * mean length of the right + (1 - p) * max_length, x = (length - budget) /
    budget; right: max(0.5 - 0.5 x, 0.1), wrong: min(0.9 x - 0.1, -0.1), so a wrong answer loses less if longer. This
    is the term that UI-R1-E adds to a reward. `max_length`: the longest of the group as in the code, or the number of
    tokens generated at most as in the paper. The code gives all rows of a device the length of their longest.
    """
    if max_length != "group" and max_length < 1:
        raise ValueError(f"max_length is 'group' or a positive number of tokens; found {max_length}")
    lengths, right = _lengths(rows, "tokens"), _right(rows, of, correct_at)
    known = [(length, is_right) for length, is_right in zip(lengths, right, strict=True) if is_right is not None]
    if not known:
        return [None] * len(right)
    right_lengths = [length for length, is_right in known if is_right]
    longest = max(length for length, _ in known) if max_length == "group" else max_length
    budget = (sum(right_lengths) + (len(known) - len(right_lengths)) * longest) / len(known)

    def value(length: int, is_right: bool) -> float:
        excess = (length - budget) / budget if budget > 0 else 0.0
        return max(0.5 - 0.5 * excess, 0.1) if is_right else min(0.9 * excess - 0.1, -0.1)

    return [
        None if is_right is None else value(length, is_right) for length, is_right in zip(lengths, right, strict=True)
    ]


@reward(range=(-1, 0), source="Demystifying Long CoT, arXiv 2502.03373; MMR1")
def repetition(completion: str, sample: Sample, *, n: int = 40, scale: float = 0.5) -> Score:
    """-scale * (1 - different / all word n-grams), lower-cased; 0 for fewer than n words.

    MMR1 takes n = 40 and scale 0.5 (the defaults), open-rs n = 3 and scale 1. `scale` is in [0, 1].
    """
    if n < 1 or not 0 <= scale <= 1:
        raise ValueError(f"n is at least 1 and scale in [0, 1]; found n {n}, scale {scale}")
    grams = _ngrams(completion.lower().split(), n)
    repeated = len(grams) - len(set(grams))
    if not repeated:
        return Score(0.0)
    return Score(-scale * repeated / len(grams), why=f"{repeated} of {len(grams)} {n}-grams are repetitions")


@reward(range=(-1, 0), source="AutoVLA, arXiv 2506.13757")
def slow_thinking(
    completion: str, sample: Sample, *, phrase: str = "complex scenario", centre: float = 400, slope: float = 0.002
) -> float:
    """-sigmoid(slope * (characters - centre)) where the completion contains `phrase`, else 0.

    AutoVLA's price of choosing to think, to be weighted 0.3: -0.31 for an empty thought, -0.5 at `centre`.
    """
    if phrase not in completion:
        return 0.0
    return -0.5 * (1 + math.tanh(0.5 * slope * (len(completion) - centre)))  # a sigmoid that cannot overflow


def _lengths(rows: Rollouts, unit: Unit) -> list[int]:
    if unit == "tokens":
        lengths: list[int] = rows.length.tolist()
        return lengths
    return [len(text.split()) if unit == "words" else len(text) for text in rows.text]


def _right(rows: Rollouts, of: str | list[str], correct_at: float) -> list[bool | None]:
    """Per row whether every score in `of` is at least `correct_at`; None where one is missing."""
    names = [of] if isinstance(of, str) else of
    if not names:
        raise ValueError("of names the reward that says which rows are right; found an empty list")
    for name in names:
        if name not in rows.scores:
            known = ", ".join(rows.scores) or "none"
            raise ValueError(
                f"of: there is no score {name!r} yet. It is the name of a reward that stands earlier in the list; "
                f"earlier ones: {known}"
            )
    # Compared as tensors, so that 0.7 counts as the 0.7 that a float32 holds.
    reached = zip(*((rows.scores[name] >= correct_at).tolist() for name in names), strict=True)
    missing = zip(*(rows.scores[name].isnan().tolist() for name in names), strict=True)
    return [None if any(absent) else all(all_reached) for all_reached, absent in zip(reached, missing, strict=True)]


def _ngrams(words: list[str], n: int) -> list[int]:
    """One number per n-gram, equal for equal n-grams, in O(words * log n).

    An n-gram is numbered as the pair of the two shorter, overlapping ones that make it up.
    """
    numbers: list[int] = _numbered(words)
    size = 1
    while size < n:
        step = min(size, n - size)
        numbers = _numbered(list(zip(numbers, numbers[step:], strict=False)))
        size += step
    return numbers


def _numbered(values: list[str] | list[tuple[int, int]]) -> list[int]:
    known: dict[str | tuple[int, int], int] = {}
    return [known.setdefault(value, len(known)) for value in values]
