"""Drawn pictures: answers worked out again from pixels, annotations where the paint is, the same files from a seed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from data_pipelines.dataset import check_samples, read_samples
from data_pipelines.gui.shapes import COLOURS
from data_pipelines.uav import scene
from data_pipelines.uav.build import annotation, make_uav, make_uav_cold_start, scene_pictures
from data_pipelines.uav.cut import make_uav_tiles, view_of
from data_pipelines.uav.questions import pixel_box
from data_pipelines.uav.scene import PAINTS, ROOFS, draw_scene
from data_pipelines.uav.tiles import Tile, clip, hull, tiles
from data_pipelines.uav.tiny import LEAVES, WATER, ask_tiny, draw_tiny, mistake
from mmrl.plugins import ConfigError
from mmrl.policies.tiny import make_tokenizer

EIGHT = np.ones((3, 3))


def seen_in(image):
    """(kind, colour, box) of all that a tiny picture shows, from its pixels alone."""
    pixels = np.asarray(image)
    found = []
    for colour, rgb in COLOURS.items():
        labels, _ = ndimage.label((pixels == rgb).all(-1), EIGHT)
        for rows, columns in ndimage.find_objects(labels):
            box = (columns.start, rows.start, columns.stop, rows.stop)
            found.append(("car" if min(box[2] - box[0], box[3] - box[1]) < 8 else "house", colour, box))
    return found, (pixels == LEAVES).all(-1), (pixels == WATER).all(-1)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 128)])
def test_tiny_answers_worked_out_from_the_pixels(size):
    """Cars, houses, their colours and boxes, whether there is a tree or a river, and every question's answer."""
    numbers, tasks = set(), set()
    for seed in range(120):
        rng = Random(f"{seed} {size}")
        image, seen = draw_tiny(rng, size)
        found, leaves, water = seen_in(image)
        listed = [(thing.kind, thing.colour, thing.box) for thing in seen if thing.colour]
        assert sorted(found) == sorted(listed)
        assert leaves.any() == any(thing.kind == "tree" for thing in seen)
        assert water.any() == any(thing.kind == "river" for thing in seen)
        numbers.add(sum(kind == "car" for kind, _, _ in found))
        for _ in range(6):
            question = ask_tiny(rng, seen)
            tasks.add(question.task)
            cars = [colour for kind, colour, _ in found if kind == "car"]
            words = question.text.rstrip("?").split()
            if question.task == "count":
                right = str(cars.count(words[2]) if words[2] in COLOURS else len(cars))
                assert question.gold["count"] == int(right)
            elif question.task == "presence":
                there = {"tree": leaves.any(), "river": water.any(), "house": any(k == "house" for k, _, _ in found)}
                right = "yes" if there.get(words[-1], words[3] in cars) else "no"
            elif question.task == "colour":
                (right,) = (colour for kind, colour, _ in found if kind == words[-1])
            elif question.task == "comparison":
                a, b = cars.count(words[1]), cars.count(words[3])
                right = "same" if a == b else words[1] if a > b else words[3]
            else:
                if "tree" in words:
                    continue
                asked = re.fullmatch(r"is the (.+) (left|above) or (?:right of|below) the (.+)\?", question.text)
                (a,), (b,) = (
                    [box for kind, colour, box in found if name in (kind, f"{colour} {kind}")]
                    for name in asked.group(1, 3)
                )
                axis = 0 if asked[2] == "left" else 1
                assert a[axis + 2] <= b[axis] or b[axis + 2] <= a[axis]
                right = (("left", "right"), ("above", "below"))[axis][a[axis] > b[axis]]
            assert question.answer == right, question
            assert mistake(rng, question) != right
    assert numbers == set(range(10))
    assert tasks == {"count", "presence", "colour", "place", "comparison"}


