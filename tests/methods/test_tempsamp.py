"""TempSamp-R1: the ground truth in the group, what it must not count in, and the three remedies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data_pipelines.dataset import read_samples
from data_pipelines.video.build import make_video
from mmrl.advantages import group_relative
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.methods.tempsamp import (
    anchor_off_policy,
    downscale_off_policy,
    format_off_policy,
    ground_truth,
    soft_advantage,
    soft_reward,
)
from mmrl.plugins import ConfigError
from mmrl.policies import policy_class
from mmrl.policies.shared_prefix import Sampling
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.report import describe
from mmrl.runs.reader import read_metrics, read_rollouts
from rewards.scoring import Rewards

ROOT = Path(__file__).parents[2]
NAN = float("nan")


@pytest.fixture(scope="module")
def golden():
    return {v["name"]: v for v in json.loads((ROOT / "tests/golden/tempsamp.json").read_text())}


@pytest.fixture
def group(make_rollouts):
    """A group of the policy's rows and, as its last, the ground truth; `scores` sum to the reward."""

    def make(**scores):
        values = {name: torch.tensor(score) for name, score in scores.items()}
        count = len(next(iter(values.values())))
        rollouts = make_rollouts(sum(values.values()), [0] * count, scores=values, weights=dict.fromkeys(values, 1.0))
        rollouts.origin[-1] = "ground_truth"
        return rollouts

    return make


def after(rollouts, context, *links):
    value = rollouts.reward[:, None].expand(rollouts.mask.shape).clone()
    for link, settings in links:
        value = link(value, rollouts, context, **settings)
    return value[:, 0]


# -- the links -----------------------------------------------------------------------------------------------------


def test_golden_soft_reward(golden):
    vector = golden["nonlinear_reward_shaping"]
    found = soft_reward(torch.tensor(vector["inputs"]["rewards"]))
    torch.testing.assert_close(found, torch.tensor(vector["expected"]), atol=1e-5, rtol=0)


def test_golden_mixed_group_without_a_remedy(golden, group, context):
    vector = golden["mixed_policy_advantage_raw_easyr1_eps"]
    rollouts = group(tiou=[*vector["inputs"]["rewards_onpolicy"], vector["inputs"]["reward_gt"]])
    found = after(rollouts, context, (group_relative, {"eps": 1e-6}))
    torch.testing.assert_close(found, torch.tensor(vector["expected"]), atol=1e-5, rtol=0)


def test_golden_soft_advantage(golden, group, context):
    vector = golden["mixed_policy_advantage_shaped_G8_hard_query"]
    rollouts = group(tiou=[*vector["inputs"]["rewards_onpolicy"], vector["inputs"]["reward_gt"]])
    shaped = after(rollouts, context, (soft_advantage, {}))
    torch.testing.assert_close(shaped, torch.tensor(vector["expected"]["shaped"]), atol=1e-5, rtol=0)
    found = after(rollouts, context, (soft_advantage, {}), (group_relative, {"eps": 1e-4}))
    torch.testing.assert_close(found, torch.tensor(vector["expected"]["shaped_adv"]), atol=1e-5, rtol=0)


@given(a=st.floats(0, 1), b=st.floats(0, 1), tau=st.floats(0.1, 0.9))
def test_the_soft_reward_keeps_the_order_and_tau(a, b, tau):
    low, high = soft_reward(torch.tensor(sorted([a, b]), dtype=torch.float64), tau=tau).tolist()
    assert low <= high
    assert soft_reward(torch.tensor(tau, dtype=torch.float64), tau=tau).item() == pytest.approx(tau)


def test_only_the_named_reward_is_shaped(group, context):
    rollouts = group(tiou=[0.0, 0.5, 1.0], think_format=[1.0, 0.0, 0.0])
    rollouts.weights = {"tiou": 2.0, "think_format": 1.0}
    rollouts.reward = 2 * rollouts.scores["tiou"] + rollouts.scores["think_format"]
    found = after(rollouts, context, (soft_advantage, {"reward": "tiou"}))
    expected = 2 * soft_reward(rollouts.scores["tiou"]) + rollouts.scores["think_format"]
    torch.testing.assert_close(found, expected)
    with pytest.raises(ConfigError, match="there are tiou, think_format"):
        after(rollouts, context, (soft_advantage, {}))
    with pytest.raises(ConfigError, match="reward = iou: no such reward"):
        after(rollouts, context, (soft_advantage, {"reward": "iou"}))


