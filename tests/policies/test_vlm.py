"""The policy around the engine: what trains, what is saved, how work is divided, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_pipelines.media import Budget
from mmrl.config import AdapterConfig, ModelConfig
from mmrl.plugins import ConfigError
from mmrl.policies.shared_prefix import Prompt, Sampling, pack
from mmrl.policies.vlm import VLMPolicy

HOW = Sampling(max_new_tokens=6)
SIZES = [2, 1, 2, 1]


def gradients(policy, loss):
    policy.model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in policy.trainable() if p.grad is not None}


def disturb(policy, seed=0):
    """As training would: every trainable weight moves."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, p in policy.trainable():
            p.add_(0.1 * torch.randn(p.shape, generator=noise))


# -- completions ---------------------------------------------------------------------------------------------------


def test_generation_is_a_function_of_seed_step_and_sample(policies, mixed_samples):
    policy, sample = policies["qwen3_vl"], mixed_samples[3]
    texts = {
        (seed, step): policy.generate([sample], [4], HOW, seed=seed, step=step).text
        for seed in (0, 1)
        for step in (0, 1)
    }
    assert policy.generate([sample], [4], HOW, seed=0, step=0).text == texts[0, 0]
    assert len({tuple(text) for text in texts.values()}) == 4
    renamed = policy.generate([replace(sample, id="other")], [4], HOW, seed=0, step=0)
    assert renamed.text != texts[0, 0]


def test_a_sample_drawn_twice_is_completed_differently(policies, mixed_samples):
    twice = policies["qwen3_vl"].generate([mixed_samples[3]] * 2, [4, 4], HOW, seed=0, step=0)
    once = policies["qwen3_vl"].generate([mixed_samples[3]], [4], HOW, seed=0, step=0)
    assert twice.text[:4] == once.text and twice.text[4:] != once.text


def test_a_small_cache_changes_nothing_but_the_parts(build_policy, mixed_samples):
    policy = build_policy()
    roomy = policy.generate(mixed_samples, SIZES, HOW, seed=0, step=0)
    policy.settings = replace(policy.settings, generation_tokens=1)
    tight = policy.generate(mixed_samples, SIZES, HOW, seed=0, step=0)
    assert tight.text == roomy.text and tight.actions.equal(roomy.actions)


def test_rollouts_say_what_was_seen_and_what_was_cut_off(policies, mixed_samples):
    policy = policies["qwen3_vl"]
    some = torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:300]
    policy.engine, engine = replace(policy.engine, stops=some), policy.engine
    try:
        rollouts = policy.generate(mixed_samples, [4] * 4, HOW, seed=0, step=0)
    finally:
        policy.engine = engine
    last = rollouts.actions.gather(1, rollouts.length[:, None] - 1)[:, 0]
    assert rollouts.signals["truncated"].equal(~torch.isin(last, some)) and 0 < rollouts.signals["truncated"].sum() < 16
    assert rollouts.mask.equal(rollouts.made) and (rollouts.logp_rollout[~rollouts.made] == 0).all()
    one, two, film, _ = rollouts.samples
    assert [m.seen for m in (*one.media, *two.media)] == [(64, 64), (96, 64), (64, 48)]
    assert len(film.media[0].times) >= 2 and film.media[0].seen is not None
    assert [len(s.media) for s in rollouts.samples] == [1, 2, 1, 0]


def test_the_final_assistant_turn_is_left_for_the_model_to_write(policies, mixed_samples):
    policy, sample = policies["qwen2_vl"], mixed_samples[0]
    answered = replace(sample, messages=(*sample.messages, {"role": "assistant", "content": "click"}))
    prompt = policy.encode(sample)[1]
    assert policy.encode(answered)[1].ids.equal(prompt.ids)
    whole = policy.encode(answered, whole_chat=True)[1].ids
    assert len(whole) > len(prompt) and whole[: len(prompt)].equal(prompt.ids)
    assert policy.tokens_of("click").equal(whole[len(prompt) : -1])  # the template ends with a newline


