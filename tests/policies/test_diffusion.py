"""The diffusion policy on every pipeline family, with tiny random weights and real diffusers pipelines."""

from __future__ import annotations

import gc
import importlib.util
import inspect
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmrl.config import AdapterConfig, ModelConfig
from mmrl.plugins import ConfigError
from mmrl.policies.diffusion import Denoising, DiffusionPolicy
from mmrl.policies.families import encoding_once
from mmrl.policies.pipelines import Pipeline, load_pipeline
from mmrl.records import Rollouts, Sample

_spec = importlib.util.spec_from_file_location("tiny_pipelines", Path(__file__).with_name("tiny_pipelines.py"))
assert _spec and _spec.loader
tiny_pipelines = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_pipelines)

NAMES = list(tiny_pipelines.BUILDERS)
STEPS = 4
GUIDED = 3.0
every_family = pytest.mark.parametrize("name", NAMES)
every_guidance = pytest.mark.parametrize("guidance", [1.0, GUIDED])


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a tiny pipeline, made when it is first asked for."""
    root = tmp_path_factory.mktemp("pipelines")

    def find(name: str) -> Path:
        return root / name if (root / name).exists() else tiny_pipelines.save(name, root / name)

    return find


@pytest.fixture(scope="session")
def build(folder) -> Callable[..., DiffusionPolicy]:
    """A policy of its own for a test that changes it."""

    def policy(name: str, *, lora: bool = False, **changes: Any) -> DiffusionPolicy:
        adapter = AdapterConfig(rank=2) if lora else None
        return DiffusionPolicy(load_pipeline(ModelConfig(path=str(folder(name)), adapter=adapter, **changes)))

    return policy


@pytest.fixture(scope="session")
def shared(build) -> Callable[[str], DiffusionPolicy]:
    """One policy per family: leave its weights as they are."""
    made: dict[str, DiffusionPolicy] = {}
    return lambda name: made.setdefault(name, made.get(name) or build(name))


@pytest.fixture(scope="session")
def samples(studio) -> list[Sample]:
    return [studio.sample(text, text, studio.picture()) for text in ("a red circle", "the green square moves")]


def settings(name: str, guidance: float = 1.0, **changes: Any) -> Denoising:
    return Denoising(**{"steps": STEPS, "guidance": guidance} | tiny_pipelines.SIZES[name] | changes)


def generate(policy: DiffusionPolicy, samples: list[Sample], how: Denoising, *sizes: int, step: int = 0) -> Rollouts:
    return policy.generate(samples, sizes or [3] * len(samples), how, seed=0, step=step)


@pytest.fixture(scope="session")
def rollouts(shared, samples) -> Callable[..., Rollouts]:
    made: dict[tuple[str, float], Rollouts] = {}

    def find(name: str, guidance: float = 1.0) -> Rollouts:
        if (name, guidance) not in made:
            made[name, guidance] = generate(shared(name), samples, settings(name, guidance))
        return made[name, guidance]

    return find


def gradients(policy: DiffusionPolicy, loss: torch.Tensor) -> torch.Tensor:
    found = torch.autograd.grad(loss, [p for _, p in policy.trainable()], allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


def disturb(policy: DiffusionPolicy, scale: float = 0.05) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, weights in policy.trainable():
            weights += scale * torch.randn(weights.shape, generator=generator)


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5, rtol: float = 0.0) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=rtol)


def check_replay(policy: DiffusionPolicy, rolled: Rollouts) -> None:
    """The rollout's log-probs: exactly at the rollout's batch, within 1e-5 at others."""
    assert rolled.mask[:, :-1].all()
    with torch.no_grad():
        for group in range(len(rolled.samples)):
            for step in range(STEPS - 1):
                mask = torch.zeros_like(rolled.mask)
                mask[rolled.rows_of(group), step] = True
                logp, _ = policy.logp(replace(rolled, mask=mask))
                assert torch.equal(logp[mask], rolled.logp_rollout[mask])
        tokens = rolled.prompts[0].conditioning.tokens
        for budget in (1, 2 * tokens, 5 * tokens, 10**9):
            seen = torch.zeros(rolled.mask.shape)
            for batch in policy.micro_batches(rolled, budget=budget):
                part = rolled.part(batch)
                assert part.mask.sum() <= max(1, budget // tokens)
                logp, _ = policy.logp(part)
                close(logp[part.mask], part.logp_rollout[part.mask])
                assert not logp[~part.mask].any()
                seen[batch.rows] += part.mask
            assert torch.equal(seen, rolled.mask.float())  # every trained action once


# -- replay ----------------------------------------------------------------------------------------------------------


@every_guidance
@every_family
def test_replay_gives_the_log_probs_of_the_rollout(name, guidance, shared, rollouts):
    check_replay(shared(name), rollouts(name, guidance))


@pytest.mark.parametrize("noise", ["flow_grpo", "cps"])
def test_replay_with_other_laws_of_noise_and_a_shifted_schedule(noise, shared, samples):
    check_replay(shared("sd3"), generate(shared("sd3"), samples, settings("sd3", GUIDED, noise=noise, shift=3.0)))


@pytest.mark.parametrize("name", ["sd", "flux", "wan_i2v"])
def test_replay_with_lora(name, build, samples):
    policy = build(name, lora=True)
    disturb(policy)
    assert all("lora" in parameter for parameter, _ in policy.trainable())
    check_replay(policy, generate(policy, samples, settings(name)))


@every_family
def test_replay_in_half_precision_is_exact_at_equal_batch(name, folder, samples):
    """What bfloat16 rounds in the rollout (latents, times, the sum of guidance) is rounded in the replay as well."""
    torch.manual_seed(0)
    pipe = tiny_pipelines.BUILDERS[name]().to(torch.bfloat16)
    policy = DiffusionPolicy(Pipeline(pipe, ModelConfig(path="mine", adapter=AdapterConfig(rank=2))))
    disturb(policy)
    assert all(weights.dtype == torch.float32 for _, weights in policy.trainable())
    rolled = generate(policy, samples[:1], settings(name, GUIDED))
    for step in range(STEPS - 1):
        mask = torch.zeros_like(rolled.mask)
        mask[:, step] = True
        logp, _ = policy.logp(replace(rolled, mask=mask))
        assert torch.equal(logp[mask], rolled.logp_rollout[mask])


@every_family
def test_the_gradients_of_micro_batches_add_up(name, shared, rollouts):
    policy, rolled = shared(name), rollouts(name, GUIDED)
    weights = torch.randn(rolled.mask.shape, generator=torch.Generator().manual_seed(2))

    def gradient(part: Rollouts, rows: Any) -> torch.Tensor:
        return gradients(policy, (policy.logp(part)[0] * weights[rows]).sum())

    whole = gradient(rolled, slice(None))
    tokens = rolled.prompts[0].conditioning.tokens
    parts = [gradient(rolled.part(b), b.rows) for b in policy.micro_batches(rolled, budget=4 * tokens)]
    assert whole.norm() > 0
    assert (sum(parts) - whole).norm() < 1e-4 * whole.norm()


@every_family
def test_gradient_checkpointing_changes_no_gradient(name, build, shared, rollouts):
    rolled = rollouts(name).select([0, 1])
    saving = build(name, gradient_checkpointing=True)
    found, expected = (gradients(policy, policy.logp(rolled)[0].sum()) for policy in (saving, shared(name)))
    assert saving.pipeline.denoiser.is_gradient_checkpointing
    assert (found - expected).norm() <= 1e-6 * expected.norm()


# -- rollouts --------------------------------------------------------------------------------------------------------


@every_family
def test_rollouts_depend_on_neither_the_batch_nor_the_other_samples(name, shared, samples, rollouts):
    policy, how = shared(name), settings(name, batch=2)
    alone = generate(policy, samples[1:], how)
    close(alone.actions, rollouts(name).select_groups([1]).actions, atol=2e-4, rtol=1e-5)
    assert not torch.allclose(alone.actions, generate(policy, samples[1:], how, step=1).actions)
    twice = generate(policy, [samples[1]] * 2, how, 1, 1).actions
    assert not torch.allclose(twice[0], twice[1])
    assert len(rollouts(name).actions[:, 0].flatten(1).unique(dim=0)) == 6  # no two begin alike


@every_family
def test_a_group_with_the_same_noise_differs_by_its_steps_only(name, shared, samples):
    states = generate(shared(name), samples, settings(name, same_noise=True, steps=2)).actions
    assert torch.equal(states[0, 0], states[1, 0]) and torch.equal(states[0, 0], states[2, 0])
    assert not torch.equal(states[0, 1], states[1, 1])
    assert not torch.equal(states[0, 0], states[3, 0])


@every_family
def test_what_is_recorded_is_what_is_fed_on(name, shared, samples):
    policy, fed = shared(name), []
    family = policy.pipeline.family
    hook = policy.pipeline.denoiser.register_forward_pre_hook(
        lambda _, args, inputs: fed.append(args[0] if args else inputs[family.latents]), with_kwargs=True
    )
    try:
        states = generate(policy, samples[:1], settings(name)).actions
    finally:
        hook.remove()
    assert len(fed) == STEPS
    for step, latents in enumerate(fed):
        assert torch.equal(latents[:, : states.shape[2]], states[:, step])


@every_guidance
@every_family
def test_without_noise_it_is_the_pipeline_itself(name, guidance, folder, shared, samples):
    from diffusers import DiffusionPipeline

    how, policy = settings(name, guidance), shared(name)
    initial = [torch.Generator().manual_seed(row) for row in range(2)]
    made, trajectory, _ = policy.pipeline.make(samples[0], how, [0.0] * STEPS, initial, initial)

    missing = {"text_encoder_3": None, "tokenizer_3": None} if name == "sd3" else {}
    if name == "wan_i2v":
        missing |= {"image_encoder": None, "image_processor": None, "transformer_2": None}
    stock = DiffusionPipeline.from_pretrained(folder(name), **missing)
    stock.set_progress_bar_config(disable=True)
    if name == "wan_i2v":  # its multistep scheduler takes other steps; ours are those of Euler with the same shift
        stock.scheduler = tiny_pipelines.flow(shift=3.0)
    states = []
    arguments: dict[str, Any] = {"width": how.width, "height": how.height}
    if how.frames:
        arguments["num_frames"] = how.frames
    if name in ("wan_i2v", "skyreels"):
        image = Image.open(samples[0].media[0].path).convert("RGB")
        arguments["image"] = image if name == "wan_i2v" else [image] * 2
    with encoding_once(stock.vae):
        result = stock(
            output_type="pil", prompt=[samples[0].prompt] * 2, negative_prompt=[""] * 2, num_inference_steps=STEPS,
            generator=[torch.Generator().manual_seed(row) for row in range(2)],
            callback_on_step_end=lambda _, i, t, kept: states.append(kept["latents"]) or {},
            **{policy.pipeline.family.guidance: guidance}, **arguments,
        )[0]  # fmt: skip
    for ours, theirs in zip(trajectory.latents[1:], states, strict=True):
        close(ours, theirs.float(), atol=1e-4, rtol=1e-5)
    for ours, theirs in zip(np.array(as_frames(made)), np.array(as_frames(result)), strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert not any(trajectory.levels)


def as_frames(made: list[Any]) -> list[Any]:
    """Pixels of images or of videos' frames."""
    return [[np.asarray(frame) for frame in (each if isinstance(each, list) else [each])] for each in made]


