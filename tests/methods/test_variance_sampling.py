"""Variance-aware sampling: what a prompt's score is, how scores draw, and runs that go on as if never interrupted."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from small_runs import write_recipe

from data_pipelines.gui.build import make_gui
from mmrl.diversity import distinct, self_bleu
from mmrl.launch import run_training
from mmrl.methods.variance_sampling import VarianceAware
from mmrl.plugins import ConfigError
from mmrl.policies.tiny import save_untrained
from mmrl.runs.checkpoints import latest_checkpoint, list_checkpoints, read_state
from mmrl.runs.reader import read_metrics

NAN = float("nan")
IDS = [f"s{number}" for number in range(12)]


def sampler(ids=IDS, prompts: int = 6, **settings: Any) -> VarianceAware:
    return VarianceAware(ids, prompts, 4, 0, **settings)


def named(plan):
    return [sample_id for sample_id, _ in plan]


@pytest.mark.parametrize(("right", "share"), [(0, 0.0), (1, 0.1875), (2, 0.25), (4, 0.0)])
def test_the_outcome_part_is_p_times_1_minus_p(make_rollouts, right, share):
    aware = sampler(outcome=0.8, trajectory=0.0)
    aware.observe(0, make_rollouts([1.0] * right + [0.0] * (4 - right), [0] * 4))
    assert aware.scores == {"s0": pytest.approx(0.8 * share)}


@pytest.mark.parametrize("diversity", ["self_bleu", "distinct"])
def test_the_trajectory_part_reads_tokens_without_padding(make_rollouts, diversity):
    rollouts = make_rollouts([1.0, 0.0, 0.0], [0] * 3, lengths=[4, 3, 5])
    rollouts.actions = torch.tensor([[1, 2, 3, 4, 0], [1, 2, 9, 0, 0], [7, 2, 3, 4, 5]])
    rows = [[1, 2, 3, 4], [1, 2, 9], [7, 2, 3, 4, 5]]
    expected = {"self_bleu": 1 - self_bleu(rows), "distinct": distinct(rows)}[diversity]
    aware = sampler(outcome=0.0, trajectory=0.2, diversity=diversity)
    aware.observe(0, rollouts)
    assert aware.scores["s0"] == pytest.approx(0.2 * expected)


def test_a_half_solved_diverse_prompt_outranks_a_solved_one_that_repeats_itself(make_rollouts):
    """The paper's code has it the other way round with self_bleu_123, which it does not invert."""
    rollouts = make_rollouts([1.0, 0.0, 1.0, 0.0] + [1.0] * 4, [0] * 4 + [1] * 4, lengths=[4] * 8)
    rollouts.actions = torch.cat([torch.arange(16).view(4, 4), torch.ones(4, 4, dtype=torch.long)])
    aware = sampler()
    aware.observe(0, rollouts)
    assert aware.scores == {"s0": pytest.approx(0.8 * 0.25 + 0.2), "s1": pytest.approx(0.0)}


def test_rows_of_others_and_rows_without_reward_do_not_count(make_rollouts):
    aware = sampler(trajectory=0.0, outcome=1.0)
    rollouts = make_rollouts([1.0, 0.0, 1.0, NAN, 1.0, 1.0], [0, 0, 0, 0, 1, 1])
    rollouts.origin = ["policy", "policy", "ground_truth", "policy", "policy", "hint"]
    aware.observe(0, rollouts)
    assert aware.scores == {"s0": 0.25}  # one row of s1 is left, and nothing to compare it with


def test_a_named_metric_counts_in_place_of_the_reward(make_rollouts):
    aware = sampler(trajectory=0.0, outcome=1.0, metric="accuracy")
    aware.observe(0, make_rollouts([0.0, 0.9], [0, 0], scores={"accuracy": torch.tensor([1.0, 1.0])}))
    assert aware.scores == {"s0": 0.0}
    with pytest.raises(ConfigError, match="known: format"):
        aware.observe(0, make_rollouts([0.0, 0.9], [0, 0], scores={"format": torch.tensor([1.0, 1.0])}))


def test_momentum_keeps_a_part_of_the_old_score(make_rollouts):
    aware = sampler(trajectory=0.0, outcome=1.0, momentum=0.75)
    aware.observe(0, make_rollouts([0.0, 1.0], [0, 0]))
    aware.observe(1, make_rollouts([1.0, 1.0], [0, 0]))
    assert aware.scores == {"s0": 0.25 * 0.75}


