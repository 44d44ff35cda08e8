"""ScreenSpot v1, v2, Pro, AndroidControl and AITZ: rows from the format samples, the traps, and bad annotations."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from data_pipelines.check import check
from data_pipelines.convert import convert
from data_pipelines.dataset import read_samples
from data_pipelines.gui.aitz import read_aitz
from data_pipelines.gui.android_control import read_android_control
from data_pipelines.gui.screenspot import read_screenspot
from data_pipelines.makers import READERS
from data_pipelines.reading import Problem
from mmrl.plugins import ConfigError, build
from rewards.actions import aitz_action, ui_action
from rewards.boxes import point_in_box

FORMATS = Path(__file__).parents[1] / "formats"
MEDIA = Path("/media")
EPISODE = "aitz/google_apps/GOOGLE_APPS-1001/GOOGLE_APPS-1001.json"
TASK = 'open the app "Clock" and set a timer'


def rows_of(reader, source, **settings):
    """Without `where`, which is not written."""
    items = list(reader(source, media=MEDIA, **settings))
    for item in items:
        assert isinstance(item, Problem) or item.pop("where")
    return items


def annotate(folder, *items, name="items.json"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(items)))
    return path


def item_of(name, number=0):
    return json.loads((FORMATS / name).read_text())[number]


def text_of(row):
    return "\n".join(part["text"] for part in row["messages"][0]["content"] if part["type"] == "text")


def image_of(row):
    return next(part["image"] for part in row["messages"][0]["content"] if part["type"] == "image")


def as_samples(rows, folder, size):
    """The rows as training sees them, over black images of one size."""
    for row in rows:
        for message in row["messages"]:
            for part in message["content"] if isinstance(message["content"], list) else []:
                if part["type"] == "image":
                    part["image"] = str(folder / Path(part["image"]).relative_to("/media"))
                    Path(part["image"]).parent.mkdir(parents=True, exist_ok=True)
                    Image.new("RGB", size).save(part["image"])
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_samples(path)


@pytest.mark.parametrize(
    ("name", "source", "count"),
    [
        ("screenspot", "screenspot", 3),
        ("screenspot", "screenspot-pro", 1),
        ("android-control", "android-control/train.json", 3),
        ("android-control", "android-control/test.json", 5),
        ("aitz", "aitz", 8),
    ],
)
def test_every_format_converts_to_rows_that_pass_the_check(tmp_path, name, source, count):
    rows = rows_of(build({"name": name, "media": "."}, READERS, kind="format", where="t").plugin, FORMATS / source)
    for row in rows:
        path = tmp_path / "media" / Path(image_of(row)).relative_to("/media")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (384, 216) if "pro" in source else (1080, 2400)).save(path)
    stage = build({"name": name, "media": str(tmp_path / "media")}, READERS, kind="format", where="test")
    progress = convert(stage, [str(FORMATS / source)], tmp_path / "x.jsonl", decode=True)
    assert (progress.rows, progress.problems) == (count, 0)
    report = check(tmp_path / "x.jsonl", decode=True, need_target=True)
    assert report.passed and report.rows == count
    if name == "aitz":
        assert all(sample.coordinates == "norm1" for sample in read_samples(tmp_path / "x.jsonl"))


# -- ScreenSpot ----------------------------------------------------------------------------------------------------


def test_v1_and_v2_hold_width_and_height():
    mobile, icon, web = rows_of(read_screenspot, FORMATS / "screenspot")
    assert mobile == {
        "id": "screenspot_mobile-0",
        "messages": [{"role": "user", "content": [
            {"type": "image", "image": "/media/mobile_1.png"},
            {"type": "text", "text": "In this screenshot, where do you click for: tap Save? "
                                     "Answer with the point (x, y) in pixels."},
        ]}],
        "target": {"box": [10, 20, 110, 60], "point": [60, 40]},
        "meta": {"task": "gui", "source": "screenspot", "split": "test", "data_type": "text", "data_source": "ios",
                 "coordinates": "pixel"},
    }  # fmt: skip
    assert icon["target"]["box"] == [60, 8, 84, 32]
    assert web["meta"]["source"] == "screenspot-v2" and web["target"]["box"] == [5, 6, 35, 18]


def test_pro_holds_corners():
    (row,) = rows_of(read_screenspot, FORMATS / "screenspot-pro", coordinates="norm1000", prompt="{instruction}?{unit}")
    assert row["id"] == "cad_3" and image_of(row) == "/media/cad/3.png"
    assert row["target"] == {"box": [300, 120, 340, 150], "point": [320, 135]}
    assert row["meta"] == {
        "task": "gui", "source": "screenspot-pro", "split": "test", "data_type": "icon", "platform": "windows",
        "application": "autocad", "group": "CAD", "ui_type": "icon", "coordinates": "norm1000",
    }  # fmt: skip
    assert text_of(row) == "measure tool?, on a scale from 0 to 1000"


@pytest.mark.parametrize("convention", ["pixel", "seen", "norm1", "norm1000"])
def test_the_centre_of_a_screenspot_box_is_a_hit_in_every_convention(tmp_path, convention):
    rows = rows_of(read_screenspot, FORMATS / "screenspot-pro", coordinates=convention)
    (sample,) = as_samples(rows, tmp_path, (384, 216))
    if convention != "seen":  # which needs a policy's budget
        scale = {"pixel": (1, 1), "norm1": (1 / 384, 1 / 216), "norm1000": (1000 / 384, 1000 / 216)}[convention]
        x, y = (value * factor for value, factor in zip(sample.target["point"], scale, strict=True))
        assert point_in_box(f"({x:.4f}, {y:.4f})", sample).value == 1
        assert point_in_box(f"({y:.4f}, {x:.4f})", sample).value == 0


V1 = item_of("screenspot/screenspot_mobile.json")
PRO = item_of("screenspot-pro/autocad_windows.json")


@pytest.mark.parametrize(
    ("item", "variant", "said"),
    [
        (V1 | {"bbox": [10, 20, 0, 40]}, "auto", r"read as \[x, y, width, height\] \(v1\), is no box"),
        (V1 | {"bbox": [-1, 20, 5, 40]}, "auto", "none below 0"),
        (V1 | {"bbox": [10, 20]}, "auto", r"`bbox` is a list of 4 numbers; found \[10, 20\]"),
        (V1 | {"bbox": "10 20 3 4"}, "auto", "`bbox` is a list"),
        (V1 | {"bbox": [1, 2, True, 4]}, "auto", "`bbox` is a list"),
        (V1 | {"bbox": [1, 2, 1e400, 4]}, "auto", "`bbox` is a list"),
        (V1 | {"instruction": " "}, "auto", "`instruction` is a text that is not empty"),
        (V1 | {"img_filename": "../../etc/passwd"}, "auto", "is not a file of"),
        (V1 | {"img_filename": "/etc/passwd"}, "auto", "is not a file of"),
        ({key: V1[key] for key in V1 if key != "data_type"}, "auto", "`data_type` .* no such key .keys: bbox"),
        (V1, "pro", "there is no `img_size`; is this ScreenSpot-Pro"),
        (PRO, "v1", "`data_type` .* no such key"),
        (PRO | {"bbox": [300, 120, 40, 30]}, "auto", r"read as \[x1, y1, x2, y2\] \(pro\), is no box"),
        (PRO | {"bbox": [300, 120, 400, 150]}, "auto", "leaves the image of 384 x 216"),
        (["no", "object"], "auto", "an item is an object"),
    ],
)
def test_a_bad_screenspot_item_is_named_and_the_next_one_read(tmp_path, item, variant, said):
    good = PRO if variant == "pro" else V1
    path = annotate(tmp_path, item, good)
    problem, row = rows_of(read_screenspot, path, variant=variant)
    assert isinstance(problem, Problem) and problem.where == f"{path}, item 0"
    assert row["id"] == good.get("id", "items-1")
    assert re.search(said, problem.message)


def test_boxes_read_in_the_wrong_form_are_found_against_the_image(tmp_path):
    """Corners in a file of v1 cannot be told from width and height until the image is there."""
    Image.new("RGB", (384, 216)).save(tmp_path / "a.png")
    path = annotate(tmp_path, V1 | {"img_filename": "a.png", "bbox": [300, 120, 340, 150]})
    stage = build({"name": "screenspot", "media": str(tmp_path)}, READERS, kind="format", where="test")
    progress = convert(stage, [str(path)], tmp_path / "x.jsonl")
    assert progress.rows == 0 and progress.kinds == {"boxes outside": 1}


@pytest.mark.parametrize("text", ["", "3", '"a"', '[{"img_filename": "a.png", '])
@pytest.mark.parametrize("reader", [read_screenspot, read_android_control, read_aitz])
def test_a_file_of_another_kind_is_refused(tmp_path, text, reader):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.json"):
        rows_of(reader, tmp_path / "x.json")


@pytest.mark.parametrize("reader", [read_screenspot, read_aitz])
def test_a_folder_without_annotations_is_refused(tmp_path, reader):
    with pytest.raises(ConfigError, match=r"no \*\.json"):
        rows_of(reader, tmp_path)


@pytest.mark.parametrize(
    ("reader", "item"), [(read_screenspot, "screenspot/screenspot_mobile.json"), (read_aitz, None)]
)
def test_a_cut_file_of_a_folder_costs_its_own_rows_only(tmp_path, reader, item):
    text = (FORMATS / (item or EPISODE)).read_text()
    (tmp_path / "1.json").write_text(text[: text.rindex("{") + 5])
    (tmp_path / "2.json").write_text(text)
    whole = len(json.loads(text))
    found = rows_of(reader, tmp_path)
    problems = [one for one in found if isinstance(one, Problem)]
    assert [problem.where for problem in problems] == [str(tmp_path / "1.json")]
    assert len(found) == 2 * whole and "not valid JSON" in problems[0].message


@pytest.mark.parametrize("settings", [{"prompt": "{what}?"}, {"prompt": "{}"}, {"coordinates": "norm100"}])
def test_settings_of_screenspot_that_make_no_sense(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        rows_of(read_screenspot, FORMATS / "screenspot", **settings)


# -- AndroidControl ------------------------------------------------------------------------------------------------


def test_the_training_list_of_ui_r1(tmp_path):
    click, scroll, back = rows = rows_of(read_android_control, FORMATS / "android-control/train.json")
    assert click["target"] == {"action": "click", "box": [100, 200, 180, 260], "point": [140, 230]}
    assert scroll["target"] == {"action": "scroll"} and back["target"] == {"action": "navigate_back"}
    assert click["meta"] == {
        "task": "ui_action", "source": "android-control", "split": "train", "coordinates": "seen",
    }  # fmt: skip
    text = text_of(click)
    assert "the command 'open settings'" in text and "<think>" in text
    assert "<answer>[{'action': enum, 'coordinate': [x, y]}]</answer>" in text
    assert all(action in text for action in ("click", "open_app", "scroll", "navigate_back", "input_text"))
    assert as_samples(rows, tmp_path, (1080, 2400))[0].id.startswith("train-0@")


def test_a_right_answer_to_a_training_row_has_the_full_reward(tmp_path):
    rows = rows_of(read_android_control, FORMATS / "android-control/train.json", coordinates="norm1000")
    click, scroll, _ = as_samples(rows, tmp_path, (1000, 500))
    answer = "<think>it is there</think><answer>[{{'action': '{}', 'coordinate': [{}, {}]}}]</answer>"
    assert ui_action(answer.format("click", 140, 460), click).value == 3
    assert ui_action(answer.format("click", 460, 140), click).value == 2
    assert ui_action(answer.format("scroll", 0, 0), scroll).value == 3


def test_the_test_list_of_ui_r1():
    click, typed, scroll, opened, back = rows_of(read_android_control, FORMATS / "android-control/test.json")
    assert click["target"] == {"action": "click", "point": [540, 1210]}
    assert typed["target"] == {"action": "input_text", "value": "running shoes"}
    assert scroll["target"] == {"action": "scroll", "value": "down"}
    assert opened["target"] == {"action": "open_app", "value": "Clock"}
    assert back["target"] == {"action": "navigate_back"}
    assert image_of(click) == "/media/episode_7-screenshot_1.png"


@pytest.mark.parametrize(
    ("x", "y", "box"),
    [
        (540, 1210, [390, 1060, 690, 1360]),
        (10, 2390, [0, 2240, 160, 2400]),
        (1080, 0, [930, 0, 1081, 150]),
        (2000, 500, [1850, 350, 2150, 650]),
    ],
)
def test_reach_draws_a_box_around_a_click_inside_the_screen(tmp_path, x, y, box):
    path = annotate(tmp_path, {"image": "a.png", "gt": {"action_type": "click", "x": x, "y": y}, "task": "tap"})
    (row,) = rows_of(read_android_control, path, reach=150)
    assert row["target"] == {"action": "click", "point": [x, y], "box": box}


def test_the_prompt_of_ui_r1_e_knows_clicks_only():
    (row,) = rows_of(read_android_control, FORMATS / "android-control/train.json", think=False, clicks_only=True)
    text = text_of(row)
    assert "<answer>[{'action': 'click', 'coordinate': [x, y]}]</answer>" in text
    assert "<think>" not in text and "scroll" not in text


TRAIN, TEST = item_of("android-control/train.json"), item_of("android-control/test.json")


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (TRAIN | {"bbox": [180, 200, 100, 260]}, "x1 < x2"),
        (TRAIN | {"bbox": [100, 200, 180]}, "4 numbers"),
        (TRAIN | {"action": "scroll"}, "makes it a click"),
        ({"img_filename": "a.png", "instruction": "x"}, "`action` is a text"),
        ({"img_filename": "a.png", "instruction": "x", "action": "click"}, "a click needs `bbox`"),
        ({"img_filename": "a.png", "instruction": "x", "action": "tap"}, "none of UI-R1's actions"),
        (TEST | {"gt": {"action_type": "click", "x": 540}}, "`y` is a number; found no such key"),
        (TEST | {"gt": {"action_type": "click", "x": "540", "y": 3}}, "`x` is a number"),
        (TEST | {"gt": {"action_type": "click", "x": -4, "y": 3}}, "outside the screen"),
        (TEST | {"gt": {"action_type": "scroll"}}, "`direction` is a text"),
        (TEST | {"gt": {"action_type": "wait"}}, "none of UI-R1's actions"),
        (TEST | {"gt": "click"}, "`gt` is an object"),
        (TEST | {"image": "../x.png"}, "is not a file of"),
        (7, "an item is an object"),
    ],
)
def test_a_bad_android_control_item_is_named(tmp_path, item, said):
    path = annotate(tmp_path, item, TRAIN)
    problem, row = rows_of(read_android_control, path)
    assert isinstance(problem, Problem) and problem.where == f"{path}, item 0" and said in problem.message
    assert row["id"] == "items-1"


# -- AITZ ----------------------------------------------------------------------------------------------------------


def test_steps_of_aitz_keep_y_before_x():
    rows = rows_of(read_aitz, FORMATS / "aitz")
    assert [row["target"] for row in rows] == [
        {"action": "PRESS HOME"},
        {"action": "SCROLL UP"},  # type 4 with a lift of its own: the description says scroll
        {"action": "CLICK", "position": [0.5, 0.62]},
        {"action": "TYPE", "value": "5 minutes"},
        {"action": "PRESS ENTER"},
        {"action": "STATUS_TASK_COMPLETE"},
        {"action": "PRESS BACK"},
        {"action": "STATUS_TASK_IMPOSSIBLE"},
    ]
    click = rows[2]
    assert click["id"] == "aitz-google_apps-1001-2"
    assert image_of(click) == "/media/google_apps/GOOGLE_APPS-1001/GOOGLE_APPS-1001_2.png"
    assert click["meta"] == {
        "task": "aitz_action", "source": "aitz", "split": "train", "coordinates": "norm1", "order": "yx",
        "episode_id": "1001", "step_id": 2, "episode_length": 6, "subset": "google_apps",
    }  # fmt: skip
    before, image, after = click["messages"][0]["content"]
    assert f"Task: {TASK}" in before["text"] and "[y, x]" in before["text"] and "[x, y]" not in before["text"]
    assert image["type"] == "image" and after["text"].endswith("Next action:")
    assert "STATUS_TASK_COMPLETE" in before["text"]  # as the label is spelled


def test_history_is_that_of_the_episode_and_at_most_four_steps():
    rows = rows_of(read_aitz, FORMATS / "aitz")
    first, last, other = (rows[i]["messages"][0]["content"][2]["text"] for i in (0, 5, 6))
    assert first == "Action history:\nnone\nNext action:"
    assert last == (
        "Action history:\n"
        "Step1: {'action': 'SCROLL UP', 'value': None, 'position': None}\n"
        "Step2: {'action': 'CLICK', 'value': None, 'position': [0.5, 0.62]}\n"
        "Step3: {'action': 'TYPE', 'value': '5 minutes', 'position': None}\n"
        "Step4: {'action': 'PRESS ENTER', 'value': None, 'position': None}\n"
        "Next action:"
    )
    assert other == first  # another episode
    assert "Step" not in text_of(rows_of(read_aitz, FORMATS / "aitz", history=0)[5])


@pytest.mark.parametrize(("order", "position"), [("yx", [0.5, 0.62]), ("xy", [0.62, 0.5])])
def test_prompt_history_label_and_reward_share_one_order(tmp_path, order, position):
    rows = rows_of(read_aitz, FORMATS / "aitz", order=order, answers=True)
    assert rows[2]["target"]["position"] == position
    assert f"'position': {position}" in text_of(rows[3])
    pair = "[y, x]" if order == "yx" else "[x, y]"
    assert f"The position {pair}" in text_of(rows[2])
    samples = as_samples(rows, tmp_path, (100, 200))
    for row, sample in zip(rows, samples, strict=True):
        most = 3 if sample.target["action"] == "CLICK" else 2
        assert aitz_action(row["messages"][-1]["content"], sample).value == most


def test_answers_are_the_thought_and_the_label():
    row = rows_of(read_aitz, FORMATS / "aitz", answers=True)[2]
    assert row["messages"][1] == {
        "role": "assistant",
        "content": "<think>The clock is in the list.</think>"
        "<action>{'action': 'CLICK', 'value': None, 'position': [0.5, 0.62]}</action>",
    }
    row = rows_of(read_aitz, FORMATS / "aitz", answers=True, style="action")[2]
    assert row["messages"][1]["content"].startswith("<action>") and "<think>" not in text_of(row)


def test_a_file_with_a_list_of_episodes_holds_the_same_steps(tmp_path):
    episodes = [json.loads(path.read_text()) for path in sorted((FORMATS / "aitz").rglob("*.json"))]
    assert rows_of(read_aitz, annotate(tmp_path, *episodes)) == rows_of(read_aitz, FORMATS / "aitz")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"result_lift_yx": "[-1.0, -1.0]"}, "shares from 0 to 1"),
        ({"result_lift_yx": "[120, 640]"}, "shares from 0 to 1"),
        ({"result_lift_yx": "[0.5, 0.6"}, "shares from 0 to 1"),
        ({"result_lift_yx": "__import__('os')"}, "shares from 0 to 1"),
        ({"result_lift_yx": "[" * 150}, "shares from 0 to 1"),
        ({"result_lift_yx": None}, "shares from 0 to 1"),
        ({"coat_action_desc": "scroll"}, "a scroll goes up, down, left, right"),
        ({"coat_action_desc": "Scroll sideways"}, "a scroll goes"),
        ({"result_action_type": 2}, "`result_action_type` is one of"),
        ({"result_action_type": "four"}, "`result_action_type` is one of"),
        ({"result_action_type": 3, "result_action_text": ""}, "`result_action_text` is a text"),
        ({"image_path": "../../secret.png"}, "is not a file of"),
        ({"instruction": ""}, "`instruction` is a text"),
    ],
)
def test_a_bad_step_is_named_and_leaves_a_gap_in_the_history(tmp_path, change, said):
    steps = [item_of(EPISODE, number) for number in range(4)]
    steps[2] |= change
    _, _, problem, row = rows_of(read_aitz, annotate(tmp_path, *steps))
    assert isinstance(problem, Problem) and problem.where.endswith("item 2") and said in problem.message
    assert "Step2: (not recorded)\n" in text_of(row)