@every_family
def test_images_are_pil_images_and_videos_lists_of_them(name, rollouts):
    size = tiny_pipelines.SIZES[name]
    assert len(rollouts(name).images) == 6
    for made in rollouts(name).images:
        frames = made if "frames" in size else [made]
        assert len(frames) == size.get("frames", 1)
        assert all(isinstance(f, Image.Image) and f.size == (size["width"], size["height"]) for f in frames)


@every_family
def test_the_prompt_and_guidance_reach_the_network(name, shared, samples):
    how = [settings(name), settings(name, GUIDED), settings(name, GUIDED, negative_prompt="dark")]
    samples = [samples[0], replace(samples[0], messages=samples[1].messages)]  # the same noise, another prompt
    made = [generate(shared(name), [sample], h, 1).actions for sample in samples for h in how]
    for index, one in enumerate(made):
        assert torch.equal(one[:, 0], made[0][:, 0])
        assert not any(torch.equal(one, other) for other in made[:index])


@pytest.mark.parametrize("name", ["wan_i2v", "skyreels"])
def test_a_video_starts_from_the_samples_image(name, shared, samples, monkeypatch):
    policy, asked = shared(name), []
    encode = policy.pipeline.pipe.vae.encode
    monkeypatch.setattr(policy.pipeline.pipe.vae, "encode", lambda x: asked.append(x) or encode(x))
    one = generate(policy, [samples[0]], settings(name))
    other = generate(policy, [replace(samples[0], media=samples[1].media)], settings(name))
    assert len(asked) == 2  # once for each image, not for each row
    first, second = (r.prompts[0].conditioning.beside for r in (one, other))
    assert first.shape[0] == 1 and not torch.equal(first, second)
    assert torch.equal(one.actions[:, 0], other.actions[:, 0])
    assert not torch.equal(one.actions, other.actions)


