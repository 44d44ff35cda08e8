from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from data_pipelines.media import probe
from mmrl.plugins import ConfigError
from mmrl.records import Sample
from mmrl.runs import layout
from mmrl.runs.reader import read_events, read_metrics, read_rollouts, rollout_steps, run_info
from mmrl.runs.writer import RunWriter


@pytest.fixture
def run(tmp_path: Path) -> RunWriter:
    return RunWriter.create(tmp_path / "runs" / "first", "steps: 10\n")


def test_what_was_recorded_is_what_is_read(run: RunWriter, make_rollouts, make_media):
    video = make_media("clip.mp4", content=b"frames", times=(0.0, 0.5))
    image = make_media(seen=None)
    messages = ({"role": "user", "content": [{"type": "text", "text": "où? 在哪里 🙂"}]},)
    samples = [
        Sample("a", messages, (image, video), {"box": (1, 2, 3, 4)}, {"coordinates": "norm1000"}),
        Sample("b", messages),
    ]
    rollouts = make_rollouts((3, 2), samples=samples, text=["", "où 🙂", "<box>", "[red]", "\ud800 half"])
    rollouts.notes[1] = {"box_iou": {"parsed": np.float32(0.5), "why": ValueError("no box"), "bad": float("inf")}}
    run.record(3, rollouts, {})

    rows = read_rollouts(run.folder, 3)
    assert [row["group"] for row in rows] == [0, 0, 0, 1, 1]
    assert [row["row"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["sample_id"] for row in rows] == ["a", "a", "a", "b", "b"]
    assert [row["completion"] for row in rows] == ["", "où 🙂", "<box>", "[red]", "? half"]
    assert [row["tokens"] for row in rows] == [0, 1, 2, 3, 0]
    assert [row["truncated"] for row in rows] == [True, False, True, False, True]
    assert [row["reward"] for row in rows] == [0.0, 0.125, 0.25, 0.375, None]
    assert [row["scores"]["box_iou"] for row in rows] == [0.0, 0.125, 0.25, 0.375, None]
    assert [row["advantage"] for row in rows] == [None, 1.0, 2.0, 3.0, None]
    assert [row["logp_old"] for row in rows] == [None, -0.5, -0.5, -0.5, None]
    assert [row["coordinates"] for row in rows] == ["norm1000"] * 3 + ["pixel"] * 2
    assert rows[1]["notes"] == {"box_iou": {"parsed": 0.5, "why": "no box", "bad": None}}
    assert rows[0]["messages"] == list(messages)
    assert rows[0]["target"] == {"box": [1, 2, 3, 4]}
    assert rows[3]["media"] == []
    assert rows[0]["media"] == [
        {
            "kind": kind,
            "file": f"media/{digest}.{suffix}",
            "width": 64,
            "height": 32,
            "seen_width": width,
            "seen_height": height,
            "times": times,
        }
        for kind, digest, suffix, width, height, times in (
            ("image", image.digest, "png", None, None, []),
            ("video", video.digest, "mp4", 56, 28, [0.0, 0.5]),
        )
    ]


def test_fields_that_no_stage_filled_are_null(run: RunWriter, make_rollouts):
    rollouts = make_rollouts()
    rollouts.logp_old = rollouts.reward = rollouts.advantage = None
    rollouts.signals, rollouts.scores = {}, {}
    run.record(0, rollouts, {})
    for row in read_rollouts(run.folder, 0):
        assert [row[name] for name in ("logp_old", "reward", "advantage", "truncated")] == [None] * 4
        assert row["scores"] == {}


def test_a_step_without_completions_is_recorded(run: RunWriter, make_rollouts):
    run.record(0, make_rollouts((1,)).select([]), {"reward": 0.0})
    assert read_rollouts(run.folder, 0) == []


def test_a_prompt_is_stored_once_per_group(run: RunWriter, make_rollouts):
    samples = [Sample("long", ({"role": "user", "content": os.urandom(50_000).hex()},))]
    run.record(0, make_rollouts((1,), samples=samples), {})
    run.record(1, make_rollouts((64,), samples=samples), {})
    one, many = (path.stat().st_size for _, _, path in layout.rollout_files(run.folder))
    assert many < 1.1 * one


def test_files_say_their_schema_and_a_newer_one_is_refused(run: RunWriter, make_rollouts):
    run.record(0, make_rollouts(), {})
    [(_, _, path)] = layout.rollout_files(run.folder)
    table = pq.read_table(path, partitioning=None)
    assert table.schema.metadata[b"mmrl.schema"] == b"3"
    pq.write_table(table.replace_schema_metadata({b"mmrl.schema": b"4"}), path)
    with pytest.raises(ConfigError, match="newer mmrl"):
        read_rollouts(run.folder, 0)


def test_runs_from_before_pictures_were_kept_are_read(run: RunWriter, make_rollouts):
    run.record(0, make_rollouts(), {})
    [(_, _, path)] = layout.rollout_files(run.folder)
    table = pq.read_table(path, partitioning=None)
    expected = read_rollouts(run.folder, 0)
    pq.write_table(table.drop_columns(["made"]).replace_schema_metadata({b"mmrl.schema": b"1"}), path)
    assert read_rollouts(run.folder, 0) == expected
    assert [row["made"] for row in expected] == [None] * 3


def test_what_a_diffusion_policy_made_is_kept(run: RunWriter, make_made):
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "red")]
    rollouts = make_made(images)
    run.record(0, rollouts, {})
    run.record(1, rollouts, {})
    rows = read_rollouts(run.folder, 0)
    files = [run.folder / row["made"] for row in rows]
    assert files[0] == files[2] != files[1] and set((run.folder / "media").iterdir()) == set(files)
    for file, image in zip(files, images, strict=True):
        assert Image.open(file).tobytes() == image.tobytes()
        assert file.name == f"{hashlib.sha256(file.read_bytes()).hexdigest()}.png"
    assert [row["completion"] for row in rows] == [""] * 3
    assert [row["tokens"] for row in rows] == [4] * 3
    assert [row["truncated"] for row in rows] == [None] * 3
    assert [row["logp_old"] for row in rows] == [-0.5] * 3, "the mean over the trained steps, whose log-probs there are"
    assert [row["advantage"] for row in rows] == [0.0, 1.0, 2.0]


