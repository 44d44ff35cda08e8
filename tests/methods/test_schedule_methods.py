"""Methods that are a schedule of the KL's weight: OThink-MR1's three points, VLAA-Thinker's controller."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from data_pipelines.gui.build import make_gui
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.runs.reader import read_metrics

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def vectors():
    return {v["name"]: v for v in json.loads((ROOT / "tests/golden/image_methods.json").read_text())}


def kl_of(file: str, *over: str):
    recipe = make_recipe(load_config(ROOT / file, [str(ROOT / name) for name in over]), VLMPolicy, where=file)
    recipe.check_signals(VLMPolicy, where=file)
    return next(term for term in recipe.terms if term.stage.name == "kl")


def test_golden_beta_of_grpo_d(golden, vectors):
    for task, name in (("clevr", "beta"), ("geoqa", "beta_geometry")):
        given, expected = golden["grpo_d_beta_schedule"]["inputs"], golden["grpo_d_beta_schedule"]["expected"]
        term = kl_of(f"configs/papers/othink_mr1_{task}.yaml")
        beta = [term.coefficient(step, given["total"], {}) for step in given["steps"]]
        assert beta == pytest.approx(expected[name])
    vector = vectors["othink_beta_schedule_2"]
    beta = [term.coefficient(step, vector["inputs"]["total"], {}) for step in vector["inputs"]["steps"]]
    assert beta == pytest.approx(vector["expected"])


def test_golden_controller_of_vlaa(vectors):
    given = vectors["vlaa_adaptive_kl"]["inputs"]
    term = kl_of("configs/demo/gui.yaml", "configs/methods/vlaa_thinker.yaml")
    found, metrics = [], {"coef/kl": term.coefficient(0, 49, {})}
    assert metrics["coef/kl"] == given["init"]
    for observed in given["observed_kl"]:
        metrics = {"coef/kl": term.coefficient(1, 49, metrics | {"loss/kl": observed})}
        found.append(metrics["coef/kl"])
    assert found == pytest.approx(vectors["vlaa_adaptive_kl"]["expected"])


def test_coefficients_that_change_are_logged(tmp_path):
    make_gui(tmp_path / "gui", count=8, test_count=1)
    recipes = {
        "othink_mr1": [0.07, 0.07 - 0.03 * 0.25 / 0.3, 0.04 + 0.06 * 0.2 / 0.7, 0.04 + 0.06 * 0.45 / 0.7],
        "vlaa_thinker": None,
    }
    for method, beta in recipes.items():
        changes = [str(ROOT / f"configs/methods/{method}.yaml"), "advantages=[group_relative]",
                   f"data.train={tmp_path}/gui/train.jsonl", "data.test=",
                   f"runs={tmp_path}/{method}", "steps=4", "prompts_per_step=2", "group_size=3",
                   "sampling.max_new_tokens=4"]  # fmt: skip
        metrics = read_metrics(
            run_training(str(ROOT / "configs/demo/gui.yaml"), changes, resume=False, console=Console(quiet=True))
        )
        if beta is not None:
            assert [line["coef/kl"] for line in metrics] == pytest.approx(beta)
            continue
        for before, after in pairwise(metrics):
            error = max(-0.2, min(0.2, before["loss/kl"] / 5e-4 - 1))
            assert after["coef/kl"] == pytest.approx(before["coef/kl"] * (1 + 0.0512 * error))
