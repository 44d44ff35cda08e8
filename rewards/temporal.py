"""Rewards for finding moments of a video: `target.span` is start and end in seconds, `target.spans` a list of those.

When a completion has an answer tag only the answer counts, and of several spans the last: reasoning names candidates
before it concludes. What is read as a span: `parsing/times.py`.

A dual reward, discrete for questions and continuous for grounding (Temporal-R1 / Temporal-RLT, arXiv 2506.01908), is
not one reward but rewards routed by the task of a row (`meta.task`):

    rewards:
      - {name: tiou, task: grounding}
      - {name: letter_choice, task: question}    # soft_choices where several letters are right
      - {name: grounded_answer, task: grounded_question}
      - {name: think_format, task: [grounding, question]}
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from mmrl.records import Sample
from rewards.parsing import answer_or_text, last_answer, normalised, option_letter
from rewards.parsing.tags import last_tag, only_tags
from rewards.parsing.times import LATEST, Span, highlights, json_span, last_span, span_list, spans
from rewards.parts import score_of
from rewards.registry import Score, reward

_QUOTED_TIMES = re.compile(r'\{\s*"start_time"\s*:\s*"[0-9.]+"\s*,\s*"end_time"\s*:\s*"[0-9.]+"\s*\}')


@reward(range=(0, 1), needs=("span",), source="TimeZero, TempSamp-R1, arXiv 2509.18056")
def tiou(completion: str, sample: Sample) -> Score:
    """Intersection over union, in time, of the completion's span with the target; 0 for a missing or reversed span.

    Seconds against seconds; shares of the video's length (Temporal-R1) give the same value. TimeZero's parser wants
    `A to B` or `A and B` with single blanks in an answer tag; this one reads what `parsing.times.last_span` does.
    """
    target = _target_span(sample)
    span = last_span(answer_or_text(completion))
    return _tiou_score(span, target)


@reward(range=(0, 1), needs=("span",), source="Charades-STA's recalls, arXiv 1705.02101")
def temporal_recall(completion: str, sample: Sample, *, thresholds: tuple[float, ...] = (0.3, 0.5, 0.7)) -> Score:
    """Share of the thresholds that the completion's temporal IoU (`tiou`) reaches.

    With one threshold this is R1@threshold. Thresholds are in (0, 1].
    """
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise ValueError(f"thresholds are temporal IoUs in (0, 1], at least one; found {thresholds}")
    score = tiou(completion, sample)
    reached = sum(score.value >= threshold for threshold in thresholds)
    return Score(reached / len(thresholds), parsed=score.parsed, why=score.why or f"temporal IoU {score.value:.4g}")


@reward(range=(0, 1), needs=("spans",), source="NExT-GQA, VideoChat-R1, arXiv 2504.06958")
def interval_iou(completion: str, sample: Sample) -> Score:
    """Intersection over union, in time, of all spans the completion names with all of `target.spans`.

    Overlapping spans count once, reversed ones not at all. Where `target.spans` is empty, 1 for an answer that is
    empty too (`[]` or `none`), else 0.
    """
    target = _target_spans(sample)
    answer = answer_or_text(completion)
    written = spans(answer)
    if not written and normalised(answer) not in ("[]", "none"):
        return Score(0.0, why="no span in the completion")
    return Score(union_iou(written, target), parsed={"spans": [list(span) for span in written]})


@reward(range=(0, 1), needs=("highlights",), source="TempSamp-R1, arXiv 2509.18056")
def highlight(completion: str, sample: Sample) -> Score:
    """0.6 * F2 + 0.4 / (1 + WMSE) of the completion's highlight timestamps and saliencies; 0 if it names none.

    F2 = 5 P R / (4 P + R), P and R being precision and recall of the timestamps, which match when equal. WMSE is the
    mean over the target's timestamps of (saliency - target)^2, weighted with target^2; a timestamp not named has
    saliency 0. `target.highlights` is a list of [time, saliency]; QVHighlights has one every 2 seconds. The matching,
    the missing saliencies and the normalisation are this project's reading: the paper states only the formula.
    Completions are read by `parsing.times.highlights`.
    """
    target = _target_highlights(sample)
    written = highlights(answer_or_text(completion))
    if written is None:
        return Score(0.0, why="no highlights in the completion")
    matched = len(written.keys() & target.keys())
    precision, recall = matched / len(written), matched / len(target)
    f2 = 5 * precision * recall / (4 * precision + recall) if matched else 0.0
    errors = {time: min(abs(written.get(time, 0.0) - saliency), LATEST) for time, saliency in target.items()}
    weights = sum(saliency**2 for saliency in target.values())
    wmse = sum(errors[time] ** 2 * saliency**2 for time, saliency in target.items()) / weights
    return Score(
        0.6 * f2 + 0.4 / (1 + wmse),
        parsed={"highlights": [list(pair) for pair in written.items()]},
        why=f"F2 {f2:.4g}, WMSE {wmse:.4g}",
    )


@reward(range=(0, 1), needs=("span",), source="Temporal-R1, arXiv 2506.01908")
def temporal_json(completion: str, sample: Sample) -> Score:
    """0.5 * temporal IoU + 0.5 * format, for answers in JSON: `{"start_time": "12.3", "end_time": "17.8"}`.

    Format is 1 if the completion is one think tag, then one answer tag with that object, the keys in this order and
    the times quoted, and nothing else. Numbers without quotes, swapped keys, or a missing thought still earn their
    temporal IoU; an answer that is not this object alone, or has no tag, earns none. The original counts the first
    answer tag, this one the last. The dual reward with question answering is a recipe: see this module's top.
    """
    target = _target_span(sample)
    answer = last_answer(completion)
    score = _tiou_score(json_span(answer) if answer else None, target)
    tags = only_tags(completion, "think", "answer")
    form = float(tags is not None and _QUOTED_TIMES.fullmatch(tags[1]) is not None)
    value = 0.5 * score.value + 0.5 * form
    return Score(value, parsed=score.parsed, why=score.why or f"temporal IoU {score.value:.4g}, format {form:g}")


@reward(range=(0, 3), needs=("answer", "spans"), source="NExT-GQA in VideoChat-R1, arXiv 2504.06958")
def grounded_answer(
    completion: str, sample: Sample, *, part: Literal["sum", "answer", "iou", "format"] = "sum"
) -> Score:
    """Answer + interval IoU + format of `<think>..</think><answer>C</answer><glue>[(5.2, 10.4)]</glue>`, each 0 to 1.

    `answer` is 1 if the option chosen (`parsing.option_letter`) is `target.answer`. `iou` compares the last glue tag
    with `target.spans`; the glue is a list of pairs in parentheses, start <= end, or it is worth 0. `format` is 1 for
    the three tags in this order and nothing else, the glue such a list. To weigh the parts, list the reward once for
    each: `{name: grounded_answer, part: iou, as: gqa_iou, weight: 2}`.
    """
    gold = option_letter(str(sample.target["answer"]))
    if gold is None:
        raise ValueError(f"target.answer is an option's letter, A to Z; found {sample.target['answer']!r}")
    target = _target_spans(sample)
    letter = option_letter(completion)
    glue = last_tag(completion, "glue")
    written = None if glue is None else span_list(glue)
    parts = {
        "answer": float(letter == gold),
        "iou": 0.0 if written is None else union_iou(written, target),
        "format": float(written is not None and only_tags(completion, "think", "answer", "glue") is not None),
    }
    return score_of(part, parts, parsed={"answer": letter, "spans": written and [list(span) for span in written]})


def temporal_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two spans, in [0, 1]; 0 if either is empty or reversed."""
    intersection = min(a[1], b[1]) - max(a[0], b[0])
    if intersection <= 0:
        return 0.0
    return intersection / (max(a[1], b[1]) - min(a[0], b[0]))


