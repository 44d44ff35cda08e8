"""Runs whose next step depends on earlier ones, interrupted and resumed: they equal runs that nothing interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from data_pipelines.gui.build import make_gui
from mmrl.launch import run_training
from mmrl.runs.checkpoints import read_state
from mmrl.runs.reader import read_metrics, read_rollouts

ROOT = Path(__file__).parents[2]
PLUGINS = '''
from pathlib import Path

from rewards import reward


@reward(range=(0, 1))
def letters(completion, sample):
    """Differs from group to group, so that some prompts are easier than usual."""
    return sum(map(ord, completion)) % 11 / 11


def interrupted(advantage, rollouts, context, *, flag: str):
    if context.step == 3 and Path(flag).exists():
        raise KeyboardInterrupt
    return advantage
'''
METHODS = {
    "difficulty_aware": (
        [f"{ROOT}/configs/methods/deepvideo_r1.yaml", "rollout.margin=0", "rewards=[{plugins}:letters]"],
        ("share_noised", "reward_unaided"),
    ),
    "adaptive": (
        [f"{ROOT}/configs/methods/vlaa_thinker.yaml", "optimizer.updates_per_rollout=2", "optimizer.epochs=2"],
        ("coef/kl", "loss/kl"),
    ),
}
"""What is laid over the demo, and the metrics that are seen to depend on earlier steps."""


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_equals_an_uninterrupted_one(method, tmp_path):
    make_gui(tmp_path / "gui", count=12, test_count=1)
    (tmp_path / "plugins.py").write_text(PLUGINS)
    changes, names = METHODS[method]
    flag, stage = tmp_path / "flag", f"{tmp_path}/plugins.py:interrupted"
    changes = [change.format(plugins=tmp_path / "plugins.py") for change in changes] + [
        f"data.train={tmp_path}/gui/train.jsonl", "data.test=null", f"runs={tmp_path}", "steps=5", "prompts_per_step=4",
        "group_size=3", "sampling.max_new_tokens=6", "checkpoint.every=2", "checkpoint.keep=3",
        f"advantages=[{{name: '{stage}', flag: {flag}}}, group_relative]",
    ]  # fmt: skip

    def run(name: str, *, resume: bool = False) -> Path:
        recipe = str(ROOT / "configs/demo/gui.yaml")
        return run_training(recipe, [*changes, f"name={name}"], resume=resume, console=Console(quiet=True))

    whole = run("whole")
    flag.touch()
    with pytest.raises(KeyboardInterrupt):
        run("parts")
    flag.unlink()
    parts = run("parts", resume=True)

    expected, found = (
        [{key: value for key, value in line.items() if not key.startswith("seconds/")} for line in read_metrics(folder)]
        for folder in (whole, parts)
    )
    assert found == expected and len(found) == 5
    for name in names:
        assert len({line[name] for line in expected[2:]}) > 1, f"{name} says nothing: it is always the same"
    last = "checkpoints/step-000004"
    weights = [load_file(folder / last / "model/model.safetensors") for folder in (whole, parts)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert read_state(whole / last)["memory"] == read_state(parts / last)["memory"]
    for step in range(5):
        rows = [
            [(row["completion"], row["origin"]) for row in read_rollouts(folder, step)] for folder in (whole, parts)
        ]
        assert rows[0] == rows[1]
