"""UAV-VL-R1 and BigCharts-R1 are recipes alone: stages follow each other on the tiny model, by the papers' rules."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from data_pipelines.charts.tiny import make_charts_cold_start, make_charts_tiny
from data_pipelines.uav.build import make_uav
from mmrl.config import SftConfig, load_config
from mmrl.launch import run_training
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.runs.reader import read_metrics
from mmrl.sft import sft
from rewards.scoring import Rewards

ROOT = Path(__file__).parents[2]
PAPERS = ROOT / "configs/papers"
STAGES = [PAPERS / f"uav_vl_r1_{name}.yaml" for name in ("1_attributes", "2_objects", "3_relations")]
SMALL = ["model.vision=frozen", "model.gradient_checkpointing=false", "data.budget.max_tokens=256", "data.test=",
         "evaluate.every=0", "prompts_per_step=2", "group_size=3", "sampling.max_new_tokens=6"]  # fmt: skip
QUIET = Console(quiet=True)


def train(recipe: Path, folder: Path, *changes: str) -> Path:
    return run_training(str(recipe), [*SMALL, f"runs={folder}", *changes], resume=False, console=QUIET)


def learn_chats(recipe: Path, out: Path, data: Path) -> None:
    changes = [f"out={out}", f"data.train={data}", "model.path=tiny", "model.vision=frozen", "steps=2", "batch_size=4",
               "model.gradient_checkpointing=false", "data.budget.max_tokens=256"]  # fmt: skip
    sft(load_config(recipe, changes, kind=SftConfig), QUIET)


def test_bigcharts_both_stages(tmp_path):
    make_charts_cold_start(tmp_path / "cold", count=8)
    make_charts_tiny(tmp_path / "charts", count=8, test_count=1)
    learn_chats(PAPERS / "bigcharts_r1_sft.yaml", tmp_path / "model", tmp_path / "cold/cold_start.jsonl")
    changes = [f"model.path={tmp_path}/model", f"data.train={tmp_path}/charts/train.jsonl", "steps=1"]
    (line,) = read_metrics(train(PAPERS / "bigcharts_r1.yaml", tmp_path, *changes))
    assert 0 <= line["score/chart_value"] <= 1 and line["score/think_format"] == 0 and "loss/kl" in line


def test_a_stage_starts_where_the_one_before_it_ended(tmp_path):
    make_uav(tmp_path / "uav", count=8, test_count=1)
    (tmp_path / "plugins.py").write_text(
        "from rewards import reward\n\n@reward(range=(0, 1))\ndef letters(completion, sample):\n"
        "    return sum(map(ord, completion)) % 11 / 11\n"
    )
    model, kl = "tiny", []
    for stage in STAGES[:2]:
        changes = [f"model.path={model}", f"data.train={tmp_path}/uav/train.jsonl", "steps=2",
                   f"rewards=[{tmp_path}/plugins.py:letters]", "optimizer.learning_rate=1e-3",
                   "sampling.temperature=3.0"]  # so that completions differ  # fmt: skip
        run = train(stage, tmp_path, *changes)
        kl.append([line["kl"] for line in read_metrics(run)])
        model = str(run)
    for first, second in kl:
        assert first == pytest.approx(0, abs=1e-6) and second > 1e-6  # the reference is the stage's own start


def test_the_papers_stages_name_each_other():
    configs = [load_config(stage) for stage in STAGES]
    assert configs[0].model.path == yaml.safe_load((PAPERS / "uav_vl_r1_sft.yaml").read_text())["out"]
    for before, after in pairwise(configs):
        assert after.model.path == f"{before.runs}/{before.name}"  # its newest checkpoint
    assert len({config.data.train for config in configs}) == 3
    assert len({json.dumps([config.rewards, config.loss.terms, config.sampling]) for config in configs}) == 1


def test_golden_advantage_of_bigcharts(make_rollouts, context):
    vectors = json.loads((ROOT / "tests/golden/image_methods.json").read_text())
    vector = next(v for v in vectors if v["name"] == "bigcharts_group_advantage")
    recipe = make_recipe(load_config(PAPERS / "bigcharts_r1.yaml"), VLMPolicy, where="paper")
    rollouts = make_rollouts(vector["inputs"]["total_rewards"], [0] * 4)
    (stage,) = recipe.advantages
    found = stage.at(0, 1)(rollouts.reward[:, None].expand(4, 3), rollouts, context)
    assert found[:, 0].tolist() == pytest.approx(vector["expected"], abs=1e-5)


@pytest.mark.parametrize(
    ("completion", "total"),
    [
        ("<thinking>t</thinking><answer>105</answer>", 1.952381),
        ("<thinking>t</thinking> <answer>100</answer>", 2.0),
        ("<answer>100</answer>", 1.0),
        ("<think>t</think><answer>150</answer>", 0.666667),
    ],
)
def test_reward_of_bigcharts(make_rollouts, completion, total):
    config = load_config(PAPERS / "bigcharts_r1.yaml")
    rollouts = make_rollouts([0.0, 0.0], [0, 0])
    rollouts.text = [completion] * 2
    rollouts.samples[0].target["answer"] = "100"
    Rewards.from_config(config.rewards, where="paper").score(rollouts, step=0, total=1)
    assert rollouts.reward.tolist() == pytest.approx([total] * 2, abs=1e-5)
