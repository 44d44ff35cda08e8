"""The recipes of visual generation: every one loads, resolves, and trains as many denoising steps as its paper's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmrl.config import load_config
from mmrl.plugins import ConfigError
from mmrl.policies.diffusion import DiffusionPolicy, VideoDiffusionPolicy
from mmrl.policies.steps import noisy_steps, trained_steps
from mmrl.recipe import Recipe, make_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDER = CONFIGS / "diffusion"
OVERLAYS = {"grpo_guard"}
RECIPES = sorted(file.stem for file in FOLDER.glob("*.yaml") if file.stem not in OVERLAYS)
VIDEO = {"dance_hunyuan", "dance_skyreels_i2v", "dance_wan"}
TRAINED_STEPS = {
    "dance_flux": 9,
    "dance_flux_lora": 6,
    "dance_hunyuan": 9,
    "dance_qwen_image": 11,
    "dance_sd14": 49,
    "dance_skyreels_i2v": 9,
    "dance_wan": 11,
    "ddpo_sd14": 50,
    "flow_grpo_fast_sd3": 3,
    "flow_grpo_flux": 5,
    "flow_grpo_sd3": 9,
    "mixgrpo_flux": 4,
}
every_recipe = pytest.mark.parametrize("name", RECIPES)


def resolve(name: str, *changes: str) -> Recipe:
    file = FOLDER / f"{name}.yaml"
    kind = VideoDiffusionPolicy if name in VIDEO else DiffusionPolicy
    recipe = make_recipe(load_config(file, changes), kind, where=str(file))
    recipe.check_signals(kind, where=str(file))
    return recipe


@every_recipe
def test_it_resolves_and_trains_the_steps_of_its_paper(name):
    recipe = resolve(name)
    for step in (0, recipe.config.steps - 1):
        how: Any = recipe.sampling.at(step, recipe.config.steps, {})
        mask = trained_steps(how, noisy_steps(how, seed=0, step=step), rows=3, seed=0)
        assert mask.sum(1).tolist() == [TRAINED_STEPS[name]] * 3


@every_recipe
def test_every_update_has_a_prompt(name):
    config = resolve(name).config
    assert 1 <= config.optimizer.updates_per_rollout <= config.prompts_per_step


@pytest.mark.parametrize("name", [*RECIPES, *sorted(OVERLAYS)])
def test_it_reads_like_a_table(name):
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 30 and all(len(line) <= 120 for line in lines)
    assert "not run here" in "\n".join(line for line in lines if line.startswith("#")).lower()


@pytest.mark.parametrize("name", ["dance_flux", "dance_hunyuan", "flow_grpo_sd3"])
def test_grpo_guard_is_laid_over_a_flow(name):
    recipe = resolve(name, str(FOLDER / "grpo_guard.yaml"))
    assert [term.stage.name for term in recipe.terms] == ["grpo_guard"]
    assert recipe.loss_needs == {"mean_shift", "step_std", "step_size"}


def test_a_policy_without_steps_is_refused():
    from mmrl.policies.vlm import VLMPolicy

    recipe = resolve("flow_grpo_sd3")
    with pytest.raises(ConfigError, match="`gaussian_kl` needs gaussian_kl, step_size"):
        recipe.check_signals(VLMPolicy, where="my.yaml")
