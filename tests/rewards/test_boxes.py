"""Boxes and points: golden values, the laws of IoU, and coordinates in every convention."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.records import Media, Sample
from rewards.boxes import box_iou, iou, point_distance, point_in_box
from rewards.parsing import answer_or_text


def sample(box=(100, 200, 180, 260), coordinates="pixel", size=(400, 300), seen=(200, 150)) -> Sample:
    media = (Media("image", "a.png", "0", size, seen),)
    return Sample("s", (), media, {"box": list(box)}, {"coordinates": coordinates})


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


@pytest.mark.parametrize("box", [[5, 5, 1, 1], [1, 1, 1, 5], [1, 2, 3], [math.nan, 0, 1, 1]])
def test_a_wrong_gold_box_is_an_error_not_a_zero(box):
    for function in (box_iou, point_in_box, point_distance):
        with pytest.raises(ValueError, match=r"target\.box|unpack"):
            function("(1, 1), (2, 2)", sample(box=box))


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


@given(box_in(0, 300))
def test_the_gold_written_as_text_is_worth_one(box):
    gold = sample(box=box)
    text = f"<think>so</think><answer>[{', '.join(map(str, box))}]</answer>"
    assert answer_or_text(text) != text
    assert box_iou(text, gold).value == point_in_box(text, gold).value == point_distance(text, gold).value == 1
