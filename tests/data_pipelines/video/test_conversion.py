"""From annotations to a dataset that passes `mmrl data check` and is changed by `mmrl data transform`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.check import check
from data_pipelines.convert import convert
from data_pipelines.dataset import read_samples
from data_pipelines.makers import READERS
from data_pipelines.transform import transform
from data_pipelines.video.build import make_video
from data_pipelines.video.render import write_video
from mmrl.plugins import Stage, check_settings, load

FORMATS = Path(__file__).parents[1] / "formats"
CASES = [
    ("charades-sta", "charades_sta_train.txt", {"durations": str(FORMATS / "charades-sta/Charades_v1_train.csv")}),
    ("charades-sta", "charades_train.json", {"style": "json"}),
    ("activitynet-captions", "train.json", {}),
    ("qvhighlights", "highlight_val_release.jsonl", {}),
    ("qvhighlights", "highlight_val_release.jsonl", {"task": "grounding", "style": "think"}),
    ("clevrer", "validation.json", {"types": ["descriptive", "explanatory", "predictive", "counterfactual"]}),
    ("clevrer", "clevrer_counterfactual_train.json", {"ending": "several"}),
    ("next-qa", "val.csv", {}),
    ("next-gqa", "val.csv", {
        "spans_file": str(FORMATS / "next-gqa/gsub_val.json"),
        "videos": str(FORMATS / "next-gqa/map_vid_vidorID.json"),
    }),
    ("next-gqa", "nextgqa_val.json", {}),
    ("star", "STAR_val.json", {}),
    ("seed-bench-r1", "training_6k.jsonl", {}),
    ("seed-bench-r1", "validation_L1.jsonl", {}),
    ("video-r1", "Video-R1-260k.json", {}),
]  # fmt: skip


def make_media(row):
    """Files as short as they may be: one frame per second, of the length that the row says."""
    for part in row["messages"][0]["content"]:
        path = Path(part.get("video") or part.get("image") or "")
        if part["type"] == "text" or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if part["type"] == "image":
            Image.new("RGB", (64, 48), "grey").save(path)
        else:
            seconds = round(row["meta"].get("duration", 30))
            write_video(path, [np.full((32, 32, 3), 7 * k % 255, "uint8") for k in range(seconds + 1)], 1)


@pytest.mark.parametrize(("name", "file", "settings"), CASES, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(CASES)])
def test_a_converted_sample_passes_the_check(tmp_path, name, file, settings):
    reader = load(name, READERS, kind="reader", where="test")
    given = check_settings(reader, {"media": str(tmp_path / "media"), **settings}, name=name, where="test")
    source = FORMATS / name / file
    items = list(reader(source, **given))
    rows = [item for item in items if isinstance(item, dict)]
    for row in rows:
        make_media(row)
    progress = convert(Stage(name, reader, given), [str(source)], tmp_path / "out/x.jsonl", decode=True)
    assert (progress.rows, progress.problems) == (len(rows), len(items) - len(rows))
    report = check(tmp_path / "out/x.jsonl", decode=True, need_target=True)
    assert report.rows == len(rows)
    assert not report.problems, report.problems
    samples = read_samples(tmp_path / "out/x.jsonl")
    assert [sample.target for sample in samples] == [row["target"] for row in rows]


def test_a_drawn_dataset_goes_through_all_transforms(tmp_path):
    source = make_video(tmp_path / "drawn", count=12, test_count=1, scale="full", size=(128, 96), fps=4, seconds=6,
                        tasks=["mcq", "grounding"])["train"]  # fmt: skip
    assert not check(source, decode=True, need_target=True).problems
    for name, settings, done in (
        ("shuffle-letters", {}, lambda meta: "order" in meta),
        ("invert-questions", {"probability": 1}, lambda meta: "inverted" in meta),
        ("frame-noise", {"out": str(tmp_path / "noisy"), "std": 20}, lambda meta: meta["noise"][0]["std"] == 20),
    ):
        out = tmp_path / f"{name}.jsonl"
        progress = transform(str(source), name, out, settings=settings)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        with_options = 12 if name == "frame-noise" else 6
        assert (progress.rows, progress.problems) == (with_options, 12 - with_options)
        assert all(done(row["meta"]) for row in rows)
        assert not check(out, decode=True, need_target=True).problems
