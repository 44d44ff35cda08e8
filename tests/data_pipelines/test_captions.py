"""Captioned pictures: what a caption says is what is painted, mistakes are mistakes, the seed decides everything."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageChops

from data_pipelines.captions.build import CHOICES, make_captions
from data_pipelines.captions.render import GAP, SMALLEST, paint
from data_pipelines.captions.scenes import (
    BACKGROUNDS,
    OPPOSITE,
    SHAPES,
    SIZES,
    Figure,
    Scene,
    draw_description,
    draw_mistake,
    draw_scene,
)
from data_pipelines.dataset import read_samples
from data_pipelines.gui.shapes import COLOURS

SEEDS = st.integers(0, 10**6)
KNOWN = set(" ".join(["a on background", *COLOURS, *SHAPES, *SIZES, *BACKGROUNDS, *OPPOSITE]).split())


def scene_of(seed, pairs=0.5):
    return draw_scene(Random(seed), pairs=pairs)


def boxes(scene, seed, size):
    """Where each figure is, x1, y1, x2, y2: the pixels that change with its colour."""
    image = paint(scene, Random(seed), size=size)
    found = []
    for number, figure in enumerate(scene.figures):
        figures = list(scene.figures)
        figures[number] = replace(figure, colour="red" if figure.colour == "cyan" else "cyan")
        other = paint(replace(scene, figures=tuple(figures)), Random(seed), size=size)
        found.append(ImageChops.difference(image, other).getbbox())
    return found


# -- what is painted -----------------------------------------------------------------------------------------------


@given(SEEDS, st.sampled_from([SMALLEST, 32, 48, 64, 100]))
def test_every_figure_is_inside_apart_and_of_its_size(seed, size):
    scene = scene_of(seed)
    image = paint(scene, Random(seed), size=size)
    assert image.size == (size, size)
    assert image.mode == "RGB"
    for figure, (x1, y1, x2, y2) in zip(scene.figures, boxes(scene, seed, size), strict=True):
        assert 0 <= x1 < x2 <= size
        assert 0 <= y1 < y2 <= size
        assert (max(x2 - x1, y2 - y1) > 0.33 * size) == (figure.size == "large")


@given(SEEDS)
def test_the_relation_is_what_one_sees(seed):
    scene = scene_of(seed, pairs=1.0)
    (a1, b1, a2, b2), (c1, d1, c2, d2) = boxes(scene, seed, 64)
    gap = {"left of": c1 - a2, "right of": a1 - c2, "above": d1 - b2, "below": b1 - d2}
    assert gap[scene.relation] >= GAP * 64 - 2
    assert all(gap[other] < gap[scene.relation] for other in OPPOSITE if other != scene.relation)


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_figure_and_background_have_their_colours(shape, background):
    scene = Scene((Figure("purple", shape, "large"),), None, background)
    colours = paint(scene, Random(0), size=64).getcolors(5000)
    assert [colour for _, colour in sorted(colours)[-1:-3:-1]] == [BACKGROUNDS[background], COLOURS["purple"]]


def test_shapes_look_different():
    pictures = {
        paint(Scene((Figure("red", shape, "small"),), None, "white"), Random(3), size=32).tobytes() for shape in SHAPES
    }
    assert len(pictures) == len(SHAPES)


def test_a_picture_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 24 pixels"):
        paint(scene_of(0), Random(0), size=23)


# -- what is said --------------------------------------------------------------------------------------------------


def test_captions_read_like_this():
    circle, star = Figure("red", "circle", "small"), Figure("blue", "star", None)
    assert Scene((circle,), None, None).caption == "a small red circle"
    both = Scene((circle, star), "left of", "white")
    assert both.caption == "a small red circle left of a blue star on a white background"
    assert both.turned().caption == "a blue star right of a small red circle on a white background"
    assert both.turned().turned() == both


def test_a_caption_describes_what_it_is_true_of():
    picture = Scene((Figure("red", "circle", "small"), Figure("blue", "star", "large")), "above", "black")
    said = Scene((Figure("blue", "star", None), Figure("red", "circle", None)), "below", None)
    assert said.describes(picture)
    assert picture.describes(picture)
    assert not picture.describes(said)  # it says more than is known
    assert not replace(said, relation="above").describes(picture)
    assert not replace(said, background="white").describes(picture)
    assert not Scene(said.figures[:1], None, None).describes(picture)


@given(SEEDS)
def test_descriptions_are_true_and_mistakes_are_not(seed):
    rng = Random(seed)
    scene = draw_scene(rng)
    said = draw_description(rng, scene)
    wrong = draw_mistake(rng, said)
    assert said.describes(scene)
    assert said.turned().describes(scene)
    assert not wrong.describes(scene)
    assert sum(a != b for a, b in zip(said.caption.split(), wrong.caption.split(), strict=False)) >= 1


def test_everything_is_drawn_about_equally_often():
    scenes = [scene_of(seed) for seed in range(3000)]
    assert 0.45 < sum(len(scene.figures) == 2 for scene in scenes) / len(scenes) < 0.55
    figures = [figure for scene in scenes for figure in scene.figures]
    for counts, values in (
        (Counter(figure.colour for figure in figures), COLOURS),
        (Counter(figure.shape for figure in figures), SHAPES),
        (Counter(figure.size for figure in figures), SIZES),
        (Counter(scene.background for scene in scenes), BACKGROUNDS),
    ):
        assert set(counts) == set(values)
        assert min(counts.values()) > 0.85 * max(counts.values())


# -- the data set --------------------------------------------------------------------------------------------------


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_makes_the_same_files(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_captions(tmp_path / name, count=5, test_count=2, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")


def test_a_longer_data_set_begins_with_the_shorter(tmp_path):
    for name, count in (("a", 3), ("b", 6)):
        make_captions(tmp_path / name, count=count, test_count=1)
    short, long = ((tmp_path / name / "train.jsonl").read_text() for name in ("a", "b"))
    assert long.startswith(short)


def test_rows_ask_for_the_caption_and_answer_with_the_picture(tmp_path):
    paths = make_captions(tmp_path, count=30, test_count=10, size=32)
    train, test = (read_samples(paths[split]) for split in ("train", "test"))
    assert (len(train), len(test)) == (30, 10)
    for sample in train + test:
        assert sample.prompt == sample.target["caption"]
        assert len(set(sample.target["captions"])) == CHOICES
        assert sample.target["caption"] in sample.target["captions"]
        for caption in sample.target["captions"]:
            said, right = caption.split(), sample.prompt.split()
            changed = sum(a != b for a, b in zip(said, right, strict=False)) if len(said) == len(right) else 2
            assert changed <= 2  # "left of" for "below" is another length
            assert set(said) <= KNOWN
        assert sample.media[0].size == (32, 32)
        assert sample.messages[1] == {
            "role": "assistant",
            "content": [{"type": "image", "image": sample.media[0].path}],
        }
        for figure in sample.meta["figures"]:
            assert f"{figure['colour']} {figure['shape']}" in sample.prompt


def test_a_share_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"pairs = 1\.5"):
        make_captions(tmp_path, pairs=1.5)
    alone = read_samples(make_captions(tmp_path, count=20, test_count=1, pairs=0.0)["train"])
    assert all(len(sample.meta["figures"]) == 1 for sample in alone)
