"""Grounding and highlights, against hand-made cases and a plain form of the official average precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from mmrl.evaluation.moments import average_precision, grounding, highlights
from mmrl.records import Sample


def sample(target, **meta):
    return Sample("s", ({"role": "user", "content": "?"},), target=target, meta=meta)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<answer>2.00 to 6.00</answer>", (1, 1, 1, 1)),
        ("<answer>2 to 12</answer>", (1, 0, 0, 0.4)),
        ("<think>2 to 6</think><answer>4 to 8</answer>", (1, 0, 0, 1 / 3)),
        ("<answer>6 to 2</answer>", (0, 0, 0, 0)),
        ("I do not know", (0, 0, 0, 0)),
    ],
)
def test_grounding(text, expected):
    found = grounding(text, sample({"span": [2.0, 6.0]}))
    assert list(found) == ["R1@0.3", "R1@0.5", "R1@0.7", "mIoU"]
    assert tuple(found.values()) == pytest.approx(expected)


def test_of_several_right_moments_the_best_counts():
    assert grounding("10 to 20", sample({"spans": [[0, 5], [10, 20]]}))["mIoU"] == 1


def official(right, score):
    """The reference evaluation, in its own terms: interpolated precision at each change of recall."""
    if len(set(right)) == 1:
        return float(right[0])
    precision, recall, _ = precision_recall_curve(right, score)
    precision = np.maximum.accumulate(precision)
    return precision[np.where(np.diff(recall.astype(np.float32)))].mean()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
def test_average_precision_is_the_official_one(clips):
    right, score = [r for r, _ in clips], [float(s) for _, s in clips]
    assert average_precision(right, score) == pytest.approx(official(right, score))


VIDEO = {"duration": 10, "relevant_clip_ids": [1, 2], "saliency_scores": [[4, 3, 0], [4, 4, 2]]}


@pytest.mark.parametrize(
    ("times", "saliencies", "hit", "average"),
    [
        ("2, 4", "4, 5", 1, 2 / 3),  # annotators: {1, 2}, {2}, none; none earns 0
        ("2, 4", "5, 4", 1, (1 + 1 / 2 + 0) / 3),
        ("6", "5", 0, (2 / 5 + 1 / 5 + 0) / 3),  # ties of all other clips
        ("4, 40", "2, 5", 1, (1 + 2 / 5) / 2 / 3 + 1 / 3),  # 40 s is beyond the video
    ],
)
def test_highlights(times, saliencies, hit, average):
    text = f"The highlight timestamps are in the {times} seconds. Their saliency scores are {saliencies}."
    found = highlights(text, sample({"highlights": [[2.0, 3.3], [4.0, 4.3]]}, **VIDEO))
    assert found["HIT@1"] == hit
    assert found["mAP"] == pytest.approx(average)


def test_a_text_without_highlights_is_worth_nothing():
    assert highlights("the video is nice", sample({}, **VIDEO)) == {"HIT@1": 0, "mAP": 0}
