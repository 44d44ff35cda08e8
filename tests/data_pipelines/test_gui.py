"""Drawn screens: boxes are exactly what is painted, screens repeat from their seed, labels are as noisy as promised."""

from __future__ import annotations

import re
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from data_pipelines.dataset import read_samples
from data_pipelines.gui.build import SIZES, ask, make_gui, make_gui_cold_start
from data_pipelines.gui.render import TINY_KINDS, draw_screen
from data_pipelines.gui.shapes import COLOURS, GLYPHS, THEMES, Canvas, Element, glyph, overlap, rectangle

SIZE_LIST = [*SIZES["tiny"], (96, 64), (64, 96), *SIZES["full"]]


def changed(before: Image.Image, after: Image.Image) -> tuple[int, int, int, int] | None:
    """The smallest box around all pixels that differ."""
    return ImageChops.difference(before, after).getbbox()


@pytest.mark.parametrize("name", GLYPHS)
@pytest.mark.parametrize("side", [12, 17, 26])
def test_a_glyph_paints_exactly_its_box(name, side):
    blank = Image.new("RGB", (40, 40), "black")
    canvas = Canvas(blank.copy())
    canvas.add("x", name, "icon", ((5, 7, 5 + side, 7 + side), glyph(name, (255, 255, 255))))
    box = canvas.elements[0].box
    assert changed(blank, canvas.image) == box
    assert box[2] - box[0] >= 0.6 * side
    assert box[3] - box[1] >= 0.6 * side


@pytest.mark.parametrize("size", SIZE_LIST)
@pytest.mark.parametrize("theme", THEMES)
def test_every_element_of_a_screen_lies_in_its_box_and_fills_it(monkeypatch, size, theme):
    """Compared with the picture just before the element was painted: nothing outside the box changed."""
    added = []
    add = Canvas.add

    def watched(canvas, *arguments):
        before = canvas.image.copy()
        add(canvas, *arguments)
        added.append((canvas.elements[-1], changed(before, canvas.image)))

    monkeypatch.setattr(Canvas, "add", watched)
    image, elements = draw_screen(Random(f"{size} {theme}"), size, theme)
    assert image.size == size
    assert [element for element, _ in added] == elements
    for element, box in added:
        assert element.box == box, element


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), theme=st.sampled_from(list(THEMES)), size=st.sampled_from(SIZE_LIST[:4]))
def test_elements_are_apart_inside_and_told_apart_by_name(seed, theme, size):
    image, elements = draw_screen(Random(seed), size, theme)
    assert len({element.name for element in elements}) == len(elements) >= 3
    for i, element in enumerate(elements):
        x1, y1, x2, y2 = element.box
        assert 0 <= x1 < x2 <= image.width
        assert 0 <= y1 < y2 <= image.height
        assert x1 <= element.centre[0] < x2
        assert y1 <= element.centre[1] < y2
        assert not any(overlap(element.box, other.box) for other in elements[:i])
        if min(size) == 64:
            colour, kind = element.name.split()
            assert kind in TINY_KINDS
            assert max(x2 - x1, y2 - y1) in range(12, 29)
            assert COLOURS[colour] in {pixel for _, pixel in image.crop(element.box).getcolors(4096)}
            # On a tiny screen the pixels around a box are plain page.
            ring = image.crop((max(x1 - 1, 0), max(y1 - 1, 0), x2 + 1, y2 + 1))
            ring.paste(THEMES[theme].page, (x1 - max(x1 - 1, 0), y1 - max(y1 - 1, 0), x2 - max(x1 - 1, 0), y2 - y1 + 1))
            assert {pixel for _, pixel in ring.getcolors(4096)} == {THEMES[theme].page}


def test_names_and_boxes_may_not_collide():
    canvas = Canvas(Image.new("RGB", (40, 40)))
    canvas.add("a", "button", "text", ((0, 0, 20, 20), rectangle((255, 0, 0))))
    for name, box in (("b", (19, 19, 30, 30)), ("a", (25, 25, 35, 35))):
        with pytest.raises(AssertionError):
            canvas.add(name, "button", "text", (box, rectangle((0, 255, 0))))


