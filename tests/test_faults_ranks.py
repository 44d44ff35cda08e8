"""What happens to one rank of several is known to all: real processes that nobody but they themselves ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from faulty import advantages, ends, start
from rich.console import Console
from safetensors.torch import load_file
from small_runs import write_recipe

from data_pipelines.gui.build import make_gui
from mmrl.launch import run_training
from mmrl.policies.tiny import save_untrained
from mmrl.runs.reader import read_events, read_metrics

FAULTY = Path(__file__).parent / "helpers" / "faulty.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    save_untrained(folder / "model")
    make_gui(folder / "gui", count=12, test_count=1)
    return folder


def recipe(place: Path, name: str, **changes: Any) -> str:
    settings = {
        "steps": 4,
        "prompts_per_step": 4,
        "group_size": 4,
        "data": {"train": str(place / "gui" / "train.jsonl")},
        "sampling": {"max_new_tokens": 6},
        "rewards": [f"{FAULTY}:digits_in"],
        "checkpoint": {"every": 2, "keep": 9},
    }
    return write_recipe(place, name, **settings | changes)


@pytest.fixture(scope="module")
def plain(place: Path) -> Path:
    return run_training(recipe(place, "plain"), [], resume=False, console=Console(quiet=True))


def assert_close(run: Path, other: Path, step: int = 3) -> None:
    file = f"checkpoints/step-{step:06d}/model/model.safetensors"
    mine, theirs = load_file(run / file), load_file(other / file)
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=1e-4)


def waiting(flag: Path, *processes: Any) -> None:
    while not flag.exists():
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 2])
def test_the_others_end_with_one_message_that_names_the_rank_that_was_killed(place: Path, dead: int):
    flag, name = place / f"flag-{dead}", f"killed-{dead}"
    processes = start(["train", recipe(place, name, advantages=advantages(f"wait {flag}", rank=dead))], ranks=3)
    waiting(flag, *processes)
    time.sleep(1.0)  # the others wait for it
    processes[dead].kill()
    found = ends(processes, within=20)
    assert [code for code, _ in found] == [-9 if rank == dead else 69 for rank in range(3)], found
    said = "".join(text for _, text in found)
    assert said.count(f"rank {dead} (host {os.uname().nodename}, pid {processes[dead].pid}) is gone at step 2") == 1
    assert "Traceback" not in said
    [failed] = [event for event in read_events(place / "runs" / name) if event["kind"] == "failed"]
    assert f"rank {dead} (host" in failed["error"]


@pytest.mark.slow
def test_a_rank_that_would_never_come_back_ends_as_well(place: Path):
    """As one that waits in NCCL does: it sleeps, and its own thread ends it."""
    flag = place / "flag-asleep"
    what = [*advantages(f"wait {flag}-0", rank=0), *advantages(f"wait {flag}-1", rank=1)[1:]]
    processes = start(["train", recipe(place, "asleep", advantages=what)], ranks=2, patience=3.0)
    waiting(Path(f"{flag}-0"), *processes)
    waiting(Path(f"{flag}-1"), *processes)
    processes[1].kill()
    (code, said), _ = ends(processes, within=20)
    assert code == 69 and said.count("is gone at step 2") == 1, said


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_at_the_same_step(place: Path, plain: Path):
    changed = recipe(place, "stopped", advantages=advantages("signal SIGTERM", rank=1))
    found = ends(start(["train", changed], ranks=2))
    assert [code for code, _ in found] == [75, 75], found
    assert "".join(text for _, text in found).count("stopped by SIGTERM after step 2") == 1
    run_training(recipe(place, "stopped"), [], resume=True, console=Console(quiet=True))
    assert_close(plain, place / "runs" / "stopped")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero1", "zero2", "zero3"])
def test_all_ranks_leave_the_same_update_out(place: Path, strategy: str):
    """The loss of one group, which one of them holds, has no value."""
    name = f"inf-{strategy}"
    file = recipe(
        place,
        name,
        distribution={"strategy": strategy},
        loss={"terms": ["clipped", {"name": f"{FAULTY}:poisoned"}]},
        advantages=advantages("inf once", at=1),
        checkpoint={"every": 1, "keep": 9, "best": False},
    )
    found = ends(start(["train", file], ranks=2))
    assert [code for code, _ in found] == [0, 0], found
    folder = place / "runs" / name
    before, at, after = (
        load_file(folder / f"checkpoints/step-{step:06d}/model/model.safetensors") for step in (0, 1, 2)
    )
    assert all(torch.equal(before[key], at[key]) for key in at)
    assert any(not torch.equal(after[key], at[key]) for key in at)
    states = [load_file(folder / f"checkpoints/step-{step:06d}/optimizer.safetensors") for step in (0, 1)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert [line.get("updates_skipped") for line in read_metrics(folder)] == [None, 1.0, None, None]
    assert len([event for event in read_events(folder) if event["kind"] == "skipped"]) == 1


@pytest.mark.slow
def test_a_rank_out_of_memory_tries_again_alone_or_where_it_cannot_the_next_start_has_a_smaller_budget(
    place: Path, plain: Path
):
    found = ends(start(["train", recipe(place, "memory-ddp")], ranks=2, memory="1:80"))
    assert [code for code, _ in found] == [0, 0], found
    events = [event for event in read_events(place / "runs" / "memory-ddp") if event["kind"] == "memory"]
    assert events and {event["rank"] for event in events} == {1}
    assert_close(plain, place / "runs" / "memory-ddp")

    file = recipe(place, "memory-zero", distribution={"strategy": "zero2"}, micro_batch_tokens=128)
    resume: list[str] = []
    codes = []
    for _ in range(3):
        found = ends(start(["train", file, *resume], ranks=2, memory="1:80"))
        codes.append([code for code, _ in found])
        resume = ["--resume"]
        if codes[-1] == [0, 0]:
            break
    assert codes[0] == [69, 71] and codes[-1] == [0, 0], (codes, found)
    assert_close(plain, place / "runs" / "memory-zero")
