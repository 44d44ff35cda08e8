"""Commands on several real processes: those that share their work come to what one process comes to, others refuse."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from warm_mmrl import in_turn

from data_pipelines.gui.build import make_gui, make_gui_cold_start
from mmrl import cli
from mmrl.policies.tiny import save_untrained
from mmrl.runs.reader import read_metrics, read_rollouts

STRATEGIES = ("ddp", "zero2", "zero3")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supervised stage whose steps do not divide evenly, and an evaluation whose prompts do not."""
    folder = tmp_path_factory.mktemp("ranks")
    save_untrained(folder / "model")
    make_gui_cold_start(folder / "cold", count=9)
    make_gui(folder / "gui", count=1, test_count=5)
    common = {"model": {"path": str(folder / "model"), "vision": "trained"}}
    recipes: dict[str, Any] = {
        "sft": {
            "out": "", "steps": 3, "batch_size": 3, "micro_batch_tokens": 250,
            "data": {"train": str(folder / "cold/cold_start.jsonl")}, "optimizer": {"learning_rate": 1e-3},
        },
        "eval": {
            "steps": 1, "prompts_per_step": 2, "group_size": 2, "data": {"train": str(folder / "gui/train.jsonl")},
            "sampling": {"max_new_tokens": 6}, "rewards": ["point_in_box"],
        },
    }  # fmt: skip
    for name, recipe in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**common, **recipe}))
    return folder


def sft(place: Path, name: str, *settings: str) -> list[str]:
    return ["sft", str(place / "sft.yaml"), f"out={place / name}", *settings]


def evaluation(place: Path, name: str) -> list[str]:
    return [
        "eval", "tiny", str(place / "gui/test.jsonl"), "--config", str(place / "eval.yaml"),
        "--samples", "3", "--temperature", "1", "--vote", "region", "--metrics", "screenspot",
        "--metrics", "point_in_box", "--json", str(place / f"{name}.json"), "--out", str(place / name),
    ]  # fmt: skip


@pytest.mark.slow
def test_two_processes_fine_tune_and_evaluate_as_one_does(place: Path, monkeypatch: pytest.MonkeyPatch):
    cli.app(sft(place, "alone"), standalone_mode=False)
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr("mmrl.sft.save", lambda policy, losses, out: 1 / 0)
        cli.app(sft(place, "torn", "checkpoint_every=2"), standalone_mode=False)
    for way in STRATEGIES:
        shutil.copytree(place / "torn.unfinished", place / f"resumed-{way}.unfinished")
    cli.app(evaluation(place, "evaluated"), standalone_mode=False)
    commands = [
        *[sft(place, way, f"distribution.strategy={way}") for way in STRATEGIES],
        *[[*sft(place, f"resumed-{way}", f"distribution.strategy={way}"), "--resume"] for way in STRATEGIES],
        sft(place, "one-chat", "batch_size=1", "steps=1", "distribution.strategy=zero2"),
        evaluation(place, "shared"),
    ]
    said = in_turn(2, commands)
    losses = json.loads((place / "alone/sft_loss.json").read_text())
    model = load_file(place / "alone/model.safetensors")
    for way in [*STRATEGIES, *(f"resumed-{way}" for way in STRATEGIES)]:
        assert json.loads((place / way / "sft_loss.json").read_text()) == pytest.approx(losses, rel=1e-4)
        for name, weights in load_file(place / way / "model.safetensors").items():
            torch.testing.assert_close(weights, model[name], rtol=1e-3, atol=1e-4)
    assert not all(weights.equal(load_file(place / "model/model.safetensors")[name]) for name, weights in model.items())
    assert said.count("saved ") == 2 * len(STRATEGIES) + 1, "one rank speaks"
    assert said.count("goes on after step 2 of 3") == len(STRATEGIES)
    assert "2 ranks (zero2): at most 1 of a step's chats each, 1 of them without any" in said
    assert (place / "shared.json").read_text() == (place / "evaluated.json").read_text()
    assert 0 < json.loads((place / "shared.json").read_text())["reward"]["score"] < 1
    kept, rows = (
        sorted((row["sample_id"], row["completion"], row["reward"], json.dumps(row["notes"])) for row in
               read_rollouts(place / name, 0))
        for name in ("shared", "evaluated")
    )  # fmt: skip
    assert kept == rows and len(rows) == 15 and len(list((place / "shared/rollouts").iterdir())) == 2
    assert len(read_metrics(place / "shared")) == 1


@pytest.mark.parametrize("command", ["generate", "data stats x.jsonl", "rewards list", "view", "runs list", "adapt"])
def test_what_knows_of_one_process_only_is_refused_and_said_once(command, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["mmrl", *command.split()])
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, said in ((0, f"`mmrl {command.split()[0]}` works in one process, and 2 were started"), (1, "")):
        monkeypatch.setenv("RANK", str(rank))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        err = capfd.readouterr().err
        assert said in err and bool(err) == bool(said)