def test_tiny_answers_right_and_wrong_are_one_token():
    tokenizer = make_tokenizer()
    rng = Random(0)
    for _ in range(300):
        question = ask_tiny(rng, draw_tiny(rng)[1])
        for answer in (question.answer, mistake(rng, question)):
            assert len(tokenizer.tokenize(answer)) == 1
        assert len(tokenizer.tokenize(question.text)) <= 12


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "make",
    [partial(make_uav, test_count=2), make_uav_cold_start,
     partial(make_uav, test_count=1, scale="full", sizes=[(400, 320)], questions=3)],
    ids=["tiny", "cold-start", "full"],
)  # fmt: skip
def test_the_same_seed_makes_the_same_files(tmp_path, make):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make(tmp_path / name, count=3, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")


def test_a_longer_data_set_begins_with_the_shorter_and_no_picture_is_in_both_splits(tmp_path):
    for name, count in (("a", 5), ("b", 20)):
        make_uav(tmp_path / name, count=count, test_count=20)
    assert (tmp_path / "b/train.jsonl").read_text().startswith((tmp_path / "a/train.jsonl").read_text())
    train, test = (read_samples(tmp_path / "b" / f"{split}.jsonl") for split in ("train", "test"))
    assert not {s.media[0].digest for s in train} & {s.media[0].digest for s in test}


def test_cold_start_chats_are_as_wrong_as_asked(tmp_path):
    """Against a clean set of the same seed: questions agree up to the first difference in the stream of draws."""
    for noise in (0.0, 0.4, 1.0):
        samples = read_samples(
            make_uav_cold_start(tmp_path / str(noise), count=150, noise=noise)["cold_start"], need_target=False
        )
        right = asked = 0
        for sample in samples:
            texts = [
                m["content"] if isinstance(m["content"], str) else m["content"][-1]["text"] for m in sample.messages
            ]
            assert 2 <= len(texts) // 2 <= 5
            assert len(set(texts[::2])) == len(texts) // 2
            cars = [thing for thing in sample.meta["objects"] if thing["kind"] == "car"]
            for question, answer in zip(texts[::2], texts[1::2], strict=True):
                if question == "how many cars?":
                    asked += 1
                    right += answer == str(len(cars))
        assert right / asked == pytest.approx(1 - noise, abs=0.12)


def inside(polygon, size):
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon(polygon, fill=1)
    return ndimage.binary_erosion(np.asarray(mask) == 1)


@pytest.mark.parametrize("seed", range(6))
def test_a_thing_has_its_colour_where_its_polygon_is(seed):
    """The commonest colour inside a thing's outline is the thing's, and none lies over an edge or a neighbour."""
    image, view = draw_scene(Random(seed), (900, 640))
    pixels = np.asarray(image).astype(int)
    moving = [thing for thing in view.things if thing.colour]
    assert moving
    for thing in moving:
        names = ROOFS if thing.kind in ("house", "warehouse") else PAINTS
        shown = pixels[inside(thing.polygon, image.size)]
        off = {name: np.abs(shown - rgb).sum(1) for name, rgb in names.items()}
        votes = np.array(list(off.values())).argmin(0)
        assert list(names)[np.bincount(votes, minlength=len(names)).argmax()] == thing.colour, thing
        if names is PAINTS:
            assert (off[thing.colour] < 12).mean() > 0.4, thing
    solid = [thing for thing in view.things if thing.kind not in ("road", "parking lot", "body of water")]
    covered = np.zeros(image.size[::-1], int)
    for thing in solid:
        x1, y1, x2, y2 = hull(thing.polygon)
        assert 0 <= x1 < x2 <= image.width
        assert 0 <= y1 < y2 <= image.height
        covered += inside(thing.polygon, image.size)
    assert covered.max() <= 1


def test_removing_a_thing_changes_its_polygon_and_nothing_else_but_its_shadow():
    """Painted without one car, the picture differs inside the car's outline (a pixel wider) and in its shadow only."""
    painted = {}
    for drop in (False, True):
        kept = scene.paint

        def paint(image, sprites, metres, colours, drop=drop, kept=kept):
            cars = [sprite for sprite in sprites if sprite.kind == "car"]
            kept(image, [s for s in sprites if not drop or s is not cars[3]], metres, colours)
            painted["car"] = tuple((x / metres, y / metres) for x, y in cars[3].polygon)
            painted["metres"] = metres

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scene, "paint", paint)
            painted[drop] = np.asarray(draw_scene(Random(3), (900, 640))[0]).astype(int)
    differs = np.abs(painted[False] - painted[True]).sum(-1) > 0
    x1, y1, x2, y2 = hull(painted["car"])
    assert differs[inside(painted["car"], (900, 640))].mean() > 0.95
    rows, columns = np.nonzero(differs)
    reach = 0.8 / painted["metres"]
    # Half a pixel of tolerance around pixels, which reach from their number to the next.
    assert columns.min() + 1.5 > x1
    assert rows.min() + 1.5 > y1
    assert columns.max() - 0.5 < x2 + reach
    assert rows.max() - 0.5 < y2 + reach


def test_full_rows_agree_with_the_annotations_beside_the_picture(tmp_path):
    paths = make_uav(tmp_path, count=8, test_count=1, scale="full", sizes=[(800, 600)], questions=9)
    samples = read_samples(paths["train"])
    check_samples(samples)
    assert {sample.meta["task"] for sample in samples} == {
        "count", "presence", "transport", "colour", "place", "area", "comparison", "function", "locate",
    }  # fmt: skip
    for sample in samples:
        (picture,) = scene_pictures(tmp_path / "train" / f"{sample.meta['image']}.json")
        boxes = [pixel_box(thing) for thing in picture.view.things]
        near = lambda box, boxes=boxes: any(np.allclose(box, other, atol=0.02) for other in boxes)  # noqa: E731
        if sample.meta["task"] == "count":
            assert sample.target["count"] == len(sample.target["boxes"]) == int(sample.target["answer"])
            assert all(near(box) for box in sample.target["boxes"])
        if sample.meta["task"] == "locate":
            assert near(sample.target["box"])
        if sample.meta["task"] == "function":
            assert sample.target["answer"] == picture.view.function
    assert make_uav(
        tmp_path / "b", count=2, test_count=1, scale="full", sizes=[(640, 480)], tasks=["count"], think=True
    )
    (sample, *_) = read_samples(tmp_path / "b/train.jsonl")
    assert sample.messages[0]["content"][1]["text"].endswith("between <answer> and </answer>.")


