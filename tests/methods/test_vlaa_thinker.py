"""VLAA-Thinker: form that is needed and not paid, its data, its five rewards, and training.

Its weight of the KL is in test_schedule_methods.py.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from data_pipelines.convert import convert
from data_pipelines.dataset import read_samples
from data_pipelines.makers import READERS
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.methods.vlaa_thinker import implicit_format
from mmrl.plugins import build
from mmrl.runs.reader import read_metrics

ROOT = Path(__file__).parents[2]
ROWS = [
    {"id": "a", "image": "clevr/1.png", "question": "How many?", "gt": "4", "ds_answer": "...", "meta": {}},
    {"id": "b", "image": "GeoQA/1.png", "question": "<image>\nWhich? (A) 1 (B) 2", "gt": "(b) 2"},
    {"id": "c", "image": "synthesis/1.png", "question": "Solve.", "gt": "x^2"},
    {"id": "d", "image": "vg/1.png", "question": "Where is the dog?", "gt": "[0.25, 0.5, 0.75, 1.0]"},
    {"id": "e", "image": "coco/1.png", "question": "Describe it.", "gt": "A dog on grass."},
    {"id": "f", "image": "docvqa/1.png", "question": "What?", "gt": "x"},
    {"id": "g", "image": "vg/1.png", "question": "Where?", "gt": "10, 20, 30, 40"},
    {"id": "h", "image": "clevr/1.png", "question": "How many?", "gt": "none"},
    {"id": "i", "image": "clevr/../../1.png", "question": "How many?", "gt": "1"},
]


def test_no_answer_no_reward(make_rollouts, context, chain):
    rollouts = make_rollouts([1.0, 1.0, 1.0, 0.5, math.nan], [0] * 5)
    rollouts.text = ["<think>t</think><answer>4</answer>", "4", "<answer> </answer>", "<answer>3</answer>", "4"]
    found = chain(implicit_format, rollouts)
    assert found[:4].tolist() == [1, 0, 0, 0.5] and found[4].isnan()
    assert rollouts.signals["no_answer"].tolist() == [False, True, True, False, True]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlaa")
    for row in ROWS:
        file = folder / "media" / str(row["image"])
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 32)).save(file)
    (folder / "rl.json").write_text(json.dumps(ROWS))
    stage = build({"name": "vlaa", "media": str(folder / "media")}, READERS, kind="format", where="test")
    return folder, convert(stage, [str(folder / "rl.json")], folder / "train.jsonl")


def test_every_kind_is_read_and_what_is_none_is_told(data):
    folder, progress = data
    assert (progress.rows, progress.problems) == (5, 4)
    told = [json.loads(line)["message"] for line in (folder / "train.problems.jsonl").read_text().splitlines()]
    expected = ["no `docvqa`", "four shares", "a number is expected", "not a file of"]
    for part, message in zip(expected, told, strict=True):
        assert part in message
    samples = {sample.meta["task"]: sample for sample in read_samples(folder / "train.jsonl")}
    targets = {task: sample.target for task, sample in samples.items()}
    assert targets == {"count": {"answer": "4"}, "mcq": {"answer": "B"}, "math": {"answer": "x^2"},
                       "locate": {"box": [16, 16, 48, 32]}, "open": {"reference": "A dog on grass."}}  # fmt: skip
    assert samples["locate"].coordinates == "norm1" and samples["mcq"].prompt == "Which? (A) 1 (B) 2"


def test_training_on_all_five_kinds(data, tmp_path):
    folder, _ = data
    paper = load_config(ROOT / "configs/papers/vlaa_thinker.yaml").rewards
    paper[2] = {"name": "exact_match", "task": paper[2]["task"], "as": paper[2]["name"]}  # that one is slow to start
    for reward in paper:
        if "scorer" in reward:
            reward["scorer"] = {"name": "repetition"}
    changes = [str(ROOT / "configs/methods/vlaa_thinker.yaml"), f"data.train={folder}/train.jsonl", "data.test=",
               f"runs={tmp_path}", "steps=2", "prompts_per_step=5", "group_size=2", "sampling.max_new_tokens=4",
               "data.budget.max_tokens=512", f"rewards={json.dumps(paper)}"]  # fmt: skip
    metrics = read_metrics(
        run_training(str(ROOT / "configs/demo/gui.yaml"), changes, resume=False, console=Console(quiet=True))
    )
    names = {f"score/{reward.get('as', reward['name'])}" for reward in paper}
    assert all(names <= line.keys() and 0 <= line["no_answer"] <= 1 for line in metrics)
    assert all(torch.isfinite(torch.tensor(line["coef/kl"])) for line in metrics)
