"""AutoVLA is a recipe: its golden rewards come out of it, and its data has two modes that say which they are."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from data_pipelines.gui.build import make_gui
from data_pipelines.gui.thoughts import drop_thoughts, name_modes
from data_pipelines.reading import Problem
from mmrl.config import SftConfig, load_config
from mmrl.launch import run_training
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.runs.reader import read_metrics
from mmrl.sft import sft

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs/papers/autovla_driving_qa.yaml"


def test_golden_reward(make_rollouts):
    (vector,) = json.loads((ROOT / "tests/golden/autovla.json").read_text())
    recipe = make_recipe(load_config(RECIPE), VLMPolicy, where="autovla")
    choice, slow = recipe.rewards.entries
    assert (choice.name, slow.weight) == ("letter_choice", 0.3)
    price = slow.reward.bind(slow.stage.settings)
    for given, expected in zip(vector["inputs"], vector["expected"], strict=True):
        text = ("a complex scenario" if given["complex"] else "").ljust(given["chars"], ".")
        assert 10 * (given["pdms"] + slow.weight * price(text, None)) == pytest.approx(expected, abs=1e-5)


def chat(answer):
    return {"id": "a", "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]}


@pytest.mark.parametrize(
    ("answer", "mode", "expected"),
    [
        ("<think>a cyclist</think><answer>B</answer>", "slow", "<think>SLOW a cyclist</think><answer>B</answer>"),
        ("<think>\n\n</think><answer>B</answer>", "fast", "<think>FAST</think><answer>B</answer>"),
        ("<answer>B</answer>", "fast", "<think>FAST</think><answer>B</answer>"),
    ],
)
def test_a_mode_says_which_it_is(answer, mode, expected):
    row = chat(answer)
    changed = name_modes(row, slow="SLOW", fast="FAST")
    assert changed["messages"][-1]["content"] == expected and changed["meta"]["mode"] == mode
    assert row == chat(answer)


def test_the_reward_knows_the_slow_mode_by_the_words_of_the_data():
    phrase = load_config(RECIPE).rewards[1]["phrase"]
    slow, fast = (name_modes(chat(f"<think>{thought}</think>x")) for thought in ("why", ""))
    assert phrase in slow["messages"][-1]["content"] and phrase not in fast["messages"][-1]["content"]
    assert isinstance(name_modes({"id": "a", "messages": [{"role": "user", "content": "?"}]}), Problem)


def test_both_stages_train(tmp_path):
    make_gui(tmp_path / "gui", count=4, test_count=1)
    lines = (tmp_path / "gui/train.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"target": {"answer": "B"}} for line in lines]
    for row in rows:
        cold = row | {"messages": [*row["messages"], {"role": "assistant", "content": "<think>it is red</think>B"}]}
        changed = name_modes(drop_thoughts(cold, rng=Random(row["id"])))
        with (tmp_path / "gui/cold.jsonl").open("a") as file:
            file.write(json.dumps(changed) + "\n")
    (tmp_path / "gui/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = ["steps=2", "model.gradient_checkpointing=false", "data.budget={}"]
    changes = [f"out={tmp_path}/cold", "batch_size=2", "model.path=tiny", f"data.train={tmp_path}/gui/cold.jsonl"]
    first = ROOT / "configs/papers/autovla_driving_qa_sft.yaml"
    sft(load_config(first, [*small, *changes], kind=SftConfig), Console(quiet=True))
    changes = ["prompts_per_step=2", "group_size=3", "sampling.max_new_tokens=12", f"model.path={tmp_path}/cold",
               f"data.train={tmp_path}/gui/train.jsonl", "evaluate.every=0", f"runs={tmp_path}"]  # fmt: skip
    metrics = read_metrics(run_training(str(RECIPE), [*small, *changes], resume=False, console=Console(quiet=True)))
    assert len(metrics) == 2 and all(line["ratio_gap"] < 1e-4 for line in metrics)
    assert all(line["score/slow_thinking"] <= 0 for line in metrics)
