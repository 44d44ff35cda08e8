"""Metrics of finding moments in videos: temporal grounding, and the highlights of QVHighlights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmrl.evaluation.metrics import metric
from mmrl.records import Sample
from rewards.parsing import answer_or_text
from rewards.parsing.times import highlights as written_highlights
from rewards.parsing.times import last_span
from rewards.temporal import temporal_iou

THRESHOLDS = (0.3, 0.5, 0.7)
CLIP = 2.0
"""Seconds of a clip of QVHighlights."""
VERY_GOOD = 4
"""Lowest of the scores 0 to 4 that makes a clip a highlight."""


@metric(needs=("target.span|target.spans",), source="Charades-STA, ActivityNet Captions; QVHighlights' moments")
def grounding(completion: str, sample: Sample) -> dict[str, float]:
    """`R1@0.3`, `R1@0.5`, `R1@0.7`: is the temporal IoU at least that; `mIoU`: the IoU. 0 without a span.

    Of several right spans (`target.spans`) the best counts, as in QVHighlights' evaluation. The span is read as `tiou`
    reads it in training; TimeZero's evaluation also reads spans outside the answer tag.
    """
    right = sample.target.get("spans") or [sample.target["span"]]
    span = last_span(answer_or_text(completion))
    best = 0.0 if span is None else max(temporal_iou(span, gold) for gold in right)
    return {**{f"R1@{limit}": float(best >= limit) for limit in THRESHOLDS}, "mIoU": best}


@metric(needs=("target.highlights", "meta.saliency_scores", "meta.duration"), source="QVHighlights, arXiv 2107.09609")
def highlights(completion: str, sample: Sample) -> dict[str, float]:
    """`HIT@1`: did any annotator find the most salient clip very good; `mAP`: mean average precision over annotators.

    As in the official evaluation of highlights (minimum Very Good): clips of 2 seconds, of which the completion gives
    some a saliency and the others have 0; of equally salient ones the first. Labels are `meta.saliency_scores` of
    `meta.relevant_clip_ids` as `mmrl data convert qvhighlights` keeps them. Without highlights in the text both are 0.
    """
    meta = sample.meta
    clips = int(float(meta["duration"]) / CLIP)
    labels = dict(zip(meta["relevant_clip_ids"], meta["saliency_scores"], strict=True))
    annotators = max(map(len, labels.values()))
    named = written_highlights(answer_or_text(completion))
    if named is None:
        return {"HIT@1": 0.0, "mAP": 0.0}
    saliency = [0.0] * clips
    for time, value in named.items():
        if 0 <= time < clips * CLIP:
            saliency[int(time / CLIP)] = value
    right = [[labels.get(clip, [0] * annotators)[a] >= VERY_GOOD for clip in range(clips)] for a in range(annotators)]
    first = saliency.index(max(saliency))
    return {
        "HIT@1": float(any(one[first] for one in right)),
        "mAP": sum(average_precision(one, saliency) for one in right) / annotators,
    }


def average_precision(right: Sequence[bool], score: Sequence[float]) -> float:
    """Mean, over the thresholds at which recall grows, of the best precision at that recall or above, in [0, 1].

    Equal scores are taken together, and count once. 0 if nothing is right, 1 if everything is: the official
    evaluation of QVHighlights.
    """
    if not any(right) or all(right):
        return float(any(right))
    taken = found = 0
    steps: list[tuple[float, bool]] = []  # (precision, does recall grow), from the highest threshold down
    for threshold in sorted(set(score), reverse=True):
        hits = [r for r, s in zip(right, score, strict=True) if s == threshold]
        taken, found = taken + len(hits), found + sum(hits)
        steps.append((found / taken, any(hits)))
    best, kept = -math.inf, []
    for precision, grows in reversed(steps):
        best = max(best, precision)
        if grows:
            kept.append(best)
    return sum(kept) / len(kept)