# -- text encoders ---------------------------------------------------------------------------------------------------


@every_family
def test_text_encoders_see_every_prompt_once_and_can_go(name, build, samples, monkeypatch):
    policy, asked = build(name), []
    pipeline = policy.pipeline
    encode = pipeline.pipe.encode_prompt

    def listen(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs.get("prompt"))
        return encode(*args, **kwargs)

    listen.__signature__ = inspect.signature(encode)  # what the pipeline takes is looked up
    monkeypatch.setattr(pipeline.pipe, "encode_prompt", listen)
    how = settings(name, GUIDED, steps=2)
    before = [generate(policy, samples, how, 1, 1) for _ in range(2)][1]
    assert [text for text in asked if text is not None] == [samples[0].prompt, "", samples[1].prompt]

    encoders = [weakref.ref(m) for part, m in pipeline.pipe.components.items() if part.startswith("text_enc") and m]
    assert encoders
    pipeline.release_text_encoders()
    gc.collect()
    assert not any(encoder() for encoder in encoders)
    assert torch.equal(generate(policy, samples, how, 1, 1).actions, before.actions)


# -- reference, weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", ["sd", "sd3", "wan"])
def test_the_distance_to_the_reference(name, lora, build, samples):
    policy, signals = build(name, lora=lora), ("velocity_mse", "gaussian_kl", "mean_shift", "step_std")
    rolled = generate(policy, samples[:1], settings(name, GUIDED))
    mask = rolled.mask
    _, found = policy.logp(rolled, signals=signals)
    assert not found["velocity_mse"].any() and not found["gaussian_kl"].any()
    close(found["mean_shift"], torch.zeros(mask.shape))
    close(policy.reference_logp(rolled)[mask], rolled.logp_rollout[mask])

    disturb(policy)
    logp, found = policy.logp(rolled, signals=signals)
    assert not torch.allclose(logp[mask], rolled.logp_rollout[mask])
    for signal in signals:
        assert (found[signal][mask] > 0).all() and not found[signal][~mask].any()
    for signal in ("velocity_mse", "gaussian_kl", "mean_shift"):
        gradient = gradients(policy, policy.logp(rolled, signals=[signal])[1][signal].sum())
        assert gradient.norm() > 0 and gradient.isfinite().all()
    close(policy.reference_logp(rolled)[mask], rolled.logp_rollout[mask])  # still as it was before training


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@every_family
def test_saved_weights_come_back_bit_for_bit(name, lora, build, tmp_path):
    policy = build(name, lora=lora)
    disturb(policy)
    kept = {parameter: weights.detach().clone() for parameter, weights in policy.trainable()}
    policy.save(tmp_path)
    fresh = build(name, lora=lora)
    assert any(not torch.equal(weights, kept[parameter]) for parameter, weights in fresh.trainable())
    fresh.restore(tmp_path)
    assert len(kept) == len(fresh.trainable()) > 0
    assert all(torch.equal(weights, kept[parameter]) for parameter, weights in fresh.trainable())


