"""Rewards for numbers, lists of them and expressions, as charts and mathematics ask for.

The answer is the completion's last answer tag, else the whole text. What counts as a number in it is one rule for all,
`parsing.quantities.quantity`: the answer is a quantity and nothing else; `1,000` is 1000, `$` does not count, `3.4
million` is 3400000, `12%` is 0.12, and two different units make two different answers. Counts of objects: `boxes.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from mmrl.records import Sample
from rewards.parsing import answer_or_text, normalised
from rewards.parsing.quantities import Quantity, quantity
from rewards.parsing.words import items
from rewards.registry import Score, reward
from rewards.text import as_text, gold_text

Percent = Literal["share", "either"]

MOST_ITEMS = 256
"""Items of one completion that are matched (more, if the target has more); the rest count as extra."""

LONGEST_EXPRESSION = 500
"""Characters that math-verify reads, the last of the answer: its parser takes seconds for longer nested brackets."""

ROUNDING = 1e-9
"""Relative slack of every comparison, so that 1.05 is within 5 % of 1 in binary numbers too."""


@reward(range=(0, 1), needs=("answer",), source="ChartQA, arXiv 2203.10244; PlotQA, arXiv 1909.00997")
def relaxed_accuracy(completion: str, sample: Sample, *, tolerance: float = 0.05, percent: Percent = "share") -> Score:
    """1 if the answer p is a number with |p - t| <= tolerance * |t| for the number t in `target.answer`, else 0.

    If one of them is no number (`parsing.quantities.quantity`), or their units differ, 1 if the texts are equal up to
    case, blanks and a final full stop. A target of 0 asks for 0. As in the benchmark `12%` is 0.12 and not 12, and
    years are numbers: 2011 is within 5 % of 2010. `percent="either"`: when only one of the two has a percent sign, it
    may also stand for the number itself, so `12%` is 0.12 and 12. The benchmark's code reads no thousands separators.
    """
    _check(tolerance, percent)
    gold = gold_text(sample)
    target = _gold_quantity(gold)
    answer = answer_or_text(completion)
    found = quantity(answer)
    return Score(float(_agree(answer, found, gold, target, tolerance, percent)), **_read(answer, found, target))


@reward(range=(0, 1), needs=("answer",), source="BigCharts-R1 (CERM), arXiv 2508.09804")
def chart_value(completion: str, sample: Sample, *, signed: bool = False, percent: Percent = "share") -> Score:
    """1 / (1 + |p - t| / |t|) for the answer's number p and the target's t; for texts 1 if they are equal, else 0.

    A target of 0 asks for 0. An answer that is no finite number earns 0 where the target is one. The paper pays 1/3
    for the right number with the wrong sign; `signed` pays 0. Percentages, units and texts as in `relaxed_accuracy`;
    the paper's code reads no thousands separators and no answer with a line break.
    """
    _check(0.0, percent)
    gold = gold_text(sample)
    target = _gold_quantity(gold)
    answer = answer_or_text(completion)
    found = quantity(answer)
    pairs = _pairs(found, target, percent)
    if pairs:
        value = max(_closeness(p, t, signed=signed) for p, t in pairs)
    else:
        value = float(normalised(answer) == normalised(gold))
    return Score(value, **_read(answer, found, target))


@reward(range=(0, 1), needs=("answer",), source="mmrl")
def list_match(completion: str, sample: Sample, *, tolerance: float = 0.0, ordered: bool = False) -> Score:
    """F1 of the answer's list with `target.answer`: 2 * matched items / (items written + items in the target).

    Lists are written `[1, 2]`, `a, b` or a line each (`parsing.words.items`); the target may be a list. Items match
    as in `relaxed_accuracy` with this `tolerance`, each with at most one of the other list, in any order; `ordered`
    asks for the same place.
    """
    _check(tolerance, "share")
    golds = _gold_items(sample)
    written = items(answer_or_text(completion))
    targets = [(gold, _gold_quantity(gold)) for gold in golds]
    found = [(item, quantity(item)) for item in written[: max(MOST_ITEMS, len(golds))]]
    if ordered:
        matched = sum(_agree(*a, *b, tolerance, "share") for a, b in zip(found, targets, strict=False))
    else:
        matched = _most_pairs([[_agree(*a, *b, tolerance, "share") for b in targets] for a in found])
    return Score(2 * matched / (len(written) + len(golds)), parsed=written[:MOST_ITEMS] or None)


@reward(range=(0, 1), needs=("answer",), timeout=10, source="Math-Verify, github.com/huggingface/Math-Verify")
def math_answer(completion: str, sample: Sample) -> Score:
    r"""1 if math-verify finds the answer's expression equal to `target.answer`, else 0.

    TeX is read inside `$`, `\(`, `\[` and `\boxed{}`. An answer without them is one expression, or, if it has words, a
    sentence: then its number counts, and TeX in it is not read. Equal texts and equal quantities (`1e3` and `1,000`)
    need no proof. Only the last 500 characters of an answer are read. Simplifying may take forever (`9^{9^9}`), so
    calls run in a worker process; one that is killed is a failure of its row.
    """
    gold = gold_text(sample)
    answer = answer_or_text(completion)[-LONGEST_EXPRESSION:]
    found, target = quantity(answer), _gold_quantity(gold)
    if _agree(answer, found, gold, target, 0.0, "share"):
        return Score(1.0, parsed=answer)
    expressions = _expressions(answer)
    if not expressions:
        return Score(0.0, why="no expression in the answer")
    return Score(float(_equal(_expressions(gold), expressions)), parsed=answer)


def _check(tolerance: float, percent: str) -> None:
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance is a relative error, at least 0; found {tolerance}")
    if percent not in ("share", "either"):
        raise ValueError(f"percent is share or either; found {percent!r}")


def _gold_quantity(gold: str) -> Quantity | None:
    try:
        finite = math.isfinite(float(gold))
    except ValueError:
        finite = True  # a text, or a number with something around it
    if not finite:
        raise ValueError(f"target.answer is not a finite number; found {gold[:40]!r}")
    return quantity(gold)


def _gold_items(sample: Sample) -> list[str]:
    answer = sample.target["answer"]
    listed = answer if isinstance(answer, list | tuple) else items(gold_text(sample))
    if not listed:
        raise ValueError(f"target.answer is a list of texts or numbers; found {answer!r}")
    return [as_text(item, "an item of target.answer") for item in listed]


def _pairs(found: Quantity | None, target: Quantity | None, percent: Percent) -> list[tuple[float, float]]:
    """The pairs (answer, target) of numbers to compare, of which the best counts; none where texts are compared."""
    if found is None or target is None or not found.comparable(target):
        return []
    pairs = [(found.value, target.value)]
    if percent == "either" and found.percent != target.percent:
        pairs.append((found.written, target.written))
    return pairs


def _agree(
    answer: str, found: Quantity | None, gold: str, target: Quantity | None, tolerance: float, percent: Percent
) -> bool:
    pairs = _pairs(found, target, percent)
    if not pairs:
        return normalised(answer) == normalised(gold)
    return any(abs(p - t) <= (tolerance + ROUNDING) * abs(t) for p, t in pairs)


def _closeness(p: float, t: float, *, signed: bool) -> float:
    if t == 0:
        return float(p == 0)
    if signed and (p < 0 < t or t < 0 < p):
        return 0.0
    return 1 / (1 + abs(p / t - 1))


def _read(answer: str, found: Quantity | None, target: Quantity | None) -> dict[str, Any]:
    """What the viewer shows."""
    why = ""
    if target is not None and found is None:
        why = "no number alone in the answer"
    elif target is not None and found is not None and not found.comparable(target):
        why = f"in {found.unit}, the target in {target.unit}"
    return {"parsed": answer if found is None else found.value, "why": why}


def _most_pairs(agree: Sequence[Sequence[bool]]) -> int:
    """Most pairs of a row and a column that agree, every row and column in one pair at most."""
    if not agree:
        return 0
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    worth = np.array(agree, dtype=float)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return int(worth[rows, columns].sum())


_TEX = re.compile(r"\$|\\[(\[]|\\boxed\b")
_TEX_TEXT = re.compile(r"\\(?:text|mathrm|operatorname)\s?\{[^{}]*\}")
_WORD = re.compile(r"(?<![\\A-Za-z])(?:[A-Za-z]{3,}|is|or|no|so|we|to|of|in|it|at|be|by)(?![A-Za-z])")
_FUNCTION = re.compile(r"(?<![\\A-Za-z])(sin|cos|tan|cot|sec|csc|log|exp)(?![A-Za-z])")
_ROOT = re.compile(r"√\s?([0-9A-Za-z]+)|(?<![\\A-Za-z])sqrt ?\(([^()]*)\)")


def _expressions(text: str) -> list[Any]:
    """What math-verify reads in the text, as SymPy objects; empty for none."""
    from math_verify import parse, parser

    parser.TIMEOUT_WARNING_SHOWN = True  # of its own limits, by signals, which only work in a main thread
    text = _FUNCTION.sub(r"\\\1", _ROOT.sub(r"\\sqrt{\1\2}", text))
    if not _TEX.search(text):
        if not _WORD.search(_TEX_TEXT.sub("", text)):
            text = f"${text}$"
        elif "\\" in text:
            return []  # TeX in a sentence, where math-verify would read the numbers in it only
    try:
        return list(parse(text, fallback_mode="no_fallback", parsing_timeout=None))
    except Exception:
        return []


def _equal(gold: list[Any], answer: list[Any]) -> bool:
    from math_verify import grader, verify

    grader.TIMEOUT_WARNING_SHOWN = True
    try:
        return bool(verify(gold, answer, timeout_seconds=None))
    except Exception:
        return False
