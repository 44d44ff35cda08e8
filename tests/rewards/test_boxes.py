"""Boxes, points and counts: golden values, the laws of IoU and of matching, coordinates in every convention."""

from __future__ import annotations

import math
import time
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.records import Media, Sample
from rewards.boxes import box_giou, box_iou, box_matching, count, giou, iou, point_distance, point_in_box
from rewards.parsing import answer_or_text, is_point
from rewards.registry import info_of

REWARDS = [point_in_box, point_distance, box_iou, box_giou, box_matching, count]


def sample(box=(100, 200, 180, 260), coordinates="pixel", size=(400, 300), seen=(200, 150), **target) -> Sample:
    media = (Media("image", "a.png", "0", size, seen),)
    return Sample("s", (), media, {"box": box, **target}, {"coordinates": coordinates})


def written(boxes) -> str:
    """Boxes as a model writes them."""
    return "[" + ", ".join(f'{{"bbox_2d": [{", ".join(map(str, box))}], "label": "x"}}' for box in boxes) + "]"


def box_in(low: int, high: int):
    """Non-empty boxes with integer corners."""
    sides = st.tuples(st.integers(low, high), st.integers(low, high)).filter(lambda pair: pair[0] < pair[1])
    return st.builds(lambda xs, ys: (xs[0], ys[0], xs[1], ys[1]), sides, sides)


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("(140, 230)", 1),
        ("(100, 200)", 1),
        ("(180, 260)", 1),
        ("(99.9, 230)", 0),
        ("(140, 260.1)", 0),
        ("(-140, 230)", 0),
        ("[130, 220, 150, 240]", 1),
        ("[0, 0, 400, 300]", 0),
        ("(0, 0) ... (140, 230)", 1),
        ("(140, 230) ... (0, 0)", 0),
        ("<think>(140, 230)</think><answer>(0, 0)</answer>", 0),
        ("<answer>[{'action': 'click', 'coordinate': [140, 230]}]</answer> (0, 0)", 1),
        ("<answer>none</answer> (140, 230)", 0),
        ("140, 230", 0),
        ("", 0),
    ],
)
def test_point_in_box(completion, value):
    assert point_in_box(completion, sample()).value == value


def test_the_parsed_point_is_in_stored_pixels():
    assert point_in_box("(70, 115)", sample(coordinates="seen")).parsed == {"point": [140, 230]}
    assert point_in_box("nothing", sample()).parsed is None
    assert "no point" in point_in_box("nothing", sample()).why


@pytest.mark.parametrize(
    ("coordinates", "point", "box"),
    [
        ("pixel", "(140, 230)", "[100, 200, 180, 260]"),
        ("seen", "(70, 115)", "[50, 100, 90, 130]"),
        ("norm1", "(0.35, 0.77)", "[0.25, 0.66666667, 0.45, 0.86666667]"),
        ("norm1000", "(350, 767)", "[250, 666.66667, 450, 866.66667]"),
    ],
)
def test_every_convention_names_the_same_place(coordinates, point, box):
    assert point_in_box(point, sample(coordinates=coordinates)).value == 1
    assert box_iou(box, sample(coordinates=coordinates)).value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("[100, 200, 180, 260]", 1),
        ("[140, 200, 220, 260]", 1 / 3),
        ("(140,200),(220,260)", 1 / 3),
        ('{"bbox_2d": [100, 200, 140, 260]}', 0.5),
        ("[180, 200, 220, 260]", 0),
        ("[180, 260, 100, 200]", 0),
        ("[100, 200, 100, 260]", 0),
        ("(140, 230)", 0),
        ("[100, 200, 180, 260] or [0, 0, 1, 1]", 0),
        ("[-1e8, -1e8, 1e8, 1e8]", 4800 / 4e16),
        ("[1e999, 0, 1, 1]", 0),
        ("", 0),
    ],
)
def test_box_iou(completion, value):
    score = box_iou(completion, sample())
    assert score.value == pytest.approx(value, rel=1e-12)
    assert 0 <= score.value <= 1


