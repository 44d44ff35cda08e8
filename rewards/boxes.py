"""Rewards for pointing and boxing: `target.box` is x1, y1, x2, y2 in pixels of the stored image (the first medium).

A completion's coordinates are read in the sample's convention (`sample.coordinates`) and moved to those pixels. When
it has an answer tag only the answer counts, and of several points or boxes the last: reasoning names candidates
before it concludes, and counting any or the best would pay for listing many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmrl.records import Media, Sample
from rewards.parsing import Values, answer_or_text, centre, last_box, last_point, to_pixels
from rewards.registry import Score, reward


@reward(range=(0, 1), needs=("box",), source="ScreenSpot, arXiv 2401.10935")
def point_in_box(completion: str, sample: Sample) -> Score:
    """1 if the completion's point (or the centre of its box) lies in the target, edges included, else 0.

    The ScreenSpot metric and, for clicks, the coordinate reward of UI-R1 (arXiv 2503.21620), which truncates to
    integers and reads `[x, y]` only.
    """
    point = _point(completion, sample)
    if point is None:
        return Score(0.0, why="no point in the completion")
    x1, y1, x2, y2 = _target_box(sample)
    inside = x1 <= point[0] <= x2 and y1 <= point[1] <= y2
    return Score(float(inside), parsed={"point": list(point)})


@reward(range=(0, 1), needs=("box",), source="mmrl")
def point_distance(completion: str, sample: Sample, *, scale: float = 0.5) -> Score:
    """max(0, 1 - d / (scale * D)): d from the point to the target's centre, D the image's diagonal. 0 without a point.

    Dense, for shaping: with the default, a target in the middle of the image rewards every point of the image.
    `scale` is positive.
    """
    if scale <= 0:
        raise ValueError(f"scale is a positive share of the image's diagonal; found {scale}")
    point = _point(completion, sample)
    if point is None:
        return Score(0.0, why="no point in the completion")
    distance = math.dist(point, centre(_target_box(sample)))
    value = max(0.0, 1 - distance / (scale * math.hypot(*_image(sample).size)))
    return Score(value, parsed={"point": list(point)}, why=f"{distance:.0f} px from the centre")


@reward(range=(0, 1), needs=("box",), source="VLM-R1, arXiv 2504.07615")
def box_iou(completion: str, sample: Sample) -> Score:
    """Intersection over union of the completion's box with the target; 0 for a missing, empty or reversed box."""
    target = _target_box(sample)
    written = last_box(answer_or_text(completion))
    if written is None:
        return Score(0.0, why="no box in the completion")
    box = to_pixels(written, sample.coordinates, _image(sample))
    empty = box[0] >= box[2] or box[1] >= box[3]
    return Score(iou(box, target), parsed={"box": list(box)}, why="x1 < x2 and y1 < y2 do not hold" if empty else "")


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2, in [0, 1]; 0 if either is empty or reversed."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return intersection / (_area(a) + _area(b) - intersection)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _point(completion: str, sample: Sample) -> Values | None:
    """The completion's point in pixels of the stored image."""
    written = last_point(answer_or_text(completion))
    return None if written is None else to_pixels(written, sample.coordinates, _image(sample))


def _target_box(sample: Sample) -> Values:
    x1, y1, x2, y2 = map(float, sample.target["box"])
    if not (x1 < x2 and y1 < y2):
        raise ValueError(f"target.box is x1, y1, x2, y2 with x1 < x2 and y1 < y2; found {sample.target['box']}")
    return x1, y1, x2, y2


def _image(sample: Sample) -> Media:
    if not sample.media:
        raise ValueError("the sample has no image to place coordinates in")
    return sample.media[0]
