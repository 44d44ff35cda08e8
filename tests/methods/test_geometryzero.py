"""GCPO: two prompts in one group, and a sign for constructions by what they did to accuracy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmrl.config import load_config
from mmrl.methods.geometryzero import WITH, WITHOUT, contrastive_mask, with_and_without
from mmrl.plugins import ConfigError
from mmrl.policies.shared_prefix import Sampling
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe

ROOT = Path(__file__).parents[2]
DRAWN = "so <aux>\n\\draw (A) -- (D);\n</aux> <answer>3</answer>"
PLAIN = "<aux>none</aux> <answer>3</answer>"


@pytest.fixture
def halves(make_rollouts):
    """One group whose first rows were told to construct; all of them did, and `drew` of the others."""

    def make(told, forbidden, *, drew=0):
        count = len(told) + len(forbidden)
        score = torch.tensor([*told, *forbidden], dtype=torch.float32)
        rollouts = make_rollouts(score, [0] * count, scores={"accuracy": score}, weights={"accuracy": 1.0})
        rollouts.prompt = torch.tensor([0] * len(told) + [1] * len(forbidden))
        rollouts.prompts = [None, None]
        rollouts.text = [DRAWN] * (len(told) + drew) + [PLAIN] * (len(forbidden) - drew)
        return rollouts

    return make


def test_golden_mask(halves, chain):
    (vector,) = json.loads((ROOT / "tests/golden/geometryzero.json").read_text())
    for given, expected in zip(vector["inputs"], vector["expected"], strict=True):
        rollouts = halves(given["acc_with_aux"], given["acc_without_aux"], drew=1)
        added = chain(contrastive_mask, rollouts, eps=given["eps"]) - rollouts.reward
        assert added.tolist() == [expected] * 5 + [0] * 3  # who draws is paid or charged, told or not
        assert rollouts.signals["contrastive_mask"].tolist() == [expected] * 8
        assert rollouts.signals["constructions"].mean() == 5 / 8


def test_the_difference_must_exceed_eps_and_the_weight_scales_it(halves, chain):
    rollouts = halves([1, 0, 0, 0], [0, 0, 0, 0])
    assert chain(contrastive_mask, rollouts, eps=0.25).tolist() == rollouts.reward.tolist()
    assert chain(contrastive_mask, rollouts, eps=0.2, weight=0.5).tolist() == [1.5, 0.5, 0.5, 0.5, 0, 0, 0, 0]


def test_by_construction_compares_what_was_done(halves, chain):
    rollouts = halves([1, 1], [0, 1], drew=1)  # drawn: 1, 1, 0; not drawn: 1
    assert chain(contrastive_mask, rollouts, by="construction").tolist() == [0, 0, -1, 1]
    assert chain(contrastive_mask, rollouts).tolist() == [2, 2, 1, 1]


def test_a_side_without_rows_or_scores_decides_nothing(halves, chain):
    rollouts = halves([1, 1], [0, 0])
    rollouts.prompt[:] = 0
    assert chain(contrastive_mask, rollouts).tolist() == [1, 1, 0, 0]
    rollouts = halves([1, 1], [float("nan")] * 2)
    assert chain(contrastive_mask, rollouts)[:2].tolist() == [1, 1]


def test_half_of_a_group_is_asked_each_way(policies, mixed_samples, context):
    policy, samples = policies["qwen3_vl"], mixed_samples[:1] + mixed_samples[3:]
    asked = []

    def generate(samples, sizes):
        asked.extend(samples)
        return policy.generate(samples, sizes, Sampling(max_new_tokens=3), seed=0, step=0)

    rollouts = with_and_without(policy, samples, [3, 2], replace(context, generate=generate))
    assert [sample.messages[-1]["content"][-1]["text"].strip() for sample in asked] == [WITH, WITHOUT] * 2
    assert rollouts.group.tolist() == [0, 0, 0, 1, 1] and rollouts.prompt.tolist() == [0, 0, 1, 2, 3]
    assert [sample.messages for sample in rollouts.samples] == [sample.messages for sample in samples]
    assert rollouts.samples[0].media[0].tokens > 0
    logp = policy.logp(rollouts)[0].detach()
    torch.testing.assert_close(logp[rollouts.made], rollouts.logp_rollout[rollouts.made], atol=1e-4, rtol=0)
    with pytest.raises(ConfigError, match="at least 2"):
        with_and_without(policy, samples, [3, 1], replace(context, generate=generate))


def test_the_papers_recipe_is_whole():
    where = "configs/papers/geometryzero_geometry3k.yaml"
    recipe = make_recipe(load_config(ROOT / where), VLMPolicy, where=where)
    assert [stage.name for stage in recipe.advantages] == ["contrastive_mask", "group_relative"]
    assert recipe.rollout.name == "with_and_without"
