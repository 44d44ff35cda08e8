"""The diffusers pipelines that ship with mmrl, the script that trains them, and their demo recipes."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch
from rich.console import Console

from data_pipelines.captions.build import make_figures
from data_pipelines.captions.scenes import NAMES, SHAPES
from data_pipelines.dataset import read_samples
from data_pipelines.media import Budget
from mmrl.config import ModelConfig
from mmrl.launch import run_training
from mmrl.policies import policy_class, tiny_diffusion
from mmrl.records import Rollouts
from mmrl.runs.reader import read_metrics
from rewards.images.clip import clip_score

ROOT = Path(__file__).parent.parent
QUIET = Console(quiet=True)
SHIPPED = {"flow": {"steps": 10}, "ddim": {"steps": 10}}


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    make_figures(folder)
    return folder


def made(kind: str, file: Path, *, count: int) -> Rollouts:
    """`count` pictures of every fifth prompt of a data set, without noise between the steps."""
    path = f"tiny-{kind}"
    policy = policy_class(path).load(ModelConfig(path=path), Budget())
    samples = read_samples(file)[::5]
    how = policy.sampling(**SHIPPED[kind], level=0.0, batch=count)
    return policy.generate(samples, [count] * len(samples), how, seed=0, step=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHIPPED)
def test_a_shipped_pipeline_half_listens(kind, figures):
    rollouts = made(kind, figures / "train.jsonl", count=8)
    asked = [rollouts.samples[group] for group in rollouts.group.tolist()]
    others = asked[8:] + asked[:8]
    judge = clip_score(model="tiny")
    right, wrong = (float(np.mean(judge(rollouts.images, samples))) for samples in (asked, others))
    assert right > wrong + 0.03, "the pipeline does not draw what it is asked for"
    assert right < 0.7, "there is nothing left to learn"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["dance", "dance_binary", "ddpo"])
def test_a_demo_recipe_trains_on_policy(recipe, figures, tmp_path):
    run = train(recipe, figures, tmp_path, "steps=2", "prompts_per_step=2", "group_size=4")
    metrics = read_metrics(run)
    assert all(line["ratio_gap"] < 1e-5 for line in metrics)
    if recipe != "dance_binary":  # a sparse reward may be the same for all of two prompts
        assert all(line["grad_norm"] > 0 for line in metrics)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["dance", "ddpo"])
def test_either_kind_of_pipeline_learns_to_be_bright(recipe, figures, tmp_path):
    changes = ["steps=10", "prompts_per_step=4", "group_size=8", "rewards=[brightness]"]
    metrics = read_metrics(train(recipe, figures, tmp_path, *changes, "optimizer.learning_rate=6e-4"))
    rewards = [line["reward"] for line in metrics]
    assert mean(rewards[-3:]) > mean(rewards[:3]) + 0.003


def train(recipe: str, data: Path, folder: Path, *changes: str) -> Path:
    overrides = [f"data.train={data}/train.jsonl", "data.test=null", f"runs={folder}", *changes]
    return run_training(str(ROOT / f"configs/demo/{recipe}.yaml"), overrides, resume=False, console=QUIET)


@pytest.mark.parametrize("kind", tiny_diffusion.MAKERS)
def test_training_a_pipeline_from_random_weights(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_diffusion, "PICTURES", 64)
    with torch.random.fork_rng(devices=[]):
        tiny_diffusion.main(kind, tmp_path / kind, see=4, draw=4, move=2)
    policy = policy_class(str(tmp_path / kind)).load(ModelConfig(path=str(tmp_path / kind)), Budget())
    assert all(torch.isfinite(weights).all() for _, weights in policy.trainable())
    assert all(weights.dtype == torch.float32 for _, weights in policy.trainable())


def test_figures_hold_out_pairs_and_no_word(figures):
    train, test = (read_samples(figures / f"{split}.jsonl") for split in ("train", "test"))
    assert not {sample.prompt for sample in train} & {sample.prompt for sample in test}
    assert {sample.prompt for sample in (*train, *test)} == {f"a {c} {s}" for c in NAMES for s in SHAPES}
    words = {word for sample in train for word in sample.prompt.split()}
    assert words == {"a", *NAMES, *SHAPES}