# -- bad input -------------------------------------------------------------------------------------------------------


@every_family
def test_a_size_that_the_pipeline_cannot_take(name, shared, samples):
    policy, how = shared(name), settings(name)
    unit = policy.pipeline.size_unit
    for setting in ("width", "height"):
        for value in (0, -unit, *([unit + 1] if unit > 1 else [])):
            with pytest.raises(ConfigError, match=rf"sampling\.{setting} = {value}: .* multiples of {unit}"):
                generate(policy, samples, replace(how, **{setting: value}))
    with pytest.raises(ConfigError, match=r"sampling\.frames = 4"):
        generate(policy, samples, replace(how, frames=4))


@pytest.mark.parametrize("wrong", [{"noise": "flow_grpo"}, {"noise": "cps"}, {"shift": 3.0}])
def test_a_ddim_pipeline_refuses_the_settings_of_flows(wrong, shared, samples):
    with pytest.raises(ConfigError, match=rf"sampling\.{next(iter(wrong))}"):
        generate(shared("sd"), samples, settings("sd", **wrong))


@pytest.mark.parametrize("name", ["sd", "sd3", "qwen", "wan"])
def test_distilled_guidance_is_for_distilled_networks(name, shared, samples):
    with pytest.raises(ConfigError, match=r"sampling\.distilled_guidance"):
        generate(shared(name), samples, settings(name, distilled_guidance=3.5))