def test_the_even_share_meets_every_prompt_once_per_epoch_and_none_comes_twice_in_a_step():
    aware = sampler(prompts=6, weighted=0.5)
    aware.scores = {sample_id: 0.01 * number for number, sample_id in enumerate(IDS)}
    plans = [named(aware.plan(step)) for step in range(4)]
    assert sorted(sample_id for plan in plans for sample_id in plan[:3]) == sorted(IDS)
    assert all(len(set(plan)) == 6 for plan in plans)
    assert plans == [named(aware.plan(step)) for step in range(4)]
    assert named(aware.plan(0, request=1)) != plans[0]


def test_draws_are_in_proportion_to_the_scores():
    aware = sampler(ids=IDS[:4], prompts=1, weighted=1.0)
    aware.scores = {"s0": 0.1, "s1": 0.3, "s2": 0.0}  # s3 was never seen, and counts as their mean, 0.4 / 3
    drawn = Counter(named(aware.plan(step))[0] for step in range(4000))
    total = 0.4 + 0.4 / 3
    expected = {"s0": 0.1 / total, "s1": 0.3 / total, "s2": 0.0, "s3": 0.4 / 3 / total}
    assert {name: drawn[name] / 4000 for name in IDS[:4]} == pytest.approx(expected, abs=0.025)


def test_prompts_of_no_spread_come_only_after_all_others():
    aware = sampler(prompts=8, weighted=1.0)
    aware.scores = {sample_id: 0.2 * (number < 5) for number, sample_id in enumerate(IDS)}
    for step in range(20):
        assert set(named(aware.plan(step))[:5]) == set(IDS[:5])


def test_without_any_spread_draws_are_even():
    aware = sampler(prompts=1, weighted=1.0)
    aware.scores = dict.fromkeys(IDS, 0.0)
    assert len({named(aware.plan(step))[0] for step in range(200)}) == len(IDS)


def test_a_step_may_be_larger_than_the_data():
    assert Counter(named(sampler(ids=IDS[:2], prompts=6).plan(0))) == {"s0": 3, "s1": 3}


def test_state_survives_json_bit_for_bit(make_rollouts):
    first, second = sampler(), sampler()
    rewards, group = torch.rand(24, generator=torch.Generator().manual_seed(0)).tolist(), list(range(6)) * 4
    first.observe(0, make_rollouts(rewards, sorted(group)))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.scores == first.scores
    assert [second.plan(step) for step in range(5)] == [first.plan(step) for step in range(5)]


@pytest.mark.parametrize("wrong", [{"weighted": 1.5}, {"momentum": 1.0}, {"outcome": 0, "trajectory": 0},
                                   {"outcome": -1}, {"refresh": 2, "completions": 1}])  # fmt: skip
def test_settings_without_a_meaning_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        sampler(**wrong)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of two prompts out of eight, with a survey before the first and the third."""
    place = tmp_path_factory.mktemp("variance")
    save_untrained(place / "model")
    make_gui(place / "gui", count=8, test_count=1)
    (place / "plugins.py").write_text(
        "from rewards import reward\n\n@reward(range=(0, 1))\n"
        "def digits_in(completion, sample):\n    return min(1.0, sum(c.isdigit() for c in completion) / 4)\n"
    )
    recipe = write_recipe(
        place,
        "run",
        runs=str(place / "whole"),
        steps=4,
        prompts_per_step=2,
        group_size=4,
        data={"train": str(place / "gui/train.jsonl")},
        sampler={"name": "variance_aware", "refresh": 2, "completions": 3, "momentum": 0.3},
        sampling={"max_new_tokens": 4},
        rewards=[f"{place}/plugins.py:digits_in"],
        checkpoint={"every": 2, "keep": 2},
    )
    return run_training(recipe, [], resume=False, console=Console(quiet=True))


def test_a_survey_scores_every_prompt_and_is_not_learned_from(trained, tmp_path):
    assert len(read_state(list_checkpoints(trained)[0])["sampler"]["scores"]) == 8
    assert all(line["ratio_gap"] < 1e-4 and line["tokens"] <= 2 * 4 * 4 for line in read_metrics(trained))
    config = str(trained.parents[1] / "run.yaml")
    changes = [f"runs={tmp_path}", "sampler.refresh=0", "steps=1"]
    without = run_training(config, changes, resume=False, console=Console(quiet=True))
    assert len(read_state(list_checkpoints(without)[0])["sampler"]["scores"]) == 2


def test_a_resumed_run_equals_an_uninterrupted_one(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    last = latest_checkpoint(tmp_path / "run")
    shutil.rmtree(last)
    config = str(trained.parents[1] / "run.yaml")
    again = run_training(config, [f"runs={tmp_path}"], resume=True, console=Console(quiet=True))
    name = f"checkpoints/{last.name}"
    assert read_state(again / name)["sampler"] == read_state(trained / name)["sampler"]
    saved, expected = (load_file(folder / name / "model/model.safetensors") for folder in (again, trained))
    assert all(torch.equal(saved[key], expected[key]) for key in expected)