def test_a_prompt_over_budget_is_refused_with_its_row(build_policy, mixed_samples):
    policy = build_policy()
    policy.budget = Budget(min_pixels=1024, max_tokens=20)
    with pytest.raises(ConfigError, match=r"row one: the prompt has \d+ tokens, 16 of them") as error:
        policy.encode(mixed_samples[0])
    assert "Lower data.budget.max_pixels" in str(error.value)


# -- what trains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "vision", "language", "lora"),
    [
        ({"vision": "frozen"}, False, True, False),
        ({"vision": "trained"}, True, True, False),
        ({"vision": "frozen", "lora": True}, False, True, True),
        ({"vision": "trained", "lora": True}, True, True, True),
    ],
)
def test_only_what_the_config_names_is_trained(build_policy, mixed_samples, changes, vision, language, lora):
    policy = build_policy(**changes)
    names = [name for name, _ in policy.trainable()]
    assert (
        any("visual" in name for name in names) == vision
        and any("language_model" in name for name in names) == language
    )
    assert all(("lora_" in name) == lora for name in names) and not (lora and any("lm_head" in name for name in names))
    rollouts = policy.generate(mixed_samples, SIZES, HOW, seed=0, step=0)
    disturb(policy)
    grads = gradients(policy, policy.logp(rollouts)[0].sum())
    assert set(grads) == set(names)
    assert all(p.grad is None for _, p in policy.model.named_parameters() if not p.requires_grad)


def test_lora_is_off_in_the_reference_and_on_everywhere_else(build_policy, mixed_samples):
    policy = build_policy(lora=True)
    before = policy.generate(mixed_samples, SIZES, HOW, seed=0, step=0)
    untrained = policy.logp(before)[0].detach()
    torch.testing.assert_close(policy.reference_logp(before), untrained, atol=0, rtol=0)
    disturb(policy)
    torch.testing.assert_close(policy.reference_logp(before), untrained, atol=0, rtol=0)
    assert (policy.logp(before)[0].detach() - untrained).abs().max() > 0.1
    after = policy.generate(mixed_samples, SIZES, HOW, seed=0, step=0)
    assert after.text != before.text
    torch.testing.assert_close(policy.logp(after)[0].detach(), after.logp_rollout, atol=1e-5, rtol=0)


def test_the_reference_of_full_training_is_the_model_as_loaded(tmp_path, mixed_samples):
    from mmrl.policies.tiny import save_untrained

    save_untrained(tmp_path, "qwen2_vl")
    policy = VLMPolicy.load(ModelConfig(path=str(tmp_path)), Budget(min_pixels=1024))
    rollouts = policy.generate(mixed_samples[:1], [2], HOW, seed=0, step=0)
    untrained = policy.logp(rollouts)[0].detach()
    disturb(policy)
    torch.testing.assert_close(policy.reference_logp(rollouts), untrained, atol=1e-6, rtol=0)
    assert (policy.logp(rollouts)[0].detach() - untrained).abs().max() > 0.1


def test_gradient_checkpointing_changes_no_gradient(policy, build_policy, mixed_samples):
    checkpointing = build_policy(policy.model.config.model_type, gradient_checkpointing=True)
    rollouts = policy.generate(mixed_samples, SIZES, HOW, seed=0, step=0)
    assert checkpointing.generate(mixed_samples, SIZES, HOW, seed=0, step=0).actions.equal(rollouts.actions)
    assert checkpointing.model.training and checkpointing.model.is_gradient_checkpointing
    ours, theirs = (gradients(p, p.logp(rollouts)[0].sum()) for p in (checkpointing, policy))
    policy.model.zero_grad(set_to_none=True)
    assert set(ours) == set(theirs)
    for name, grad in theirs.items():
        torch.testing.assert_close(ours[name], grad, atol=1e-5, rtol=1e-4)


# -- saving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True])
def test_saved_weights_come_back_bit_for_bit(build_policy, mixed_samples, tmp_path, lora):
    policy = build_policy(lora=lora)
    disturb(policy)
    kept = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    policy.save(tmp_path)
    disturb(policy, seed=1)
    policy.restore(tmp_path)
    assert all(p.equal(kept[name]) for name, p in policy.model.named_parameters())
    fresh = build_policy(lora=lora)
    fresh.restore(tmp_path)
    assert all(p.equal(kept[name]) for name, p in fresh.model.named_parameters())
    rollouts = policy.generate(mixed_samples, SIZES, HOW, seed=0, step=0)
    assert fresh.generate(mixed_samples, SIZES, HOW, seed=0, step=0).actions.equal(rollouts.actions)


