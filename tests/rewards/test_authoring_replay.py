"""`mmrl rewards replay`: samples come back as they were stored, and what is compared is what is said."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data_pipelines.dataset import write_samples
from mmrl.plugins import ConfigError
from mmrl.records import Media, Rollouts, Sample
from mmrl.runs.writer import RunWriter
from rewards.authoring.replay import Row, compare, replay
from rewards.authoring.replay import report as replay_report
from rewards.registry import Score


def printed(renderable, width: int = 100) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable, crop=False)
    return capture.get()


def row(before: float, after: float, group: int = 0, outcome=None) -> Row:
    return Row(
        0, group, Sample("s", ()), "text", before, after, outcome or (None if math.isnan(after) else Score(after))
    )


def test_compare_by_hand():
    rows = [
        *(row(before, after, 0) for before, after in [(0, 0), (0, 1), (1, 2), (1, 3)]),  # nearly the same order
        *(row(before, after, 1) for before, after in [(0, 1), (1, 0)]),  # reversed
        *(row(before, after, 2) for before, after in [(1, 0), (1, 1)]),  # flat before
        *(row(before, after, 3) for before, after in [(0, math.nan), (1, 1), (math.nan, 0)]),  # one of two to compare
    ]
    result = compare(rows)
    assert result.groups == 4 and result.correlated == 2
    # Ranks 1.5 1.5 3.5 3.5 against 1 2 3 4: covariance 4, squares 4 and 5.
    assert result.rank_correlation == pytest.approx((4 / math.sqrt(4 * 5) - 1) / 2)
    assert result.best_changed == 0.5
    assert result.flat_before == 0.25 and result.flat_after == 0
    assert result.mean_before == pytest.approx(6 / 10) and result.mean_after == pytest.approx(9 / 10)
    assert result.not_applicable == 1 and not result.failures
    assert [(move.row.group, move.rank_before, move.rank_after, move.of) for move in result.moves] == [
        (1, 2, 1, 2),
        (2, 1.5, 2, 2),
        (0, 3.5, 4, 4),
    ]


groups = st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=6), min_size=1, max_size=4)


@given(groups)
def test_an_increasing_function_of_the_reward_changes_no_order(values):
    rows = [row(value, math.exp(value), group) for group, members in enumerate(values) for value in members]
    result = compare(rows)
    assert math.isnan(result.rank_correlation) or result.rank_correlation == pytest.approx(1)
    assert math.isnan(result.best_changed) or result.best_changed == 0
    assert result.flat_before == result.flat_after and not result.moves


@given(groups)
def test_the_negated_reward_reverses_every_order(values):
    rows = [row(value, -value, group) for group, members in enumerate(values) for value in members]
    result = compare(rows)
    assert math.isnan(result.rank_correlation) or result.rank_correlation == pytest.approx(-1)
    assert math.isnan(result.best_changed) or result.best_changed == 1


@pytest.fixture
def run(tmp_path, studio) -> Path:
    """Two steps of two groups; of the second group's image there is no copy. Step 1 has more right points than 0."""
    folder = tmp_path / "run"
    data = tmp_path / "data"
    data.mkdir()
    rows = []
    for i in range(2):
        part = studio.picture(64, 48)
        target = {"box": [10, 10, 20, 20], "answer": f"answer {i}"}
        rows.append({"id": f"s{i}", "messages": [{"role": "user", "content": [part]}], "target": target})
    from data_pipelines.dataset import read_samples

    read = read_samples(write_samples(data / "train.jsonl", rows))
    stored = [
        Sample(
            one.id,
            one.messages,
            (Media("image", media.path, media.digest, (64, 48), (32, 24)),),
            {"box": [10, 10, 20, 20]},
        )
        for one in read
        for media in one.media
    ]
    writer = RunWriter.create(folder, yaml.safe_dump({"steps": 9, "data": {"train": str(data / "train.jsonl")}}))
    texts = [
        ["(15, 15)", "(0, 0)", "(12, 12) \x1b[31m\u202eevil", "none"],
        ["(15, 15)", "(11, 11)", "(0, 0)", "(19, 11)"],
    ]
    for step, completions in enumerate(texts):
        inside = torch.tensor([float(text.startswith("(1")) for text in completions])
        writer.record(
            step,
            Rollouts(
                samples=stored,
                prompts=[None, None],
                group=torch.tensor([0, 0, 1, 1]),
                prompt=torch.tensor([0, 0, 1, 1]),
                actions=torch.zeros(4, 5, dtype=torch.long),
                length=torch.tensor([5, 2, 3, 1]),
                mask=torch.ones(4, 5, dtype=torch.bool),
                text=completions,
                origin=["policy"] * 4,
                scores={"point_in_box": inside},
                reward=2 * inside,
                signals={"truncated": torch.tensor([False, True, False, False])},
            ),
            {"reward": 1.0},
        )
    return folder