def test_videos_are_kept_and_rows_without_a_picture_are_null(run: RunWriter, make_made):
    film = [Image.new("RGB", (18, 9), colour) for colour in ("red", "lime", "blue")]
    run.record(0, make_made([film, None]), {})
    video, nothing = (row["made"] for row in read_rollouts(run.folder, 0))
    assert nothing is None and video.startswith("media/") and video.endswith(".mp4")
    assert probe(run.folder / video, "video").size == (18, 10)


def test_a_crash_while_a_picture_is_written_leaves_none(run: RunWriter, make_made, monkeypatch):
    monkeypatch.setattr(os, "replace", fail_to_rename)
    with pytest.raises(OSError):
        run.record(0, make_made([Image.new("RGB", (8, 8))]), {})
    assert list((run.folder / "media").iterdir()) == [] and rollout_steps(run.folder) == []


def fail_to_rename(*_):
    raise OSError("disk full")


def test_metrics_that_are_not_finite_are_null(run: RunWriter, make_rollouts):
    run.record(0, make_rollouts(), {"reward": float("nan"), "kl": float("inf"), "loss": torch.tensor(0.5), "step": 0.0})
    assert (run.folder / "metrics.jsonl").read_text() == '{"step": 0, "reward": null, "kl": null, "loss": 0.5}\n'