def test_a_reversed_box_says_so():
    assert "x1 < x2" in box_iou("[180, 260, 100, 200]", sample()).why


def test_point_distance_falls_linearly_with_the_distance():
    wide = sample(box=(190, 140, 210, 160))  # centre (200, 150) of a 400 x 300 image, diagonal 500
    assert point_distance("(200, 150)", wide).value == 1
    assert point_distance("(230, 190)", wide).value == pytest.approx(1 - 50 / 250)
    assert point_distance("(230, 190)", wide, scale=0.2).value == pytest.approx(0.5)
    assert point_distance("(0, 0)", wide).value == 0
    assert point_distance("(-9999, 0)", wide).value == 0
    assert point_distance("", wide).value == 0
    with pytest.raises(ValueError, match="positive"):
        point_distance("(0, 0)", wide, scale=0)


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("[100, 200, 180, 260]", 1),
        ("[140, 200, 220, 260]", 1 / 3),  # the hull is the union
        ("[180, 200, 220, 260]", 0),  # they touch
        ("[120, 210, 140, 230]", 1 / 12),
        ("[220, 260, 300, 320]", -1 + 2 * 4800 / (200 * 120)),
        ("[-1e9, -1e9, -1e8, -1e8]", -1 + 0.9**2),
        ("[180, 260, 100, 200]", -1),
        ("[140, 230, 140, 240]", -1),
        ("(140, 230)", -1),
        ("", -1),
    ],
)
def test_box_giou(completion, value):
    assert box_giou(completion, sample()).value == pytest.approx(value, rel=1e-5)


A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (0, 20, 10, 30)
HALF_A = (0, 0, 10, 5)


@pytest.mark.parametrize(
    ("boxes", "targets", "value"),
    [
        ([A, B], [A, B], 1),
        ([B, A], [A, B], 1),
        ([A], [A, B], 1 / 2),
        ([A, B, C], [A, B], 2 / 3),
        ([A, A], [A], 1 / 2),
        ([A, A], [A, B], 1 / 2),
        ([HALF_A, B], [A, B], 3 / 4),
        ([(10, 10, 0, 0), A], [A], 1 / 2),
        ([], [A], 0),
        ([A], [], 0),
        ([], [], 1),
    ],
)
def test_box_matching(boxes, targets, value):
    score = box_matching(written(boxes), sample(boxes=targets))
    assert score.value == pytest.approx(value)
    assert score.parsed == ({"boxes": [list(box) for box in boxes]} if boxes else None)
    assert bool(score.why) == (len(boxes) != len(targets))


def test_a_threshold_counts_matches():
    gold = sample(boxes=[A, B])
    text = written([HALF_A, B])
    assert box_matching(text, gold, threshold=0.5).value == 1
    assert box_matching(text, gold, threshold=0.51).value == 1 / 2
    assert box_matching(text, gold, threshold=1).value == 1 / 2
    for threshold in (0, 1.5, -1, math.nan):
        with pytest.raises(ValueError, match="threshold"):
            box_matching(text, gold, threshold=threshold)


def test_a_threshold_is_met_by_as_many_pairs_as_can_meet_it():
    boxes, targets = [(0, 0, 10, 10), (0, 0, 10, 9)], [(2, 0, 10, 10), (0, 0, 10, 10)]
    straight = iou(boxes[0], targets[0]) + iou(boxes[1], targets[1])  # 0.8 + 0.9
    crossed = iou(boxes[0], targets[1]) + iou(boxes[1], targets[0])  # 1 + 0.73
    assert crossed > straight
    assert box_matching(written(boxes), sample(boxes=targets)).value == pytest.approx(crossed / 2)
    assert box_matching(written(boxes), sample(boxes=targets), threshold=0.75).value == 1