@pytest.mark.parametrize("name", ["flux", "hunyuan"])
def test_distilled_guidance_reaches_the_network(name, shared, samples):
    one, other = (generate(shared(name), samples, settings(name, distilled_guidance=g)) for g in (1.0, 6.0))
    assert torch.equal(one.actions[:, 0], other.actions[:, 0]) and not torch.equal(one.actions, other.actions)


def test_a_window_or_fraction_that_selects_nothing(shared, samples):
    for setting, wrong in [
        ("window_size", {"window": "start", "window_size": 4}),
        ("window_size", {"window": "random", "window_size": 1, "window_first": 9}),
        ("fraction", {"fraction": 0.1}),
        ("last_step", {"steps": 1}),
        ("last_step", {"steps": 1, "last_step": True, "noise": "cps"}),
    ]:
        with pytest.raises(ConfigError, match=rf"sampling\.{setting}"):
            generate(shared("sd3"), samples, settings("sd3", **wrong))


def test_an_empty_prompt_and_a_missing_image(shared, studio):
    with pytest.raises(ConfigError, match=r"row x .*prompt is empty"):
        shared("sd3").encode(studio.sample("x", "  "))
    with pytest.raises(ConfigError, match=r"row x .*starts from an image"):
        shared("wan_i2v").encode(studio.sample("x", "a circle"))
    assert shared("wan").encode(studio.sample("x", "a circle")).id == "x"


def test_an_unsupported_pipeline(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "KandinskyPipeline"}')
    with pytest.raises(ConfigError, match=r"KandinskyPipeline; supported pipelines are StableDiffusionPipeline"):
        load_pipeline(ModelConfig(path=str(tmp_path)))


@pytest.mark.parametrize(
    "name, kind, changes, match",
    [
        ("sd", "FlowMatchEulerDiscreteScheduler", {}, "needs a scheduler of the DDIM kind, and this has a FlowMatch"),
        ("sd", "UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, "DDIM kind"),
        ("sd", "DDIMScheduler", {"clip_sample": True}, "clip_sample"),
        ("sd3", "DDIMScheduler", {}, "needs a scheduler of a flow, and has a DDIMScheduler"),
        ("wan", "UniPCMultistepScheduler", {}, "needs a scheduler of a flow, and has a UniPC"),
    ],
)
def test_a_scheduler_of_the_wrong_kind(name, kind, changes, match):
    import diffusers

    pipe = tiny_pipelines.BUILDERS[name]()
    pipe.scheduler = getattr(diffusers, kind)(**changes)
    with pytest.raises(ConfigError, match=match):
        Pipeline(pipe, ModelConfig(path="mine"))


def test_wan_with_two_transformers_is_refused():
    pipe = tiny_pipelines.wan()
    pipe.register_to_config(boundary_ratio=0.9)
    with pytest.raises(ConfigError, match=r"Wan 2\.2"):
        Pipeline(pipe, ModelConfig(path="mine"))