def test_a_reward_that_does_not_apply_is_not_shaped(group, context):
    rollouts = group(tiou=[NAN, NAN, 0.5], highlight=[0.2, 0.4, 0.0])
    rollouts.reward = torch.tensor([0.2, NAN, 0.5])
    found = after(rollouts, context, (soft_advantage, {"reward": "tiou"}))
    assert found[0] == torch.tensor(0.2) and found[1].isnan() and found[2] == soft_reward(torch.tensor(0.5))


def test_downscaling_is_of_the_ground_truth_alone(group, context):
    found = after(group(tiou=[0.6, 0.7, 0.5, 1.0]), context, (downscale_off_policy, {}))
    torch.testing.assert_close(found, torch.tensor([0.6, 0.7, 0.5, 0.8]))


def test_anchoring_compares_the_policy_with_itself(group, context):
    found = after(group(tiou=[0.6, 0.7, 0.5, 1.0]), context, (anchor_off_policy, {}))
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, -1.0, 1.2]), atol=1e-4, rtol=0)
    assert after(group(tiou=[0.0, 0.0, 1.0]), context, (anchor_off_policy, {})).tolist() == [0, 0, 0]
    failed = after(group(tiou=[0.0, 0.5, NAN]), context, (anchor_off_policy, {}))
    assert failed[2].isnan() and not failed[:2].isnan().any()


@pytest.mark.parametrize(("credit", "expected"), [("full", 2.0), ("skip", 1.25)])
def test_the_form_of_a_row_without_a_thought(group, context, credit, expected):
    rollouts = group(tiou=[0.0, 0.5, 0.0, 0.0, 1.0], think_format=[1.0, 0.0, 0.0, 0.0, 0.0])
    found = after(rollouts, context, (format_off_policy, {"reward": "think_format", "credit": credit}))
    assert found.tolist() == [1.0, 0.5, 0.0, 0.0, expected]


# -- the rollout and the loop --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    make_video(folder, count=6, test_count=1)
    return folder / "train.jsonl"


