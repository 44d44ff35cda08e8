"""Laws of the loop, on a real model of a million random weights and drawn screens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from small_runs import write_recipe
from torch import Tensor

from data_pipelines.dataset import read_samples
from data_pipelines.gui.build import make_gui
from mmrl.config import Config, load_config
from mmrl.launch import run_training
from mmrl.optimization import Updater
from mmrl.plugins import ConfigError
from mmrl.policies.tiny import save_untrained
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import Recipe, make_recipe
from mmrl.records import Rollouts
from mmrl.report import Report
from mmrl.runs.reader import read_metrics, read_rollouts
from mmrl.trainer import accumulate, credit, draw, learn, make_context
from rewards.scoring import RewardFailure

PLUGINS = '''
import torch
from pathlib import Path
from rewards import reward

@reward(range=(0, 1))
def digits_in(completion, sample):
    """Random weights write anything; some completions hold more digits than others."""
    return min(1.0, sum(c.isdigit() for c in completion) / 4)

@reward(range=(0, 1))
def always_half(completion, sample):
    return 0.5

@reward(range=(0, 1))
def breaks_on_row_two(completion, sample):
    raise KeyError("no such thing")

@reward(range=(0, 1))
def not_a_number(completion, sample):
    return float("nan")

def interrupted_at_two(advantage, rollouts, context, *, flag: str):
    if context.step == 2 and Path(flag).exists():
        raise KeyboardInterrupt
    return advantage

class Contrast:
    """Mean score of the better half minus the mean of the others, squared: depends on all rows of the batch at once."""

    def row_score(self, logp, rows):
        return (logp * rows.mask).sum(1)

    def group_loss(self, scores, rollouts):
        better = rollouts.reward > rollouts.reward.median()
        return -(scores[better].mean() - scores[~better].mean()) ** 2 / 100 + scores.logsumexp(0)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, 12 drawn screens, and a file of plugins."""
    folder = tmp_path_factory.mktemp("place")
    save_untrained(folder / "model")
    make_gui(folder / "gui", count=12, test_count=4)
    (folder / "plugins.py").write_text(PLUGINS)
    return folder


def recipe_file(place: Path, name: str, **changes: Any) -> str:
    settings = {
        "steps": 4,
        "prompts_per_step": 3,
        "group_size": 4,
        "data": {"train": str(place / "gui" / "train.jsonl")},
        "sampling": {"max_new_tokens": 6},
        "rewards": [f"{place}/plugins.py:digits_in"],
    }
    return write_recipe(place, name, **settings | changes)


def run(place: Path, name: str, *, resume: bool = False, **changes: Any) -> Path:
    return run_training(recipe_file(place, name, **changes), [], resume=resume, console=Console(quiet=True))


def collect(place: Path, name: str, **changes: Any) -> tuple[VLMPolicy, Recipe, Rollouts, Any]:
    """Everything up to the credit of step 0, with the pieces of the trainer."""
    config: Config = load_config(recipe_file(place, name, **changes))
    recipe = make_recipe(config, VLMPolicy, where=name)
    policy = VLMPolicy.load(config.model, config.data.budget)
    samples = {sample.id: sample for sample in read_samples(config.data.train)}
    sampler = recipe.make_sampler(list(samples))
    context = make_context(0, policy, recipe, sampler, samples, {})
    rollouts = recipe.rollout.at(0, config.steps)(policy, *draw(sampler, samples, 0), context)
    if rollouts.reward is None:
        context.score(rollouts)
    credit(policy, recipe, rollouts, context)
    return policy, recipe, rollouts, context


def gradients(policy: VLMPolicy) -> Tensor:
    flat = torch.cat([p.grad.flatten() for _, p in policy.trainable() if p.grad is not None])
    policy.model.zero_grad()
    return flat


def weights_of(run: Path, step: int) -> dict[str, Tensor]:
    return load_file(run / f"checkpoints/step-{step:06d}/model/model.safetensors")


def without_seconds(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if not key.startswith("seconds/")} for line in metrics]


