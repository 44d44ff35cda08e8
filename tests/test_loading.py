"""What `MODEL|RUN` names: of a run its newest checkpoint, an adapter on the model that the run began with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from small_runs import write_recipe

from data_pipelines.budget import Budget
from data_pipelines.gui.build import make_gui
from mmrl import cli
from mmrl.config import ModelConfig
from mmrl.launch import run_training
from mmrl.loading import load_policy, resolve
from mmrl.policies.tiny import save_untrained
from mmrl.runs.checkpoints import model_of


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a step, one with LoRA."""
    folder = tmp_path_factory.mktemp("loading")
    save_untrained(folder / "model")
    make_gui(folder / "gui", count=3, test_count=1)
    settings: dict[str, Any] = {
        "steps": 1, "prompts_per_step": 2, "group_size": 3, "data": {"train": str(folder / "gui/train.jsonl")},
        "sampling": {"max_new_tokens": 4}, "rewards": [{"name": "point_in_box"}],
    }  # fmt: skip
    write_recipe(folder, "whole", **settings)
    write_recipe(folder, "lora", **settings, model={"path": str(folder / "model"), "adapter": {"rank": 2}})
    for name in ("whole", "lora"):
        run_training(str(folder / f"{name}.yaml"), [], resume=False, console=Console(quiet=True))
    return folder


def test_an_adapter_goes_onto_the_model_that_its_run_began_with(place):
    base, whole, lora = (str(place / name) for name in ("model", "runs/whole", "runs/lora"))
    given = ModelConfig(path="another", gradient_checkpointing=True)
    assert resolve(base, given) == (ModelConfig(path=base, gradient_checkpointing=True), None)
    newest = model_of(Path(whole))
    assert resolve(whole, given) == (ModelConfig(path=str(newest), gradient_checkpointing=True), None)
    settings, weights = resolve(lora, given)
    assert (settings.path, weights) == (base, model_of(Path(lora))) and settings.adapter is not None
    saved = load_file(weights / "adapter_model.safetensors")
    loaded = dict(load_policy(lora, given, Budget()).trainable())
    for name, value in saved.items():
        own = name.removeprefix("base_model.model.").replace(".weight", ".default.weight")
        torch.testing.assert_close(loaded[own].detach(), value, rtol=0, atol=0)
    assert len(saved) == len(loaded) > 0


@pytest.mark.parametrize("run", ["whole", "lora"])
def test_the_commands_of_data_take_runs(place, run, tmp_path, capsys):
    data, recipe, model = str(place / "gui/train.jsonl"), str(place / "whole.yaml"), str(place / "runs" / run)
    cli.app(["data", "check", data, "--model", model], standalone_mode=False)
    cli.app(["data", "check", data, "--model", model, "--config", recipe], standalone_mode=False)
    cli.app(["data", "stats", data, "--model", model], standalone_mode=False)
    out = tmp_path / "kept.jsonl"
    options = ["--model", model, "--out", str(out)]
    select = ["data", "select", data, "--config", recipe, "--completions", "2", "--spread", "0"]
    cli.app([*select, *options], standalone_mode=False)
    assert len(out.read_text().splitlines()) == 3
    out.unlink()
    capsys.readouterr()
    cli.app(["data", "traces", data, "--max-new-tokens", "4", *options], standalone_mode=False)
    said = capsys.readouterr().out
    assert said.count("no thought in 4 attempts") == 3 and "0 rows" in said, "weights at random write none"
