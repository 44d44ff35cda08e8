"""GUI-RC and GUI-RCPO: the golden consensus and rewards through their own doors, and what voting is for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from data_pipelines.coordinates import CONVENTIONS
from data_pipelines.gui.build import make_gui
from mmrl.config import EvaluateConfig, load_config
from mmrl.launch import run_evaluation
from mmrl.methods.gui_rc import region_vote
from mmrl.plugins import ConfigError
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.records import Media, Sample
from rewards.boxes import point_in_box

ROOT = Path(__file__).parents[2]
VECTORS = {vector["name"]: vector for vector in json.loads((ROOT / "tests/golden/gui_rc.json").read_text())}
VOTES = [name for name in VECTORS if name.startswith("guirc_consensus")]


def sample(size, box, coordinates="pixel", seen=None):
    media = Media("image", "a.png", "0", size, seen)
    return Sample("s", (), (media,), {"box": box}, {"coordinates": coordinates})


@pytest.mark.parametrize("name", VOTES)
def test_golden_consensus(name):
    given, expected = VECTORS[name]["inputs"], VECTORS[name]["expected"]
    asked = sample((given["W"], given["H"]), given["gt_xyxy_px"])
    vote = region_vote(given["texts"], asked, point_size=given["point_expand_size"])
    assert (vote.parsed or {}).get("box") == expected["region"]
    assert (vote.parsed or {}).get("point") == expected["click"]
    assert point_in_box(vote.text, asked).value == expected["correct"]


def test_golden_reward_and_advantage_of_the_recipe(make_rollouts, context):
    given, expected = (VECTORS["guircpo_voting_reward_1"][key] for key in ("inputs", "expected"))
    where = str(ROOT / "configs/methods/gui_rcpo.yaml")
    recipe = make_recipe(load_config(ROOT / "configs/demo/gui.yaml", [where]), VLMPolicy, where=where)
    rollouts = make_rollouts([0.0] * 4, [0] * 4)
    rollouts.samples, rollouts.text = [sample((given["W"], given["H"]), None)], given["texts"]
    recipe.rewards.score(rollouts, step=0, total=1)
    torch.testing.assert_close(rollouts.reward, torch.tensor(expected["reward"]), atol=1e-6, rtol=0)
    value = rollouts.reward[:, None].expand(rollouts.mask.shape)
    for stage in recipe.advantages:
        value = stage.at(0, 1)(value, rollouts, context)
    torch.testing.assert_close(value[:, 0], torch.tensor(expected["advantage"]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_vote_is_written_as_the_model_is_asked_to_write(convention):
    """Regions in any convention, the click in the same: it lies where they agree, in pixels of the stored image."""
    asked = sample((200, 100), [90, 40, 110, 60], convention, seen=(100, 50))
    scale = {"pixel": (1, 1), "seen": (0.5, 0.5), "norm1": (1 / 200, 1 / 100), "norm1000": (5, 10)}[convention]
    boxes = [(80, 30, 120, 70), (96, 46, 104, 54), (90, 0, 200, 60)]
    texts = [str([value * scale[axis % 2] for axis, value in enumerate(box)]) for box in boxes]
    vote = region_vote([*texts, "nothing"], asked)
    assert vote.parsed["box"] == [96, 46, 104, 54]
    assert vote.why == "3 of 4 regions agree"
    assert point_in_box(vote.text, asked).parsed["point"] == pytest.approx([100, 50], abs=1e-3)


def test_no_region_is_no_prediction():
    asked = sample((100, 100), [0, 0, 10, 10])
    vote = region_vote(["no idea", "[200, 200, 300, 300]"], asked)
    assert (vote.text, vote.parsed) == ("", None)
    assert point_in_box(vote.text, asked).value == 0


def test_voting_finds_what_single_completions_miss(tmp_path):
    """The tiny model is uncertain on purpose: at temperature 0.7 the consensus of 8 beats one completion by far."""
    make_gui(tmp_path, count=4, test_count=48)
    result = run_evaluation(
        "tiny",
        str(tmp_path / "test.jsonl"),
        config_file=str(ROOT / "configs/demo/gui.yaml"),
        settings=EvaluateConfig(samples=8, temperature=0.7),
        console=Console(quiet=True),
        vote="region,point_size=16",
    )
    one, vote = result.metrics["screenspot/accuracy"], result.voted["screenspot/accuracy"]
    assert one.mean == pytest.approx(result.score)  # the same point, read in the same way as in training
    assert vote.mean > one.mean + 0.05
    assert vote.mean <= result.passed["screenspot/accuracy"][8].mean + 0.1
    assert all(notes["vote"]["why"] for notes in result.rollouts.notes)


@pytest.mark.parametrize("settings", [EvaluateConfig(), EvaluateConfig(samples=8)])
def test_one_completion_or_equal_ones_cannot_vote(settings):
    with pytest.raises(ConfigError, match="--samples 2 or more and --temperature above 0"):
        run_evaluation("tiny", "x.jsonl", config_file=None, settings=settings, console=Console(), vote="region")
