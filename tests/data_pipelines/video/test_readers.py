"""Readers of video data sets, run on samples in the published formats: golden rows, traps, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_pipelines.makers import READERS
from data_pipelines.reading import Problem
from data_pipelines.video.grounding import read_activitynet_captions, read_charades_sta, read_qvhighlights
from data_pipelines.video.mixtures import read_seed_bench_r1, read_video_r1
from data_pipelines.video.questions import read_clevrer, read_nextgqa, read_nextqa, read_star
from mmrl.plugins import ConfigError, load
from mmrl.records import Sample
from rewards.choices import letter_choice, soft_choices
from rewards.temporal import grounded_answer, highlight, interval_iou, tiou

FORMATS = Path(__file__).parents[1] / "formats"
MEDIA = Path("/videos")

READ = {
    "charades-sta": (read_charades_sta, "charades-sta/charades_sta_train.txt", {}),
    "timezero": (read_charades_sta, "charades-sta/charades_train.json", {}),
    "activitynet-captions": (read_activitynet_captions, "activitynet-captions/train.json", {}),
    "qvhighlights": (read_qvhighlights, "qvhighlights/highlight_val_release.jsonl", {}),
    "clevrer": (read_clevrer, "clevrer/validation.json", {}),
    "tw-grpo": (read_clevrer, "clevrer/clevrer_counterfactual_train.json", {}),
    "next-qa": (read_nextqa, "next-qa/val.csv", {}),
    "next-gqa": (read_nextgqa, "next-gqa/val.csv", {
        "spans_file": FORMATS / "next-gqa/gsub_val.json", "videos": FORMATS / "next-gqa/map_vid_vidorID.json"}),
    "videochat-r1": (read_nextgqa, "next-gqa/nextgqa_val.json", {}),
    "star": (read_star, "star/STAR_val.json", {}),
    "seed-bench-r1": (read_seed_bench_r1, "seed-bench-r1/training_6k.jsonl", {}),
    "seed-bench-r1-eval": (read_seed_bench_r1, "seed-bench-r1/validation_L1.jsonl", {}),
    "video-r1": (read_video_r1, "video-r1/Video-R1-260k.json", {}),
}  # fmt: skip


def read(name, **settings):
    """(rows by id, messages of problems)"""
    reader, path, more = READ[name]
    items = list(reader(FORMATS / path, media=MEDIA, **more, **settings))
    rows = {item["id"]: item for item in items if isinstance(item, dict)}
    problems = [item for item in items if isinstance(item, Problem)]
    assert len(rows) + len(problems) == len(items), "ids differ"
    return rows, problems


def prompt(row):
    return next(part["text"] for part in row["messages"][0]["content"] if part["type"] == "text")


def media(row):
    return [
        {k: v for k, v in part.items() if k != "type"} for part in row["messages"][0]["content"] if "text" not in part
    ]


def score(reward, completion, row):
    return reward(completion, Sample(row["id"], (), target=row["target"], meta=row["meta"])).value


# -- laws for all of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READ)
def test_rows_have_what_training_needs(name):
    rows, _ = read(name)
    assert rows
    for row in rows.values():
        assert set(row) == {"id", "messages", "target", "meta", "where"}
        assert row["target"]
        assert {"task", "source", "split"} <= set(row["meta"]) or name == "video-r1"
        for part in media(row):
            assert Path(part.get("video") or part["image"]).is_relative_to(MEDIA)
        if "options" in row["meta"]:
            for letter, option in zip("ABCDE", row["meta"]["options"], strict=False):
                assert f"\n{letter}. {option}\n" in prompt(row)
            assert row["meta"]["question"] in prompt(row)
            json.dumps(row, allow_nan=False)


@pytest.mark.parametrize("name", READ)
def test_reading_twice_gives_the_same(name):
    reader, path, more = READ[name]
    assert list(reader(FORMATS / path, media=MEDIA, **more)) == list(reader(FORMATS / path, media=MEDIA, **more))


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.75, 0.97])
def test_a_truncated_file_costs_the_rows_that_are_cut(tmp_path, name, share):
    reader, path, more = READ[name]
    text = (FORMATS / path).read_text()
    cut = tmp_path / Path(path).name
    cut.write_text(text[: int(share * len(text))])
    whole, _ = read(name)
    items = []
    try:
        items += reader(cut, media=MEDIA, **more)
    except ConfigError as error:
        assert str(cut) in str(error)
    rows = [item for item in items if isinstance(item, dict)]
    for row in rows[:-1]:  # of a line that is cut, a shorter text may be left
        assert {**row, "where": ""} == {**whole[row["id"]], "where": ""}


@pytest.mark.parametrize("name", [name for name, (_, path, _) in READ.items() if "json" in path])
@pytest.mark.parametrize(
    "value",
    [None, 7, [], {}, "  ", True, [["x"]], -3.5, 1e400, pytest.param(10**400, id="long"), "../../../etc/passwd"],
)
def test_no_value_of_a_wrong_type_crashes_a_reader(tmp_path, name, value):
    """Every field of every item is replaced, one at a time; the reader goes on, and no gold becomes nonsense."""
    reader, path, more = READ[name]
    lines = (
        [json.loads(x) for x in (FORMATS / path).read_text().split("\n") if x.endswith("}")]
        if "jsonl" in path
        else None
    )
    content = lines or json.loads((FORMATS / path).read_text())

    def places(node, where=()):
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in children:
            yield (*where, key)
            yield from places(child, (*where, key))

    file = tmp_path / Path(path).name
    for *outer, last in list(places(content))[::2][:60]:
        broken = json.loads(json.dumps(content))
        node = broken
        for key in outer:
            node = node[key]
        node[last] = value
        file.write_text("\n".join(map(json.dumps, broken)) if lines else json.dumps(broken))
        for item in reader(file, media=MEDIA, **more):
            if isinstance(item, Problem):
                assert item.message and item.where.startswith(str(file))
                continue
            for part in media(item):
                assert Path(part.get("video") or part["image"]).is_relative_to(MEDIA)
            for start, end in [item["target"].get("span", (0, 1)), *item["target"].get("spans", [])]:
                assert 0 <= start < end < 1e4
            for letter in item["target"].get("choices", []):
                assert letter in "ABCDE"[: len(item["meta"]["options"])]


def test_all_are_registered():
    for name in {"charades-sta", "activitynet-captions", "qvhighlights", "clevrer", "next-qa", "next-gqa", "star",
                 "seed-bench-r1", "video-r1"}:  # fmt: skip
        assert load(name, READERS, kind="reader", where="test") is READ[name][0]


def test_a_path_that_leaves_the_folder_is_a_problem():
    _, problems = read("videochat-r1")
    assert "is not a file of /videos" in problems[0].message
    assert problems[0].kind == "path outside"


def test_the_first_file_that_exists_is_taken(tmp_path):
    (tmp_path / "v_QOlSCBRmfWY.webm").touch()
    rows = list(read_activitynet_captions(FORMATS / "activitynet-captions/train.json", media=tmp_path))
    assert media(rows[0]) == [{"video": str(tmp_path / "v_QOlSCBRmfWY.webm")}]
    assert media(rows[3]) == [{"video": str(tmp_path / "v_ehGHCYKzyZ8.mp4")}]


# -- temporal grounding ----------------------------------------------------------------------------------------


def test_charades_sta():
    rows, problems = read("charades-sta")
    row = rows["charades-sta-3MSZA-1"]
    assert row["target"] == {"span": [24.3, 30.4]}
    assert row["meta"] == {
        "task": "grounding",
        "source": "charades-sta",
        "query": "person turn a light on",
        "split": "train",
    }
    text, video = row["messages"][0]["content"]  # the question comes first
    assert '"person turn a light on"' in text["text"]
    assert "<answer>12.54 to 17.83</answer>" in text["text"]
    assert video == {"type": "video", "video": "/videos/3MSZA.mp4"}
    assert score(tiou, "<answer>24.30 to 30.40</answer>", row) == 1
    assert rows["charades-sta-AO8RW-3"]["meta"]["query"] == "a person closes the door##behind them"
    assert [(p.kind, p.where.rpartition(" ")[2]) for p in problems] == [("reversed span", "5"), ("wrong form", "7")]


def test_charades_durations_find_spans_outside():
    """AO8RW lasts 33.67 s: 33.9 is rounded, 46 is wrong."""
    rows, problems = read("charades-sta", durations=FORMATS / "charades-sta/Charades_v1_train.csv")
    assert rows["charades-sta-AO8RW-3"]["target"] == {"span": [27.5, 33.67]}
    assert rows["charades-sta-AO8RW-3"]["meta"]["duration"] == 33.67
    assert [p.kind for p in problems] == ["reversed span", "span outside", "wrong form"]
    assert "40 to 46 leaves the video of 33.67 seconds" in problems[1].message
    _, strict = read("charades-sta", durations=FORMATS / "charades-sta/Charades_v1_train.csv", slack=0)
    assert len(strict) == 4


def test_the_two_forms_of_charades_agree():
    text, _ = read("charades-sta", durations=FORMATS / "charades-sta/Charades_v1_train.csv")
    dictionary, _ = read("timezero")
    assert dictionary["charades-sta-3MSZA-0"]["target"] == text["charades-sta-3MSZA-1"]["target"]
    assert prompt(dictionary["charades-sta-3MSZA-1"]) == prompt(text["charades-sta-3MSZA-2"])


@pytest.mark.parametrize(
    ("style", "answer"),
    [
        ("think", "<think>x <timestep>1 to 2</timestep></think><answer>24.30 to 30.40</answer>"),
        ("json", '<think>x</think><answer>{"start_time": "24.3", "end_time": "30.4"}</answer>'),
    ],
)
def test_styles_ask_for_what_rewards_read(style, answer):
    rows, _ = read("timezero", style=style)
    row = rows["charades-sta-3MSZA-0"]
    assert "<think>" in prompt(row)
    assert ("{{" in prompt(row), "start_time" in prompt(row)) == (False, style == "json")
    assert score(tiou, answer, row) == 1


def test_activitynet():
    rows, problems = read("activitynet-captions")
    assert len(rows) == 4
    assert rows["activitynet-captions-v_QOlSCBRmfWY-1"]["target"] == {"span": [17.37, 60.81]}
    query = rows["activitynet-captions-v_QOlSCBRmfWY-1"]["meta"]["query"]
    assert query == "the girl dances around the room while the camera captures her movements"
    assert rows["activitynet-captions-v_ehGHCYKzyZ8-0"]["target"] == {"span": [0, 61.72]}  # 62.1 of 61.72 s
    assert [p.kind for p in problems] == ["reversed span", "wrong duration"]
    assert problems[0].where.endswith("train.json, item v_ehGHCYKzyZ8, moment 1")


def test_qvhighlights_counts_clips_of_two_seconds_from_zero_and_saliency_from_one():
    rows, problems = read("qvhighlights")
    row = rows["qvhighlights-2579"]
    assert row["target"] == {"highlights": [[82, 3.0], [84, 3.0], [86, 3.33], [148, 4.33]]}
    assert row["meta"]["saliency_scores"][0] == [4, 1, 1]  # as stored
    assert row["meta"]["relevant_clip_ids"] == [41, 42, 43, 74]
    answer = "The highlight timestamps are in the 82, 84, 86, 148 seconds. Their saliency scores are 3, 3, 3.33, 4.33."
    assert score(highlight, f"<answer>{answer}</answer>", row) == pytest.approx(1)
    zero_based, _ = read("qvhighlights", lowest=0)
    assert zero_based["qvhighlights-2579"]["target"]["highlights"][0] == [82, 2.0]
    kinds = [p.kind for p in problems]
    assert kinds == ["no labels", "span outside", "wrong saliencies", "not JSON"]


def test_qvhighlights_as_moments():
    rows, _ = read("qvhighlights", task="grounding")
    assert rows["qvhighlights-1016"]["target"] == {"span": [96, 100], "spans": [[96, 100]]}
    assert rows["qvhighlights-2579"]["target"] == {"spans": [[82, 88], [148, 150]]}
    assert score(interval_iou, "82 to 88 and 148 to 150", rows["qvhighlights-2579"]) == 1


# -- questions with options --------------------------------------------------------------------------------------


def test_clevrer():
    rows, problems = read("clevrer")
    (row,) = rows.values()
    assert row["id"] == "clevrer-video_10000-14"
    assert row["target"] == {"answer": "A,C", "choices": ["A", "C"]}
    assert media(row) == [{"video": "/videos/video_10000-11000/video_10000.mp4"}]
    assert (
        "Which event will happen if the red object is removed?\nA. The gray object collides with the cube\n"
        in prompt(row)
    )
    assert score(soft_choices, "<think>x</think><answer>A</answer>", row) == 0.5
    assert [(p.kind, p.where.rpartition("validation.json, ")[2]) for p in problems] == [
        ("no right option", "item 0, question 3"),
        ("wrong type", "item 1"),
    ]
    everything, _ = read("clevrer", types=["descriptive", "explanatory", "counterfactual"])
    assert everything["clevrer-video_10000-0"]["target"] == {"answer": "cylinder"}
    assert everything["clevrer-video_10000-11"]["target"]["choices"] == ["A"]


def test_clevrer_as_tw_grpo_stores_it():
    rows, problems = read("tw-grpo")
    (row,) = rows.values()
    assert row["target"] == {"answer": "A,C", "choices": ["A", "C"]}
    assert row["meta"]["options"][2] == "The sphere and the blue cube collide"
    assert media(row) == [{"video": "/videos/CLEVRER/train_video/video_00001.mp4"}]
    assert "names an option beyond the 2" in problems[0].message


def test_nextqa_answers_with_the_place_of_an_option_from_zero():
    rows, problems = read("next-qa")
    assert rows["next-qa-4010069381-6"]["target"]["answer"] == "A"
    assert rows["next-qa-4010069381-7"]["target"]["answer"] == "E"
    assert rows["next-qa-4010069381-7"]["meta"]["question"] == "what did the man in white do, after he sat down?"
    assert score(letter_choice, "<answer>(E)</answer>", rows["next-qa-4010069381-7"]) == 1
    assert "'5' is no place of an option, 0 to 4; is this NExT-GQA?" in problems[0].message


def test_nextgqa_answers_with_the_text_of_an_option():
    rows, problems = read("next-gqa")
    (row,) = rows.values()
    assert row["id"] == "next-gqa-4882821564-1"
    assert row["target"] == {"answer": "C", "spans": [[0.0, 5.8], [12.1, 17.1]]}  # -0.1 is cut
    assert media(row) == [{"video": "/videos/1104/4882821564.mp4"}]
    completion = "<think>x</think><answer>C</answer><glue>[(0, 5.8), (12.1, 17.1)]</glue>"
    assert score(grounded_answer, completion, row) == 3
    assert "'2' is none of the options" in problems[0].message
    assert "is this NExT-QA?" in problems[0].message
    assert problems[1].message == "there is no `10001787725`"
    with pytest.raises(ConfigError, match="needs its spans"):
        list(read_nextgqa(FORMATS / "next-gqa/val.csv", media=MEDIA))


def test_nextgqa_as_videochat_r1_stores_it():
    rows, problems = read("videochat-r1")
    (row,) = rows.values()
    assert row["target"] == {"answer": "C", "spans": [[1.2, 5.8]]}
    assert row["meta"]["options"][0] == "share with the girl"
    assert [p.kind for p in problems] == ["path outside", "reversed span"]


def test_star_shows_the_part_that_is_asked_about():
    rows, problems = read("star")
    (row,) = rows.values()
    assert media(row) == [{"video": "/videos/6H78U.mp4", "video_start": 11.1, "video_end": 19.6}]
    # Options stand in the order of their ids, not of the file.
    assert row["meta"]["options"] == ["The blanket.", "The table.", "The closet/cabinet.", "The clothes."]
    assert row["target"]["answer"] == "C"
    assert row["meta"]["question_type"] == "Interaction"
    assert [p.kind for p in problems] == ["reversed span", "wrong answer"]


# -- mixtures ----------------------------------------------------------------------------------------------------


def test_seed_bench_r1_draws_three_wrong_answers():
    rows, problems = read("seed-bench-r1")
    row = rows["seed-bench-r1-train-1"]
    assert len(row["meta"]["options"]) == 4
    assert row["meta"]["options"]["ABCD".index(row["target"]["answer"])] == "open tap"
    assert media(row) == [
        {"video": "/videos/videos/EpicKitchens/P01_1.mp4"},
        {"image": "/videos/images/EpicKitchens/P01_1.png"},
    ]
    assert media(rows["seed-bench-r1-2"]) == [{"image": "/videos/images/EpicKitchens/P01_2.png"}]  # nothing done yet
    assert [p.kind for p in problems] == ["wrong options"]
    drawn = {
        tuple(read("seed-bench-r1", seed=seed)[0]["seed-bench-r1-train-1"]["meta"]["options"]) for seed in range(30)
    }
    assert len(drawn) > 15


def test_seed_bench_r1_for_evaluation_keeps_the_order():
    rows, problems = read("seed-bench-r1-eval")
    (row,) = rows.values()
    assert row["meta"]["options"] == ["close door", "open tap", "peel onion", "pick knife"]
    assert row["target"] == {"answer": "B", "choices": ["B"]}
    assert row["meta"]["level"] == "L1"
    assert "option A is 'close door', but the answer is 'open tap'" in problems[0].message


def test_video_r1():
    rows, problems = read("video-r1")
    tasks = {row["meta"]["problem_type"]: (row["meta"]["task"], row["target"]["answer"]) for row in rows.values()}
    assert tasks == {
        "multiple choice": ("mcq", "A"),
        "numerical": ("number", "2"),
        "OCR": ("ocr", "EXIT 12"),
        "free-form": ("open", "He cracks an egg."),
        "regression": ("number", "2.65"),
    }
    assert rows["video-r1-2"]["meta"]["options"][1] == "A military command"
    assert media(rows["video-r1-2"]) == [{"video": "/videos/LLaVA-Video-178K/academic/ytb_7nRmsEw7nsE.mp4"}]
    assert media(rows["video-r1-4"]) == [{"image": "/videos/OCR/sign.png"}]
    assert rows["video-r1-3"]["meta"]["process"] == "<think>Two stop.</think>"
    assert [p.kind for p in problems] == ["wrong answer", "wrong answer", "wrong type"]
    only, _ = read("video-r1", types=["multiple choice", "numerical"], kinds=["video"])
    assert set(only) == {"video-r1-2", "video-r1-3"}