def test_tiles_of_a_scene_show_what_their_rows_say(tmp_path):
    """Boxes of a tile's row, moved back, are those of the picture, clipped to the tile; so are the tile's pixels."""
    make_uav(tmp_path / "full", count=2, test_count=0, scale="full", sizes=[(1000, 700)])
    paths = make_uav_tiles(
        tmp_path / "cut", annotations=str(tmp_path / "full/train"), format="scenes", side=400, overlap=100,
        max_pixels=300 * 300, questions=6,
    )  # fmt: skip
    samples = read_samples(paths["train"])
    check_samples(samples)
    for sample in samples:
        tile = Tile(tuple(sample.meta["tile"]["box"]), tuple(sample.meta["tile"]["size"]))
        assert sample.media[0].size == tile.size
        whole = np.asarray(Image.open(sample.meta["image"]).crop(tile.box).resize(tile.size, Image.LANCZOS)).astype(int)
        assert np.abs(np.asarray(Image.open(sample.media[0].path)).astype(int) - whole).mean() < 4
        (picture,) = scene_pictures(tmp_path / "full/train" / f"{sample.id.split('-')[1]}.json")
        clipped = [hull(part) for thing in picture.view.things if (part := clip(thing.polygon, tile.box))]
        for box in [*sample.target.get("boxes", []), *([sample.target["box"]] if "box" in sample.target else [])]:
            assert any(np.allclose(tile.box_back(box), other, atol=0.03) for other in clipped)


def test_the_rule_for_cut_things_and_painted_regions():
    image, view = draw_scene(Random(1), (800, 600))
    for tile in tiles(image.size, side=300, overlap=60):
        shown = view_of(view, tile, 0.7)
        for thing in shown.things:
            x1, y1, x2, y2 = thing.box
            assert -1e-6 <= x1 < x2 <= tile.size[0] + 1e-6
            assert -1e-6 <= y1 < y2 <= tile.size[1] + 1e-6
        inner = {t.polygon for t in view.things if tile.box[0] <= t.box[0] and t.box[2] <= tile.box[2]
                 and tile.box[1] <= t.box[1] and t.box[3] <= tile.box[3]}  # fmt: skip
        assert sum(t.whole for t in shown.things) == sum(t.whole for t in view.things if t.polygon in inner)
        for kind in {thing.kind for thing in shown.things if thing.hard}:
            assert not shown.certain(kind)
    car = next(thing for thing in view.things if thing.kind == "car")
    x1, y1, x2, y2 = car.box
    hidden = replace(view, ignored=((x1 - 1, y1 - 1, x2 + 1, y2 + 1),))
    (whole,) = tiles(image.size, side=None)
    assert len(view_of(hidden, whole).of("car")) == len(view.of("car")) - 1
    half = replace(view, ignored=((x1 - 1, y1 - 1, (x1 + x2) / 2, y2 + 1),))
    assert view_of(half, whole).certain("car") is False
    assert view_of(replace(view, ignored=((0, 0, 1, 1),)), whole).certain("car") or any(
        t.hard for t in view_of(view, whole).of("car")
    )


def test_what_a_tile_maker_cannot_read_is_listed(tmp_path):
    make_uav(tmp_path / "full", count=3, test_count=0, scale="full", sizes=[(500, 400)])
    (tmp_path / "full/train/000000.jpg").write_bytes(b"")
    (tmp_path / "full/train/000001.json").write_text('{"things": [{"kind": "ufo"')
    paths = make_uav_tiles(tmp_path / "cut", annotations=str(tmp_path / "full/train"), format="scenes")
    problems = paths["train_problems"].read_text()
    assert "000000.jpg" in problems
    assert "000001.json" in problems
    assert {sample.meta["image"][-10:] for sample in read_samples(paths["train"])} == {"000002.jpg"}


def test_a_scene_survives_being_stored(tmp_path):
    _, view = draw_scene(Random(5), (640, 480))
    (tmp_path / "a.json").write_text(json.dumps(annotation(view)))
    (picture,) = scene_pictures(tmp_path / "a.json")
    assert [(t.kind, t.colour) for t in picture.view.things] == [(t.kind, t.colour) for t in view.things]
    assert np.allclose([t.box for t in picture.view.things], [t.box for t in view.things], atol=0.001)
    assert (picture.view.metres, picture.view.function) == (view.metres, view.function)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scale": "huge"}, "tiny, full"),
        ({"think": True}, "scale=full"),
        ({"scale": "full", "tasks": ["counts"]}, "count"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings, says):
    with pytest.raises(ConfigError, match=says):
        make_uav(tmp_path, count=1, test_count=1, **settings)


@pytest.mark.parametrize(("draw", "size"), [(draw_tiny, (32, 64)), (draw_scene, (200, 400)), (draw_scene, (5000, 400))])
def test_impossible_sizes_are_refused(draw, size):
    with pytest.raises(ValueError, match="sides are"):
        draw(Random(0), size)