def test_media_are_kept_once_under_their_hash(run: RunWriter, make_rollouts, make_media):
    media = [
        make_media("a.JPeG", content=b"same"),
        make_media("a.JPeG", content=b"same"),
        make_media("b.mp4", content=b"b"),
    ]
    samples = [Sample("x", (), tuple(media)), Sample("y", (), (media[0],))]
    for step in range(2):
        run.record(step, make_rollouts(samples=samples), {})
    kept = {path.name: path.read_bytes() for path in (run.folder / "media").iterdir()}
    assert kept == {f"{media[0].digest}.jpeg": b"same", f"{media[2].digest}.mp4": b"b"}


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_media_are_copied_where_links_are_impossible(run: RunWriter, make_rollouts, make_media, monkeypatch, error):
    def refuse(*_):
        raise error("cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    media = make_media()
    run.record(0, make_rollouts((2,), samples=[Sample("x", (), (media,))]), {})
    assert [path.read_bytes() for path in (run.folder / "media").iterdir()] == [b"pixels"]


def test_what_a_run_keeps_changes_with_a_file_that_is_damaged_and_is_restored_with_it(
    run: RunWriter, make_rollouts, make_media
):
    media = make_media(content=b"whole")
    run.record(0, make_rollouts((2,), samples=[Sample("x", (), (media,))]), {})
    [kept] = (run.folder / "media").iterdir()
    Path(media.path).write_bytes(b"cut")
    assert kept.read_bytes() == b"cut", "they are one file"
    Path(media.path).unlink()
    Path(media.path).write_bytes(b"whole")
    run.restore_media([media])
    assert kept.read_bytes() == b"whole" and [*(run.folder / "media").iterdir()] == [kept]


def test_media_that_cannot_be_kept_warn_once_and_stop_nothing(run: RunWriter, make_rollouts, make_media):
    page, gone = make_media("page.svg", content=b"<script>"), make_media("gone.png", content=b"gone")
    Path(gone.path).unlink()
    for step in range(2):
        run.record(step, make_rollouts((1,), samples=[Sample("x", (), (page, gone))]), {})
    assert [media["file"] for media in read_rollouts(run.folder, 1)[0]["media"]] == [None, None]
    warnings = [event["message"] for event in read_events(run.folder) if event["kind"] == "warning"]
    assert len(warnings) == 2 and ".svg" in warnings[0] and "gone" in warnings[1]


def test_a_crash_while_recording_leaves_no_trace_of_the_step(run: RunWriter, make_rollouts, monkeypatch):
    def fail(_table, path, **_):
        Path(path).write_bytes(b"PAR1 half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError):
        run.record(0, make_rollouts(), {"reward": 1.0})
    assert list((run.folder / "rollouts").iterdir()) == []
    assert read_metrics(run.folder) == [] and rollout_steps(run.folder) == []


def test_ranks_write_side_by_side_and_are_read_as_one(run: RunWriter, make_rollouts):
    other = RunWriter.create(run.folder, "steps: 10\n", rank=1)
    for writer in (other, run):
        writer.record(0, make_rollouts((2, 1)), {"reward": float(writer.rank)})
    rows = read_rollouts(run.folder, 0)
    assert [(row["rank"], row["group"], row["row"]) for row in rows] == [
        (0, 0, 0), (0, 0, 1), (0, 1, 2), (1, 2, 3), (1, 2, 4), (1, 3, 5),
    ]  # fmt: skip
    assert read_metrics(run.folder) == [{"step": 0, "reward": 0.0}]


def test_a_folder_holds_one_run(run: RunWriter):
    with pytest.raises(ConfigError, match="--resume"):
        RunWriter.create(run.folder, "steps: 10\n")
    with pytest.raises(ConfigError, match="no run"):
        RunWriter.resume(run.folder.parent / "other", first_step=1)


def test_a_resumed_run_has_one_record_per_step(run: RunWriter, make_rollouts):
    for step in range(5):
        run.record(step, make_rollouts(), {"reward": step / 10})
    RunWriter(run.folder, rank=7).record(4, make_rollouts(), {})
    resumed = RunWriter.resume(run.folder, first_step=3)
    assert rollout_steps(run.folder) == [0, 1, 2]
    assert read_metrics(run.folder) == [{"step": step, "reward": step / 10} for step in range(3)]
    resumed.record(3, make_rollouts(), {"reward": 9.0})
    assert [line["step"] for line in read_metrics(run.folder)] == [0, 1, 2, 3] == rollout_steps(run.folder)
    assert [event["kind"] for event in read_events(run.folder)] == ["started", "resumed"]


def test_resuming_tidies_up_after_a_killed_process(run: RunWriter, make_rollouts):
    run.record(0, make_rollouts(), {"reward": 0.5})
    for name, half in (("metrics.jsonl", '{"step": 1, "rew'), ("events.jsonl", '{"time": 17')):
        with (run.folder / name).open("a") as file:
            file.write(half)
    (run.folder / "rollouts" / ".step-000001.0.parquet.0123.tmp").touch()
    resumed = RunWriter.resume(run.folder, first_step=1)
    resumed.record(1, make_rollouts(), {"reward": 0.6})
    metrics, events = read_metrics(run.folder), read_events(run.folder)
    assert [line["step"] for line in metrics] == [0, 1] and metrics.broken == events.broken == 0
    assert len(list((run.folder / "rollouts").iterdir())) == 2


def test_events_carry_their_time_and_fields(run: RunWriter):
    run.event("evaluation", step=5, score=0.4, low=0.3, high=float("nan"))
    event = read_events(run.folder)[-1]
    assert event.pop("time") > 1.7e9
    assert event == {"kind": "evaluation", "rank": 0, "step": 5, "score": 0.4, "low": 0.3, "high": None}
    assert json.loads((run.folder / "events.jsonl").read_text().splitlines()[0])["kind"] == "started"
    assert run_info(run.folder).state == "running"
