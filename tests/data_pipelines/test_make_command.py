"""`mmrl data make`: what it says while it works and at the end, and settings that only tiles have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from data_pipelines.commands import app
from data_pipelines.dataset import read_samples
from data_pipelines.drawing import watched
from data_pipelines.images import limit_pixels
from data_pipelines.makers import MAKERS
from data_pipelines.media import Decoding, configure
from data_pipelines.uav.build import make_uav
from mmrl.plugins import ConfigError, load

FORMATS = Path(__file__).parent / "formats"


@pytest.mark.parametrize("name", ["gui", "captions", "uav", "charts", "charts-tiny", "video", "video-cold-start"])
def test_whoever_watches_hears_of_every_picture_of_every_split(tmp_path, name):
    heard = []
    settings = {"count": 3} | ({} if "cold" in name else {"test_count": 2})
    with watched(lambda *told: heard.append(told)):
        load(name, MAKERS, kind="dataset", where="test")(tmp_path, **settings)
    splits = [("cold_start", 3)] if "cold" in name else [("train", 3), ("test", 2)]
    assert heard == [(split, done + 1, total) for split, total in splits for done in range(total)]
    load(name, MAKERS, kind="dataset", where="test")(tmp_path, **settings)
    assert len(heard) == sum(total for _, total in splits), "nobody watches any more"


def make(*words: object) -> Result:
    return CliRunner().invoke(app, ["make", *map(str, words)])


@pytest.fixture
def scenes(tmp_path) -> Path:
    make_uav(tmp_path / "full", count=2, test_count=0, scale="full", sizes=[(500, 400)])
    yield tmp_path / "full/train"
    configure(Decoding())


def test_rows_and_problems_are_counted_and_no_row_at_all_is_a_failure(tmp_path, scenes):
    (scenes / "000000.jpg").write_bytes(b"")
    result = make("uav-tiles", tmp_path / "cut", f"annotations={scenes}", "format=scenes")
    assert result.exit_code == 0
    rows = len((tmp_path / "cut/train.jsonl").read_text().splitlines())
    assert f"train.jsonl: {rows} rows" in result.output
    assert "train_problems.txt: 1 problems" in result.output
    (scenes / "000001.jpg").unlink()
    result = make("uav-tiles", tmp_path / "cut", f"annotations={scenes}", "format=scenes")
    assert result.exit_code == 1
    assert "train.jsonl: 0 rows" in result.output
    assert "train_problems.txt: 2 problems" in result.output


def test_problems_of_an_earlier_run_go(tmp_path, scenes):
    make("uav-tiles", tmp_path, f"annotations={scenes}", "format=scenes", "max_image_pixels=1000")
    assert (tmp_path / "train_problems.txt").is_file()
    assert make("uav-tiles", tmp_path, f"annotations={scenes}", "format=scenes").exit_code == 0
    assert not (tmp_path / "train_problems.txt").exists()


def test_pictures_to_be_cut_may_be_larger_than_those_a_model_is_given_whole(tmp_path, scenes):
    limit_pixels(100 * 100)
    assert make("uav-tiles", tmp_path, f"annotations={scenes}", "format=scenes").exit_code == 0
    assert Image.MAX_IMAGE_PIXELS == 100 * 100
    result = make("uav-tiles", tmp_path, f"annotations={scenes}", "format=scenes", "max_image_pixels=199999")
    assert result.exit_code == 1
    assert "at most 199,999 are decoded" in (tmp_path / "train_problems.txt").read_text()


def test_every_command_takes_a_limit_of_pixels(tmp_path, scenes):
    content = [{"type": "image", "image": "000000.jpg"}, {"type": "text", "text": "?"}]
    row = {"messages": [{"role": "user", "content": content}], "target": {"answer": "1"}}
    (scenes / "rows.jsonl").write_text(json.dumps(row))
    check = ["check", str(scenes / "rows.jsonl")]
    assert CliRunner().invoke(app, check).exit_code == 0
    refused = CliRunner().invoke(app, ["--max-image-pixels", "150000", *check])
    assert refused.exit_code == 1
    assert "atmost150,000aredecoded" in "".join(refused.output.split())


def test_tiles_take_the_settings_of_the_reader_of_their_format(tmp_path):
    def tiles(*words: str) -> Result:
        return make("uav-tiles", tmp_path, f"annotations={tmp_path / 'labelTxt'}", "format=dota", *words)

    label = (FORMATS / "dota/labelTxt/P0001.txt").read_text()
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt/P0001.txt").write_text(label + "300 20 340 20 340 60 300 60 container-crane 0\n")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (400, 400)).save(tmp_path / "images/P0001.png")
    assert tiles().exit_code == 0
    assert "set version=1.5 or 2.0" in (tmp_path / "train_problems.txt").read_text()
    assert tiles("version=1.5", "difficult=count", "questions=40", "tasks=[count]").exit_code == 0
    assert not (tmp_path / "train_problems.txt").exists()
    counts = {sample.target["count"] for sample in read_samples(tmp_path / "train.jsonl")}
    assert counts >= {1, 2}
    with pytest.raises(ConfigError, match="occluded = count is no setting of format = dota; its own are difficult"):
        raise tiles("occluded=count").exception
