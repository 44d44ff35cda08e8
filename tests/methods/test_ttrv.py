"""Votes without labels: golden values, what is trained on, and that no gold label ever reaches a reward."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from small_runs import write_recipe

from mmrl.advantages import group_relative
from mmrl.launch import run_training
from mmrl.methods.ttrv import votes
from mmrl.plugins import ConfigError
from mmrl.policies.tiny import save_untrained
from mmrl.records import Sample
from mmrl.runs.checkpoints import latest_checkpoint
from mmrl.runs.reader import read_metrics, read_rollouts
from rewards.scoring import RewardFailure, Rewards

QUIET = Console(quiet=True)


@pytest.fixture
def cast(make_rollouts, context):
    """Run the stage on these votes, a list per prompt; gold labels as targets."""

    def run(groups: list[list[str]], keep: int, gold: list[dict], reward: dict[str, Any], **settings: Any):
        size = len(groups[0])
        rollouts = make_rollouts(
            [math.nan] * sum(map(len, groups)), [g for g in range(len(groups)) for _ in range(size)]
        )
        rollouts.text, rollouts.reward = [vote for group in groups for vote in group], None
        rollouts.samples = [replace(sample, target=g) for sample, g in zip(rollouts.samples, gold, strict=True)]
        rewards = Rewards.from_config([reward], where="test")
        asking = replace(
            context,
            generate=lambda samples, sizes: rollouts,
            score=lambda scored: rewards.score(scored, step=0, total=1),
        )
        return votes(None, rollouts.samples, [keep] * len(groups), asking, votes=size, **settings)

    return run


def test_golden_ttrv_reward_1(cast, chain):
    """Reward, advantage and the logged numbers of the authors' code on A, A, A, B."""
    reward = {"name": "vote_frequency", "entropy": 0.75}
    rollouts = cast([["A", "A", "A", "B"]], 4, [{"answer": "A"}], reward, metric="letter_choice")
    assert rollouts.reward.tolist() == pytest.approx([0.1415414] * 3 + [-0.3584586], abs=1e-6)
    advantage = chain(group_relative, rollouts, std="unbiased", eps=1e-6)
    assert advantage.tolist() == pytest.approx([0.499998] * 3 + [-1.4999939], abs=1e-5)
    logged = {name: value[0].item() for name, value in rollouts.signals.items()}
    assert logged == pytest.approx({"vote_agreement": 0.75, "vote_entropy": 0.5623351, "vote_cast": 1.0,
                                    "vote_right": 0.75, "vote_majority_right": 1.0})  # fmt: skip


def test_golden_ttrl_majority_reward_2(cast, chain):
    rollouts = cast([["1", "2", "3", "1", "2"]], 5, [{}], {"name": "majority_vote", "answer": "number"})
    assert rollouts.reward.tolist() == [1, 0, 0, 1, 0]
    advantage = chain(group_relative, rollouts, std="unbiased", eps=1e-6)
    assert advantage.tolist() == pytest.approx([1.0954431, -0.7302954, -0.7302954, 1.0954431, -0.7302954], abs=1e-5)


def test_all_vote_and_the_first_are_trained_on(cast):
    groups = [["A", "B", "B", "B"], ["C", "C", "D", "?"]]
    rollouts = cast(groups, 2, [{"answer": "A"}, {}], {"name": "vote_frequency"}, metric="letter_choice")
    assert rollouts.text == ["A", "B", "C", "C"] and rollouts.group.tolist() == [0, 0, 1, 1]
    assert rollouts.reward.tolist() == pytest.approx([0.25, 0.75, 2 / 3, 2 / 3])
    signals = {name: value.tolist() for name, value in rollouts.signals.items()}
    assert signals["vote_cast"] == [1, 1, 0.75, 0.75]
    assert signals["vote_agreement"] == pytest.approx([0.75, 0.75, 2 / 3, 2 / 3])
    assert signals["vote_right"][:2] == [0.25, 0.25] and signals["vote_majority_right"][:2] == [0, 0]
    assert math.isnan(signals["vote_right"][2]) and math.isnan(signals["vote_majority_right"][2])


