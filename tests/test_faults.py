"""What happens to one process of a training, and that it goes on to the weights of one that nothing happened to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from faulty import advantages, ends, limited, start
from rich.console import Console
from safetensors.torch import load_file
from small_runs import write_recipe
from torch import Tensor

from data_pipelines.dataset import read_samples
from data_pipelines.gui.build import make_gui
from mmrl.faults.endings import BadUpdates, DiskFull, OutOfMemory
from mmrl.faults.room import out_of_memory
from mmrl.launch import run_training
from mmrl.plugins import ConfigError
from mmrl.policies.tiny import save_untrained
from mmrl.policies.vlm import VLMPolicy
from mmrl.runs.checkpoints import best_checkpoint, list_checkpoints, model_of, read_state, save_checkpoint
from mmrl.runs.files import append_line, atomic_folder
from mmrl.runs.reader import read_events, read_metrics, read_rollouts, run_info

FAULTY = Path(__file__).parent / "helpers" / "faulty.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    save_untrained(folder / "model")
    make_gui(folder / "gui", count=12, test_count=1)
    return folder


def recipe(place: Path, name: str, **changes: Any) -> str:
    settings = {
        "steps": 4,
        "prompts_per_step": 3,
        "group_size": 4,
        "data": {"train": str(place / "gui" / "train.jsonl")},
        "sampling": {"max_new_tokens": 6},
        "rewards": [f"{FAULTY}:digits_in"],
        "checkpoint": {"every": 2, "keep": 2, "best": False},
    }
    return write_recipe(place, name, **settings | changes)


def run(place: Path, name: str, *, resume: bool = False, **changes: Any) -> Path:
    return run_training(recipe(place, name, **changes), [], resume=resume, console=Console(quiet=True))


def weights(run: Path, step: int = 3) -> dict[str, Tensor]:
    return load_file(run / f"checkpoints/step-{step:06d}/model/model.safetensors")


def assert_same(run: Path, other: Path, step: int = 3, **tolerance: float) -> None:
    mine, theirs = weights(run, step), weights(other, step)
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value, **(tolerance or {"rtol": 0, "atol": 0}))


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(run) if event["kind"] == kind]


@pytest.fixture(scope="module")
def plain(place: Path) -> Path:
    return run(place, "plain")


# -- signals and the lock --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["SIGTERM", pytest.param("SIGUSR1", marks=pytest.mark.slow), pytest.param("SIGINT", marks=pytest.mark.slow)],
)
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(place: Path, plain: Path, name: str):
    """Of step 2, which would have none otherwise; it goes on to the same weights."""
    changed = recipe(place, name, advantages=advantages(f"signal {name}"))
    [(code, said)] = ends(start(["train", changed]))
    folder = place / "runs" / name
    assert code == 75, said
    assert f"stopped by {name} after step 2" in said and "Traceback" not in said
    assert run_info(folder).state == "stopped" and events(folder, "stopped")[0]["signal"] == name
    assert [line["step"] for line in read_metrics(folder)] == [0, 1, 2]
    run(place, name, resume=True)
    assert_same(plain, folder)


def test_a_second_training_is_refused_until_the_first_is_dead_and_a_second_signal_ends_it(place: Path, plain: Path):
    flag = place / "waiting"
    file = recipe(place, "locked", advantages=advantages(f"wait {flag}"))
    [process] = start(["train", file])
    folder = place / "runs" / "locked"
    try:
        while not flag.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        with pytest.raises(ConfigError, match=f"is being trained by pid {process.pid} on host .* since 20"):
            run(place, "locked", resume=True)
        process.send_signal(signal.SIGTERM)
        time.sleep(3.5)
        assert process.poll() is None, "it would finish its step first"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert run_info(folder).state == "stopped"
    run(place, "locked", resume=True)
    assert_same(plain, folder)


def test_settings_that_a_resumed_run_has_otherwise_are_said_and_kept(place: Path):
    checkpoint = {"every": 1, "keep": 2, "best": False}
    run(place, "changed", steps=2, checkpoint=checkpoint)
    folder = run(place, "changed", resume=True, steps=3, seed=7, checkpoint=checkpoint)
    [event] = events(folder, "resumed")
    assert event["changed"] == {"steps": [2, 3], "seed": [0, 7]}
    [warning] = events(folder, "warning")
    assert warning["message"] == "from step 2 on with other settings than before: seed 0 -> 7, steps 2 -> 3"
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    assert (kept["steps"], kept["seed"]) == (3, 7) and run_info(folder).state == "finished"
    run(place, "changed", resume=True, steps=3, seed=7, checkpoint=checkpoint)
    assert len(events(folder, "warning")) == 1 and "changed" not in events(folder, "resumed")[1]


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_an_update_without_a_finite_loss_is_left_out_and_its_rows_are_named(place: Path):
    loss = {"terms": ["clipped", {"name": f"{FAULTY}:poisoned"}]}
    checkpoint = {"every": 1, "keep": 9}
    folder = run(place, "inf", loss=loss, advantages=advantages("inf once", at=1), checkpoint=checkpoint)
    before, at, after = (weights(folder, step) for step in (0, 1, 2))
    assert all(torch.equal(before[name], at[name]) for name in at)
    assert any(not torch.equal(after[name], at[name]) for name in at)
    [event] = events(folder, "skipped")
    [named] = {name for found in event["found"] for name in found["samples"]}
    assert [named] * 4 == [row["sample_id"] for row in read_rollouts(folder, 1) if row["group"] == 1]
    assert event["step"] == 1 and "poisoned is nan" in event["message"]
    states = [read_state(path) for path in list_checkpoints(folder)]
    assert [state["bad_updates"] for state in states] == [0, 1, 0, 0]
    assert [line.get("updates_skipped") for line in read_metrics(folder)] == [None, 1.0, None, None]


def test_a_gradient_that_is_no_number_is_left_out_as_well_and_three_in_a_row_are_the_end(place: Path):
    loss = {"terms": ["clipped", {"name": f"{FAULTY}:brittle"}]}
    with pytest.raises(BadUpdates, match="3 updates in a row") as caught:
        run(place, "brittle", loss=loss, checkpoint={"every": 1, "keep": 9})
    folder = place / "runs" / "brittle"
    assert caught.value.exit_code == 70
    assert [event["found"][0]["found"] for event in events(folder, "skipped")] == ["the gradient's norm is nan"] * 3
    assert len(read_metrics(folder)) == 3 and read_rollouts(folder, 2)
    start = load_file(place / "model" / "model.safetensors")
    assert all(torch.equal(value, start[name]) for name, value in weights(folder, 1).items() if name in start)


# -- memory ----------------------------------------------------------------------------------------------------------


def little_memory(monkeypatch: pytest.MonkeyPatch, *, tokens: int) -> list[int]:
    """From now on a training pass has room for so many packed tokens; returns what was refused."""
    refused: list[int] = []
    monkeypatch.setattr(VLMPolicy, "logp", limited(VLMPolicy.logp, tokens=tokens, refused=refused))
    return refused


def test_a_pass_that_runs_out_of_memory_is_done_again_in_smaller_parts(place: Path, plain: Path, monkeypatch):
    loss = {"terms": ["clipped", {"name": "kl", "coef": 0.1}]}
    optimizer = {"learning_rate": 1e-3, "updates_per_rollout": 2, "epochs": 2}
    whole = run(place, "room", loss=loss, optimizer=optimizer)
    refused = little_memory(monkeypatch, tokens=100)
    folder = run(place, "small", loss=loss, optimizer=optimizer, steps=3)
    assert refused and [event["micro_batch_tokens"] for event in events(folder, "memory")]
    assert all(event["configured"] == 16384 and event["step"] == 0 for event in events(folder, "memory"))
    assert "updates_skipped" not in read_metrics(folder)[0]
    refused.clear()
    run(place, "small", loss=loss, optimizer=optimizer, resume=True)
    assert not refused, "the smaller budget is remembered"
    assert_same(whole, folder, rtol=1e-3, atol=1e-5)


def test_a_row_that_does_not_fit_is_the_end(place: Path, monkeypatch):
    little_memory(monkeypatch, tokens=10)
    with pytest.raises(OutOfMemory, match="one row alone does not fit"):
        run(place, "too_large")
    assert "OutOfMemory" in events(place / "runs" / "too_large", "failed")[0]["error"]


def test_the_probe_finds_what_fits_before_the_first_step_and_leaves_no_trace(place: Path, plain: Path, monkeypatch):
    probed = run(place, "probed", memory_probe="on")
    assert events(probed, "memory")[0]["rows"] == 12
    assert_same(plain, probed)
    refused = little_memory(monkeypatch, tokens=100)
    folder = run(place, "probed_small", memory_probe="on", checkpoint={"every": 1, "keep": 1, "best": False})
    *halved, fits = events(folder, "memory")
    assert len(halved) == len(refused) > 0 and fits["message"] == "the largest rows fit"
    assert fits["micro_batch_tokens"] == halved[-1]["micro_batch_tokens"]
    assert fits["time"] < events(folder, "checkpoint")[0]["time"], "before the first step, which then had no trouble"
    assert_same(plain, folder, rtol=1e-3, atol=1e-5)


def test_generation_that_runs_out_of_memory_is_done_for_fewer_prompts_at_once(place: Path, plain: Path, monkeypatch):
    from mmrl.policies.shared_prefix import SharedPrefix

    generate, refused = SharedPrefix.generate, []

    def limited(engine: Any, prompts: Any, noise: Any, how: Any) -> Any:
        if len(prompts) > 1:
            refused.append(len(prompts))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(engine, prompts, noise, how)

    monkeypatch.setattr(SharedPrefix, "generate", limited)
    folder = run(place, "few", steps=3)
    assert len(refused) == 1 and events(folder, "memory")[0]["generation_tokens"] < 1000
    run(place, "few", resume=True)
    assert len(refused) == 1
    assert_same(plain, folder, rtol=1e-3, atol=1e-5)


def test_what_the_allocators_say_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("shapes do not match"))


# -- the disk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """40 MB: two checkpoints of the small model and a little."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        shutil.which("mount")
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(folder)], capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("no permission to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_it_goes_on_when_there_is_space(place: Path, plain: Path, disk: Path):
    """Full while a step is recorded, then too full for a checkpoint."""
    filler = disk / "filler"
    changes: dict[str, Any] = {"runs": str(disk), "checkpoint": {"every": 2, "keep": 1, "best": False}}
    with pytest.raises(DiskFull, match=r"full/.* could not be written: no space is left \(0 B free in"):
        run(place, "full", advantages=advantages(f"fill {filler}"), **changes)
    folder = disk / "full"
    assert [line["step"] for line in read_metrics(folder)] == [0, 1] and not list(folder.glob("*/.*.tmp"))
    filler.unlink()
    filler.write_bytes(bytes(10 * 2**20))
    with pytest.raises(DiskFull, match=r"the checkpoint .*step-000003 needs about 1\d.\d MB, and .* free in"):
        run(place, "full", resume=True, **changes)
    assert [path.name for path in list_checkpoints(folder)] == ["step-000001"]
    filler.unlink()
    run(place, "full", resume=True, **changes)
    assert_same(plain, folder)


def test_nothing_half_written_stays_on_a_full_disk(disk: Path):
    append_line(disk / "lines.jsonl", json.dumps({"step": 0}))
    with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(2**16))
    with pytest.raises(DiskFull, match=r"lines\.jsonl"):
        append_line(disk / "lines.jsonl", "x" * 100_000)
    assert (disk / "lines.jsonl").read_text() == '{"step": 0}\n'
    with pytest.raises(DiskFull, match="folder"), atomic_folder(disk / "folder") as folder:
        torch.save(torch.zeros(100_000), folder / "part")
    assert {path.name for path in disk.iterdir()} == {"lines.jsonl", "filler"}


