"""UI-R1 and UI-R1-E are recipes: DAST's golden rewards and advantages come out of them, and both stages train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from data_pipelines.gui.build import make_gui
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.records import Media, Sample
from mmrl.runs.reader import read_metrics

ROOT = Path(__file__).parents[2]
RECIPES = ("ui_r1_android_control", "ui_r1_e_think", "ui_r1_e_nothink")
HIT, MISS, OTHER = "{'action': 'click', 'coordinate': [5, 5]}", "{'action': 'click', 'coordinate': [50, 50]}", "{}"
EARNING = {
    3: f"<think>a</think><answer>[{HIT}]</answer>",
    2: f"<answer>[{HIT}]</answer>",
    1: f"<think>a</think><answer>[{OTHER}]</answer>",
    0: "well",
}
"""Completions by what `ui_action` pays them."""


def recipe_of(name):
    return make_recipe(load_config(ROOT / f"configs/papers/{name}.yaml"), VLMPolicy, where=name)


def sample():
    screen = Media("image", "a.png", "0", (64, 64), seen=(64, 64))
    return Sample("s0", ({"role": "user", "content": "?"},), (screen,), {"action": "click", "box": [0, 0, 10, 10]})


@pytest.mark.parametrize("name", ["uir1e_dast_3", "uir1e_dast_4"])
def test_golden_dast(name, make_rollouts, context):
    vector = {v["name"]: v for v in json.loads((ROOT / "tests/golden/ui_r1.json").read_text())}[name]
    recipe, given = recipe_of("ui_r1_e_think"), vector["inputs"]
    rollouts = make_rollouts([0.0] * 4, [0] * 4, given["lengths"])
    rollouts.samples, rollouts.text, rollouts.reward = [sample()], [EARNING[r] for r in given["rewards"]], None
    recipe.score(rollouts, 0)
    assert rollouts.scores["ui_action"].tolist() == given["rewards"]
    torch.testing.assert_close(rollouts.reward, torch.tensor(vector["expected"]["new_rewards"]), atol=1e-5, rtol=0)
    value = rollouts.reward[:, None].expand(rollouts.mask.shape).clone()
    for stage in recipe.advantages:
        value = stage.at(0, 1)(value, rollouts, context)
    torch.testing.assert_close(value[:, 0], torch.tensor(vector["expected"]["advantage"]), atol=1e-4, rtol=0)


def test_the_second_stage_wants_no_thought(make_rollouts):
    recipe = recipe_of("ui_r1_e_nothink")
    rollouts = make_rollouts([0.0] * 3, [0] * 3, [4, 4, 8])
    rollouts.samples, rollouts.text = [sample()], [EARNING[2], EARNING[3], f"<answer>[{MISS}]</answer>"]
    recipe.score(rollouts, 0)
    bare, thoughtful, wrong = rollouts.reward.tolist()
    assert bare > 3 > max(thoughtful, wrong)


@pytest.mark.parametrize("name", RECIPES)
def test_a_stage_trains(name, tmp_path):
    make_gui(tmp_path / "gui", count=4, test_count=1)
    rows = [json.loads(line) for line in (tmp_path / "gui/train.jsonl").read_text().splitlines()]
    for row in rows:
        row["target"]["action"] = "click"
    (tmp_path / "gui/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = ["steps=2", "prompts_per_step=2", "group_size=3", "sampling.max_new_tokens=6", "model={path: tiny}",
             "data.budget={}", f"data.train={tmp_path}/gui/train.jsonl", f"runs={tmp_path}"]  # fmt: skip
    file = str(ROOT / f"configs/papers/{name}.yaml")
    metrics = read_metrics(run_training(file, small, resume=False, console=Console(quiet=True)))
    assert len(metrics) == 2 and all(line["ratio_gap"] < 1e-4 for line in metrics)
    assert all(line["score/dast"] < 0 for line in metrics if "score/dast" in line)