def test_matched_boxes_are_read_in_the_convention_and_from_the_answer():
    gold = sample(boxes=[(100, 200, 180, 260)], coordinates="norm1")
    text = "<think>[0, 0, 1, 1]</think><answer>[0.25, 0.66666667, 0.45, 0.86666667]</answer>"
    score = box_matching(text, gold)
    assert score.value == pytest.approx(1, abs=1e-6)
    assert score.parsed == {"boxes": [pytest.approx([100, 200, 180, 260], abs=1e-4)]}
    assert box_matching(text.replace("answer", "a"), gold).value == pytest.approx(1 / 2, abs=1e-6)


def test_a_flood_of_boxes_is_worth_little_and_costs_little():
    flood = written([A] * 50_000)
    start = time.process_time()
    score = box_matching(flood, sample(boxes=[A, B]))
    assert time.process_time() - start < 10
    assert score.value == 1 / 50_000
    assert len(score.parsed["boxes"]) == 256
    many = [(x, 0, x + 1, 1) for x in range(300)]
    assert box_matching(written(many), sample(boxes=many)).value == 1


WRONG_BOXES = [
    [5, 5, 1, 1],
    [1, 1, 1, 5],
    [1, 2, 3],
    [],
    [math.nan, 0, 1, 1],
    [0, 0, math.inf, 1],
    [0, 0, 10**400, 1],
    [0, 0, 1, "1"],
    [[0, 0, 1, 1]],
    "0011",
    {},
    5,
    None,
]


@pytest.mark.parametrize("completion", ["(1, 1), (2, 2)", "3", ""])
def test_a_wrong_target_is_an_error_that_names_it(completion):
    for box in WRONG_BOXES:
        for function in (point_in_box, point_distance, box_iou, box_giou):
            with pytest.raises(ValueError, match=r"target\.box is"):
                function(completion, sample(box=box))
        with pytest.raises(ValueError, match=r"target\.boxes\[1\] is"):
            box_matching(completion, sample(boxes=[A, box]))
    for boxes in (A, "boxes", 5, {"box": A}, None):
        with pytest.raises(ValueError, match=r"target\.boxes"):
            box_matching(completion, sample(boxes=boxes))
    for number in (-1, 2.5, "3", True, None, [3], math.nan, math.inf, 10**400):
        with pytest.raises(ValueError, match=r"target\.count is"):
            count(completion, sample(count=number))


@pytest.mark.parametrize("text", ["(1, 2)", " (-1.5,2)\n"])
def test_one_point_alone(text):
    assert is_point(text)


@pytest.mark.parametrize("text", ["[1, 2]", "(1, 2, 3, 4)", "(1)", "(1, 2) (3, 4)", "at (1, 2)", "(1e999, 2)", ""])
def test_not_one_point_alone(text):
    assert not is_point(text)


def test_coordinates_without_an_image_are_an_error():
    blind = Sample("s", (), target={"box": [0, 0, 1, 1]})
    with pytest.raises(ValueError, match="no image"):
        point_in_box("(0, 0)", blind)


@given(box_in(-30, 30), box_in(-30, 30))
def test_iou_is_symmetric_and_one_only_for_equal_boxes(a, b):
    assert iou(a, b) == iou(b, a)
    assert 0 <= iou(a, b) <= 1
    assert (iou(a, b) == 1) == (a == b)


