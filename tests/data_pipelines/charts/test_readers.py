"""Chart benchmarks: golden rows of every format's sample, scored by the rewards there are, and every bad item named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from data_pipelines.charts.readers import type_of
from data_pipelines.dataset import check_samples, read_samples, write_samples
from data_pipelines.makers import READERS
from data_pipelines.reading import Problem
from data_pipelines.rows import doubts, faults
from mmrl.plugins import ConfigError, load
from mmrl.records import Sample
from rewards.choices import letter_choice
from rewards.quantities import chart_value, list_match, relaxed_accuracy
from rewards.text import exact_match

FORMATS = Path(__file__).parents[1] / "formats"
FILES = {
    "chartqa": "test_human.json", "plotqa": "test/qa_pairs_V1.json", "figureqa": "train1/qa_pairs.json",
    "dvqa": "val_easy_qa.json", "bigcharts": "train.jsonl", "mathvista": "testmini.json",
}  # fmt: skip


def read(name, path=None, **settings):
    reader = load(name, READERS, kind="format", where="test")
    return list(reader(path or FORMATS / name / FILES[name], media=Path("/pictures"), **{"prompt": "plain"} | settings))


def told(row):
    """What a test says of a row: picture, question, answer, type."""
    image, question = row["messages"][0]["content"]
    return image["image"], question["text"], row["target"]["answer"], row["target"]["type"]


def tolerance(row):
    return row["target"]["tolerance"]


def sample(row):
    return Sample(id=row["id"], messages=tuple(row["messages"]), media=(), target=row["target"], meta=row["meta"])


GOLDEN = {
    "chartqa": [
        ("/pictures/41.png", "What was the share in 2018?", "23", "number"),
        ("/pictures/two_col_7.png", "Is the blue bar taller than the red one?", "Yes", "yes_no"),
        ("/pictures/41.png", "Which years lie above 20?", "[2017, 2018]", "list"),
        ("/pictures/8.png", "What percentage is urban?", "34.5%", "number"),
        ("/pictures/8.png", "Which region leads?", "North America", "text"),
        ("/pictures/9.png", "What is the difference?", "0.57", "number"),
    ],
    "plotqa": [
        ("/pictures/7.png", "How many bars are there?", "3", "number"),
        ("/pictures/7.png", "What is the average of rainfall per month?", "41.666666666666664", "number"),
        ("/pictures/8.png", "Is the line for Peru above the one for Chile?", "Yes", "yes_no"),
        ("/pictures/8.png", "What is the title of the graph?", "Rain in two countries", "text"),
    ],
    "figureqa": [
        ("/pictures/0.png", "Is Light Gold the minimum?", "yes", "yes_no"),
        ("/pictures/3.png", "Does Teal intersect Pink?", "no", "yes_no"),
    ],
    "dvqa": [
        ("/pictures/bar_val_easy_00000001.png", "How many bars are there?", "9", "integer"),
        ("/pictures/bar_val_easy_00000001.png", "Is each bar a single solid color without patterns?", "yes", "yes_no"),
        ("/pictures/bar_val_easy_00000002.png", "What is the label of the third bar from the left?", "mirror", "text"),
    ],
    "bigcharts": [
        ("/pictures/charts/8.jpg", "What is the value of Sales in 2019?", "42.5", "number"),
        ("/pictures/charts/8.jpg", "Is the trend of Sales rising?", "Yes", "yes_no"),
        ("/pictures/charts/9.jpg", "Which months are below 10?", "[Jan, Feb]", "list"),
    ],
    "mathvista": [
        ("/pictures/images/1.jpg", "How long is the spring? (Unit: cm) (Digits after the decimal point: 1)", "1.2",
         "number"),
        ("/pictures/images/2.jpg", "Which bar is the largest?\n(A) red\n(B) green\n(C) blue", "C", "letter"),
        ("/pictures/images/3.jpg", "How many objects are left?", "4", "integer"),
        ("/pictures/images/4.jpg", "Between which years was the rise steepest?", "[2005, 2010]", "list"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_rows_of_the_format_sample(name):
    rows = read(name)
    assert [told(row) for row in rows] == GOLDEN[name]
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["meta"]["source"] for row in rows} == {name}
    splits = {"plotqa": "test", "figureqa": "train", "dvqa": "val_easy", "bigcharts": "train", "mathvista": "testmini"}
    assert {row["meta"]["split"] for row in rows} == {splits.get(name, "test")}
    assert [row["where"] for row in rows] == sorted({row["where"] for row in rows})
    assert {row["meta"]["split"] for row in read(name, split="mine")} == {"mine"}


@pytest.mark.parametrize("name", FILES)
def test_the_gold_answer_earns_everything_and_another_nothing(name):
    score = {
        "chart_number": lambda text, row: relaxed_accuracy(text, sample(row), tolerance=tolerance(row)).value,
        "chart_text": lambda text, row: exact_match(text, sample(row)).value,
        "chart_list": lambda text, row: list_match(text, sample(row)).value,
        "mcq": lambda text, row: letter_choice(text, sample(row)).value,
    }  # fmt: skip
    for row in read(name):
        check = score[row["meta"]["task"]]
        assert check(f"<answer>{row['target']['answer']}</answer>", row) == 1
        assert check("<answer>A 77</answer>", row) == 0
        if row["meta"]["task"] == "chart_number":
            assert chart_value(row["target"]["answer"], sample(row)).value == 1


@pytest.mark.parametrize("name", FILES)
def test_rows_with_their_pictures_pass_the_checks_of_a_conversion(tmp_path, name):
    rows = []
    for row in read(name, prompt="short"):
        image = row["messages"][0]["content"][0]
        image["image"] = f"{tmp_path}{image['image']}"
        Path(image["image"]).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(image["image"])
        rows.append({key: value for key, value in row.items() if key != "where"})
    samples = read_samples(write_samples(tmp_path / "x.jsonl", rows))
    check_samples(samples)
    assert [problem for sample in samples for problem in (*faults(sample), *doubts(sample))] == []


def test_where_an_answer_came_from_is_kept():
    first = {name: read(name)[0] for name in FILES}
    assert first["chartqa"]["meta"] | {"origin": "human"} == first["chartqa"]["meta"]
    assert first["chartqa"]["target"]["tolerance"] == 0.05
    assert (first["plotqa"]["id"], first["plotqa"]["meta"]["chart"]) == ("plotqa-11", "vbar_categorical")
    assert first["dvqa"]["meta"]["template"] == "structure"
    assert first["mathvista"]["meta"]["mathvista"]["source"] == "SciBench"
    assert read("mathvista")[1]["meta"]["options"] == ["red", "green", "blue"]


@pytest.mark.parametrize(("written", "right"), [("1.15", 1), ("1.249", 1), ("1.26", 0), ("1.2", 1), ("1.1", 0)])
def test_a_mathvista_float_is_as_precise_as_it_says(written, right):
    row = read("mathvista")[0]
    assert relaxed_accuracy(written, sample(row), tolerance=tolerance(row)).value == right


def test_bigcharts_asks_for_its_two_tags_and_a_prompt_of_ones_own_is_taken():
    reader = load("bigcharts", READERS, kind="format", where="test")
    (row, *_) = reader(FORMATS / "bigcharts/train.jsonl", media=Path("pictures"))
    image, question = row["messages"][0]["content"]
    assert Path(image["image"]).is_absolute()
    assert "<thinking>" in question["text"] and "<answer>" in question["text"]
    assert "letter of the right option" in told(read("mathvista", prompt="short")[1])[1]
    assert told(read("dvqa", prompt="Q: {question}")[0])[1] == "Q: How many bars are there?"
    with pytest.raises(ConfigError, match="prompt = 'loud': one of plain"):
        read("dvqa", prompt="loud")


CHART = {"imgname": "1.png", "query": "Which?", "label": "1"}
PLOT = {"image_index": 1, "question_string": "Which?", "answer": 3}
VISTA = {"pid": "9", "question": "Which?", "image": "1.jpg", "answer": "1", "question_type": "free_form",
         "answer_type": "integer", "precision": None}  # fmt: skip
CHOICE = VISTA | {"question_type": "multi_choice", "choices": ["a", "b"], "answer": "a"}


@pytest.mark.parametrize(
    ("name", "item", "kind", "said"),
    [
        ("chartqa", [], "wrong type", "an object is expected"),
        ("chartqa", CHART | {"query": " "}, "empty text", "`query` is empty"),
        ("chartqa", CHART | {"query": 3}, "wrong type", "`query` is 3; a text"),
        ("chartqa", {"query": "Which?", "label": "1"}, "missing key", "no `imgname`"),
        ("chartqa", CHART | {"imgname": "../../etc/passwd"}, "path outside", "is not a file of"),
        ("chartqa", CHART | {"imgname": "/etc/passwd"}, "path outside", "is not a file of"),
        ("chartqa", CHART | {"label": ["a", "b"]}, "wrong type", "`label` is"),
        ("chartqa", CHART | {"label": None}, "missing key", "no `label`"),
        ("plotqa", PLOT | {"image_index": -1}, "wrong type", "`image_index` is -1"),
        ("plotqa", PLOT | {"image_index": "a/b"}, "wrong type", '`image_index` is "a/b"'),
        ("plotqa", PLOT | {"image_index": True}, "wrong type", "`image_index` is true"),
        ("plotqa", PLOT | {"answer": float("nan")}, "wrong type", "`answer` is nan; a finite"),
        ("plotqa", PLOT | {"answer": 10**400}, "wrong type", "0000; a finite"),
        ("plotqa", PLOT | {"answer": True}, "wrong type", "`answer` is true"),
        ("figureqa", PLOT | {"answer": 2}, "wrong type", "1 for yes or 0 for no"),
        ("figureqa", PLOT | {"answer": "yes"}, "wrong type", "1 for yes or 0 for no"),
        ("figureqa", PLOT | {"answer": True}, "wrong type", "1 for yes or 0 for no"),
        ("figureqa", PLOT | {"answer": [1]}, "wrong type", "1 for yes or 0 for no"),
        ("dvqa", {"image": "1.png", "question": "Which?", "answer": {}}, "wrong type", "`answer` is {}"),
        ("bigcharts", {"problem": "<image>", "solution": "1", "image": "1.jpg"}, "empty text", "problem or"),
        ("bigcharts", {"problem": "Q", "solution": "<answer> </answer>", "image": "1.jpg"}, "empty text", "solution"),
        ("mathvista", VISTA | {"answer": ""}, "no answer", "test split"),
        ("mathvista", VISTA | {"answer": "four"}, "wrong type", "answer_type` integer"),
        ("mathvista", VISTA | {"answer_type": "float", "answer": "x", "precision": 1}, "wrong type", "_type` float"),
        ("mathvista", VISTA | {"answer_type": "float", "precision": None}, "wrong type", "`precision` is null"),
        ("mathvista", VISTA | {"answer_type": "float", "precision": float("nan")}, "wrong type", "`precision` is NaN"),
        ("mathvista", VISTA | {"answer_type": "date"}, "wrong type", '`answer_type` is "date"'),
        ("mathvista", VISTA | {"metadata": "x"}, "wrong type", '`metadata` is "x"'),
        ("mathvista", CHOICE | {"answer": "c"}, "answer not listed", "none of the choices"),
        ("mathvista", CHOICE | {"choices": None}, "wrong type", "2 to 26 options"),
        ("mathvista", CHOICE | {"choices": ["a"]}, "wrong type", "2 to 26 options"),
    ],
)  # fmt: skip
def test_a_bad_item_is_a_problem_and_the_next_one_is_read(tmp_path, name, item, kind, said):
    good = {"chartqa": CHART, "plotqa": PLOT, "figureqa": PLOT | {"answer": 1}, "mathvista": VISTA,
            "dvqa": {"image": "1.png", "question": "Which?", "answer": "x"},
            "bigcharts": {"problem": "Q", "solution": "1", "image": "1.jpg"}}[name]  # fmt: skip
    items = [item, good]
    (tmp_path / "x.json").write_text(json.dumps({"qa_pairs": items} if name in ("plotqa", "figureqa") else items))
    problem, row = read(name, tmp_path / "x.json")
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.where) == (kind, f"{tmp_path}/x.json, item 0")
    assert said in problem.message
    assert row["where"] == f"{tmp_path}/x.json, item 1"


def test_a_line_cut_in_half_is_a_problem_and_a_file_cut_in_half_an_error(tmp_path):
    text = (FORMATS / "bigcharts/train.jsonl").read_text().splitlines()
    (tmp_path / "x.jsonl").write_text("\n".join([text[0], text[1][:40], text[2]]))
    first, problem, last = read("bigcharts", tmp_path / "x.jsonl")
    assert (problem.kind, problem.where) == ("not JSON", f"{tmp_path}/x.jsonl, line 2")
    assert (told(first), told(last)) == (GOLDEN["bigcharts"][0], GOLDEN["bigcharts"][2])
    (tmp_path / "y.json").write_text((FORMATS / "chartqa/test_human.json").read_text()[:150])
    with pytest.raises(ConfigError, match=r"y.json, line 3: not valid JSON"):
        read("chartqa", tmp_path / "y.json")
    (tmp_path / "z.json").write_text("[]")
    with pytest.raises(ConfigError, match="key `qa_pairs`"):
        read("plotqa", tmp_path / "z.json")


@pytest.mark.parametrize(
    ("text", "type"),
    [("12%", "number"), ("$1,200", "number"), ("-3.5", "number"), ("1e3", "number"), ("No", "yes_no"), ("[]", "list"),
     ("nan", "text"), ("inf", "text"), ("2019 Q2", "text"), ("12 km", "text"), ("[1", "text")],
)  # fmt: skip
def test_what_a_label_is(text, type):
    assert type_of(text) == type
