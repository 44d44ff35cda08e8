"""TW-GRPO: the divergence of a group's distributions, the weights it becomes, and what they do to a gradient."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from data_pipelines.video.build import make_video
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.losses import clipped, weights
from mmrl.methods.tw_grpo import token_weights
from mmrl.plugins import ConfigError
from mmrl.policies.diffusion import DiffusionPolicy
from mmrl.policies.divergence import position_divergence
from mmrl.policies.shared_prefix import Sampling
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.runs.reader import read_metrics

ROOT = Path(__file__).parents[2]
GOLDEN = {v["name"]: v for v in json.loads((ROOT / "tests/golden/tw_grpo.json").read_text())}
SIGNAL = "intra_group_divergence"


def tensors(vector):
    """Log-probs [G, T, V] and which positions a row has, bool[G, T]."""
    inputs = vector["inputs"]
    mask = inputs.get("completion_mask", inputs.get("mask"))
    return torch.tensor(inputs["logits"], dtype=torch.float64).log_softmax(-1), torch.tensor(mask).bool()


def weigh(rollouts, context, **settings):
    return token_weights(torch.ones(rollouts.mask.shape), rollouts, context, **settings)


# -- the numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["token_weights_basic", "token_weights_unequal_length", "tw_grpo_token_weights"])
def test_golden_divergence_and_weights(name, make_rollouts, context):
    vector = GOLDEN[name]
    log_probs, alive = tensors(vector)
    found = position_divergence(log_probs, alive)
    expected = torch.tensor(vector["expected"]["position_divergence"], dtype=torch.float64).flatten()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    signal = found.float().expand(alive.shape)
    rollouts = make_rollouts([0.0] * len(alive), [0] * len(alive), alive.sum(1), signals={SIGNAL: signal})
    weight = weigh(rollouts, context) * rollouts.mask
    torch.testing.assert_close(weight, torch.tensor(vector["expected"]["weights"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", ["equal", "unequal"])
def test_golden_gradient_of_the_weighted_loss(lengths, make_rollouts, context):
    """Weights belong in the advantage: the whole loss has the original's gradient with its weights detached."""
    vector = GOLDEN[f"weight_gradient_detached_vs_not_{lengths}_lengths"]
    inputs = vector["inputs"]
    log_probs, alive = tensors(vector)
    reward = torch.tensor(inputs["rewards"])
    advantage = ((reward - reward.mean()) / (reward.std() + 1e-4))[:, None].expand(alive.shape)
    signal = position_divergence(log_probs, alive).float().expand(alive.shape)
    rollouts = make_rollouts(reward, [0, 0], alive.sum(1), width=alive.shape[1], signals={SIGNAL: signal})
    rollouts.advantage = token_weights(advantage, rollouts, context, alpha=inputs["alpha"])
    logits = torch.tensor(inputs["logits"], requires_grad=True)
    logp = logits.log_softmax(-1).gather(2, torch.tensor(inputs["token_ids"])[..., None])[..., 0]
    rollouts.logp_old = logp.detach()
    share = weights(rollouts.mask, "token_mean", constant_length=1)
    (share * clipped(logp, rollouts, clip_low=inputs["eps_low"], clip_high=inputs["eps_high"])).sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor(vector["expected"]["grad_logits_detached"]), atol=1e-5, rtol=0)


def test_every_group_has_its_own_scale_and_ends_with_its_longest_row(make_rollouts, context):
    signal = torch.tensor([[1.0, 3.0, 2.0, 0.0], [1.0, 3.0, 2.0, 0.0], [50.0, 10.0, 30.0, 10.0]])
    rollouts = make_rollouts([0.0] * 3, [0, 0, 1], [3, 2, 4], signals={SIGNAL: signal})
    expected = torch.tensor([[1.0, 2.0, 1.5, 1.0], [1.0, 2.0, 1.5, 1.0], [2.0, 1.0, 1.5, 1.0]])
    torch.testing.assert_close(weigh(rollouts, context, alpha=2.0), expected)
    assert (weigh(rollouts, context, alpha=1.0) == 1).all()
    with pytest.raises(ConfigError, match=r"alpha = -0.5"):
        weigh(rollouts, context, alpha=-0.5)


# -- the signal ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rolled(policies, mixed_samples):
    """A policy and groups of 3, 2, 4 and 1 rows, some cut short."""
    policy = policies["qwen3_vl"]
    rollouts = policy.generate(mixed_samples, [3, 2, 4, 1], Sampling(max_new_tokens=9), seed=0, step=0)
    rollouts.length = torch.tensor([9, 1, 7, 9, 3, 2, 9, 5, 9, 6]).minimum(rollouts.length)
    rollouts.mask = rollouts.made
    rollouts.temperature = 0.7
    return policy, rollouts


def compare(policy, rollouts, budget=100_000):
    return policy.compare(rollouts, signals=[SIGNAL], budget=budget)[SIGNAL]


