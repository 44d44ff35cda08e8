"""The fault campaign (`benchmarks/faults`): its checks find every loss that is made here, and it runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from small_runs import write_recipe

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.faults.checks import Findings, compare, partial
from data_pipelines.gui.build import make_gui
from mmrl.launch import run_training
from mmrl.policies.tiny import save_untrained
from mmrl.runs.files import write_bytes

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("campaign")
    save_untrained(place / "model")
    make_gui(place / "gui", count=4, test_count=1)
    settings: dict[str, Any] = {
        "steps": 2,
        "prompts_per_step": 2,
        "group_size": 2,
        "data": {"train": str(place / "gui" / "train.jsonl")},
        "sampling": {"max_new_tokens": 3},
        "rewards": ["point_in_box"],
        "checkpoint": {"every": 1, "keep": 2, "best": False},
    }
    return run_training(write_recipe(place, "whole", **settings), [], resume=False, console=Console(quiet=True))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    write_bytes(file, bytes(content))


def cut(file: Path) -> None:
    write_bytes(file, file.read_bytes()[:-20])


def other_score(file: Path) -> None:
    state = json.loads(file.read_text())
    write_bytes(file, json.dumps({**state, "score": state["score"] + 1}).encode())


def other_reward(file: Path) -> None:
    table = pq.read_table(file)
    rewards = table["reward"].to_pylist()
    column = table.schema.get_field_index("reward")
    pq.write_table(table.set_column(column, "reward", [[rewards[0] + 1, *rewards[1:]]]), file)


LOSSES: dict[str, tuple[Callable[[Path], Any], str, int]] = {
    "a weight that flipped": (lambda run: flip(run / "checkpoints/step-000001/model/model.safetensors"), "partial", 1),
    "an optimizer that was cut": (lambda run: cut(run / "checkpoints/step-000001/optimizer.safetensors"), "partial", 1),
    "another score": (lambda run: other_score(run / "checkpoints/step-000001/state.json"), "partial", 1),
    "a checkpoint that is gone": (lambda run: shutil.rmtree(run / "checkpoints/step-000001"), "equal", 0),
    "rollouts twice": (
        lambda run: shutil.copy(run / "rollouts/step-000001.0.parquet", run / "rollouts/step-000001.1.parquet"),
        "doubled",
        4,
    ),
    "rollouts that are gone": (lambda run: (run / "rollouts/step-000000.0.parquet").unlink(), "lost", 4),
    "rollouts that were cut": (lambda run: cut(run / "rollouts/step-000000.0.parquet"), "partial", 1),
    "another reward": (lambda run: other_reward(run / "rollouts/step-000000.0.parquet"), "changed", 1),
    "a step's line twice": (
        lambda run: (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text() * 2), "problems", 1
    ),
    "a picture that was cut": (lambda run: cut(next((run / "media").iterdir())), "partial", 1),
    "a temporary that stayed": (lambda run: (run / "checkpoints/.step-000001.0.tmp").mkdir(), "problems", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_found(whole: Path, tmp_path: Path, name: str):
    damage, where, count = LOSSES[name]
    run = Path(shutil.copytree(whole, tmp_path / "run", symlinks=True))
    assert compare(run, whole).clean
    damage(run)
    found = compare(run, whole)
    assert not found.clean
    value = getattr(found, where)
    assert (len(value) if isinstance(value, list) else value) == count, found


def test_a_run_that_was_cut_short_lacks_much_and_has_nothing_partial(whole: Path, tmp_path: Path):
    run = Path(shutil.copytree(whole, tmp_path / "run", symlinks=True))
    shutil.rmtree(run / "checkpoints/step-000001")
    (run / "rollouts/step-000001.0.parquet").unlink()
    with (run / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 2, "rew')
    assert partial(run, whole) == Findings()
    assert compare(run, whole).lost == 4


@pytest.mark.slow
def test_two_kills_lose_nothing(tmp_path: Path):
    """As the command does it, in real processes."""
    command = [sys.executable, "-m", "benchmarks.faults", "--only", "kill-words", "--kills", "2"]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert re.search(r"kill -9, words │ +2 │", done.stdout), done.stdout