@given(box_in(-30, 30), box_in(-30, 30), st.integers(1, 1000), st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_iou_does_not_change_with_scale_and_place(a, b, scale, dx, dy):
    def moved(box):
        return tuple(value * scale + shift for value, shift in zip(box, (dx, dy, dx, dy), strict=True))

    assert iou(moved(a), moved(b)) == pytest.approx(iou(a, b), rel=1e-12)


@given(box_in(0, 12), box_in(0, 12))
def test_iou_counts_pixels(a, b):
    def pixels(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    assert iou(a, b) == pytest.approx(len(pixels(a) & pixels(b)) / len(pixels(a) | pixels(b)))


@given(st.tuples(*[st.integers(-5, 5)] * 4), box_in(-5, 5))
def test_an_empty_or_reversed_box_overlaps_nothing(a, b):
    if a[0] >= a[2] or a[1] >= a[3]:
        assert iou(a, b) == iou(b, a) == 0


@given(box_in(-30, 30), box_in(-30, 30))
def test_giou_is_symmetric_at_most_iou_and_one_only_for_equal_boxes(a, b):
    assert giou(a, b) == giou(b, a)
    assert -1 < giou(a, b) <= iou(a, b)
    assert (giou(a, b) == 1) == (a == b)


@given(box_in(0, 12), box_in(0, 12))
def test_giou_counts_pixels(a, b):
    def pixels(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    hull = pixels([*map(min, a[:2], b[:2]), *map(max, a[2:], b[2:])])
    union = pixels(a) | pixels(b)
    expected = len(pixels(a) & pixels(b)) / len(union) - len(hull - union) / len(hull)
    assert giou(a, b) == pytest.approx(expected)


@given(box_in(0, 20), st.integers(1, 500), st.integers(0, 500))
def test_giou_falls_with_the_distance_of_boxes_that_do_not_touch(box, step, start):
    def away(distance):
        return giou(box, [box[0] + distance, box[1], box[2] + distance, box[3]])

    start += box[2] - box[0]
    assert away(start + step) < away(start)


some_boxes = st.lists(box_in(0, 8), max_size=4)


@given(some_boxes, some_boxes)
def test_the_matching_is_the_best_there_is(boxes, targets):
    few, many = sorted((boxes, targets), key=len)
    best = max(sum(map(iou, few, order)) for order in permutations(many, len(few)))
    expected = best / len(many) if many else 1
    assert box_matching(written(boxes), sample(boxes=targets)).value == pytest.approx(expected)


@given(some_boxes, some_boxes, st.randoms(use_true_random=False))
def test_the_matching_does_not_depend_on_order(boxes, targets, random):
    value = box_matching(written(boxes), sample(boxes=targets)).value
    random.shuffle(boxes)
    random.shuffle(targets)
    assert box_matching(written(boxes), sample(boxes=targets)).value == pytest.approx(value)


hostile = st.one_of(
    st.text(),
    st.text('()[],.-0123456789einf <>/answer{}":', max_size=200),
    st.lists(st.lists(st.floats(width=32), min_size=1, max_size=4), max_size=5).map(lambda boxes: f"<answer>{boxes}"),
    st.sampled_from(["(", "[1,", "((1,2),", "1e999,", "<answer>"]).map(lambda part: part * 2000),
)


conventions = st.sampled_from(["pixel", "seen", "norm1", "norm1000"])


@given(hostile, conventions)
def test_any_text_is_worth_something_in_the_range(completion, coordinates):
    check_any(completion, coordinates)


def check_any(completion, coordinates):
    gold = sample(boxes=[A, B], count=3, coordinates=coordinates)
    for function in REWARDS:
        low, high = info_of(function).range
        assert low <= function(completion, gold).value <= high
    assert 0 <= count(completion, gold, shape="relative").value <= 1
    assert 0 <= box_matching(completion, gold, threshold=0.5).value <= 1


def test_an_area_that_rounds_to_zero_is_none():
    speck = (0, 0, 1e-200, 1e-200)
    assert iou(speck, speck) == 0
    assert box_giou("[0, 0, 1e-200, 1e-200]", sample(box=(0, 0, 1, 1))).value == -1
    with pytest.raises(ValueError, match=r"target\.box is"):
        box_iou("[0, 0, 1, 1]", sample(box=speck))


@given(box_in(0, 300))
def test_the_gold_written_as_text_is_worth_one(box):
    gold = sample(box=box)
    text = f"<think>so</think><answer>[{', '.join(map(str, box))}]</answer>"
    assert answer_or_text(text) != text
    for function in (box_iou, box_giou, point_in_box, point_distance):
        assert function(text, gold).value == 1