MINE = """
from rewards import Score, reward

@reward(range=(0, 1), needs=("answer",))
def answer(completion, sample):
    return float(sample.target["answer"][-1]) if completion == "(0, 0)" else 0.5

@reward(range=(0, 100), reads="rollouts", scope="group")
def everything(rows):
    assert rows.scores["point_in_box"].shape == rows.length.shape == rows.signals["truncated"].shape
    assert rows.mask.sum(1).tolist() == rows.length.tolist()
    return rows.length.tolist()

@reward(range=(0, 5000))
def pixels(completion, sample):
    from PIL import Image
    with Image.open(sample.media[0].path) as image:
        assert image.size == sample.media[0].size == (64, 48) and sample.media[0].seen == (32, 24)
        return image.width

@reward(range=(0, 1))
def fails(completion, sample):
    return 1 / completion.count("1")

@reward(range=(0, 1), needs=("nobody_has_it",))
def greedy(completion, sample):
    return 0

@reward(reads="image")
def picture(image, sample):
    return 0
"""


@pytest.fixture
def mine(tmp_path) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    return str(tmp_path / "mine.py")


def test_the_reward_of_the_run_itself_changes_nothing(run):
    result = replay(run, {"name": "point_in_box"})
    assert [one.after for one in result.rows] == [1, 0, 1, 0, 1, 1, 0, 1]
    assert [one.before for one in result.rows] == [2, 0, 2, 0, 2, 2, 0, 2]
    assert result.rank_correlation == pytest.approx(1) and result.best_changed == 0 and not result.moves
    assert result.flat_before == result.flat_after == 0.25
    assert [one.before for one in replay(run, {"name": "point_in_box"}, against="point_in_box").rows][:2] == [1, 0]


def test_samples_come_back_as_they_were(run, mine):
    assert [one.after for one in replay(run, {"name": f"{mine}:pixels"}).rows] == [64] * 8
    assert [one.after for one in replay(run, {"name": f"{mine}:everything"}, steps="1").rows] == [5, 2, 3, 1]


def test_a_key_that_was_added_to_the_data_later_is_found_there(run, mine):
    rows = replay(run, {"name": f"{mine}:answer"}).rows
    assert [one.after for one in rows] == [0.5, 0, 0.5, 0.5, 0.5, 0.5, 1, 0.5]
    with pytest.raises(
        ConfigError, match=r"greedy needs target\.nobody_has_it; sample s0@\w+ .* box\.\n.*train\.jsonl"
    ):
        replay(run, {"name": f"{mine}:greedy"})


def test_media_that_were_not_kept_are_read_from_the_data(run, mine):
    for copy in (run / "media").iterdir():
        copy.unlink()
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in (run / "rollouts").iterdir():
        table = pq.read_table(file)
        lost = [[{**media, "file": None} for media in medias] for medias in table["media"].to_pylist()]
        index = table.schema.get_field_index("media")
        pq.write_table(table.set_column(index, "media", pa.array(lost, table.schema.field("media").type)), file)
    assert [one.after for one in replay(run, {"name": f"{mine}:pixels"}).rows] == [64] * 8


def test_steps_and_scores_that_are_not_there(run, mine):
    assert {one.step for one in replay(run, {"name": "point_in_box"}, steps="1:").rows} == {1}
    assert {one.step for one in replay(run, {"name": "point_in_box"}, steps=":1").rows} == {0}
    for steps in ("2:", "x", "1:0"):
        with pytest.raises(ConfigError, match=f"--steps {steps}"):
            replay(run, {"name": "point_in_box"}, steps=steps)
    with pytest.raises(ConfigError, match=r"no score `point_in_bx`\.\n.*Did you mean point_in_box"):
        replay(run, {"name": "point_in_box"}, against="point_in_bx")
    with pytest.raises(ConfigError, match="reads images"):
        replay(run, {"name": f"{mine}:picture"})
    with pytest.raises(ConfigError, match="holds no run"):
        replay(run / "nowhere", {"name": "point_in_box"})


def test_the_report_of_a_replay(run, mine):
    spec = {"name": f"{mine}:fails"}
    result = replay(run, spec)
    text = printed(replay_report(result, run, spec), width=200)
    assert len(result.failures) == 3 and "ZeroDivisionError" in text and "mmrl rewards check" in text
    spec = {"name": "point_distance", "scale": 0.2}
    text = printed(replay_report(replay(run, spec), run, spec), width=200)
    assert "\x1b" not in text and "\u202e" not in text
    assert "2 steps" not in text and "steps 0 to 1: 8 completions in 4 groups" in text
    command = re.search("Next: (.*)", text)[1].strip()
    words = shlex.split(command)
    assert words[:3] == ["mmrl", "train", f"{run}/config.yaml"]
    assert yaml.safe_load(words[3].partition("=")[2]) == [spec]
