"""Coordinate conventions: every one names the same place, there and back, whoever converts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.coordinates import CONVENTIONS, corners, extent, from_pixels, to_pixels
from data_pipelines.gui.prompts import UNITS
from data_pipelines.rows import CONVENTIONS as CHECKED
from mmrl.records import Media
from rewards.parsing import to_pixels as of_completions

sides = st.integers(1, 20_000)
sizes = st.tuples(sides, sides)
conventions = st.sampled_from(CONVENTIONS)
shares = st.floats(0, 1)


@given(conventions, sizes, sizes, st.tuples(shares, shares, shares, shares))
def test_there_and_back_is_the_same_place(convention, size, seen, place):
    pixels = tuple(share * size[axis % 2] for axis, share in enumerate(place))
    written = from_pixels(pixels, convention, size, seen=seen)
    assert to_pixels(written, convention, size, seen=seen) == pytest.approx(pixels, rel=1e-9, abs=1e-9)
    full = extent(convention, size, seen=seen)
    assert written == pytest.approx([share * full[axis % 2] for axis, share in enumerate(place)], rel=1e-9, abs=1e-9)


@given(conventions, conventions, sizes, sizes, st.tuples(shares, shares))
def test_the_way_over_another_convention_does_not_matter(one, other, size, seen, place):
    written = tuple(share * side for share, side in zip(place, extent(one, size, seen=seen), strict=True))
    pixels = to_pixels(written, one, size, seen=seen)
    over = to_pixels(from_pixels(pixels, other, size, seen=seen), other, size, seen=seen)
    assert from_pixels(over, one, size, seen=seen) == pytest.approx(written, rel=1e-9, abs=1e-9)


@given(conventions, sizes, sizes, st.tuples(shares, shares))
def test_rewards_read_completions_by_the_same_rule(convention, size, seen, place):
    media = Media("image", "a.png", "0", size, seen=seen)
    assert of_completions(place, convention, media) == to_pixels(place, convention, size, seen=seen)


@pytest.mark.parametrize(
    ("convention", "written"),
    [
        ("pixel", (960, 270, 1920, 1080)),
        ("seen", (480, 135, 960, 540)),
        ("norm1", (0.5, 0.25, 1, 1)),
        ("norm1000", (500, 250, 1000, 1000)),
    ],
)
def test_golden_places(convention, written):
    assert to_pixels(written, convention, (1920, 1080), seen=(960, 540)) == (960, 270, 1920, 1080)
    assert from_pixels((960, 270, 1920, 1080), convention, (1920, 1080), seen=(960, 540)) == written


@pytest.mark.parametrize(
    ("convention", "size", "seen", "said"),
    [
        ("norm100", (10, 10), None, "norm1000"),
        ("seen", (10, 10), None, "not known"),
        ("norm1", (0, 10), None, "0 x 10"),
        ("seen", (10, 10), (0, 5), "no coordinates"),
    ],
)
def test_nothing_is_guessed(convention, size, seen, said):
    for convert in (to_pixels, from_pixels):
        with pytest.raises(ValueError, match=said):
            convert((1, 2), convention, size, seen=seen)


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4))
def test_every_form_of_a_box_has_the_same_corners(box):
    x1, y1, x2, y2 = box
    assert corners(box, "xyxy") == corners((y1, x1, y2, x2), "yxyx") == (x1, y1, x2, y2)
    assert corners((x1, y1, x2 - x1, y2 - y1), "xywh") == (x1, y1, x2, y2)
    centre = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    assert corners(centre, "cxcywh") == pytest.approx((x1, y1, x2, y2))


def test_a_box_is_four_numbers():
    with pytest.raises(ValueError, match="found 3"):
        corners((1, 2, 3), "xywh")


def test_every_convention_has_words_in_prompts_and_is_known_to_the_check():
    assert tuple(UNITS) == CONVENTIONS == CHECKED