def union_iou(a: Sequence[Span], b: Sequence[Span]) -> float:
    """Intersection over union of the unions of two lists of spans, in [0, 1]; 1 if both lists are empty.

    Empty and reversed spans cover nothing. Takes O(n log n) time.
    """
    if not a and not b:
        return 1.0
    left, right = _merged(a), _merged(b)
    shared: list[Span] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            shared.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    intersection = _length(shared)
    union = _length(left) + _length(right) - intersection
    return min(1.0, intersection / union) if shared else 0.0  # many short pieces can round to more than their whole


def _merged(found: Sequence[Span]) -> list[Span]:
    """The same times as spans that neither overlap nor touch, in order."""
    merged: list[Span] = []
    for start, end in sorted(span for span in found if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _length(separate: Sequence[Span]) -> float:
    return math.fsum(end - start for start, end in separate)


def _tiou_score(span: Span | None, target: Span) -> Score:
    if span is None:
        return Score(0.0, why="no span in the completion")
    why = "" if span[0] < span[1] else "start < end does not hold"
    return Score(temporal_iou(span, target), parsed={"span": list(span)}, why=why)


def _target_span(sample: Sample) -> Span:
    return _gold_span(sample.target["span"], "target.span")


def _target_spans(sample: Sample) -> list[Span]:
    found = sample.target["spans"]
    if not isinstance(found, list | tuple):
        raise TypeError(f"target.spans is a list of [start, end]; found {found!r}")
    return [_gold_span(span, f"target.spans[{index}]") for index, span in enumerate(found)]


def _gold_span(found: Any, where: str) -> Span:
    start, end = _gold_pair(found, where, "start and end in seconds")
    if not start < end:
        raise ValueError(f"{where} is start and end in seconds, start < end; found {found!r}")
    return start, end


def _target_highlights(sample: Sample) -> dict[float, float]:
    found = sample.target["highlights"]
    what = "time in seconds and saliency"
    if not isinstance(found, list | tuple):
        raise TypeError(f"target.highlights is a list of [time, saliency]; found {found!r}")
    target = dict(_gold_pair(pair, f"target.highlights[{index}]", what) for index, pair in enumerate(found))
    if not sum(saliency**2 for saliency in target.values()) > 0:
        raise ValueError(f"target.highlights has no saliency other than 0; found {found!r}")
    return target


def _gold_pair(found: Any, where: str, what: str) -> tuple[float, float]:
    """Two finite numbers, or an error that says what they should have been."""
    try:
        first, second = map(float, found)
    except (TypeError, ValueError):
        raise ValueError(f"{where} is {what}; found {found!r}") from None
    if not (abs(first) <= LATEST and abs(second) <= LATEST):
        raise ValueError(f"{where} is {what}; found {found!r}")
    return first, second
