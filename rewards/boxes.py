"""Rewards for pointing, boxing and counting: `target.box` is x1, y1, x2, y2 in pixels of the stored image (the first
medium), `target.boxes` a list of them.

A completion's coordinates are read in the sample's convention (`sample.coordinates`) and moved to those pixels. When
it has an answer tag only the answer counts, and of several points or boxes the last: reasoning names candidates
before it concludes, and counting any or the best would pay for listing many. `box_matching` reads all of them.
Rewards without labels, from the agreement of a group: `regions.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from mmrl.records import Sample
from rewards.parsing import Values, answer_or_text, centre
from rewards.parsing.coordinates import LARGEST, answer_box, answer_point, boxes, image_of, placed
from rewards.parsing.quantities import last_number
from rewards.registry import Score, reward

MOST_BOXES = 256
"""Boxes of one completion that are matched (more, if the target has more); the rest count as extra."""
_EMPTY = "x1 < x2 and y1 < y2 do not hold"


@reward(range=(0, 1), needs=("box",), source="ScreenSpot, arXiv 2401.10935")
def point_in_box(completion: str, sample: Sample) -> Score:
    """1 if the completion's point (or the centre of its box) lies in the target, edges included, else 0.

    The ScreenSpot metric and, for clicks, the coordinate reward of UI-R1 (arXiv 2503.21620), which truncates to
    integers and reads `[x, y]` only.
    """
    x1, y1, x2, y2 = _target_box(sample)
    point = answer_point(completion, sample)
    if point is None:
        return Score(0.0, why="no point in the completion")
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
    target = _target_box(sample)
    point = answer_point(completion, sample)
    if point is None:
        return Score(0.0, why="no point in the completion")
    distance = math.dist(point, centre(target))
    value = max(0.0, 1 - distance / (scale * math.hypot(*image_of(sample).size)))
    return Score(value, parsed={"point": list(point)}, why=f"{distance:.0f} px from the centre")


@reward(range=(0, 1), needs=("box",), source="VLM-R1, arXiv 2504.07615")
def box_iou(completion: str, sample: Sample) -> Score:
    """Intersection over union of the completion's box with the target; 0 for a missing, empty or reversed box."""
    target = _target_box(sample)
    box = answer_box(completion, sample)
    if box is None:
        return Score(0.0, why="no box in the completion")
    return Score(iou(box, target), parsed={"box": list(box)}, why="" if _has_area(box) else _EMPTY)


@reward(range=(-1, 1), needs=("box",), source="GIoU, arXiv 1902.09630")
def box_giou(completion: str, sample: Sample) -> Score:
    """Generalised IoU of the completion's box with the target: IoU - (hull - union) / hull; -1 without a proper box.

    The hull is the smallest box around both, so boxes that do not touch earn less the further apart they are. A
    missing, empty or reversed box is worth -1, the limit for small boxes far apart.
    """
    target = _target_box(sample)
    box = answer_box(completion, sample)
    if box is None:
        return Score(-1.0, why="no box in the completion")
    if not _has_area(box):
        return Score(-1.0, parsed={"box": list(box)}, why=_EMPTY)
    return Score(giou(box, target), parsed={"box": list(box)})


@reward(range=(0, 1), needs=("boxes",), source="VisionReasoner, arXiv 2505.12081")
def box_matching(completion: str, sample: Sample, *, threshold: float | None = None) -> Score:
    """Summed IoU of the best one-to-one matching of the completion's boxes with the targets, over the larger number.

    sum(IoU of matched pairs) / max(boxes written, boxes in `target.boxes`): a missing box and an extra one cost the
    same, and so does writing one twice. With `threshold` (in (0, 1]) a pair counts 1 if its IoU is at least that, else
    0; VisionReasoner asks for more than 0.5, and averages this with two distances. All boxes of the answer count, in
    any order, empty and reversed ones as extra. Without any, 0, or 1 where `target.boxes` is empty too.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold is an IoU in (0, 1]; found {threshold}")
    targets = _target_boxes(sample)
    written = boxes(answer_or_text(completion))
    found = [placed(box, sample) for box in written[: max(MOST_BOXES, len(targets))]]
    worth = [[iou(box, target) for target in targets] for box in found]
    if threshold is not None:
        worth = [[float(value >= threshold) for value in row] for row in worth]
    most = max(len(written), len(targets))
    value = _best_assignment(worth) / most if most else 1.0
    why = f"{len(written)} boxes for {len(targets)}" if len(written) != len(targets) else ""
    return Score(value, parsed={"boxes": [list(box) for box in found]} if found else None, why=why)


@reward(range=(0, 1), needs=("count",), source="mmrl")
def count(completion: str, sample: Sample, *, shape: Literal["exact", "relative"] = "exact") -> Score:
    """1 if the last number of the completion's answer is `target.count`, else 0, or by how far off it is.

    `shape="relative"` pays max(0, 1 - |p - t| / max(t, 1)) for the number p and the target t. 0 without a number.
    """
    if shape not in ("exact", "relative"):
        raise ValueError(f"shape is exact or relative; found {shape!r}")
    target = _target_count(sample)
    found = last_number(answer_or_text(completion))
    if found is None:
        return Score(0.0, why="no number in the completion")
    off = abs(found - target)
    value = float(off == 0) if shape == "exact" else max(0.0, 1 - off / max(target, 1))
    return Score(value, parsed=found)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2, in [0, 1]; 0 if either is empty or reversed."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    union = _area(a) + _area(b) - intersection
    return intersection / union if union > 0 else 0.0


def giou(a: Sequence[float], b: Sequence[float]) -> float:
    """Generalised IoU of two boxes with an area, in (-1, 1]: IoU - (hull - union) / hull (Algorithm 1)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    union = _area(a) + _area(b) - max(width, 0) * max(height, 0)
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return min(1.0, max(-1.0, iou(a, b) - (hull - union) / hull))


def _best_assignment(worth: Sequence[Sequence[float]]) -> float:
    """The largest sum of entries of which no two share a row or a column (Hungarian algorithm)."""
    if not worth or not worth[0]:
        return 0.0
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    matrix = np.array(worth)
    return float(matrix[linear_sum_assignment(matrix, maximize=True)].sum())


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _has_area(box: Sequence[float]) -> bool:
    return box[0] < box[2] and box[1] < box[3] and _area(box) > 0  # an area can round to 0


def _target_box(sample: Sample) -> Values:
    return _gold(sample.target.get("box"), "target.box")


def _target_boxes(sample: Sample) -> list[Values]:
    targets = sample.target.get("boxes")
    if not isinstance(targets, list | tuple):
        raise ValueError(f"target.boxes is a list of boxes x1, y1, x2, y2; found {targets!r}")
    return [_gold(target, f"target.boxes[{index}]") for index, target in enumerate(targets)]


def _gold(values: Any, name: str) -> Values:
    """A gold box, checked."""
    numeric = isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values)
    if not (numeric and len(values) == 4 and _has_area(values) and max(map(abs, values)) <= LARGEST):
        raise ValueError(f"{name} is x1, y1, x2, y2 with x1 < x2 and y1 < y2; found {values!r}")
    return tuple(map(float, values))


def _target_count(sample: Sample) -> int:
    target: Any = sample.target.get("count")
    whole = isinstance(target, int | float) and not isinstance(target, bool) and 0 <= target <= LARGEST
    if not whole or target != int(target):
        raise ValueError(f"target.count is a whole number, 0 or more; found {target!r}")
    return int(target)