@pytest.mark.parametrize("adapter", [None, {"rank": 4}], ids=["full", "lora"])
def test_training_resumed_at_step_2_equals_training_uninterrupted(place, adapter):
    name = "lora" if adapter else "full"
    flag = place / f"{name}.flag"
    common: dict[str, Any] = {
        "model": {"path": str(place / "model"), "vision": "trained", "adapter": adapter},
        "advantages": [{"name": f"{place}/plugins.py:interrupted_at_two", "flag": str(flag)}, "group_relative"],
        "checkpoint": {"every": 2, "keep": 2},
        "loss": {"terms": ["clipped", {"name": "kl", "coef": 0.05}]},
        "optimizer": {"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 2, "updates_per_rollout": 2,
                      "ema": 0.9},
    }  # fmt: skip
    whole = run(place, f"{name}-whole", **common)
    flag.touch()
    with pytest.raises(KeyboardInterrupt):
        run(place, f"{name}-parts", **common)
    flag.unlink()
    parts = run(place, f"{name}-parts", resume=True, **common)

    file = "adapter_model" if adapter else "model"
    expected = load_file(whole / f"checkpoints/step-000003/model/{file}.safetensors")
    resumed = load_file(parts / f"checkpoints/step-000003/model/{file}.safetensors")
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    before = load_file(whole / f"checkpoints/step-000001/model/{file}.safetensors")
    assert not all(torch.equal(before[key], expected[key]) for key in expected)  # it did learn meanwhile
    trained = [load_file(folder / "checkpoints/step-000003/trained.safetensors") for folder in (whole, parts)]
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(trained[0][key], trained[1][key]) for key in trained[0])
    assert without_seconds(read_metrics(whole)) == without_seconds(read_metrics(parts))
    for step in range(4):
        texts = [[row["completion"] for row in read_rollouts(folder, step)] for folder in (whole, parts)]
        assert texts[0] == texts[1]


def test_the_ratio_is_1_at_the_first_update_and_moves_at_the_second(place):
    optimizer = {"learning_rate": 1e-3, "updates_per_rollout": 2, "epochs": 2}
    metrics = read_metrics(run(place, "ratio", optimizer=optimizer))
    assert all(line["ratio_gap"] < 1e-4 for line in metrics)
    assert all(line["ratio_max"] > 1e-3 for line in metrics)
    single = read_metrics(run(place, "ratio-single"))
    assert all(line["ratio_max"] == 0 for line in single)


def test_a_group_with_equal_rewards_moves_nothing(place):
    rewards = [f"{place}/plugins.py:always_half"]
    folder = run(place, "equal", rewards=rewards, steps=2)
    start, end = load_file(place / "model" / "model.safetensors"), weights_of(folder, 1)
    assert all(torch.equal(start[key], end[key]) for key in end)
    assert all(line["groups_zero_spread"] == 1 for line in read_metrics(folder))


@pytest.mark.parametrize("aggregate", ["token_mean", "sequence_mean", "sequence_sum", "constant"])
def test_one_micro_batch_equals_eight(place, aggregate):
    terms = ["clipped", {"name": "kl", "coef": 0.1}, {"name": "entropy_bonus", "coef": 0.01}]
    loss = {"aggregate": aggregate, "terms": terms}
    policy, recipe, rollouts, context = collect(place, "micro", loss=loss, micro_batch_tokens=100_000)
    accumulate(policy, Updater(policy, recipe.config.optimizer), rollouts, recipe, context, Report())
    whole = gradients(policy)
    small = replace(recipe, config=replace(recipe.config, micro_batch_tokens=40))
    assert len(policy.micro_batches(rollouts, budget=40)) >= 8
    accumulate(policy, Updater(policy, small.config.optimizer), rollouts, small, context, Report())
    cut = gradients(policy)
    assert float((whole - cut).norm() / whole.norm()) < 1e-4
    assert float(whole.norm()) > 0


