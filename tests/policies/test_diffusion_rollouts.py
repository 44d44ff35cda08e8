"""What the diffusion policy makes, and that it is what the pipeline itself would make, on every pipeline family."""

from __future__ import annotations

import gc
import inspect
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_pipelines
import torch
from PIL import Image
from tiny_policies import GUIDED, STEPS, close, every_family, every_guidance, generate, settings

from mmrl.config import ModelConfig
from mmrl.plugins import ConfigError
from mmrl.policies import pipelines
from mmrl.policies.families import encoding_once


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
    policy.prepare(samples, how)
    gc.collect()
    assert not any(encoder() for encoder in encoders)
    assert torch.equal(generate(policy, samples, how, 1, 1).actions, before.actions)
    policy.prepare(samples, how)  # again, as an evaluation after another would
    with pytest.raises(ConfigError, match=r"have not seen 'blue'.*model\.text_encoders to keep"):
        pipeline.embeddings("blue")


def test_text_encoders_that_are_kept_make_embeddings_anew(build, samples, monkeypatch):
    monkeypatch.setattr(pipelines, "KEPT", 2)
    policy = build("sd3", text_encoders="keep")
    policy.prepare(samples, settings("sd3"))
    first = policy.pipeline.embeddings("red")
    for prompt in ("green", "red", "blue", "green", "red"):
        again = policy.pipeline.embeddings(prompt)
        assert len(policy.pipeline._embeddings) <= 2
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_embeddings_keep_their_dtype(dtype):
    pipe = tiny_pipelines.BUILDERS["sd3"]().to(dtype)
    pipeline = pipelines.Pipeline(pipe, ModelConfig(path="mine"))
    pipeline.encode_and_release(["red", ""])
    assert {value.dtype for kept in pipeline._embeddings.values() for value in kept.values()} == {dtype}
