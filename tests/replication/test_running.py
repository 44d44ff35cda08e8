"""`mmrl reproduce`: an experiment runs as real processes, is kept and continued."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from small_experiments import TASK, experiment, run, write

from data_pipelines.gui.build import make_gui_cold_start
from mmrl.plugins import ConfigError
from mmrl.replication.commands import Command, Runner, output_of, together
from mmrl.replication.experiment import read_experiment
from mmrl.replication.progress import Progress, last_line
from mmrl.replication.running import check_plans, make_plan
from mmrl.runs.unfinished import Unfinished, unfinished


def records(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted((folder / "runs/reproduce").rglob("records/*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


# -- the whole ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_miniature_experiment_runs_is_kept_and_continues(place: Path) -> None:
    run()
    first, results = records(place), json.loads(Path("docs/reproduce/mini.json").read_text())
    assert len(first) == 4 + 5 and all(record["finished"] for record in first.values())
    assert [len(results["values"]["held-out reward"][arm]) for arm in results["arms"]] == [2, 2, 1]
    assert results["values"]["steps to 2"]["GRPO"] == [2, 2] and results["not_reached"]["steps to 2"]["GRPO"] == 2
    assert all(0 <= value <= 1 for values in results["values"]["held-out reward"].values() for value in values)
    assert [len(run[0]) for run in results["curves"]["GRPO"]] == [2, 2] and sum(results["seconds"].values()) > 1
    page = Path("docs/reproduce.md").read_text()
    assert "not shown" in page and r"fast \| GRPO" in page and "mmrl data make gui data/mini" in page
    assert str(place) not in page and Path("docs/reproduce/mini.png").read_bytes()[1:4] == b"PNG"

    folder = Path("runs/reproduce/mini")
    uninterrupted = numbers(folder / "runs/grpo-seed1")
    assert len({line["reward_std"] for line in uninterrupted}) == 2, "otherwise equality would say little"
    before = (folder / "runs/grpo-seed0/metrics.jsonl").stat().st_mtime_ns
    cut_off(folder, "grpo-seed1")
    run("mini")
    assert (folder / "runs/grpo-seed0/metrics.jsonl").stat().st_mtime_ns == before, "what is done is kept"
    assert "resumed" in (folder / "runs/grpo-seed1/events.jsonl").read_text()
    assert numbers(folder / "runs/grpo-seed1") == uninterrupted
    again = records(place)
    assert {name for name in first if first[name]["seconds"] != again[name]["seconds"]} == {"train-grpo-seed1"}


def cut_off(folder: Path, name: str) -> None:
    """As a training that was killed after its first checkpoint."""
    record = folder / f"records/train-{name}.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    shutil.rmtree(sorted((folder / "runs" / name / "checkpoints").iterdir())[-1])


def numbers(run: Path) -> list[dict[str, Any]]:
    """What a run recorded, but how long it took."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith(("seconds", "time", "memory"))}
            for line in lines]  # fmt: skip


# -- processes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def progress() -> Iterator[Progress]:
    with Progress(Console(quiet=True), total=1) as progress:
        yield progress


def command(*words: str, output: str) -> Command:
    return Command(words, Path(output), Path("records/x.json"), "try: x").after()


def run_commands(progress: Progress, *commands: Command) -> list[float]:
    async def all_of_them() -> list[float]:
        runner = Runner(jobs=2, progress=progress)
        return await together(runner.run(command) for command in commands)

    return asyncio.run(all_of_them())


def test_a_failed_command_is_shown_with_its_last_output(place: Path, progress: Progress) -> None:
    bad = command("data", "make", "gui", "data/x", "count=4", "cuont=3", output="data/x")
    with pytest.raises(ConfigError) as error:
        run_commands(progress, bad)
    told = str(error.value)
    assert "try: x failed with status 2" in told and "mmrl data make gui data/x count=4 cuont=3" in told
    assert "Did you mean count?" in told and "records/x.log" in told
    assert json.loads(bad.record.read_text())["finished"] is False


def test_a_command_without_its_output_failed(place: Path, progress: Progress) -> None:
    with pytest.raises(ConfigError, match=r"ended well, but data/elsewhere is not there"):
        run_commands(progress, command("data", "make", "gui", "data/x", "count=1", output="data/elsewhere"))


