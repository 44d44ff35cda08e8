"""A supervised training that is killed, stopped or changed goes on where it was, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import time
from io import StringIO
from pathlib import Path

import pytest
import warm_mmrl
from rich.console import Console

from data_pipelines.gui.build import make_gui_cold_start
from mmrl import distributed
from mmrl.config import SftConfig, load_config
from mmrl.plugins import ConfigError
from mmrl.policies.vlm import VLMPolicy
from mmrl.runs.checkpoints import latest_checkpoint
from mmrl.runs.lock import RunLock
from mmrl.runs.unfinished import Unfinished
from mmrl.sft import sft

STEPS_OF_SECONDS = ("steps=40",)
"""So that a signal comes before the end."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    make_gui_cold_start(folder / "data", count=16)
    settings = {
        "out": "set on the command line",
        "steps": 12,
        "batch_size": 4,
        "checkpoint_every": 3,
        "data": {"train": str(folder / "data/cold_start.jsonl")},
        "optimizer": {"learning_rate": 1e-3, "schedule": "cosine"},
    }
    (folder / "sft.yaml").write_text(json.dumps(settings))
    return folder / "sft.yaml"


def start(config: Path, out: Path, *words: str) -> warm_mmrl.Process:
    return warm_mmrl.start(["sft", str(config), f"out={out}", *words], variables=os.environ | {"COLUMNS": "200"})


def end(process: warm_mmrl.Process, code: int) -> str:
    said = "".join(process.communicate(timeout=100))
    assert process.returncode == code, said
    return said


def wait_for_another(before: Path | None, unfinished: Path, process: warm_mmrl.Process) -> None:
    """Checkpoint."""
    deadline = time.monotonic() + 60
    while latest_checkpoint(unfinished) == before:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate(1)
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_and_stopped_it_ends_in_the_same_bits(config: Path, tmp_path: Path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    unfinished = tmp_path / "torn.unfinished"
    sft(load_config(config, [f"out={whole}", *STEPS_OF_SECONDS], kind=SftConfig), Console(quiet=True))

    killed = start(config, torn, *STEPS_OF_SECONDS)
    wait_for_another(None, unfinished, killed)
    killed.kill()
    end(killed, -signal.SIGKILL)
    assert not torn.exists()

    stopped = start(config, torn, "--resume", *STEPS_OF_SECONDS)
    wait_for_another(latest_checkpoint(unfinished), unfinished, stopped)
    stopped.send_signal(signal.SIGTERM)
    assert "which has a checkpoint. `--resume` goes on from there." in end(stopped, 75)

    end(start(config, torn, "--resume", *STEPS_OF_SECONDS), 0)
    assert not unfinished.exists()
    for file in sorted(path for path in whole.rglob("*") if path.is_file()):
        assert (torn / file.relative_to(whole)).read_bytes() == file.read_bytes(), file
    assert len(json.loads((torn / "sft_loss.json").read_text())) == 40


def test_what_cannot_be_resumed_and_other_settings_are_said(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def run(*words: str, resume: bool = False) -> str:
        console = Console(record=True, width=200, file=StringIO())
        sft(load_config(config, [f"out={tmp_path / 'out'}", *words], kind=SftConfig), console, resume=resume)
        return console.export_text()

    with pytest.raises(ConfigError, match=r"nothing to resume. Start without --resume."):
        run(resume=True)
    with monkeypatch.context() as broken:
        broken.setattr(VLMPolicy, "save", lambda policy, folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run()
    assert latest_checkpoint(tmp_path / "out.unfinished") is None
    with monkeypatch.context() as broken:
        broken.setattr("mmrl.sft.save", lambda policy, losses, out: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(resume=True)
    with pytest.raises(ConfigError, match=r"(?s)of which 9 steps have.*Go on with --resume, or remove that folder."):
        run()
    for words, says in (
        (["model.adapter.rank=4"], "does not fit these settings, or is damaged"),
        (["model.path=nowhere"], "nowhere"),
    ):
        with pytest.raises(ConfigError, match=says):
            run(*words, resume=True)
    with pytest.raises(ConfigError, match=r"steps = 9, and .*out.unfinished has made 9 already"):
        run("steps=9", resume=True)
    said = run("optimizer.learning_rate=0.0005", resume=True)
    assert "with other settings than before: optimizer.learning_rate 0.001 -> 0.0005" in said
    assert "goes on after step 9 of 12" in said and not (tmp_path / "out.unfinished").exists()
    (tmp_path / "out.unfinished").mkdir()
    assert "is there already: nothing is left to do" in run(resume=True)
    assert not (tmp_path / "out.unfinished").exists()
    with pytest.raises(ConfigError, match="exists already"):
        run()


def test_a_model_that_another_process_has_finished_meanwhile_is_not_made_again(config: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        Unfinished.open(out, "steps: 1", resume=False)


def test_a_rank_that_sees_another_folder_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributed, "gather", lambda value: [value, 3])
    monkeypatch.setattr(distributed, "by_rank_0", lambda call: call())
    with pytest.raises(ConfigError, match=r"rank 0 finds 0 steps made in .*out.unfinished, and rank 1 3"):
        Unfinished.open(tmp_path / "out", "steps: 9", resume=False)
    monkeypatch.undo()
    Unfinished.open(tmp_path / "out", "steps: 9", resume=False).close()


@pytest.mark.parametrize("text", ["{", "12", "\udcff"])
def test_damaged_settings_are_named(tmp_path: Path, text: str):
    (tmp_path / "out.unfinished").mkdir()
    (tmp_path / "out.unfinished/sft.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=r"out.unfinished/sft.yaml is damaged"):
        Unfinished.open(tmp_path / "out", "steps: 1", resume=True)


def test_one_process_at_a_time(tmp_path: Path):
    held = RunLock(tmp_path / "out.unfinished")
    with pytest.raises(ConfigError, match="choose another `out=`"):
        Unfinished.open(tmp_path / "out", "steps: 1", resume=False)
    held.release()
    Unfinished.open(tmp_path / "out", "steps: 1", resume=False).close()
