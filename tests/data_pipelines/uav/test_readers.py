"""HRVQA, VisDrone and DOTA: exact gold from the format samples, no question without a certain answer, no line fatal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from data_pipelines.dataset import check_samples, read_samples, write_samples
from data_pipelines.reading import Problem
from data_pipelines.uav.dota import dota_pictures, read_dota
from data_pipelines.uav.hrvqa import TASKS, read_hrvqa
from data_pipelines.uav.questions import Thing, View, area_bin, ask_about, direction
from data_pipelines.uav.tiles import corners
from data_pipelines.uav.visdrone import KINDS, read_visdrone, visdrone_pictures
from mmrl.plugins import ConfigError
from rewards.boxes import box_iou
from rewards.text import exact_match

FORMATS = Path(__file__).parents[1] / "formats"
READERS = {
    "hrvqa": (read_hrvqa, FORMATS / "hrvqa"),
    "visdrone": (read_visdrone, FORMATS / "visdrone/annotations"),
    "dota": (read_dota, FORMATS / "dota/labelTxt"),
}


def text_of(row):
    return row["messages"][0]["content"][1]["text"]


def split(items):
    """Rows without `where`, which is not written, and problems."""
    items = list(items)
    for item in items:
        assert isinstance(item, Problem) or item.pop("where")
    return [i for i in items if not isinstance(i, Problem)], [i for i in items if isinstance(i, Problem)]


@pytest.mark.parametrize("name", READERS)
def test_the_sample_becomes_rows_that_load_and_earn_full_reward(tmp_path, name):
    """The gold answer, given in the form the prompt asks for, earns 1."""
    read, annotations = READERS[name]
    rows, problems = split(read(annotations))
    assert rows
    assert not problems
    samples = read_samples(write_samples(tmp_path / "rows.jsonl", rows))
    check_samples(samples)
    for sample in samples:
        assert sample.meta["source"] == name
        if sample.meta["task"] == "locate":
            assert box_iou(f"<think>hm</think><answer>{sample.target['box']}</answer>", sample).value == pytest.approx(
                1
            )
        else:
            answer = f"<think>so</think> <answer>{sample.target['answer']}</answer>"
            assert exact_match(answer, sample, normalise="vqa").value == 1


@pytest.mark.parametrize("read", [
    lambda path: visdrone_pictures(path, ignored="empty", occluded="count"),
    lambda path: dota_pictures(path, difficult="count", version="1.0"),
], ids=["visdrone", "dota"])  # fmt: skip
def test_the_pictures_of_the_samples_show_what_is_annotated(read, request):
    """The middle of every outline is of another colour than the ground around all of them."""
    _, annotations = READERS[request.node.callspec.id]
    for label in sorted(annotations.iterdir()):
        (picture,) = read(label)
        (file,) = annotations.with_name("images").glob(f"{picture.name}.*")
        image = Image.open(file).convert("RGB")
        ground = np.median(np.asarray(image).reshape(-1, 3), axis=0)
        assert picture.view.things
        for thing in picture.view.things:
            x1, y1, x2, y2 = thing.box
            middle = image.getpixel((int((x1 + x2) / 2), int((y1 + y2) / 2)))
            assert np.abs(np.array(middle) - ground).max() > 30


@pytest.mark.parametrize("name", READERS)
def test_reading_twice_gives_the_same_rows(name):
    read, annotations = READERS[name]
    assert list(read(annotations)) == list(read(annotations))


def test_hrvqa_golden():
    rows, _ = split(read_hrvqa(FORMATS / "hrvqa"))
    assert [row["meta"]["question_type"] for row in rows] == list(TASKS)
    assert rows[0] == {
        "id": "hrvqa-10",
        "messages": [{"role": "user", "content": [
            {"type": "image", "image": str((FORMATS / "hrvqa/images/1.png").absolute())},
            {"type": "text", "text": "how many cars are there? Answer with a number.\nThink between <think> and "
                                     "</think>, then give only the answer between <answer> and </answer>."},
        ]}],
        "target": {"answer": "3", "count": 3},
        "meta": {"task": "count", "question_type": "numbers", "source": "hrvqa", "split": "train",
                 "coordinates": "pixel"},
    }  # fmt: skip
    answers = [row["target"]["answer"] for row in rows]
    assert answers == ["3", "no", "between 10m2 and 100m2", "field", "top left", "gray", "rectangular",
                       "tennis or soccer", "boat", "residential area"]  # fmt: skip
    (kept,) = read_hrvqa(FORMATS / "hrvqa", types=["areas"], areas="exact", think=False)
    assert kept["target"] == {"answer": "100m2", "area": 100.0}
    assert text_of(kept) == "what is the area of the building?\nGive only the answer."


@pytest.mark.parametrize(
    ("area", "name"),
    [(0, "0m2"), (0.5, "between 0m2 and 10m2"), (10, "between 0m2 and 10m2"), (10.01, "between 10m2 and 100m2"),
     (100, "between 10m2 and 100m2"), (1000, "between 100m2 and 1000m2"), (1000.5, "more than 1000m2")],
)  # fmt: skip
def test_area_ranges_include_their_upper_end(area, name):
    assert area_bin(area) == name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"q": {"question": " "}}, "question is empty"),
        ({"q": {"question": 5}}, "no text: 5"),
        ({"q": {"question_type": "colour"}}, "'colour' is none of"),
        ({"q": {"question_id": None}}, "question_id is a whole number"),
        ({"q": {"image_id": True}}, "image_id is a whole number"),
        ({"q": {"image_id": 9}}, "item 0 has 1 for the same question"),
        ({"a": {"multiple_choice_answer": ""}}, "multiple_choice_answer is empty"),
        ({"a": {"question_id": 99}}, "no answer has question_id 10"),
        ({"q": {"question_type": "areas"}}, "written as 57m2; found '3'"),
    ],
)
def test_a_bad_question_or_answer_of_hrvqa_is_named_and_the_others_are_kept(tmp_path, change, says):
    question = {"question_id": 10, "image_id": 1, "question": "how many?", "question_type": "numbers"}
    answer = {"question_id": 10, "image_id": 1, "multiple_choice_answer": "3"}
    good = [question | {"question_id": 20}], [answer | {"question_id": 20}]
    (tmp_path / "val_question.json").write_text(json.dumps({"questions": [question | change.get("q", {}), *good[0]]}))
    (tmp_path / "val_answer.json").write_text(json.dumps({"annotations": [answer | change.get("a", {}), *good[1]]}))
    rows, problems = split(read_hrvqa(tmp_path, split="val"))
    assert [row["id"] for row in rows] == ["hrvqa-20"]
    assert any(says in problem.message for problem in problems), problems


def test_hrvqa_without_answers_or_cut_in_half_says_so(tmp_path):
    shutil.copytree(FORMATS / "hrvqa", tmp_path / "h")
    text = (tmp_path / "h/train_answer.json").read_text()
    (tmp_path / "h/train_answer.json").write_text(text[: len(text) // 2])
    with pytest.raises(ConfigError, match="not valid JSON"):
        list(read_hrvqa(tmp_path / "h"))
    with pytest.raises(ConfigError, match=r"no test_answer\.json"):
        list(read_hrvqa(tmp_path / "h", split="test"))
    with pytest.raises(ConfigError, match="Did you mean color"):
        list(read_hrvqa(tmp_path / "h", types=["colour"]))


def picture(read, **settings):
    items = list(read(**settings))
    return items[-1].view, items[:-1]


def test_visdrone_boxes_categories_and_ignored_regions():
    folder = FORMATS / "visdrone/annotations"
    view, problems = picture(
        lambda **s: visdrone_pictures(folder / "0000001_02999_d_0000005.txt", **s), ignored="skip", occluded="skip"
    )
    assert not problems  # the line that ends with a comma is a line
    assert [(thing.kind, thing.box, thing.hard) for thing in view.things] == [
        ("car", (406, 119, 671, 189), False), ("car", (255, 22, 374, 150), True), ("bus", (1, 3, 210, 81), False),
    ]  # fmt: skip
    assert view.ignored == ((684, 8, 957, 124),)
    assert not any(view.certain(kind) for kind in KINDS)
    view, _ = picture(
        lambda **s: visdrone_pictures(folder / "0000001_02999_d_0000005.txt", **s), ignored="empty", occluded="skip"
    )
    assert view.certain("bus")
    assert not view.certain("car")
    view, _ = picture(
        lambda **s: visdrone_pictures(folder / "0000002_00005_d_0000014.txt", **s), ignored="skip", occluded="skip"
    )
    assert [len(view.of(kind)) for kind in ("person", "car", "bus")] == [2, 2, 1]  # `people` are persons, 11 is nothing
    assert len(view.things) == 5


def test_visdrone_golden_rows():
    rows, _ = split(read_visdrone(FORMATS / "visdrone/annotations", questions=40, think=False))
    told = {text_of(row).split("\n")[0]: row["target"] for row in rows if "_00005_d" in row["id"]}
    assert told["How many cars are there?"] == {
        "answer": "2", "count": 2, "boxes": [[10, 20, 40, 60], [100, 24, 130, 64]],
    }  # fmt: skip
    assert told["How many people are there?"]["count"] == 2
    assert told["Where is the bus? Answer with its box [x1, y1, x2, y2] in pixels."] == {
        "box": [400, 300, 460, 330], "point": [430, 315],
    }  # fmt: skip
    assert told["Is there a truck in the picture?"] == {"answer": "no"}
    ignored = {text_of(row).split("\n")[0]: row["target"] for row in rows if "_02999_d" in row["id"]}
    assert set(ignored) == {"Is there a car in the picture?", "Is there a bus in the picture?"}
    assert {target["answer"] for target in ignored.values()} == {"yes"}


@pytest.mark.parametrize(
    ("line", "says", "unsure"),
    [
        ("1,2,3", "3 fields", None),
        ("1,1,10,20,30,40,1,4,0,0", "ten are VisDrone-VID", None),
        ("10,20,x,40,1,4,0,0", "found 'x'", None),
        ("10,20,nan,40,1,4,0,0", "found 'nan'", None),
        ("611,158,4,0,1,4,0,0", "width and height are positive", "car"),
        ("-5,158,4,9,1,4,0,0", "not negative", "car"),
        ("10,20,30,40,1,12,0,0", "category 12", None),
        ("10,20,30,40,1,4,0,3", "0 to 2", "car"),
    ],
)
def test_a_bad_line_of_visdrone_costs_no_more_than_certainty(tmp_path, line, says, unsure):
    label = tmp_path / "a.txt"
    label.write_text(f"10,20,30,40,1,9,0,0\n{line}\n50,60,30,40,1,4,0,0\n")
    *problems, found = visdrone_pictures(label, ignored="skip", occluded="skip")
    (problem,) = problems
    assert says in problem.message
    assert problem.where.endswith("line 2")
    assert [thing.kind for thing in found.view.things] == ["bus", "car"]
    assert not found.view.certain("car")
    assert found.view.certain("bus") is (unsure is not None)


def test_an_empty_label_file_is_no_picture_without_objects(tmp_path):
    (tmp_path / "a.txt").write_text("\n")
    for read in (read_visdrone, read_dota):
        (problem,) = read(tmp_path)
        assert problem.kind == "empty label file"
    with pytest.raises(ConfigError, match=r"no \*.txt"):
        list(read_visdrone(FORMATS))


def test_dota_polygons_difficulty_ground_and_function():
    view, problems = picture(
        lambda **s: dota_pictures(FORMATS / "dota/labelTxt/P0001.txt", **s), difficult="skip", version="1.0"
    )
    assert not problems
    assert [thing.kind for thing in view.things] == ["plane", "plane", "small vehicle", "storage tank"]
    assert view.things[1].polygon == ((200, 110), (220, 90), (240, 110), (220, 130))
    assert view.things[1].box == (200, 90, 240, 130)
    assert [thing.hard for thing in view.things] == [False, False, True, False]
    assert (view.metres, view.function) == (0.5, None)  # planes and a storage tank: no single function
    view, _ = picture(
        lambda **s: dota_pictures(FORMATS / "dota/labelTxt/P0002.txt", **s), difficult="skip", version="2.0"
    )
    assert (view.metres, view.function) == (None, "shipping")
    assert {"container crane", "helipad"} <= set(view.kinds)


def test_dota_golden_rows():
    rows, _ = split(read_dota(FORMATS / "dota/labelTxt", questions=60, think=False))
    told = {text_of(row).split("\n")[0]: row["target"] for row in rows if "P0001" in row["id"]}
    assert told["How many planes are there?"] == {"answer": "2", "count": 2}
    # 40 x 40 pixels of 0.5 m
    (ground,) = (
        target for question, target in told.items() if question.startswith("How large is the area of the storage")
    )
    assert ground == {"answer": "between 100m2 and 1000m2", "area": 400.0}
    assert not any("small vehicle" in question and "How many" in question for question in told)
    assert told.get("Is there a small vehicle in the picture?") is None  # a difficult one is neither there nor absent
    counted, _ = split(read_dota(FORMATS / "dota/labelTxt", questions=60, tasks=["count"], difficult="count"))
    assert "How many small vehicles are there?" in {text_of(row).split("\n")[0] for row in counted}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("10 10 50 10 50 30 10 30 ship", "9 fields"),
        ("10 10 50 10 50 30 10 30 spaceship 0", "'spaceship' is none of"),
        ("10 10 50 10 50 30 10 30 helipad 0", "later version"),
        ("10 10 50 10 50 30 10 inf ship 0", "found 'inf'"),
        ("10 10 50 10 50 30 10 30 ship 7", "difficulty 7"),
        ("10 10 50 30 50 10 10 30 ship 0", "crosses itself"),
        ("10 10 50 10 50 10 10 10 ship 0", "no area"),
        ("-10 -10 -5 -10 -5 -3 -10 -3 ship 0", "outside the picture"),
        ("gsd:-3", "gsd"),
    ],
)
def test_a_bad_line_of_dota_is_named_and_claims_nothing(tmp_path, line, says):
    label = tmp_path / "a.txt"
    label.write_text(f"gsd:0.2\n{line}\n10 110 50 110 50 130 10 130 ship 0\n10 210 50 210 50 230 10 230 ship 0\n")
    *problems, found = dota_pictures(label, difficult="skip", version="1.0")
    (problem,) = problems
    assert says in problem.message
    assert len(found.view.things) == 2
    assert found.view.function is None
    assert found.view.certain("ship") is (line.startswith("gsd") or "spaceship" in line or "helipad" in line)


def random_view(rng):
    """A view with hard things, unsure kinds and ignored regions now and then."""
    kinds = {"car": "cars", "bus": "buses", "plane": "planes", "ship": "ships", "pool": "pools"}
    things = []
    for _ in range(rng.randint(0, 9)):
        x, y = rng.randint(0, 900), rng.randint(0, 900)
        box = corners((x, y, x + rng.randint(5, 80), y + rng.randint(5, 80)))
        things.append(
            Thing(rng.choice(list(kinds)[:4]), box, rng.choice([None, "red", "blue"]), hard=rng.random() < 0.1)
        )
    return View(
        tuple(things),
        kinds,
        frozenset(list(kinds)[:4]),
        unsure=frozenset(rng.sample(list(kinds), rng.choice([0, 0, 1]))),
        complete=rng.random() < 0.9,
        ignored=((0, 0, 9, 9),) if rng.random() < 0.1 else (),
        metres=0.3,
    )


def test_no_answer_depends_on_what_is_not_known():
    """Whatever is unknown is made up in many ways; the answers stay right in all of them.

    Worlds that agree with a view: each hard thing is there or not; unsure kinds, and all kinds of a view that is
    incomplete or has ignored regions, may have further things. Counting and absence are worked out anew in each.
    """
    rng = Random(7)
    asked = 0
    for _ in range(300):
        view = random_view(rng)
        questions = list(ask_about(view, rng, number=12))
        for _ in range(4):
            world = [thing for thing in view.things if not thing.hard or rng.random() < 0.5]
            open_kinds = list(view.kinds) if view.ignored or not view.complete else list(view.unsure)
            extra = (
                [Thing(rng.choice(open_kinds), corners((1, 1, 3, 3)), "red") for _ in range(2)] if open_kinds else []
            )
            world += extra
            for question in questions:
                asked += 1
                singular = {plural: kind for kind, plural in view.kinds.items()}
                words = question.text.replace("?", "").replace(".", "").split()
                if question.task == "count":
                    kind, colour = singular[words[-3]], words[2] if words[2] in ("red", "blue") else None
                    number = sum(t.kind == kind and colour in (None, t.colour) for t in world)
                    assert question.answer == str(number) == str(question.gold["count"])
                elif question.task == "presence":
                    assert (question.answer == "yes") is any(t.kind == words[3] for t in world)
                elif question.task == "transport":
                    options = question.text.split(": ")[1].rstrip("?").replace(" or ", ", ").split(", ")
                    assert [o for o in options if any(t.kind == o for t in world)] == [question.answer]
                elif question.task == "comparison" and words[0] == "Are":
                    a, b = (sum(t.kind == singular[w] for t in world) for w in (words[3], words[6]))
                    assert question.answer == ("equal" if a == b else words[3] if a > b else words[6])
                elif question.task in ("colour", "locate"):
                    name = words[4] if question.task == "colour" else question.text.split("?")[0].split("the ")[1]
                    *colour, kind = name.split()
                    assert sum(t.kind == kind and colour in ([], [t.colour]) for t in world) == 1
    assert asked > 3000


@pytest.mark.parametrize(
    ("a", "b", "where"),
    [((0, 0, 10, 10), (50, 5, 60, 15), "left"), ((50, 5, 60, 15), (0, 0, 10, 10), "right"),
     ((0, 0, 10, 10), (4, 90, 9, 99), "above"), ((4, 90, 9, 99), (0, 0, 10, 10), "below"),
     ((0, 0, 10, 10), (50, 40, 60, 50), None), ((0, 0, 60, 10), (50, 0, 130, 10), None)],
)  # fmt: skip
def test_where_one_thing_is_seen_from_another(a, b, where):
    """Above is towards the upper edge; diagonal or overlapping things have no clear answer."""
    assert direction(Thing("a", corners(a)), Thing("b", corners(b))) == where


def test_settings_that_do_not_exist_are_refused():
    for settings, says in (
        ({"tasks": ["colours"]}, "Did you mean colour"),
        ({"coordinates": "cm"}, "coordinates = cm"),
    ):
        with pytest.raises(ConfigError, match=says):
            list(read_dota(FORMATS / "dota/labelTxt", **settings))
    with pytest.raises(ConfigError, match="ignored = no"):
        list(read_visdrone(FORMATS / "visdrone/annotations", ignored="no"))
    with pytest.raises(ConfigError, match=r"version = 3"):
        list(read_dota(FORMATS / "dota/labelTxt", version="3"))
