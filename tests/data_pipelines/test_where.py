"""Rows of every format say where they come from, so that a problem found later names a file and a place in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipelines.convert import convert
from data_pipelines.makers import READERS
from data_pipelines.reading import Problem
from mmrl.plugins import build, load

FORMATS = Path(__file__).parent / "formats"
SOURCES = {
    "rows": "rows.jsonl", "chartqa": "test_human.json", "plotqa": "test/qa_pairs_V1.json",
    "figureqa": "train1/qa_pairs.json", "dvqa": "val_easy_qa.json", "bigcharts": "train.jsonl",
    "mathvista": "testmini.json", "screenspot": "", "android-control": "test.json", "aitz": "",
    "charades-sta": "charades_sta_train.txt", "activitynet-captions": "train.json",
    "qvhighlights": "highlight_val_release.jsonl", "clevrer": "validation.json", "next-qa": "val.csv",
    "next-gqa": "nextgqa_val.json", "star": "STAR_val.json", "seed-bench-r1": "training_6k.jsonl",
    "video-r1": "Video-R1-260k.json", "hrvqa": "", "visdrone": "annotations", "dota": "labelTxt",
    "preferences": "pairs.jsonl", "hops": "chains.jsonl", "vlaa": "vlaa.json",
}  # fmt: skip
OWN_MEDIA = ("rows", "hrvqa", "visdrone", "dota")
"""Formats that need not be told where their media are."""


@pytest.mark.parametrize("name", READERS)
def test_every_row_names_its_file(tmp_path, name):
    source = FORMATS / name / SOURCES[name]
    if name == "rows":
        source = tmp_path / "rows.jsonl"
        source.write_text('{"messages": [{"role": "user", "content": "?"}]}\n')
    media = {} if name in OWN_MEDIA else {"media": Path("/media")}
    items = list(load(name, READERS, kind="format", where="test")(source, **media))
    rows = [item for item in items if not isinstance(item, Problem)]
    assert rows
    for row in rows:
        file = row["where"].partition(", ")[0]
        assert Path(file).is_file()
        assert Path(file).is_relative_to(source)


@pytest.mark.parametrize(("name", "says"), [("screenspot", "screenspot_mobile.json, item 0 (id "),
                                            ("android-control", "test.json, item 0 (id "),
                                            ("aitz", "GOOGLE_APPS-1001.json, item 0 (id ")])  # fmt: skip
def test_a_problem_that_only_the_media_show_names_the_file_as_well(tmp_path, name, says):
    reader = build({"name": name, "media": str(tmp_path)}, READERS, kind="format", where="test")
    progress = convert(reader, [str(FORMATS / name / SOURCES[name])], tmp_path / "x.jsonl")
    assert progress.kinds["media"] == progress.problems
    assert says in progress.shown[0]