def test_a_checkpoint_needs_the_space_of_the_one_before(tmp_path: Path, monkeypatch):
    def save_model(folder: Path) -> None:
        (folder / "w").write_bytes(bytes(1000))

    save_checkpoint(tmp_path, 1, save_model=save_model, state={}, keep=1)
    free = shutil.disk_usage(tmp_path)._replace(free=500)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(DiskFull, match=r"step-000002 needs about 1.0 kB, and 500 B free in .*It was not begun"):
        save_checkpoint(tmp_path, 2, save_model=save_model, state={}, keep=1)


# -- media -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["stop", "skip"])
def test_a_picture_that_changes_while_the_run_goes_on(place: Path, tmp_path: Path, answer: str):
    """It is cut at step 0; every one of the four rows is drawn in every step."""
    make_gui(tmp_path / "gui", count=4, test_count=1)
    victim = read_samples(tmp_path / "gui" / "train.jsonl")[1].media[0].path
    changes: dict[str, Any] = {
        "data": {"train": str(tmp_path / "gui" / "train.jsonl"), "bad_media": answer},
        "advantages": advantages(f"cut {victim}", at=0),
        "prompts_per_step": 4,
    }
    if answer == "stop":
        with pytest.raises(ConfigError, match=rf"row 2 .*{Path(victim).name}[^$]*data.bad_media=skip leaves"):
            run(place, "cut_stop", **changes)
        return
    folder = run(place, "cut_skip", **changes)
    assert [line.get("rows_left_out") for line in read_metrics(folder)] == [None, 1.0, 1.0, 1.0]
    assert [len({row["sample_id"] for row in read_rollouts(folder, step)}) for step in range(4)] == [4, 3, 3, 3]
    assert [event["step"] for event in events(folder, "skipped")] == [1, 2, 3]


# -- checkpoints -----------------------------------------------------------------------------------------------------


def test_the_best_checkpoint_is_kept_beside_the_newest(tmp_path: Path):
    def save(step: int, score: float | None) -> None:
        save_checkpoint(tmp_path, step, save_model=lambda folder: None, state={"score": score}, keep=2, keep_best=True)

    for step, score in enumerate([0.1, 0.9, None, float("nan"), 0.5, 0.4]):
        save(step, score)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000001", "step-000004", "step-000005"]
    best = tmp_path / "checkpoints" / "best"
    assert os.readlink(best) == "step-000001" and best_checkpoint(tmp_path) == best.resolve()
    assert model_of(tmp_path).parent.name == "step-000005"
    save(6, 0.95)
    assert os.readlink(best) == "step-000006"
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000005", "step-000006"]