def test_a_saved_adapter_is_refused_as_a_base_model(build_policy, tmp_path):
    build_policy(lora=True).save(tmp_path)
    with pytest.raises(ConfigError, match="holds a LoRA adapter"):
        VLMPolicy.load(ModelConfig(path=str(tmp_path), adapter=AdapterConfig()), Budget())


def test_a_model_that_is_nowhere_is_refused():
    with pytest.raises(ConfigError, match=r"model\.path = no/where"):
        VLMPolicy.load(ModelConfig(path="no/where"), Budget())


# -- micro-batches -------------------------------------------------------------------------------------------------


def packed_rollouts(make_rollouts, groups):
    """Rollouts of prompts and completions of these lengths; only lengths matter here."""
    lengths = [n for _, rows in groups for n in rows]
    group = [g for g, (_, rows) in enumerate(groups) for _ in rows]
    rollouts = make_rollouts([0.0] * len(group), group, lengths)
    positions = torch.arange(99).expand(3, -1)
    rollouts.prompts = [Prompt(ids=torch.zeros(n, dtype=torch.long), positions=positions[:, :n]) for n, _ in groups]
    return rollouts


def packed_tokens(part):
    """Tokens that go through the model, padding included."""
    rows = [[part.actions[r, : part.length[r]] for r in part.rows_of(g)] for g in range(len(part.prompts))]
    return pack(part.prompts, rows).ids.numel()


lengths = st.lists(st.integers(1, 25), min_size=1, max_size=8)


@settings(max_examples=80)
@example(groups=[(2, [8, 25, 8]), (2, [8])], budget=30)  # the first group's short pieces must not meet again
@given(groups=st.lists(st.tuples(st.integers(1, 30), lengths), min_size=1, max_size=6), budget=st.integers(1, 150))
def test_micro_batches_cover_every_row_once_within_the_budget(policies, make_rollouts, groups, budget):
    rollouts = packed_rollouts(make_rollouts, groups)
    parts = [part.rows for part in policies["qwen3_vl"].micro_batches(rollouts, budget=budget)]
    assert sorted(row for part in parts for row in part) == list(range(len(rollouts)))
    for part in parts:
        chosen = rollouts.select(part)  # refuses rows of one group that are apart
        assert packed_tokens(chosen) <= budget or len(part) == 1
    for g, (prompt, rows) in enumerate(groups):
        if prompt + sum(rows) <= budget:
            mine = set(rollouts.rows_of(g))
            assert sum(bool(mine & set(part)) for part in parts) == 1, "a group that fits stays whole"


def test_a_group_larger_than_the_budget_is_split(policies, make_rollouts):
    rollouts = packed_rollouts(make_rollouts, [(10, [5] * 6), (4, [2, 2])])
    parts = policies["qwen3_vl"].micro_batches(rollouts, budget=20)
    assert sorted(len(part.rows) for part in parts) == [2, 2, 2, 2]


def test_the_gradients_of_micro_batches_add_up(policy, mixed_samples):
    rollouts = policy.generate(mixed_samples, [3, 2, 2, 3], HOW, seed=0, step=0)
    weight = torch.randn(rollouts.actions.shape, generator=torch.Generator().manual_seed(0))
    whole = gradients(policy, (weight * policy.logp(rollouts)[0]).sum())
    parts = policy.micro_batches(rollouts, budget=40)
    assert len(parts) > 3
    policy.model.zero_grad(set_to_none=True)
    for part in parts:
        (weight[part.rows] * policy.logp(rollouts.part(part))[0]).sum().backward()
    for name, p in policy.trainable():
        torch.testing.assert_close(p.grad, whole[name], atol=1e-4 * float(whole[name].abs().max()) + 1e-6, rtol=0)
    policy.model.zero_grad(set_to_none=True)
