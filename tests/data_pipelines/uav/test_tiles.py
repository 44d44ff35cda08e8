"""Tiles cover the picture, coordinates come back, cut objects follow the rule, and overlaps count once."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.uav.tiles import Found, Tile, area, clip, corners, crop, fit, hull, merge, tiles, visible

sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@given(size=sizes, side=st.integers(50, 1200), share=st.floats(0, 0.9))
def test_tiles_cover_every_pixel_and_neighbours_share_the_overlap(size, side, share):
    overlap = int(share * side)
    cut = tiles(size, side=side, overlap=overlap)
    for axis in (0, 1):
        spans = sorted({(tile.box[axis], tile.box[axis + 2]) for tile in cut})
        assert spans[0][0] == 0
        assert spans[-1][1] == size[axis]
        assert all(end - start == min(side, size[axis]) for start, end in spans)
        assert all(after[0] <= before[1] - overlap for before, after in pairwise(spans))
    assert len(cut) == len(set(cut))


@given(size=sizes, max_pixels=st.integers(1, 10**7))
def test_a_budget_is_never_exceeded_and_hardly_wasted(size, max_pixels):
    width, height = fit(size, max_pixels)
    assert 1 <= width <= size[0]
    assert 1 <= height <= size[1]
    assert width * height <= max_pixels
    if size[0] * size[1] > max_pixels >= 10_000 and max(size) < 20 * min(size):
        assert width * height > 0.9 * max_pixels
        assert width / height == pytest.approx(size[0] / size[1], rel=0.1)


@given(
    size=sizes, side=st.integers(100, 1200), max_pixels=st.integers(100, 10**6),
    points=st.lists(st.tuples(st.floats(-100, 6000), st.floats(-100, 6000)), min_size=1, max_size=4),
)  # fmt: skip
def test_coordinates_come_back(size, side, max_pixels, points):
    for tile in tiles(size, side=side, overlap=side // 5, max_pixels=max_pixels)[:5]:
        for point in points:
            assert tile.point_back(tile.point_into(point)) == pytest.approx(point, abs=1e-6)
        box = (*points[0], *points[-1])
        assert tile.box_back(tile.box_into(box)) == pytest.approx(box, abs=1e-6)
        assert tile.box_into(tile.box) == pytest.approx((0, 0, *tile.size))


def test_a_crop_shows_what_the_coordinates_say():
    """A white rectangle in a picture is where `box_into` puts it, at full size and shrunk to a quarter."""
    picture = np.zeros((700, 900, 3), np.uint8)
    picture[300:360, 440:520] = 255
    for max_pixels, scale in ((None, 1.0), (400 * 400 // 4, 0.5)):
        for tile in tiles((900, 700), side=400, overlap=100, max_pixels=max_pixels):
            shown = np.asarray(crop(Image.fromarray(picture), tile)).astype(float) / 255
            x1, y1, x2, y2 = tile.box_into((440, 300, 520, 360))
            inside = max(0, min(x2, tile.size[0]) - max(x1, 0)) * max(0, min(y2, tile.size[1]) - max(y1, 0))
            assert shown[:, :, 0].sum() == pytest.approx(inside, abs=0.02 * 4800 * scale**2)
            if inside:
                columns = np.nonzero(shown[:, :, 0].max(0) > 0.5)[0]
                assert columns[0] == round(max(x1, 0))
                assert columns[-1] + 1 == round(min(x2, tile.size[0]))


@given(
    st.lists(st.tuples(st.floats(-50, 150), st.floats(0.05, 2 * math.pi)), min_size=3, max_size=3), st.integers(0, 99)
)
def test_clipping_agrees_with_counting_points(noise, seed):
    """The area of an oriented box inside a square, against 40,000 points of a grid."""
    (cx, angle), (cy, _), (long, _) = noise
    wide, high = abs(long) / 2 + 5, 12.0
    c, s = math.cos(angle), math.sin(angle)
    polygon = [
        (cx + c * u - s * v, cy + s * u + c * v)
        for u, v in ((-wide, -high), (wide, -high), (wide, high), (-wide, high))
    ]
    part = clip(polygon, (0, 0, 100, 100))
    grid = (np.arange(200) + 0.5) / 2
    x, y = np.meshgrid(grid - cx, grid - cy)
    inside = (np.abs(c * x + s * y) <= wide) & (np.abs(-s * x + c * y) <= high)
    assert (area(part) if part else 0.0) == pytest.approx(inside.sum() / 4, abs=25)
    for x1, y1 in part:
        assert -1e-6 <= x1 <= 100 + 1e-6
        assert -1e-6 <= y1 <= 100 + 1e-6


def test_the_share_of_an_object_that_a_tile_shows():
    tile = Tile((100, 0, 200, 100), (50, 50))
    part, share = visible(corners((90, 10, 130, 30)), tile)
    assert share == 0.75
    assert hull(part) == (0, 5, 15, 15)
    assert visible(corners((0, 0, 50, 50)), tile) == ((), 0.0)
    assert visible(corners((120, 20, 140, 40)), tile)[1] == 1.0


def scattered(rng, size, count, largest):
    """Boxes that do not touch, as (box, label)."""
    found = []
    for _ in range(count):
        w, h = rng.randint(6, largest), rng.randint(6, largest)
        x, y = rng.randint(0, size[0] - w), rng.randint(0, size[1] - h)
        if all(x >= o[2] + 3 or o[0] >= x + w + 3 or y >= o[3] + 3 or o[1] >= y + h + 3 for o, _ in found):
            found.append(((x, y, x + w, y + h), rng.choice(["car", "ship"])))
    return found


def seen(objects, size, *, rng, least=0.0, jitter=0.0, max_pixels=None):
    """What a detector that sees at least `least` of an object reports in each tile, up to `jitter` pixels wrong."""
    for tile in tiles(size, side=200, overlap=60, max_pixels=max_pixels):
        items = []
        for box, label in objects:
            part, share = visible(corners(box), tile)
            if part and share > least:
                wrong = [value + rng.uniform(-jitter, jitter) for value in hull(part)]
                items.append(
                    Found(
                        (
                            min(wrong[0], wrong[2]),
                            min(wrong[1], wrong[3]),
                            max(wrong[0], wrong[2]),
                            max(wrong[1], wrong[3]),
                        ),
                        label,
                        rng.random(),
                    )
                )
        yield tile, items


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), largest=st.sampled_from([20, 60, 250]), shrink=st.booleans())
def test_objects_of_overlapping_tiles_come_back_once(seed, largest, shrink):
    """Also those larger than the overlap, which no tile shows whole."""
    rng = Random(seed)
    size = (rng.randint(300, 700), rng.randint(300, 700))
    objects = scattered(rng, size, 30, largest)
    merged = merge(list(seen(objects, size, rng=rng, max_pixels=20_000 if shrink else None)), size)
    assert [item.score for item in merged] == sorted((item.score for item in merged), reverse=True)
    back = sorted((tuple(round(value) for value in item.box), item.label) for item in merged)
    assert back == sorted(objects)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_a_detector_that_is_a_pixel_off_and_blind_to_small_parts_is_counted_right(seed):
    rng = Random(seed)
    size = (640, 500)
    objects = [
        (box, label) for box, label in scattered(rng, size, 25, 55) if min(box[2] - box[0], box[3] - box[1]) > 20
    ]
    merged = merge(list(seen(objects, size, rng=rng, least=0.7, jitter=1.0)), size)
    assert sorted(item.label for item in merged) == sorted(label for _, label in objects)


def test_neighbours_of_one_tile_are_never_joined():
    tile, other = tiles((300, 200), side=200, overlap=100)
    close = [Found((110, 10, 150, 50), "car", 0.9), Found((112, 10, 152, 50), "car", 0.8)]
    assert len(merge([(tile, close)], (300, 200))) == 2
    assert len(merge([(tile, close), (other, [Found((10, 10, 50, 50), "car", 0.7)])], (300, 200))) == 2
    assert len(merge([(tile, close), (other, [Found((10, 10, 50, 50), "ship", 0.7)])], (300, 200))) == 3


@pytest.mark.parametrize(("side", "overlap"), [(100, 100), (100, -1)])
def test_an_impossible_overlap_is_refused(side, overlap):
    with pytest.raises(ValueError, match="overlap"):
        tiles((500, 500), side=side, overlap=overlap)