def plain_divergence(policy, rollouts, g):
    """f32[T] of a group by its definition: a stock forward per row, one sum over the vocabulary per position."""
    rows = rollouts.rows_of(g)
    longest = int(rollouts.length[rows].max())
    forbidden = policy.engine.forbidden.tolist()
    allowed = [token for token in range(policy.model.lm_head.out_features) if token not in forbidden]
    table = torch.full((len(rows), longest, len(allowed)), 1 / len(allowed), dtype=torch.float64).log()
    for i, row in enumerate(rows):
        prompt, tokens = rollouts.prompts[int(rollouts.prompt[row])], rollouts.actions[row, : rollouts.length[row]]
        ids = torch.cat([prompt.ids, tokens])[None]
        kinds = (ids == policy.model.config.image_token_id) + 2 * (ids == policy.model.config.video_token_id)
        inputs = {"attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds.int()} | prompt.media
        with torch.no_grad():
            logits = policy.model(input_ids=ids, **inputs).logits[0, len(prompt) - 1 : -1]
        table[i, : len(tokens)] = (logits[:, allowed].double() / rollouts.temperature).log_softmax(-1)
    ratio = (table.mean(0) - table).clamp(-11, 11)
    return (ratio.exp() - ratio - 1).sum(-1).mean(0)


def test_the_signal_is_what_its_definition_says(rolled):
    policy, rollouts = rolled
    assert policy.engine.forbidden.numel() > 0
    found = compare(policy, rollouts)
    assert found.shape == rollouts.mask.shape
    for g in range(4):
        expected = plain_divergence(policy, rollouts, g).float()
        for row in rollouts.rows_of(g):
            torch.testing.assert_close(found[row, : len(expected)], expected, atol=1e-3, rtol=1e-4)
            assert (found[row, len(expected) :] == 0).all()
    assert found[:9].max() > 1 and (found[9] < 1e-4).all()  # a row alone differs from nobody


def test_the_signal_does_not_depend_on_the_cut(rolled):
    policy, rollouts = rolled
    whole = compare(policy, rollouts)
    assert len(policy.micro_batches(rollouts.select_groups([2]), budget=20)) == 4  # a row at a time
    torch.testing.assert_close(compare(policy, rollouts, budget=20), whole, atol=1e-3, rtol=1e-4)
    chunk = policy.engine.head_chunk
    try:
        policy.engine.head_chunk = 4
        torch.testing.assert_close(compare(policy, rollouts), whole, atol=1e-3, rtol=1e-4)
    finally:
        policy.engine.head_chunk = chunk


def test_equal_completions_weigh_alike(rolled, context):
    policy, rollouts = rolled
    same = rollouts.select(rollouts.rows_of(2))
    same.actions = same.actions[:1].expand_as(same.actions).clone()
    same.length = same.length[:1].expand_as(same.length).clone()
    same.mask = same.made
    same.signals[SIGNAL] = compare(policy, same).round(decimals=3)
    assert (same.signals[SIGNAL] == 0).all() and (weigh(same, context) == 1).all()


# -- the loop ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tw")
    make_video(folder, count=6, test_count=1, tasks=["mcq_several"])
    file = folder / "tw.yaml"
    file.write_text(
        f"extends: [{ROOT}/configs/base/grpo, {ROOT}/configs/methods/tw_grpo]\n"
        f"steps: 2\nprompts_per_step: 3\ngroup_size: 4\nruns: {folder}/runs\n"
        f"data: {{train: {folder}/train.jsonl, budget: {{max_pixels: 1024, fps: 2, max_frames: 16}}}}\n"
        f"sampling: {{max_new_tokens: 6}}\nrewards: [{folder}/plugins.py:long, soft_choices]\n"
    )
    (folder / "plugins.py").write_text(
        "from rewards import reward\n\n"
        "@reward(range=(0, 1))\ndef long(completion, sample):\n    return min(1.0, len(completion) / 40)\n"
    )
    return file


def test_training(config):
    metrics = read_metrics(run_training(str(config), [], resume=False, console=Console(quiet=True)))
    assert len(metrics) == 2
    assert all(line["ratio_gap"] < 1e-4 and line["grad_norm"] > 0 for line in metrics)


def test_the_signal_is_for_advantages_of_policies_that_have_it(config, tmp_path):
    recipe = make_recipe(load_config(config), VLMPolicy, where="my.yaml")
    recipe.check_signals(VLMPolicy, where="my.yaml")
    with pytest.raises(ConfigError, match=f"`token_weights` needs {SIGNAL}, which this policy does not provide"):
        recipe.check_signals(DiffusionPolicy, where="my.yaml")
    (tmp_path / "mine.py").write_text(
        "from mmrl.plugins import needs\n\n"
        f'@needs("{SIGNAL}")\ndef term(logp, rows):\n    return -logp * rows.signals["{SIGNAL}"]\n'
    )
    wrong = load_config(config)
    wrong = replace(wrong, loss=replace(wrong.loss, terms=[{"name": f"{tmp_path}/mine.py:term"}]))
    with pytest.raises(ConfigError, match=f"mine.py:term` needs {SIGNAL}"):
        make_recipe(wrong, VLMPolicy, where="my.yaml").check_signals(VLMPolicy, where="my.yaml")


def test_the_papers_recipe_is_whole():
    settings = load_config(ROOT / "configs/papers/tw_grpo_clevrer.yaml")
    recipe = make_recipe(settings, VLMPolicy, where="paper")
    recipe.check_signals(VLMPolicy, where="paper")
    assert [stage.name for stage in recipe.advantages] == ["group_relative", "token_weights"]
    assert settings.loss.aggregate == "token_mean" and settings.optimizer.max_grad_norm == 20
