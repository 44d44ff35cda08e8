"""The packed forms equal the plain ones: one sequence per completion through the stock transformers forward."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from mmrl.policies.cache import KVCache
from mmrl.policies.shared_prefix import PADDING, PREFIX, Columns, Prompt, Sampling, draw, pack, visible

HOW = Sampling(max_new_tokens=10)
SIZES = [3, 2, 4, 1]
LARGEST_BELOW_ONE = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)).item()


@pytest.fixture(scope="module")
def rolled(policy, mixed_samples):
    """Completions of one image, two images, a video and text only; some cut short, so that lengths differ."""
    rollouts = policy.generate(mixed_samples, SIZES, HOW, seed=0, step=0)
    rollouts.length = torch.tensor([10, 1, 7, 10, 3, 2, 10, 5, 9, 6]).minimum(rollouts.length)
    rollouts.mask = rollouts.made
    return rollouts


def repeated_logp(policy, rollouts, row):
    """f32[n] log-probs of one completion: prompt and completion as one sequence, positions left to the model."""
    prompt, tokens = rollouts.prompts[int(rollouts.prompt[row])], rollouts.actions[row, : rollouts.length[row]]
    ids = torch.cat([prompt.ids, tokens])[None]
    kinds = (ids == policy.model.config.image_token_id) + 2 * (ids == policy.model.config.video_token_id)
    inputs = {"attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds.int()} | prompt.media
    out = policy.model(input_ids=ids, **inputs)
    logits = out.logits[0, len(prompt) - 1 : -1].float() / rollouts.temperature
    logits = logits.index_fill(1, policy.engine.forbidden, float("-inf"))
    return logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]


def gradients(policy, loss):
    policy.model.zero_grad(set_to_none=True)
    loss.backward()
    grads = {name: p.grad.clone() for name, p in policy.trainable() if p.grad is not None}
    policy.model.zero_grad(set_to_none=True)
    return grads


def assert_same_gradients(ours, theirs, tolerance=1e-4):
    assert set(ours) == set(theirs)
    scale = max(g.norm() for g in theirs.values())
    for name, grad in theirs.items():
        # A gradient that is zero but for rounding (a key's bias) is measured against the largest one.
        assert (ours[name] - grad).norm() <= tolerance * max(grad.norm(), 1e-3 * scale), name


# -- training ------------------------------------------------------------------------------------------------------


def test_packed_groups_have_the_log_probs_and_gradients_of_the_repeated_form(policy, rolled):
    rolled = replace(rolled, temperature=0.8)
    weight = torch.randn(rolled.actions.shape, generator=torch.Generator().manual_seed(1))
    packed = policy.logp(rolled)[0]
    repeated = torch.zeros_like(packed).masked_scatter(
        rolled.made, torch.cat([repeated_logp(policy, rolled, row) for row in range(len(rolled))])
    )
    torch.testing.assert_close(packed, repeated, atol=1e-5, rtol=0)
    ours, theirs = (gradients(policy, (weight * logp).sum()) for logp in (packed, repeated))
    assert_same_gradients(ours, theirs)
    assert any("visual" in name and grad.norm() > 0 for name, grad in ours.items())


def test_a_group_is_scored_alike_alone_and_beside_longer_ones(policy, rolled):
    together = policy.logp(rolled)[0]
    for g in range(4):
        alone = policy.logp(rolled.select_groups([g]))[0]
        torch.testing.assert_close(alone, together[rolled.rows_of(g)], atol=1e-5, rtol=0)


def test_a_completion_is_scored_alike_without_its_siblings(policy, rolled):
    together, kept = policy.logp(rolled)[0], [1, 4, 6, 8]
    torch.testing.assert_close(policy.logp(rolled.select(kept))[0], together[kept], atol=1e-5, rtol=0)


def test_the_head_in_chunks_gives_the_same_values_and_gradients(policy, rolled):
    completions = [[rolled.actions[r, : rolled.length[r]] for r in rolled.rows_of(g)] for g in range(4)]
    results = []
    for chunk in (10_000, 7):
        engine = replace(policy.engine, head_chunk=chunk)
        logp, entropy = engine.logp(rolled.prompts, completions, temperature=1.0, entropy=True)
        results.append((logp.detach(), entropy.detach(), gradients(policy, logp.sum() + 0.3 * (entropy**2).sum())))
    (logp, entropy, grads), (logp_chunks, entropy_chunks, grads_chunks) = results
    torch.testing.assert_close(logp_chunks, logp, atol=1e-6, rtol=0)
    torch.testing.assert_close(entropy_chunks, entropy, atol=1e-5, rtol=0)
    assert_same_gradients(grads_chunks, grads, 1e-5)


def test_entropy_equals_a_direct_computation(policies):
    policy = policies["qwen3_vl"]
    hidden = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    logits = policy.engine.action_logits(hidden, 0.7)
    allowed = [i for i in range(logits.shape[1]) if i not in policy.engine.forbidden.tolist()]
    p = (policy.model.lm_head(hidden)[:, allowed].double() / 0.7).softmax(-1)
    torch.testing.assert_close(logits.double().softmax(-1)[:, allowed], p, atol=1e-6, rtol=0)
    expected = -(p * p.log()).sum(-1).detach()

    prompt = Prompt(ids=torch.tensor([5, 6]), positions=torch.arange(2).expand(3, -1))
    rows = [torch.tensor([7, 8, 9, 10, 11, 12])]
    engine = replace(policy.engine)
    engine.hidden = lambda *arguments: torch.cat([hidden[:1] * 0, hidden, hidden[:1]])[None]
    torch.testing.assert_close(
        engine.logp([prompt], [rows], temperature=0.7, entropy=True)[1].double().detach(), expected, atol=1e-5, rtol=0
    )


# -- generation ----------------------------------------------------------------------------------------------------


def test_log_probs_made_while_generating_are_those_of_the_training_pass(policy, mixed_samples):
    for how in (HOW, replace(HOW, temperature=0.6, top_p=0.9, top_k=50), replace(HOW, temperature=0.0)):
        rollouts = policy.generate(mixed_samples, SIZES, how, seed=1, step=0)
        assert rollouts.temperature == (how.temperature or 1.0)
        torch.testing.assert_close(policy.logp(rollouts)[0].detach(), rollouts.logp_rollout, atol=1e-5, rtol=0)


def test_the_completions_of_a_sample_do_not_depend_on_the_batch(policy, mixed_samples):
    together = policy.generate(mixed_samples, SIZES, HOW, seed=0, step=3)
    backwards = policy.generate(mixed_samples[::-1], SIZES[::-1], HOW, seed=0, step=3)
    for g, (sample, size) in enumerate(zip(mixed_samples, SIZES, strict=True)):
        alone = policy.generate([sample], [size], HOW, seed=0, step=3)
        for other in (alone, backwards.select_groups([3 - g])):
            mine = together.select_groups([g])
            assert other.text == mine.text and other.length.tolist() == mine.length.tolist()
            for a, b in ((other.actions, mine.actions), (other.logp_rollout, mine.logp_rollout)):
                width = int(mine.length.max())
                torch.testing.assert_close(a[:, :width], b[:, :width], atol=1e-5, rtol=0)


def run(engine, policy, prompts, noise, how=HOW):
    with policy.generating():
        return [row for rows in engine.generate(prompts, noise, how) for row in rows]


@pytest.fixture(scope="module")
def prompts_and_noise(policy, mixed_samples):
    noise = torch.Generator().manual_seed(0)
    return [policy.encode(s)[1] for s in mixed_samples], [torch.rand(n, 10, generator=noise) for n in SIZES]


def test_rows_of_a_group_do_not_see_each_other(policy, prompts_and_noise):
    prompts, noise = prompts_and_noise
    every = run(policy.engine, policy, prompts, noise)
    some = run(policy.engine, policy, prompts, [n[1:] if len(n) > 1 else n for n in noise])
    for (tokens, logp), (tokens_alone, logp_alone) in zip([every[i] for i in (1, 2, 4, 6, 7, 8, 9)], some, strict=True):
        assert tokens.equal(tokens_alone)
        torch.testing.assert_close(logp, logp_alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_finished_rows_that_leave_change_nothing_for_the_others(policy, prompts_and_noise, share):
    """With stops all over the vocabulary rows end at different steps; without any, all run to the end."""
    prompts, noise = prompts_and_noise
    vocabulary = torch.randperm(len(policy.processor.tokenizer), generator=torch.Generator().manual_seed(1))
    stops = vocabulary[: int(share * len(vocabulary))]
    stopped = run(replace(policy.engine, stops=stops), policy, prompts, noise)
    endless = run(replace(policy.engine, stops=torch.tensor([], dtype=torch.long)), policy, prompts, noise)
    for (tokens, logp), (all_tokens, all_logp) in zip(stopped, endless, strict=True):
        assert len(all_tokens) == 10
        hits = torch.isin(all_tokens, stops).nonzero().flatten().tolist()
        length = hits[0] + 1 if hits else 10
        assert tokens.equal(all_tokens[:length])
        torch.testing.assert_close(logp, all_logp[:length], atol=1e-5, rtol=0)
    assert len({len(tokens) for tokens, _ in stopped}) > 2


def test_forbidden_tokens_are_never_drawn_however_likely(policies, mixed_samples):
    policy = policies["qwen3_vl"]
    forbidden = policy.engine.forbidden
    names = policy.processor.tokenizer.convert_ids_to_tokens(forbidden)
    assert {"<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"} <= set(names)
    push = policy.model.lm_head.register_forward_hook(lambda m, i, out: out.index_fill(-1, forbidden, 100.0))
    try:
        for how in (replace(HOW, max_new_tokens=25), Sampling(max_new_tokens=25, temperature=3.0, top_k=20)):
            rollouts = policy.generate(mixed_samples[3:], [80], how, seed=0, step=0)
            assert not torch.isin(rollouts.actions[rollouts.made], forbidden).any()
            assert rollouts.logp_rollout.isfinite().all() and int(rollouts.length.sum()) > 1000
    finally:
        push.remove()


def test_greedy_takes_the_likeliest_token_whatever_the_noise(policies, mixed_samples):
    policy = policies["qwen2_vl"]
    how = replace(HOW, temperature=0.0)
    first, second = (policy.generate(mixed_samples, [2] * 4, how, seed=seed, step=0) for seed in (0, 1))
    assert first.actions.equal(second.actions) and first.actions[::2].equal(first.actions[1::2])
    prompt, tokens = first.prompts[0], first.actions[0, : first.length[0]]
    for t in range(len(tokens)):
        before = torch.cat([prompt.ids, tokens[:t]])[None]
        kinds = (before == policy.model.config.image_token_id).int()
        logits = policy.model(input_ids=before, mm_token_type_ids=kinds, **prompt.media).logits[0, -1]
        assert int(logits.index_fill(0, policy.engine.forbidden, float("-inf")).argmax()) == int(tokens[t])


# -- drawing -------------------------------------------------------------------------------------------------------

LOGITS = torch.tensor([0.5, float("-inf"), 2.0, 0.0, 1.0, -1.0, float("-inf")])


def histogram(how, draws=20_000):
    """How often each token comes out, over evenly spread uniforms."""
    uniform = (torch.arange(draws) + 0.5) / draws
    return draw(LOGITS.expand(draws, -1), uniform, how).bincount(minlength=len(LOGITS)) / draws


@pytest.mark.parametrize("how", [HOW, replace(HOW, top_k=4), replace(HOW, top_k=100)])
def test_random_draws_follow_the_distribution(how):
    """Chi-square over 20,000 draws; 18.5 is the 99.9th percentile at 4 degrees of freedom."""
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    counts = draw(LOGITS.expand(20_000, -1), uniform, how).bincount(minlength=len(LOGITS)).double()
    smallest = LOGITS.topk(min(how.top_k or 7, 7)).values[-1]
    kept = torch.where(smallest <= LOGITS, LOGITS.softmax(-1).double(), 0.0)
    expected = 20_000 * kept / kept.sum()
    assert (counts[expected == 0] == 0).all()
    assert (((counts - expected) ** 2 / expected)[expected > 0]).sum() < 18.5


def test_filters_keep_the_likeliest_tokens_and_scale_them_up():
    p = LOGITS.softmax(-1)  # 0.131, 0, 0.587, 0.079, 0.216 ... in order: tokens 2, 4, 0, 3, 5
    for how, kept in [
        (replace(HOW, top_k=1), [2]),
        (replace(HOW, top_k=2), [2, 4]),
        (replace(HOW, top_p=0.5), [2]),
        (replace(HOW, top_p=0.7), [2, 4]),  # the smallest set that reaches the mass, the last one included
        (replace(HOW, top_k=3, top_p=0.85), [2, 4]),  # of what top_k left: 0.63, 0.86
        (replace(HOW, top_p=1e-9), [2]),
    ]:
        expected = torch.zeros(7).index_copy(0, torch.tensor(kept), p[kept] / p[kept].sum())
        torch.testing.assert_close(histogram(how), expected, atol=2e-4, rtol=0)


@given(
    seed=st.integers(0, 10_000),
    uniform=st.one_of(st.sampled_from([0.0, LARGEST_BELOW_ONE, 0.5]), st.floats(0, LARGEST_BELOW_ONE, width=32)),
    top_k=st.sampled_from([0, 1, 5, 1000]),
    top_p=st.sampled_from([1.0, 0.999, 0.3]),
    spread=st.sampled_from([0.1, 5.0, 60.0]),
)
def test_a_token_of_zero_probability_is_never_drawn(seed, uniform, top_k, top_p, spread):
    noise = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(4, 300, generator=noise)
    logits[torch.rand(4, 300, generator=noise) < 0.5] = float("-inf")
    logits[:2, [0, -1]] = float("-inf")
    chosen = draw(logits, torch.full((4,), uniform), Sampling(max_new_tokens=1, top_k=top_k, top_p=top_p))
    assert (logits.softmax(-1).gather(1, chosen[:, None]) > 0).all()
    if top_k:
        assert ((logits > logits.gather(1, chosen[:, None])).sum(1) < top_k).all()


# -- packing -------------------------------------------------------------------------------------------------------


def test_golden_mask_and_positions_of_prefix_grouper(golden):
    vector = golden["prefix_grouper_equivalence"]
    inputs, expected = vector["inputs"], vector["expected"]
    prompt = Prompt(ids=torch.tensor(inputs["prefix_ids"]), positions=torch.arange(3).expand(3, -1))
    packed = pack([prompt], [[torch.tensor(ids) for ids in inputs["suffix_ids"]]])
    assert packed.ids.tolist() == [inputs["concat_input"]] and packed.ids.numel() == expected["tokens_grouped"]
    assert packed.positions[:, 0].tolist() == [inputs["position_ids"]] * 3
    mask = visible(packed.columns, packed.columns)[0, 0]
    assert mask.int().tolist() == expected["attention_mask_bool"]
    assert packed.predictor.tolist() == [2, 3, 2, 5, 6, 7, 2, 9, 10]


def test_no_column_sees_nothing_and_none_sees_padding_of_others():
    """A row of the mask without any True is NaN in attention."""
    columns = Columns(torch.tensor([[PREFIX, PREFIX, 0, 1, PADDING]]), torch.tensor([[0, 1, 2, 2, 0]]))
    mask = visible(columns, columns)[0, 0]
    assert mask.any(1).all() and not mask[:4, 4].any() and not mask[2, 3] and not mask[3, 2]


def test_the_cache_is_as_small_as_the_compute_dtype_allows(policy, rolled):
    """Float32 weights in mixed precision, as on a GPU. A float32 cache gives the same bits."""
    found = []
    for cache in (KVCache(), DynamicCache()):
        prompt = rolled.prompts[-1]
        mask = torch.ones(len(prompt), len(prompt), dtype=torch.bool).tril()[None, None]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for columns in (slice(0, 5), slice(5, 9)):
                ids, positions = prompt.ids[None, columns], prompt.positions[:, None, columns]
                hidden = policy.engine.hidden(ids, positions, mask[:, :, columns, : columns.stop], {}, cache)
        found.append((hidden, {values.dtype for layer in cache.layers for values in (layer.keys, layer.values)}))
    assert found[0][1] == {torch.bfloat16} and found[1][1] == {torch.float32}
    assert torch.equal(found[0][0], found[1][0])