def test_what_somebody_else_made_is_left_alone(place: Path, progress: Progress) -> None:
    Path("data/x").mkdir(parents=True)
    Path("data/x/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no record"):
        run_commands(progress, command("data", "make", "gui", "data/x", "count=1", output="data/x"))
    assert Path("data/x/mine.txt").read_text() == "mine"


def test_a_command_that_two_experiments_share_runs_once(place: Path, progress: Progress) -> None:
    shared = command("data", "make", "gui", "data/x", "count=1", "test_count=1", output="data/x")
    first, second = run_commands(progress, shared, shared)
    assert first == pytest.approx(second, abs=0.01)
    made = Path("data/x/train.jsonl").stat().st_mtime_ns
    Path("data/x/extra").touch()
    run_commands(progress, shared)
    assert Path("data/x/train.jsonl").stat().st_mtime_ns == made and Path("data/x/extra").exists()
    run_commands(progress, command("data", "make", "gui", "data/x", "count=2", "test_count=1", output="data/x"))
    assert len(Path("data/x/train.jsonl").read_text().splitlines()) == 2, "other words, other content"
    assert not Path("data/x/extra").exists(), "nothing of the older one stays"


def test_an_interrupted_sft_goes_on_unless_its_words_are_others(place: Path, progress: Progress) -> None:
    make_gui_cold_start(Path("data/cold"), count=2)
    settings = {"out": "models/x", "steps": 1, "batch_size": 1, "data": {"train": "data/cold/cold_start.jsonl"}}
    Path("sft.yaml").write_text(yaml.safe_dump(settings))
    sft = command("sft", "sft.yaml", output="models/x")
    left = unfinished(sft.output)
    Unfinished.open(sft.output, "steps: 1", resume=False).close()
    with pytest.raises(ConfigError, match=r"models/x.unfinished is there, but no record"):
        run_commands(progress, sft)
    sft.record.parent.mkdir(exist_ok=True)
    for key, resumed in ((sft.key, True), ("other", False)):
        sft.record.write_text(json.dumps({"key": key, "finished": False, "seconds": 1.0}))
        (left / "sft.yaml").write_text("steps: 1")
        run_commands(progress, sft)
        assert ("with other settings than before: " in sft.log.read_text()) == resumed
        assert sft.output.is_dir() and not left.exists()
        shutil.rmtree(sft.output)
        Unfinished.open(sft.output, "steps: 1", resume=False).close()


def test_two_experiments_may_not_make_one_output_differently(place: Path) -> None:
    other = read_experiment(write(experiment(prepare=["data make gui data/mini count=5"])))
    plans = [make_plan("a", read_experiment(write(experiment())), Path("out")), make_plan("b", other, Path("out"))]
    with pytest.raises(ConfigError, match=r"(?s)data/mini is made by two commands.*a: .*count=4.*b: .*count=5"):
        check_plans(plans)


def test_a_key_changes_with_whatever_the_words_name(place: Path) -> None:
    task = Path("configs/reproduce/tasks/mini.yaml")
    Path("mine.py").write_text("def half(completion, sample): return 0.5")

    def key(*before: str) -> str:
        words = ("train", str(task), "rewards=[mine.py:half]")
        return Command(words, Path("o"), Path("r.json"), "x").after(*before).key

    keys = [key(), key("data")]
    task.write_text(yaml.safe_dump(TASK | {"steps": 3}))
    keys.append(key())
    Path("mine.py").write_text("def half(completion, sample): return 0.6")
    keys.append(key())
    assert len(set(keys)) == 4 and key() == keys[-1]


def test_outputs_are_known_of_what_prepares(place: Path) -> None:
    Path("sft.yaml").write_text(
        yaml.safe_dump({"out": "models/x", "steps": 1, "batch_size": 1, "data": {"train": "d"}})
    )
    assert output_of(["sft", "sft.yaml", "out=models/y"], "w") == Path("models/y")
    assert output_of(["data", "transform", "a.jsonl", "name", "--out", "b.jsonl"], "w") == Path("b.jsonl")
    with pytest.raises(ConfigError, match=r"mini: prepare\.0: doctor: what does it write"):
        output_of(["doctor"], "mini: prepare.0")


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("first\n 7/80 reward 0.1\n\n")
    assert last_line(tmp_path / "log") == "7/80 reward 0.1" and last_line(tmp_path / "none") == ""
