"""What a pipeline cannot do, and the message that names the setting, the row or the part that is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import random_pipelines
import torch
from tiny_policies import every_family, generate, settings

from mmrl.config import ModelConfig
from mmrl.plugins import ConfigError
from mmrl.policies.diffusion import DiffusionPolicy
from mmrl.policies.pipelines import Pipeline, load_pipeline


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


NOTHING_TO_TRAIN = [
    ("window_size", {"window": "start", "window_size": 4}),
    ("window_size", {"window": "random", "window_size": 1, "window_first": 9}),
    ("window = random needs sampling.window_size", {"window": "random"}),
    ("fraction", {"fraction": 0.1}),
    ("last_step", {"steps": 1}),
    ("last_step", {"steps": 1, "last_step": True, "noise": "cps"}),
    ("last_step", {"last_step": True, "noise": "cps"}),
    ("level", {"level": 0.0}),
]


@pytest.mark.parametrize(("setting", "wrong"), NOTHING_TO_TRAIN)
def test_a_window_or_fraction_or_level_that_selects_nothing(setting, wrong, shared, samples):
    policy, how = shared("sd3"), settings("sd3", **wrong)
    with pytest.raises(ConfigError, match=rf"sampling\.{setting}"):
        policy.check(how, training=True)
    policy.check(how, training=False)
    assert not generate(policy, samples, replace(how, level=0.0)).mask.any()  # it can be evaluated


@pytest.mark.parametrize(
    ("setting", "idle"),
    [
        ("window_size = 3 has no effect with sampling.window = all", {"window_size": 3}),
        ("window_last = 2", {"window_last": 2}),
        ("window_every = 25", {"window": "random", "window_size": 2, "window_every": 25}),
        ("window_stride = 1", {"window": "start", "window_size": 2, "window_stride": 1}),
    ],
)
def test_settings_of_a_window_that_it_does_not_read(setting, idle, shared):
    policy, how = shared("sd3"), settings("sd3", **idle)
    with pytest.raises(ConfigError, match=rf"sampling\.{setting}"):
        policy.check(how, training=True)
    policy.check(replace(how, window="progressive", window_size=2), training=True)


def test_a_negative_prompt_without_guidance_is_read_by_nobody(shared):
    how = settings("sd3", negative_prompt="dark")
    with pytest.raises(ConfigError, match=r"sampling\.negative_prompt needs sampling\.guidance above 1"):
        shared("sd3").check(how, training=False)
    shared("sd3").check(replace(how, guidance=2.0), training=False)


def test_the_last_step_of_ddim_can_be_trained_where_its_last_alpha_is_below_1(shared):
    how = settings("sd", level=1.0, last_step=True)
    shared("sd").check(how, training=True)
    pipe = random_pipelines.BUILDERS["sd"]()
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, set_alpha_to_one=True)
    to_one = DiffusionPolicy(Pipeline(pipe, ModelConfig(path="mine")))
    with pytest.raises(ConfigError, match=r"sampling\.last_step: .* has no noise"):
        to_one.check(how, training=True)
    to_one.check(replace(how, last_step=False), training=True)


def test_a_prompt_that_would_be_cut(shared, studio):
    long = studio.sample("x", "a " * 100)
    for name in ("sd", "sd3"):
        with pytest.raises(ConfigError, match=r"row x: the prompt has 102 tokens, .* read 77"):
            shared(name).encode(long)
    shared("flux").encode(long)  # CLIP reads the first 77, T5 reads on
    with pytest.raises(ConfigError, match=r"has 600 tokens, .* read 512"):
        shared("flux").encode(studio.sample("x", "a " * 600))


def test_an_empty_prompt_and_a_missing_image(shared, studio):
    with pytest.raises(ConfigError, match=r"row x: the prompt is empty"):
        shared("sd3").encode(studio.sample("x", "  "))
    with pytest.raises(ConfigError, match=r"row x: this pipeline starts from an image"):
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

    pipe = random_pipelines.BUILDERS[name]()
    pipe.scheduler = getattr(diffusers, kind)(**changes)
    with pytest.raises(ConfigError, match=match):
        Pipeline(pipe, ModelConfig(path="mine"))


def test_wan_with_two_transformers_is_refused():
    pipe = random_pipelines.wan()
    pipe.register_to_config(boundary_ratio=0.9)
    with pytest.raises(ConfigError, match=r"Wan 2\.2"):
        Pipeline(pipe, ModelConfig(path="mine"))


@pytest.mark.parametrize(
    "name, changes, match",
    [
        ("sd3", {"level": float("nan")}, r"sampling.level = nan: a finite number"),
        ("sd3", {"shift": 0.0}, r"sampling.shift = 0.0: above 0"),
        ("sd3", {"noise": "cps", "level": 2.5}, r"sampling.level = 2.5: at most 1"),
        ("sd", {"level": 3.0}, r"sampling.level = 3.0: at most 1"),
        ("sd", {"steps": 1000}, r"sampling.steps = 1000: the model was trained with 1000"),
        ("sd3", {"width": 4096}, r"sampling.width = 4096: this pipeline makes at most"),
    ],
)
def test_numbers_that_no_step_can_have(name, changes, match, shared):
    policy = shared(name)
    with pytest.raises(ConfigError, match=match):
        policy.check(settings(name, **changes), training=True)


def test_a_negative_prompt_that_would_be_cut(shared):
    how = settings("sd3", guidance=3.0, negative_prompt="red " * 100)
    with pytest.raises(ConfigError, match=r"sampling.negative_prompt has \d+ tokens, of which"):
        shared("sd3").check(how, training=False)


@pytest.mark.parametrize(
    "damage, match",
    [
        (lambda index: index.write_text("{}"), "names no pipeline"),
        (lambda index: index.write_text("{"), "cannot be read"),
        (lambda index: (index.parent / "scheduler/scheduler_config.json").unlink(), "the pipeline cannot be loaded"),
        (lambda index: index.write_text(without(index, "scheduler")), "this pipeline has no scheduler"),
    ],
)
def test_a_damaged_folder(damage, match, tmp_path):
    folder = random_pipelines.save("sd", tmp_path / "sd")
    damage(folder / "model_index.json")
    with pytest.raises(ConfigError, match=match):
        load_pipeline(ModelConfig(path=str(folder)))


def without(index: Path, part: str) -> str:
    return json.dumps(json.loads(index.read_text()) | {part: [None, None]})