@pytest.fixture(scope="module")
def config(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tempsamp")
    file = folder / "tempsamp.yaml"
    recipes = f"[{ROOT}/configs/base/grpo, {ROOT}/configs/methods/tempsamp]"
    file.write_text(
        f"extends: {recipes}\nsteps: 4\nprompts_per_step: 3\ngroup_size: 4\nruns: {folder}/runs\n"
        f"data: {{train: {clips}, budget: {{max_pixels: 1024, fps: 2, max_frames: 16}}}}\n"
        "rollout: {name: ground_truth, style: plain, decimals: 0}\n"
        "sampling: {max_new_tokens: 6}\nrewards: [tiou]\noptimizer: {learning_rate: 5.0e-4}\n"
    )
    return file


@pytest.fixture(scope="module")
def asked(config, context):
    """The policy, three samples, and a context that generates."""
    settings = load_config(config)
    policy = policy_class("tiny").load(settings.model, settings.data.budget)
    samples = read_samples(settings.data.train)[:3]

    def generate(samples, sizes):
        return policy.generate(samples, sizes, Sampling(max_new_tokens=6), seed=0, step=0)

    return policy, samples, replace(context, generate=generate)


def test_the_ground_truth_is_the_last_row_of_its_group_and_nothing_else_changes(asked):
    policy, samples, context = asked
    found = ground_truth(policy, samples, [4, 1, 3], context, style="plain", decimals=0)
    assert found.group_sizes() == [4, 1, 3]  # a group of one has nothing to be compared with
    assert found.origin == ["policy"] * 3 + ["ground_truth", "policy"] + ["policy"] * 2 + ["ground_truth"]
    assert found.own.tolist() == [origin == "policy" for origin in found.origin]
    start, end = samples[0].target["span"]
    assert found.text[3] == f"{start:.0f} to {end:.0f}"
    assert len(found.prompts) == 3 and found.prompt.equal(found.group)
    assert found.mask.equal(found.made) and not found.signals["truncated"][~found.own].any()
    own = context.generate(samples, [3, 1, 2])
    mine = found.select(found.own.nonzero().flatten().tolist())
    assert mine.text == own.text
    torch.testing.assert_close(mine.logp_rollout[mine.made], own.logp_rollout[own.made])


def test_the_log_probs_of_the_ground_truth_are_those_of_the_policy(asked):
    policy, samples, context = asked
    found = ground_truth(policy, samples, [3, 3, 3], context, style="plain", decimals=0)
    logp = policy.logp(found)[0].detach()
    alone, _ = policy.logp(found.select([5]))
    torch.testing.assert_close(logp[5], alone[0].detach(), atol=1e-5, rtol=0)
    assert (logp[~found.own].sum(1) < -1).all()  # the untrained text is unlikely
    assert torch.allclose(logp[found.own], found.logp_rollout[found.own], atol=1e-4)


def test_a_group_whose_text_cannot_be_built_stays_on_policy(asked):
    policy, samples, context = asked
    unknown = replace(samples[0], target={"caption": "a"})
    found = ground_truth(policy, [unknown, samples[1]], [3, 3], context)
    assert found.group_sizes() == [3, 3]
    assert found.origin == ["policy"] * 5 + ["ground_truth"]
    thoughtful = replace(samples[1], meta={"why": "it moves"})
    found = ground_truth(policy, [samples[0], thoughtful], [3, 3], context, thought="why")
    assert found.origin == ["policy"] * 5 + ["ground_truth"]
    start, end = samples[1].target["span"]
    assert found.text[5] == f"<think>it moves</think><answer>{start:.2f} to {end:.2f}</answer>"


def test_a_text_that_names_a_special_token_has_no_special_token(asked):
    policy = asked[0]
    tokens = policy.tokens_of("a <|image_pad|> <|vision_start|> b")
    assert not set(tokens.tolist()) & set(policy.engine.forbidden.tolist())
    assert (torch.isin(tokens, policy.engine.stops)).tolist() == [False] * (len(tokens) - 1) + [True]


def test_the_papers_recipes_are_whole():
    for name, first in (("tempsamp_charades", "soft_advantage"), ("tempsamp_charades_think", "format_off_policy")):
        recipe = make_recipe(load_config(ROOT / f"configs/papers/{name}.yaml"), VLMPolicy, where=name)
        recipe.check_signals(VLMPolicy, where=name)
        assert recipe.rollout.name == "ground_truth" and recipe.advantages[0].name == first


def test_labels_that_are_withheld_are_not_learned_from(config):
    settings = load_config(config, ["data.labels=withheld"])
    with pytest.raises(ConfigError, match=r"`ground_truth` learns from targets, and data\.labels is `withheld`"):
        make_recipe(settings, VLMPolicy, where="my.yaml")


def test_what_the_policy_did_not_make_is_in_no_statistic_of_it(asked):
    policy, samples, context = asked
    rewards = Rewards.from_config([{"name": "tiou"}], where="test")
    found = ground_truth(policy, samples, [4, 4, 4], context)
    rewards.score(found, step=0, total=1)
    own = context.generate(samples, [3, 3, 3])
    rewards.score(own, step=0, total=1)
    with_it, without = describe(found, rewards), describe(own, rewards)
    assert with_it.pop("reward_off_policy") == 1
    assert with_it == pytest.approx(without)
    assert without["reward"] < 1


def test_training_moves_towards_the_ground_truth(config):
    folder = run_training(str(config), [], resume=False, console=Console(quiet=True))
    metrics = read_metrics(folder)
    for step, line in enumerate(metrics):
        rows = read_rollouts(folder, step)
        assert sum(row["origin"] == "ground_truth" for row in rows) == 3
        own = [row["reward"] for row in rows if row["origin"] == "policy"]
        assert line["reward"] == line["score/tiou"] == pytest.approx(sum(own) / len(own))
        assert line["reward_off_policy"] == 1
        assert line["ratio_gap"] < 1e-4 and line["ratio_max"] < 1e-4 and line["grad_norm"] > 0
    likely = [[r["logp_old"] for r in read_rollouts(folder, s) if r["origin"] == "ground_truth"] for s in range(4)]
    assert sum(likely[-1]) / 3 > sum(likely[0]) / 3 + 0.3