@pytest.mark.parametrize(("size", "theme"), [((64, 64), "pink"), ((20, 64), "light"), ((200, 200), "light")])
def test_impossible_screens_are_refused(size, theme):
    with pytest.raises(ValueError, match=r"no theme|short side"):
        draw_screen(Random(0), size, theme)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", [partial(make_gui, test_count=2), make_gui_cold_start], ids=["gui", "cold-start"])
def test_the_same_seed_makes_the_same_files(tmp_path, make):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make(tmp_path / name, count=6, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")


def test_a_longer_data_set_begins_with_the_shorter(tmp_path):
    for name, count in (("a", 3), ("b", 6)):
        make_gui(tmp_path / name, count=count, test_count=1)
    short, long = ((tmp_path / name / "train.jsonl").read_text() for name in ("a", "b"))
    assert long.startswith(short)


@pytest.mark.parametrize("scale", ["tiny", "full"])
def test_rows_point_at_their_element_and_no_screen_is_in_both_splits(tmp_path, scale):
    paths = make_gui(tmp_path, count=12, test_count=8, scale=scale)
    train, test = (read_samples(paths[split]) for split in ("train", "test"))
    assert (len(train), len(test)) == (12, 8)
    assert not {s.media[0].digest for s in train} & {s.media[0].digest for s in test}
    for sample in train + test:
        question = sample.messages[0]["content"][1]["text"]
        asked = {"tiny": "click the {}", "full": "click for: the {}? Answer with the point (x, y) in pixels."}[scale]
        (wanted,) = (e for e in sample.meta["elements"] if question.endswith(asked.format(e["name"])))
        assert sample.target["box"] == wanted["box"]
        assert sample.meta["data_type"] == wanted["type"]
        assert sample.media[0].size in SIZES[scale]
        (x, y), (x1, y1, x2, y2) = sample.target["point"], sample.target["box"]
        assert x1 <= x < x2
        assert y1 <= y < y2


def turns(sample):
    texts = [message["content"] if isinstance(message["content"], str) else message["content"][-1]["text"]
             for message in sample.messages]  # fmt: skip
    return list(zip(texts[::2], texts[1::2], strict=True))


def test_cold_start_chats_ask_for_everything_and_four_in_ten_clicks_hit(tmp_path):
    samples = read_samples(make_gui_cold_start(tmp_path, count=300)["cold_start"], need_target=False)
    hits = []
    for sample in samples:
        boxes = {element["name"]: element["box"] for element in sample.meta["elements"]}
        asked = set()
        assert len(turns(sample)) == len(boxes)  # each once, or a model could copy its earlier answer
        for question, answer in turns(sample):
            numbers = [int(number) for number in re.findall(r"\d+", answer)]
            asked.add(answer if question.startswith("what") else question.split("the ")[1])
            if question.startswith("click"):
                (x, y), (x1, y1, x2, y2) = numbers, boxes[question.removeprefix("click the ")]
                assert answer == f"({x}, {y})"
                assert max(x, y) < 64
                hits.append(x1 <= x <= x2 and y1 <= y <= y2)
            elif question.startswith("where"):
                assert answer == f"{numbers}"
                assert numbers[0] <= numbers[2] < 64
                assert numbers[1] <= numbers[3] < 64
            else:
                x, y = map(int, re.findall(r"\d+", question))
                x1, y1, x2, y2 = boxes[answer]
                assert x1 <= x < x2
                assert y1 <= y < y2
        assert asked == set(boxes)
    assert 0.35 < sum(hits) / len(hits) < 0.45


def test_without_noise_every_answer_is_right():
    element = Element("red circle", "circle", "icon", (10, 20, 30, 31))
    asked = [ask(Random(i), element, noise=0.0, size=(64, 64)) for i in range(40)]
    answers = {question.split()[0]: answer for question, answer in asked}
    assert answers == {"click": "(20, 25)", "where": "[10, 20, 30, 31]", "what": "red circle"}