def test_a_group_loss_in_micro_batches_has_the_gradient_of_the_whole(place):
    name = f"{place}/plugins.py:Contrast"
    policy, recipe, rollouts, context = collect(place, "contrast", loss={"terms": [name]}, micro_batch_tokens=40)
    accumulate(policy, Updater(policy, recipe.config.optimizer), rollouts, recipe, context, Report())
    cut = gradients(policy)
    stage = recipe.terms[0].stage.at(0, 1)
    logp, _ = policy.logp(rollouts)
    stage.group_loss(stage.row_score(logp, rollouts), rollouts).backward()
    whole = gradients(policy)
    assert float((whole - cut).norm() / whole.norm()) < 1e-4


def test_updates_take_whole_groups_and_every_row_once_an_epoch(place):
    optimizer = {"learning_rate": 1e-3, "updates_per_rollout": 6, "epochs": 2}
    policy, recipe, rollouts, context = collect(place, "updates", optimizer=optimizer)
    report = learn(policy, Updater(policy, recipe.config.optimizer), rollouts, recipe, context)
    assert report._updates == 6


def test_dynamic_sampling_keeps_groups_that_differ(place):
    rollout = {"name": "dynamic", "max_requests": 3}
    _, _, rollouts, _ = collect(place, "dynamic", rollout=rollout)
    assert len(rollouts.samples) == 3
    for group in range(3):
        assert len(set(rollouts.reward[rollouts.rows_of(group)].tolist())) > 1
    flat = [f"{place}/plugins.py:always_half"]
    _, _, rollouts, _ = collect(place, "dynamic-flat", rollout=rollout, rewards=flat)
    assert len(rollouts.samples) == 1  # nothing differs: the step goes on with one group


def test_overlong_filtering_takes_truncated_rows_out_of_the_loss(place):
    stages = [{"name": "overlong_penalty", "limit": 6, "buffer": 2}, "group_relative", "overlong_filter"]
    _, _, rollouts, _ = collect(place, "overlong", advantages=stages)
    truncated = rollouts.signals["truncated"]
    assert truncated.any()
    assert not rollouts.mask[truncated].any()
    assert rollouts.mask[~truncated].any() or truncated.all()


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"top_k": 1}, {"max_new_tokens": 0}, {"temperature": -1}])
def test_sampling_that_has_nothing_to_teach_is_refused_before_the_run(place, wrong):
    name = f"greedy-{next(iter(wrong))}"
    with pytest.raises(ConfigError, match=rf"{name}.yaml: sampling.{next(iter(wrong))} = "):
        run(place, name, sampling={"max_new_tokens": 6, **wrong})
    assert not (place / "runs" / name).exists()


def test_a_reward_that_raises_stops_the_run_by_name(place):
    with pytest.raises(RewardFailure, match="breaks_on_row_two"):
        run(place, "raises", rewards=[f"{place}/plugins.py:breaks_on_row_two"])
    events = [json.loads(line) for line in (place / "runs/raises/events.jsonl").read_text().splitlines()]
    assert events[-1]["kind"] == "failed"


def test_a_reward_that_is_nan_stops_the_run_by_name(place):
    with pytest.raises(RewardFailure, match="not_a_number"):
        run(place, "nan", rewards=[f"{place}/plugins.py:not_a_number"])


def test_failed_rows_leave_their_group_and_get_no_advantage(place):
    policy, recipe, rollouts, context = collect(place, "failed-rows")
    rollouts.reward[1] = float("nan")
    credit(policy, recipe, rollouts, context)
    assert (rollouts.advantage[1] == 0).all() and not rollouts.mask[1].any()
    others = rollouts.reward[[0, 2, 3]]
    expected = (others - others.mean()) / (others.std() + 1e-6)
    assert torch.allclose(rollouts.advantage[[0, 2, 3], 0], expected, atol=1e-5)


def test_an_evaluation_during_training_is_recorded(place):
    data = {"train": str(place / "gui/train.jsonl"), "test": str(place / "gui/test.jsonl")}
    folder = run(place, "evaluated", steps=2, data=data, evaluate={"every": 1})
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    scored = [event for event in events if event["kind"] == "evaluation"]
    assert [event["step"] for event in scored] == [0, 1]
    assert all(event["low"] <= event["score"] <= event["high"] for event in scored)
