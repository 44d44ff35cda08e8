"""The text-to-video pipeline that ships with mmrl: its films, its autoencoder, its demo recipe."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from data_pipelines.captions.build import make_figures
from data_pipelines.captions.render import film
from data_pipelines.captions.scenes import HEADINGS, NAMES, SHAPES, Figure
from data_pipelines.dataset import read_samples
from data_pipelines.media import Budget, probe
from mmrl.cli import app
from mmrl.config import ModelConfig
from mmrl.launch import run_training
from mmrl.policies import policy_class
from mmrl.policies.tiny_pipelines import FRAME_CHANNELS, FRAME_UNIT, FRAMES, SIDE, tiny_video
from mmrl.policies.tiny_video import films, set_autoencoder, stills
from mmrl.runs.reader import read_metrics
from rewards.images.clip import clip_score

RECIPE = Path(__file__).parent.parent / "configs/demo/dance_video.yaml"
SIZE = {"width": SIDE, "height": SIDE, "frames": 1 + FRAME_UNIT * (FRAMES - 1)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    make_figures(folder, moving=True)
    return folder


@pytest.fixture(scope="module")
def drawn():
    """(autoencoder, films, latents)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = tiny_video().vae
    _, pictures = films(random.Random(0), 64)
    return vae, pictures, set_autoencoder(vae, pictures)


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_figure_moves_where_it_heads(heading):
    frames = [
        np.asarray(frame)
        for frame in film(Figure("red", "star", "large"), heading, random.Random(3), size=32, frames=5)
    ]
    centres = np.array([np.argwhere((frame < 255).any(-1)).mean(0) for frame in frames])  # (y, x)
    along, across = (1, 0) if heading in ("left", "right") else (0, 1)
    steps = np.diff(centres[:, along]) * (-1 if heading in ("left", "up") else 1)
    assert (steps > 2).all()
    assert np.ptp(centres[:, across]) < 0.5


def test_film_prompts_hold_out_pairs_and_no_heading(data):
    train, test = (read_samples(data / f"{split}.jsonl") for split in ("train", "test"))
    everything = {f"a {c} {s} moving {h}" for c in NAMES for s in SHAPES for h in HEADINGS}
    assert {sample.prompt for sample in (*train, *test)} == everything
    figures = [{sample.target["caption"] for sample in split} for split in (train, test)]
    assert not figures[0] & figures[1]
    assert all({sample.meta["heading"] for sample in split} == set(HEADINGS) for split in (train, test))


def test_the_autoencoder_is_the_projection_on_the_first_principal_components(drawn):
    vae, pictures, latents = drawn
    shown = vae.decode(latents * vae.config.latents_std[0]).sample
    cut = pictures.reshape(64, 3, FRAMES, 8, 4, 8, 4).permute(0, 2, 3, 5, 1, 4, 6).reshape(-1, 48)
    left, values, right = torch.linalg.svd(cut - cut.mean(0), full_matrices=False)
    projected = (left[:, :FRAME_CHANNELS] * values[:FRAME_CHANNELS]) @ right[:FRAME_CHANNELS] + cut.mean(0)
    wanted = projected.reshape(64, FRAMES, 8, 8, 3, 4, 4).permute(0, 4, 1, 2, 5, 3, 6).reshape(pictures.shape)
    assert (shown - wanted.clamp(-1, 1)).abs().max() < 0.05
    assert (shown - pictures).square().mean() < 0.01
    assert latents.square().mean().item() == pytest.approx(1, rel=1e-3)


def test_frames_are_encoded_and_decoded_one_by_one(drawn):
    vae, pictures, latents = drawn
    scale = vae.config.latents_std[0]
    alone = torch.cat([vae.encode(pictures[:4, :, i : i + 1]).latent_dist.mode() for i in range(FRAMES)], 2) / scale
    torch.testing.assert_close(alone, latents[:4], atol=1e-4, rtol=1e-4)
    whole, last = (vae.decode(part * scale).sample for part in (latents[:4], latents[:4, :, -1:]))
    torch.testing.assert_close(whole[:, :, -1:], last, atol=1e-4, rtol=1e-4)


def test_stills_are_frames_of_their_films():
    latents = torch.arange(6 * 4).reshape(6, 1, 4, 1, 1)
    chosen = stills(latents, random.Random(0))
    assert chosen.shape == (6, 1, 1, 1, 1)
    assert (chosen.flatten() // 4).tolist() == list(range(6))
    assert len({value % 4 for value in chosen.flatten().tolist()}) > 1


@pytest.mark.slow
def test_the_shipped_pipeline_half_listens(data):
    policy = policy_class("tiny-video").load(ModelConfig(path="tiny-video"), Budget())
    samples = read_samples(data / "train.jsonl")[::20]
    rollouts = policy.generate(
        samples, [8] * len(samples), policy.sampling(**SIZE, steps=10, level=0.0, batch=8), seed=0, step=0
    )
    assert {len(frames) for frames in rollouts.images} == {FRAMES}
    asked = [rollouts.samples[group] for group in rollouts.group.tolist()]
    others = asked[8:] + asked[:8]
    judge, middle = clip_score(model="tiny"), [frames[FRAMES // 2] for frames in rollouts.images]
    right, wrong = (float(np.mean(judge(middle, samples))) for samples in (asked, others))
    assert right > wrong + 0.03, "the pipeline does not draw what it is asked for"
    assert right < 0.7, "there is nothing left to learn"


@pytest.mark.slow
def test_the_demo_recipe_trains_on_policy(data, tmp_path):
    changes = ["steps=2", "prompts_per_step=2", "group_size=4"]
    overrides = [f"data.train={data}/train.jsonl", "data.test=null", f"runs={tmp_path}", *changes]
    metrics = read_metrics(run_training(str(RECIPE), overrides, resume=False, console=Console(quiet=True)))
    assert len(metrics) == 2
    assert all(line["ratio_gap"] < 1e-5 and line["grad_norm"] > 0 for line in metrics)


@pytest.mark.slow
def test_a_film_is_generated_as_mp4(tmp_path):
    settings = [f"{name}={value}" for name, value in SIZE.items()]
    command = [
        "generate",
        "tiny-video",
        "a red circle moving left",
        *settings,
        "steps=4",
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (file,) = (tmp_path / "out").glob("*.mp4")
    assert probe(file, "video").size == (SIDE, SIDE)
