"""The doctor finds what is wrong, and its self-test trains for real."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import pytest
from rich.console import Console

from mmrl.doctor import machine, packages, selftest, videos
from mmrl.doctor.findings import Finding, show


def test_every_decoder_is_tried_on_a_real_clip():
    found = {finding.what: finding for finding in videos.decoders()}
    assert found["video with pyav"].state == "fine", found


def test_a_decoder_that_gives_wrong_frames_does_not_work(monkeypatch):
    monkeypatch.setattr(videos, "SIDE", 32)
    monkeypatch.setattr(videos, "draw", backwards)
    assert {finding.state for finding in videos.decoders()} == {"limited"}


def backwards(path: Path) -> Path:
    import numpy as np

    from data_pipelines.video.render import write_video

    return write_video(path, (np.full((32, 32, 3), 240 - 9 * n, np.uint8) for n in range(videos.FRAMES)), 8)


def test_a_necessary_package_that_is_missing_breaks_and_another_limits(monkeypatch):
    monkeypatch.setattr(packages, "NECESSARY", ("torch", "no-such-package"))
    monkeypatch.setattr(packages, "OPTIONAL", {"nor-this-one": "tea"})
    findings = list(packages.versions())
    assert {finding.what: finding.state for finding in findings}["no-such-package"] == "broken"
    out = io.StringIO()
    assert not show(findings, Console(file=out))
    assert "-- nor-this-one" in out.getvalue() and "without it: no tea" in out.getvalue()
    assert show([Finding("a", "b", state="limited")], Console(file=out))


def test_a_port_that_is_taken_is_seen():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not machine.is_free(port)
    assert machine.is_free(port)


def test_half_a_launcher_is_found():
    told = {"WORLD_SIZE": "2", "RANK": "0"}
    assert [f.remark for f in machine.launcher(told) if f.state == "broken"] == [
        "MASTER_ADDR, MASTER_PORT not set: the ranks would wait for each other in vain"
    ]
    whole = {**told, "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert all(finding.state == "fine" for finding in machine.launcher(whole))
    assert any("train alone" in finding.remark for finding in machine.launcher({"SLURM_NTASKS": "8"}))


@pytest.mark.slow
def test_the_selftest_trains_on_two_processes_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    findings = list(selftest.selftest(processes=2, strategy="zero2"))
    assert [finding.what for finding in findings if finding.state == "fine"] == [
        "data", "launcher", "training", "log-probs", "ranks", "checkpoint", "time"
    ], findings  # fmt: skip
    assert not list(tmp_path.glob("mmrl-doctor-*"))


def test_a_selftest_that_fails_keeps_its_log_and_shows_its_end(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(selftest, "GROUP", 1)  # refused: nothing to compare
    findings = list(selftest.selftest(processes=1, strategy="ddp"))
    assert findings[1].state == "broken" and findings[1].found == "exit code 2"
    assert "an advantage compares the completions" in findings[-1].remark and Path(findings[-1].found).is_file()
