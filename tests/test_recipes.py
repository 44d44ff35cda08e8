"""Recipes that ship with mmrl, run as a user would: the demo, every method over it, the docs' example, the digits."""

from __future__ import annotations

import shutil
from io import StringIO
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from rich.console import Console

from data_pipelines.captions.build import make_figures
from data_pipelines.charts.tiny import make_charts_tiny
from data_pipelines.digits import make_digits, make_digits_cold_start
from data_pipelines.gui.build import make_gui
from data_pipelines.uav.build import make_uav
from data_pipelines.video.build import make_video
from mmrl.config import EvaluateConfig, SftConfig, load_config
from mmrl.launch import run_evaluation, run_training
from mmrl.plugins import ConfigError
from mmrl.runs.plot import plot_run
from mmrl.runs.reader import read_metrics
from mmrl.sft import sft

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "configs/demo/gui.yaml"
METHODS = sorted((ROOT / "configs/methods").glob("*.yaml"))
FITTED = {
    "ttrv": ["rewards.0.answer=number"],
    "vlaa_thinker": ["advantages=[group_relative]"],
    "craft_gui": ["sampler.key=elements", "sampler.bounds=[3]", "sampler.starts=[1]"],
    "geometryzero": ["rollout.told=''", "rollout.forbidden='.'", "rewards=[point_distance]"],
}
"""What a recipe needs on the screens of the demo, where answers are points: votes are read as their last number, none
has an answer tag, a screen is as hard as it has elements, and longer requests are beyond the tiny model."""
MAKERS = {"gui": make_gui, "video": make_video, "charts": make_charts_tiny, "uav": make_uav}
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def gui(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gui")
    make_gui(folder, count=256, test_count=64)
    return folder


def train(config: Path, folder: Path, data: Path, *changes: str) -> Path:
    overrides = [f"data.train={data}/train.jsonl", f"data.test={data}/test.jsonl", f"runs={folder}", *changes]
    return run_training(str(config), overrides, resume=False, console=QUIET)


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "gain"), [("gui", 0.08), ("video", 0.03), ("charts", 0.06), ("uav", 0.03)])
def test_the_demo_learns_and_the_held_out_score_agrees(modality, gain, tmp_path):
    """A third of the demo's steps bring a half of what the README's table shows, or less."""
    data, demo = tmp_path / "data", ROOT / f"configs/demo/{modality}.yaml"
    MAKERS[modality](data, count=640, test_count=64)
    settings = EvaluateConfig(samples=4, temperature=1.0)
    test = str(data / "test.jsonl")
    before = run_evaluation("tiny", test, config_file=str(demo), settings=settings, console=QUIET)
    run = train(demo, tmp_path, data, "steps=40")
    rewards = [line["reward"] for line in read_metrics(run)]
    assert mean(rewards[-8:]) > mean(rewards[:8]) + gain
    after = run_evaluation(str(run), test, config_file=None, settings=settings, console=QUIET)
    assert after.score > before.score + gain / 2
    assert plot_run(run).stat().st_size > 10_000


@pytest.mark.parametrize("method", METHODS, ids=[file.stem for file in METHODS])
def test_every_method_trains(method, gui, tmp_path):
    smaller = ["steps=2", "prompts_per_step=4", "group_size=4", "evaluate.every=0", *FITTED.get(method.stem, [])]
    metrics = read_metrics(train(DEMO, tmp_path, gui, str(method), *smaller))
    assert len(metrics) == 2
    assert all(line["ratio_gap"] < 1e-4 for line in metrics)
    assert any(line["grad_norm"] > 0 for line in metrics)


def test_a_run_is_a_model_and_one_without_labels_is_still_measured_by_them(gui, tmp_path):
    method = str(ROOT / "configs/methods/gui_rcpo.yaml")
    smaller = ["steps=1", "prompts_per_step=4", "group_size=4"]
    run = train(DEMO, tmp_path, gui, method, *smaller, "name=one")
    assert load_config(run / "config.yaml").data.labels == "withheld"
    settings = EvaluateConfig(limit=16)
    test = str(gui / "test.jsonl")
    found = run_evaluation(str(run), test, config_file=None, settings=settings, console=QUIET, metrics=["point_in_box"])
    assert 0 < found.metrics["point_in_box"].mean <= 1

    again = train(DEMO, tmp_path, gui, *smaller, f"model.path={run}", "name=two")
    assert load_config(again / "config.yaml").model.path == str(run / "checkpoints/step-000000/model")
    out = [f"model.path={again}", "out=x", f"data.train={gui}/train.jsonl"]
    taken = load_config(ROOT / "configs/demo/digits_sft.yaml", out, kind=SftConfig).model.path
    assert taken == str(again / "checkpoints/step-000000/model")
    shutil.rmtree(again / "checkpoints")
    with pytest.raises(ConfigError, match="two has no checkpoint yet"):
        load_config(DEMO, [f"model.path={again}"])


def test_the_example_of_docs_extending(gui, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    run = train(ROOT / "docs/examples/my_run.yaml", tmp_path, gui, "steps=2", "prompts_per_step=4")
    metrics: list[dict[str, Any]] = read_metrics(run)
    assert 0 < metrics[0]["score/near_the_centre"] < 1
    assert "loss/docs/examples/my_plugins.py:squared_log_ratio" in metrics[0]
    assert metrics[0]["ratio_max"] > 0  # two updates per rollout


@pytest.mark.slow
def test_real_digits_from_a_cold_start(tmp_path):
    make_digits(tmp_path / "digits")
    make_digits_cold_start(tmp_path / "cold", count=256)
    overrides = [f"data.train={tmp_path}/cold/cold_start.jsonl", f"out={tmp_path}/model", "steps=25", "batch_size=16"]
    sft(load_config(ROOT / "configs/demo/digits_sft.yaml", overrides, kind=SftConfig), QUIET)
    changes = [f"model.path={tmp_path}/model", "steps=4", "prompts_per_step=8"]
    run = train(ROOT / "configs/demo/digits.yaml", tmp_path, tmp_path / "digits", *changes)
    metrics = read_metrics(run)
    assert len(metrics) == 4
    assert all(0 < line["score/letter_choice"] <= 1 for line in metrics)


@pytest.mark.parametrize("demo", ["gui", "dance"])
def test_a_dry_run_checks_everything_and_writes_nothing(demo, gui, tmp_path):
    console = Console(record=True, width=120, file=StringIO())
    config, extra = str(ROOT / f"configs/demo/{demo}.yaml"), ["loss.terms=[clipped, {name: kl, coef: 0.01}]"]
    overrides = [f"data.train={gui}/train.jsonl", "data.test=null", f"runs={tmp_path}/runs"]
    if demo == "dance":
        make_figures(tmp_path / "figures")
        overrides[0], extra = f"data.train={tmp_path}/figures/train.jsonl", []
    run_training(config, [*overrides, *extra], resume=False, console=console, dry_run=True)
    said = console.export_text()
    assert "nothing is written" in said and not (tmp_path / "runs").exists()
    assert "gradients and Adam" in said
    assert ("prompt tokens" in said) == ("reference" in said) == (demo == "gui")
    with pytest.raises(ConfigError, match="rewardz"):
        run_training(config, [*overrides, "rewardz=[x]"], resume=False, console=console, dry_run=True)