def test_a_prompt_without_votes_pays_nothing_and_agrees_on_nothing(cast, chain):
    rollouts = cast([["no idea", "none", "well", ""]], 4, [{}], {"name": "vote_frequency"})
    assert rollouts.reward.tolist() == [0, 0, 0, 0] and chain(group_relative, rollouts).tolist() == [0, 0, 0, 0]
    assert rollouts.signals["vote_agreement"].isnan().all() and (rollouts.signals["vote_cast"] == 0).all()


def test_a_gold_label_that_the_metric_cannot_read_is_loud(cast):
    with pytest.raises(RewardFailure, match="option's letter"):
        cast([["A", "B"]], 2, [{"answer": "seven"}], {"name": "vote_frequency"}, metric="letter_choice")


def test_fewer_votes_than_are_trained_on_are_refused(cast):
    with pytest.raises(ConfigError, match="less than group_size = 3"):
        cast([["A", "B"]], 3, [{}], {"name": "vote_frequency"})


def test_an_unlabelled_sample_has_neither_target_nor_the_answer_in_its_chat():
    turns = ({"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"})
    sample = Sample("s", turns, target={"answer": "4"}, meta={"task": "sum"})
    assert sample.unlabelled() == replace(sample, messages=turns[:1], target={})


# -- training on a model with random weights, which writes anything ---------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, studio) -> Path:
    """Four pictures with a question, and the same rows with right, wrong and no labels."""
    folder = tmp_path_factory.mktemp("votes")
    save_untrained(folder / "model")
    pictures = [studio.picture(64, 64) for _ in range(4)]
    for name, targets in {"right": "AAAA", "wrong": "BCDB", "none": [None] * 4}.items():
        rows = [
            {"id": f"row-{i}", "messages": [{"role": "user", "content": [picture, {"type": "text", "text": "which?"}]}]}
            | ({"target": {"answer": answer}} if answer else {})
            for i, (picture, answer) in enumerate(zip(pictures, targets, strict=True))
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "plugins.py").write_text(
        "from rewards import reward\n\n@reward(range=(0, 1), scope='group')\n"
        "def first_letters(completions, sample):\n"
        '    """Agreement on the first character; a gold label would be worth a point."""\n'
        "    assert not sample.target, 'a reward saw a target'\n"
        "    return [sum(c[:1] == other[:1] for other in completions) / len(completions) for c in completions]\n"
    )
    return folder


def train(place: Path, name: str, rows: str, *, labels: str = "withheld", **changes: Any) -> Path:
    settings = {
        "steps": 2,
        "prompts_per_step": 2,
        "group_size": 3,
        "data": {"train": str(place / f"{rows}.jsonl"), "labels": labels},
        "rollout": {"name": "votes", "votes": 6},
        "sampling": {"max_new_tokens": 4},
        "rewards": [f"{place}/plugins.py:first_letters"],
    }
    return run_training(write_recipe(place, name, **settings | changes), [], resume=False, console=QUIET)


def test_labels_change_nothing_but_what_is_logged(place):
    """Right, wrong and absent labels: the same weights bit for bit, and the metric where there are labels."""
    metric = {"rollout": {"name": "votes", "votes": 6, "metric": "exact_match"}}
    runs = [train(place, rows, rows, **metric) for rows in ("right", "wrong", "none")]
    weights = [load_file(latest_checkpoint(run) / "model/model.safetensors") for run in runs]
    start = load_file(place / "model/model.safetensors")
    assert any(not torch.equal(weights[0][name], start[name]) for name in start)
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], other[name]) for name in start)
    logged = [read_metrics(run)[0] for run in runs]
    assert all(line["reward"] == logged[0]["reward"] for line in logged)
    assert "vote_right" in logged[0] and math.isnan(logged[2].get("vote_right") or math.nan)
    assert len(list(read_rollouts(runs[0], 0))) == 2 * 3
    assert read_rollouts(runs[0], 0)[0]["target"] == {"answer": "A"}  # shown beside the completion, as ever


def test_a_reward_that_asks_for_a_label_is_refused_before_the_run(place):
    with pytest.raises(ConfigError, match=r"letter_choice needs target.answer, and data.labels is `withheld`"):
        train(place, "refused", "right", rewards=["letter_choice"])
    assert not (place / "runs/refused").exists()


def test_rows_without_labels_are_refused_where_labels_are_needed(place):
    with pytest.raises(ConfigError, match="row without target"):
        train(place, "needed", "none", labels="needed")
