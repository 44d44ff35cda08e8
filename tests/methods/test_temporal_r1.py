"""Temporal-R1: golden advantage, loss and selection, `mmrl data select` by the tiny model, and training on its rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from data_pipelines.commands import app
from data_pipelines.gui.build import make_gui
from data_pipelines.sources import read_rows
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.losses import weights
from mmrl.methods.temporal_r1 import varied
from mmrl.plugins import ConfigError
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.records import Sample
from mmrl.runs.reader import read_metrics

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "configs/papers/temporal_r1_charades.yaml"


@pytest.fixture(scope="module")
def vectors():
    return {v["name"]: v for v in json.loads((ROOT / "tests/golden/temporal_r1.json").read_text())}


@pytest.fixture(scope="module")
def recipe():
    made = make_recipe(load_config(PAPER), VLMPolicy, where="paper")
    made.check_signals(VLMPolicy, where="paper")
    return made


def test_golden_advantage(vectors, recipe, make_rollouts, context):
    given, expected = (vectors["grpo_advantage_easyr1"][key] for key in ("inputs", "expected"))
    rollouts = make_rollouts(given["rewards"], [0] * 4, torch.tensor(given["mask"]).sum(1).long())
    (stage,) = recipe.advantages
    advantage = stage.at(0, 1)(rollouts.reward[:, None].expand(4, 3), rollouts, context) * rollouts.mask
    torch.testing.assert_close(advantage, torch.tensor(expected), atol=1e-5, rtol=0)


def test_golden_loss_without_the_entropy(vectors, recipe, make_rollouts):
    given, expected = (vectors["ppo_clip_token_mean_and_k3"][key] for key in ("inputs", "expected"))
    mask, old, new = (torch.tensor(given[key]) for key in ("mask", "old", "new"))
    rollouts = make_rollouts([0.0, 0.0], [0, 0], mask.sum(1).long(), logp_old=old, logp_ref=old)
    rollouts.advantage = torch.tensor(given["adv"])
    share = weights(rollouts.mask, "token_mean", constant_length=3)
    clipped, kl = (float((share * term.stage.at(0, 1)(new, rollouts)).sum()) for term in recipe.terms[:2])
    assert clipped == pytest.approx(expected["pg_loss"], abs=1e-5)
    assert kl == pytest.approx(expected["kl_mean"], abs=1e-5)
    assert clipped + recipe.terms[1].coef * kl == pytest.approx(expected["total_no_entropy"], abs=1e-5)


class Writes:
    """Stands in for a policy that writes given texts: what is tested is which rows are kept."""

    def __init__(self, make_rollouts, groups):
        self.make_rollouts, self.groups = make_rollouts, groups

    def generate(self, samples, sizes, how, *, seed, step):
        groups, self.groups = self.groups[: len(samples)], self.groups[len(samples) :]
        assert [len(group) for group in groups] == sizes
        rollouts = self.make_rollouts([0.0] * sum(sizes), [g for g, size in enumerate(sizes) for _ in range(size)])
        rollouts.text, rollouts.samples = [str(value) for group in groups for value in group], list(samples)
        return rollouts


@pytest.fixture
def chosen(tmp_path, make_rollouts):
    """Run the selection on completions that are numbers, which the reward `value` pays."""
    (tmp_path / "plugins.py").write_text(
        "from rewards import reward\n\n"
        "@reward(range=(0, 1))\ndef value(completion, sample):\n    return float(completion)\n\n"
        "@reward(range=(0, 1))\ndef first(completion, sample):\n    return completion[0] == '1'\n"
    )
    (tmp_path / "r.yaml").write_text(
        f"extends: {ROOT}/configs/base/grpo\nsteps: 1\nprompts_per_step: 4\ndata: {{train: x}}\n"
        f"rewards: [{tmp_path}/plugins.py:value, {tmp_path}/plugins.py:first]\n"
        "max_failed_rewards: 1\n"
    )
    recipe = make_recipe(load_config(tmp_path / "r.yaml"), VLMPolicy, where="r")

    def run(groups, **settings):
        samples = [Sample(f"s{n}", ({"role": "user", "content": "?"},), where=f"row {n}") for n in range(len(groups))]
        return list(varied(Writes(make_rollouts, groups), recipe, samples, **settings))

    return run


def test_golden_selection(vectors, chosen):
    given, expected = (vectors["variance_selection_INTERPRETATION"][key] for key in ("inputs", "expected"))
    rows = chosen(given["groups"], completions=4, spread=0.05, metrics=["value"])
    assert [row is not None for row in rows] == expected["keep"]
    found = [row["meta"]["selection"]["std"] for row in rows if row is not None]
    assert found == pytest.approx([std for std in expected["std_population"] if std >= 0.05], abs=1e-5)
    assert all(row["id"] == f"s{n}" for n, row in enumerate(rows) if row is not None)


def test_which_rewards_count_and_what_has_none(chosen):
    (row,) = chosen([[1, 0]], completions=2)
    assert row["meta"]["selection"] == {"mean": 1.0, "std": 1.0, "completions": 2}  # both rewards, 0 or 2
    (problem,) = chosen([["x", 1]], completions=2)
    assert "1 of 2 completions have a reward" in problem.message and problem.where == "row 0"
    with pytest.raises(ConfigError, match="--metric tiou: no such reward in the recipe; there are value, first"):
        chosen([[1, 0]], completions=2, metrics=["tiou"])


def test_the_command_and_training_on_what_it_keeps(tmp_path):
    make_gui(tmp_path / "gui", count=12, test_count=1)
    (tmp_path / "plugins.py").write_text(
        "from rewards import reward\n\n"
        "@reward(range=(0, 1))\ndef letters(completion, sample):\n"
        "    return 0.0 if int(sample.id.split('-')[2][:6]) % 2 else sum(map(ord, completion)) % 11 / 11\n"
    )
    file, demo = tmp_path / "chosen.jsonl", str(ROOT / "configs/demo/gui.yaml")
    changes = [f"rewards=[{tmp_path}/plugins.py:letters]", "sampling.max_new_tokens=6"]
    options = ["--config", demo, "--out", str(file), "--completions", "3"]
    result = CliRunner().invoke(app, ["select", f"{tmp_path}/gui/train.jsonl", *changes, *options])
    assert result.exit_code == 0, result.output
    rows = list(read_rows(file))
    assert 0 < len(rows) <= 6 and f"{12 - len(rows)} left out" in result.output
    assert all(int(row["id"].split("-")[2][:6]) % 2 == 0 for row in rows)
    assert all(row["meta"]["selection"]["std"] >= 0.05 for row in rows)
    changes += [f"data.train={file}", "data.test=", f"runs={tmp_path}", "steps=1", "prompts_per_step=2", "group_size=3"]
    (line,) = read_metrics(run_training(demo, changes, resume=False, console=Console(quiet=True)))
    assert line["ratio_gap"] < 1e-4


def test_the_dual_reward_is_routed():
    config = load_config(ROOT / "configs/papers/temporal_r1_mixture.yaml")
    rewards = make_recipe(config, VLMPolicy, where="paper").rewards
    assert {entry.name: entry.tasks for entry in rewards.entries}["grounded_answer"] == ("grounded_question",)
    assert config.loss.terms[1]["coef"] == 0.01
