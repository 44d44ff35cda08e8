"""DeepVideo-R1: golden loss and difficulty, what the floor does, which prompts are changed and how, and training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from data_pipelines.gui.build import make_gui
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.methods.deepvideo_r1 import RegGRPO, beginning, difficulty_aware
from mmrl.plugins import ConfigError
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.records import Media, Sample
from mmrl.runs.reader import read_metrics
from rewards.scoring import Rewards

ROOT = Path(__file__).parents[2]
CLIP = Media(kind="video", path="x.mp4", digest="", size=(64, 64))
TRACE = "<think>One. Two. Three. So it is C.</think><answer>C</answer>"


@pytest.fixture(scope="module")
def vectors():
    return {v["name"]: v for v in json.loads((ROOT / "tests/golden/deepvideo_r1.json").read_text())}


# -- the loss ------------------------------------------------------------------------------------------------------


def regress(make_rollouts, log_ratio, wanted, *, floor, group=None, reward=None):
    """Loss and its gradient by the log-ratio of each row."""
    n = len(log_ratio)
    rollouts = make_rollouts([0.0] * n if reward is None else reward, group or [0] * n, logp_old=torch.zeros(n, 3))
    rollouts.advantage = torch.tensor(wanted)[:, None].expand(n, 3)
    logp = torch.zeros(n, 3)
    logp[:, 0] = torch.tensor(log_ratio)  # in one token or in several: only the sum counts
    logp[:, 1], logp[:, 2] = 0.25, -0.25
    logp.requires_grad_()
    stage = RegGRPO(floor=floor)
    loss = stage.group_loss(stage.row_score(logp, rollouts), rollouts)
    (gradient,) = torch.autograd.grad(loss, logp)
    assert (gradient == gradient[:, :1]).all()
    return float(loss.detach()), gradient[:, 0].tolist()


def test_golden_loss(vectors, make_rollouts):
    vector = vectors["reg_grpo_loss_unbiased_std"]
    loss, _ = regress(make_rollouts, vector["inputs"]["log_ratio_seq"], vector["expected"]["target_adv"], floor=1e-9)
    assert loss == pytest.approx(vector["expected"]["loss"], abs=1e-5)


def test_golden_gradient_and_its_size_at_the_first_update(vectors, make_rollouts):
    given, expected = vectors["loss_reg_grpo"]["inputs"], vectors["loss_reg_grpo"]["expected"]
    loss, gradient = regress(make_rollouts, given["rho_seq_logratio"], given["adv_target"], floor=1e-9)
    assert loss == pytest.approx(expected["loss"], rel=1e-4)
    assert gradient == pytest.approx(expected["grad_rho"], rel=1e-4)
    loss, gradient = regress(make_rollouts, [0.0] * 4, given["adv_target"], floor=1e-6)
    assert loss == pytest.approx(expected["loss_at_old"])
    assert gradient == pytest.approx(expected["grad_at_theta_old_eps1e-6"], rel=1e-4)


def test_at_the_first_update_it_is_the_policy_gradient_times_two_over_the_floor(make_rollouts):
    wanted = [1.2, -0.4, -0.8]
    _, gradient = regress(make_rollouts, [0.0] * 3, wanted, floor=0.1)
    assert gradient == pytest.approx([-a / 3 * 2 / 0.1 for a in wanted])


def test_a_row_without_reward_changes_nothing_for_the_others(make_rollouts):
    log_ratio, wanted = [0.3, -0.1, 0.05, 0.2, 0.1], [1.0, -1.0, 0.0, 0.7, -0.7]
    loss, gradient = regress(make_rollouts, log_ratio, wanted, floor=0.1, group=[0, 0, 0, 1, 1])
    failed = {"group": [0, 0, 0, 1, 1, 1], "reward": [0] * 5 + [math.nan]}
    more, gradients = regress(make_rollouts, [*log_ratio, 9.0], [*wanted, 0.0], floor=0.1, **failed)
    assert more == pytest.approx(loss) and gradients == pytest.approx([*gradient, 0.0])


def test_a_floor_of_zero_is_refused():
    with pytest.raises(ConfigError, match="divides by it"):
        RegGRPO(floor=0.0)


# -- the prompts ---------------------------------------------------------------------------------------------------


@pytest.fixture
def roll(make_rollouts, context):
    """Run the rollout; `answers` are the letters of each request's completions, a list per prompt, or None for the
    traces. Returns the rollouts, the samples of every request and the window."""

    def run(recent, *requests, **settings):
        asked, replies = [], list(requests)
        score = Rewards.from_config([{"name": "letter_choice"}], where="test").score

        def generate(samples, sizes):
            groups = replies.pop(0)
            assert [len(group) for group in groups] == list(sizes)
            made = make_rollouts([0.0] * sum(sizes), [g for g, size in enumerate(sizes) for _ in range(size)])
            made.text, made.samples, made.reward = [text for group in groups for text in group], list(samples), None
            asked.append(list(samples))
            return made

        question = ({"role": "user", "content": [{"type": "video", "video": "x.mp4"}, {"type": "text", "text": "?"}]},)
        samples = [Sample(f"s{g}", question, (CLIP,), {"answer": "C"}) for g in range(len(requests[0]))]
        here = replace(
            context, memory={"difficulty_aware": list(recent)}, generate=generate,
            score=lambda rollouts: score(rollouts, step=0, total=1),
        )  # fmt: skip
        rollouts = difficulty_aware(None, samples, [len(group) for group in requests[0]], here, **settings)
        assert not replies
        return rollouts, asked, here.memory["difficulty_aware"]

    return run


def said(sample):
    return sample.messages[-1]["content"][-1]["text"]


def test_golden_difficulty_decides_how_much_of_the_best_thought_is_told(roll, vectors):
    given, expected = (vectors["difficulty_hard"][key] for key in ("inputs", "expected"))
    letters = ["C" if reward else "A" for reward in given["rewards"]]
    rollouts, asked, _ = roll(given["replay_group_means"], [letters], [["no", TRACE, "A", "C"]], [["C", "C", "C", "A"]])
    assert said(asked[1][0]).startswith("\nThe right answer is C.")
    told = {1: "One.", 2: "One. Two.", 3: "One. Two. Three."}[expected["l_guide_v2"]]
    assert said(asked[2][0]).endswith(f"begins like this: {told}")
    assert rollouts.text == ["C", "C", "C", "A"] and rollouts.reward.tolist() == [1, 1, 1, 0]
    assert rollouts.origin == ["hint"] * 4 and not rollouts.own.any()


def test_easy_prompts_get_noise_and_usual_ones_stay(roll):
    hard = ["A"] * 4
    rollouts, asked, recent = roll([0.25, 0.75], [["C", "C", "A", "A"], ["C"] * 4], [hard])
    (noised,) = asked[1]
    assert noised.id == "s1" and noised.messages == asked[0][1].messages
    assert noised.meta["frame_noise"]["std"] == 25 * 1.5
    assert rollouts.origin == ["policy"] * 4 + ["noise"] * 4
    assert rollouts.group.tolist() == [0] * 4 + [1] * 4 and rollouts.text[4:] == hard
    numbers = {name: values.unique().tolist() for name, values in rollouts.signals.items()}
    assert numbers == {"reward_unaided": [0.75], "share_hinted": [0], "share_noised": [0.5]}
    assert recent == [0.25, 0.75, 0.5, 1.0]  # of the prompts as they are


def test_a_full_window_forgets(roll):
    assert roll([1.0, 0.5, 0.5], [["C", "A"], ["A", "A"]], window=3, margin=1.0)[2] == [0.5, 0.5, 0.0]


def test_nothing_changes_without_a_past_or_without_a_thought(roll):
    for recent, *requests in [([], [["A"] * 4]), ([1.0], [["A"] * 4], [["C"] * 4])]:
        rollouts, _, _ = roll(recent, *requests)
        assert rollouts.own.all() and rollouts.text == ["A"] * 4


def test_the_end_of_a_thought_is_never_told():
    assert [beginning("One. Two. Three. Four.", level, 4) for level in (1, 2, 3, 9)] == [
        "One.", "One. Two.", "One. Two. Three.", "One. Two. Three."
    ]  # fmt: skip
    assert beginning("It is C.", 3, 4) == ""


def test_the_model_sees_frames_and_pictures_through_noise(policies, mixed_samples):
    policy = policies["qwen2_5_vl"]
    for sample, pixels in ((mixed_samples[2], "pixel_values_videos"), (mixed_samples[0], "pixel_values")):
        noise = {"frame_noise": {"std": 25.0, "seed": 1}}
        clean, noisy, again = (
            policy.encode(replace(sample, meta=meta))[1].media[pixels] for meta in ({}, noise, noise)
        )
        assert torch.equal(noisy, again)
        spread = float((noisy - clean).std()) * 0.27 * 255  # the processor divides by a standard deviation of 0.27
        assert 12 < spread < 27  # clipping at 0 and 255 takes some


# -- the loop ------------------------------------------------------------------------------------------------------


def test_training(tmp_path):
    """A reward that differs from group to group, and no margin: some prompts are easier than usual."""
    make_gui(tmp_path / "gui", count=12, test_count=1)
    (tmp_path / "plugins.py").write_text(
        "from rewards import reward\n\n"
        "@reward(range=(0, 1))\ndef letters(completion, sample):\n    return sum(map(ord, completion)) % 11 / 11\n"
    )
    changes = [str(ROOT / "configs/methods/deepvideo_r1.yaml"), f"data.train={tmp_path}/gui/train.jsonl", "data.test=",
               f"runs={tmp_path}", "steps=2", "prompts_per_step=4", "group_size=3", "sampling.max_new_tokens=6",
               f"rewards=[{tmp_path}/plugins.py:letters]", "rollout.margin=0"]  # fmt: skip
    metrics = read_metrics(
        run_training(str(ROOT / "configs/demo/gui.yaml"), changes, resume=False, console=Console(quiet=True))
    )
    first, second = metrics
    assert first["share_noised"] == 0 < second["share_noised"]
    assert all(line["grad_norm"] > 0 and line["ratio_max"] > 0 and "loss/kl" in line for line in metrics)


def test_the_papers_recipe_is_whole():
    config = load_config(ROOT / "configs/papers/deepvideo_r1_seed_bench_r1.yaml")
    recipe = make_recipe(config, VLMPolicy, where="paper")
    recipe.check_signals(VLMPolicy, where="paper")
    assert recipe.rollout.name == "difficulty_aware" and recipe.terms[0].is_group_loss
    assert config.model.vision == "frozen" and config.group_size == 8
