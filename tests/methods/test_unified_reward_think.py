"""UnifiedReward-Think: pairs become rows, the model's own right verdicts become chats, and the rest is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from data_pipelines.dataset import read_samples
from data_pipelines.preferences import read_preferences
from data_pipelines.reading import Problem
from data_pipelines.sources import write_samples
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.methods.unified_reward_think import reject
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.runs.reader import read_metrics

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs/papers/unified_reward_think.yaml"


def stored(row):
    """As a conversion writes it."""
    return {key: value for key, value in row.items() if key != "where"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, studio):
    """A file with two good pairs and two that cannot be read."""
    names = [Path(studio.picture(64, 64)["image"]).name for _ in range(2)]
    good = {"problem": "<image> <image> which is better?", "solution": "Image 2 is better", "images": names}
    changes = [{}, {"solution": "the second"}, {"images": "a.png"}, {"solution": "Image 1 is better"}]
    items = [good | change for change in changes]
    file = tmp_path_factory.mktemp("pairs") / "pairs.json"
    file.write_text(json.dumps(items))
    rows = list(read_preferences(file, media=studio.folder))
    write_samples(file.parent / "pairs.jsonl", [stored(row) for row in rows if isinstance(row, dict)])
    return rows, file.parent / "pairs.jsonl"


def test_a_pair_is_a_row_with_two_pictures(pairs):
    rows, file = pairs
    assert [isinstance(row, Problem) for row in rows] == [False, True, True, False]
    first = rows[0]["messages"][0]["content"]
    assert [part["type"] for part in first] == ["image", "image", "text"]
    assert first[-1]["text"].startswith("which is better?\n") and "'Image 1 is better'" in first[-1]["text"]
    assert [sample.target["answer"] for sample in read_samples(file)] == ["Image 2 is better", "Image 1 is better"]


def test_the_reward_is_verdict_and_form(make_rollouts, pairs):
    recipe = make_recipe(load_config(RECIPE), VLMPolicy, where="recipe")
    rollouts = make_rollouts([0.0] * 4, [0] * 4)
    rollouts.samples = read_samples(pairs[1])[:1]
    thought = "<think>sharper</think>"
    rollouts.text = [f"{thought}<answer>Image 2 is better</answer>", f"{thought}<answer>Image 1 is better</answer>",
                     "<answer>Image 2 is better</answer>", ""]  # fmt: skip
    recipe.score(rollouts, 0)
    assert rollouts.reward.tolist() == [2, 1, 1, 0]


def test_right_completions_become_chats_and_the_others_stay_questions(pairs, tmp_path):
    (tmp_path / "plugins.py").write_text(
        "from rewards import reward\n\n@reward(range=(0, 1))\ndef even(completion, sample):\n"
        "    return float(sample.target['answer'].startswith('Image 2'))\n"
    )
    config = {"extends": str(RECIPE.with_suffix("")), "model": {"path": "tiny"},
              "sampling": {"max_new_tokens": 64, "temperature": 1.0}, "data": {"budget": None}}  # fmt: skip
    config["data"] = {"train": str(pairs[1])}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(config | {"rewards": [f"{tmp_path}/plugins.py:even"]}))
    right, wrong = tmp_path / "right.jsonl", tmp_path / "wrong.jsonl"
    reject(str(pairs[1]), right, wrong, config_file=str(tmp_path / "r.yaml"), model=None, overrides=[],
           tick=lambda progress: None, completions=8, metric=None, at_least=1.0)  # fmt: skip
    chats, rest = read_samples(str(right)), read_samples(str(wrong))
    assert [s.target["answer"] for s in chats] == ["Image 2 is better"] and chats[0].messages[-1]["role"] == "assistant"
    assert [s.target["answer"] for s in rest] == ["Image 1 is better"] and rest[0].messages[-1]["role"] == "user"


def test_the_third_stage_trains(pairs, tmp_path):
    small = ["steps=2", "prompts_per_step=2", "group_size=3", "sampling.max_new_tokens=6", "model={path: tiny}",
             "data.budget={}", f"data.train={pairs[1]}", "evaluate.every=0", f"runs={tmp_path}"]  # fmt: skip
    metrics = read_metrics(run_training(str(RECIPE), small, resume=False, console=Console(quiet=True)))
    assert len(metrics) == 2 and all(line["ratio_gap"] < 1e-4 for line in metrics)
