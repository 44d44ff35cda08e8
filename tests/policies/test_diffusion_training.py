"""A diffusion policy in `mmrl train` and `mmrl eval`: what is refused, and that nothing is written before all checks
pass; moving averages of its weights; rewards that fail on some images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import random_pipelines
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

from data_pipelines.commands import app
from mmrl.config import EvaluateConfig, ModelConfig, OptimizerConfig
from mmrl.ema import MovingAverage
from mmrl.launch import run_evaluation, run_training
from mmrl.plugins import ConfigError
from mmrl.policies.diffusion import DiffusionPolicy
from mmrl.policies.pipelines import Pipeline, load_pipeline
from mmrl.runs.reader import read_events, read_metrics, read_rollouts
from rewards.scoring import RewardFailure

PLUGINS = """
from pathlib import Path
from rewards import reward
from rewards.images.pixels import brightness as luma

@reward(range=(0, 1), reads="image")
class FailsOnOne:
    def __init__(self, *, every: int):
        self.every, self.calls = every, 0

    def __call__(self, image, sample):
        self.calls += 1
        if self.calls % self.every == 0:
            raise KeyError("no face found")
        return luma(image, sample)

@reward(range=(0, 1), reads="image", needs=("count",))
def counted(image, sample):
    return 1.0

def interrupted_at_two(advantage, rollouts, context, *, flag: str):
    if context.step == 2 and Path(flag).exists():
        raise KeyboardInterrupt
    return advantage
"""


class Workplace:
    """A folder with prompts, and a function that trains on them with changes to the config."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.prompts: list[str] = ["a red circle", "the green square", "blue on dark"]
        (folder / "plugins.py").write_text(PLUGINS)

    def config(self, name: str = "mine", **changes: Any) -> str:
        rows = [{"id": f"r{i}", "messages": [{"role": "user", "content": p}]} for i, p in enumerate(self.prompts)]
        (self.folder / "prompts.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        sampling = {"steps": 3, "width": 8, "height": 8, **changes.pop("sampling", {})}
        model = {"path": str(self.model), **changes.pop("model", {})}
        config = {
            "runs": str(self.folder / "runs"),
            "steps": 1,
            "prompts_per_step": 2,
            "group_size": 4,
            "model": model,
            "data": {"train": str(self.folder / "prompts.jsonl"), "test": str(self.folder / "prompts.jsonl")},
            "sampling": sampling,
            "rewards": ["brightness"],
            "optimizer": {"learning_rate": 1e-3},
            **changes,
        }
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        return str(file)

    def train(self, name: str = "mine", *, resume: bool = False, **changes: Any) -> Path:
        return run_training(self.config(name, **changes), [], resume=resume, console=Console(quiet=True))

    def message(self, **changes: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            self.train(**changes)
        assert not (self.folder / "runs").exists()
        return str(caught.value)


@pytest.fixture
def workplace(tmp_path: Path, folder: Any) -> Workplace:
    return Workplace(tmp_path, folder("sd3"))


# -- what is refused -------------------------------------------------------------------------------------------------


def test_rows_of_prompts_only_train(workplace):
    run = workplace.train(evaluate={"every": 1})
    (metrics,) = read_metrics(run)
    assert metrics["grad_norm"] > 0 and metrics["ratio_gap"] < 1e-4
    checked = CliRunner().invoke(
        app, ["check", str(workplace.folder / "prompts.jsonl"), "--config", workplace.config()]
    )
    assert checked.exit_code == 0 and "3 rows without a target" in checked.stdout


def test_a_reward_says_which_target_it_needs(workplace):
    message = workplace.message(rewards=[f"{workplace.folder}/plugins.py:counted"])
    assert "prompts.jsonl, row 1" in message and "reward counted needs target.count" in message


@pytest.mark.parametrize(
    ("setting", "sampling"),
    [
        ("width", {"width": 0}),
        ("frames", {"frames": 5}),
        ("window_size", {"window": "start", "window_size": 4}),
        ("fraction", {"fraction": 0.1}),
        ("fraction", {"fraction": 0.0}),
        ("steps", {"steps": 1}),
        ("last_step", {"last_step": True, "noise": "cps"}),
        ("level", {"level": 0}),
        ("level", {"level": {"schedule": "linear", "start": 0.3, "end": 0.0, "until": 0.5}}),
        ("distilled_guidance", {"distilled_guidance": 3.5}),
    ],
)
def test_sampling_that_makes_or_trains_nothing(workplace, setting, sampling):
    message = workplace.message(sampling=sampling, steps=4)
    assert message.startswith(f"{workplace.folder}/mine.yaml: sampling.{setting}")


def test_a_loss_that_cannot_be_with_the_noise(workplace):
    message = workplace.message(sampling={"noise": "cps"}, loss={"terms": ["grpo_guard"]})
    assert message.startswith(f"{workplace.folder}/mine.yaml: `grpo_guard` needs mean_shift")
    assert "sampling.noise = cps" in message


def test_an_evaluation_refuses_the_same_sizes(workplace):
    file = workplace.config(sampling={"width": -8})
    data = str(workplace.folder / "prompts.jsonl")
    with pytest.raises(ConfigError, match=r"sampling\.width = -8"):
        run_evaluation(str(workplace.model), data, config_file=file, settings=EvaluateConfig(), console=Console())


def test_every_empty_or_overlong_prompt_is_named_by_its_row(workplace):
    workplace.prompts = ["a red circle", "  ", "a " * 80, *["b " * (80 + i) for i in range(5)]]
    message = workplace.message()
    assert "prompts.jsonl, row 2 (id r1" in message and "the prompt is empty" in message
    assert "prompts.jsonl, row 3 (id r2" in message and "has 82 tokens" in message
    assert "and 2 more rows" in message


def test_the_console_shows_no_length_of_what_always_has_as_many_steps(workplace, capsys):
    config = workplace.config()
    run_training(config, [], resume=False, console=Console(width=200))
    line = next(line for line in capsys.readouterr().out.splitlines() if "ratio gap" in line)
    assert "reward" in line and "length" not in line


# -- rewards that fail -----------------------------------------------------------------------------------------------


def test_images_whose_reward_failed_are_left_out_and_reported(workplace):
    name = f"{workplace.folder}/plugins.py:FailsOnOne"
    run = workplace.train(rewards=[{"name": name, "every": 7}])  # one of 8
    (metrics,) = read_metrics(run)
    assert metrics["failed/FailsOnOne"] == 1
    rows = read_rollouts(run, 0)
    failed = [row for row in rows if row["reward"] is None]
    assert len(failed) == 1
    assert "no face found" in failed[0]["notes"]["FailsOnOne"]["error"] and failed[0]["advantage"] is None
    others = [row for row in rows if row["group"] == failed[0]["group"] and row is not failed[0]]
    assert math.fsum(row["advantage"] for row in others) == pytest.approx(0, abs=1e-5)
    assert all(row["advantage"] != 0 for row in others)


def test_a_reward_that_fails_on_too_many_images_stops_the_run(workplace):
    name = f"{workplace.folder}/plugins.py:FailsOnOne"
    with pytest.raises(RewardFailure, match="FailsOnOne"):
        workplace.train(rewards=[{"name": name, "every": 2}])


# -- moving averages -------------------------------------------------------------------------------------------------


def test_an_average_of_coarse_weights_is_refused():
    policy = DiffusionPolicy(Pipeline(random_pipelines.BUILDERS["sd3"]().to(torch.bfloat16), ModelConfig(path="mine")))
    config = OptimizerConfig(ema=0.9)
    with pytest.raises(ConfigError, match=r"optimizer\.ema = 0\.9: .* trains in bfloat16"):
        MovingAverage(policy, config)
    MovingAverage(policy, OptimizerConfig())


def weights(folder: Path, *, adapter: bool) -> dict[str, torch.Tensor]:
    file = "pytorch_lora_weights" if adapter else "transformer/diffusion_pytorch_model"
    return load_file(folder / f"model/{file}.safetensors")


@pytest.mark.parametrize("adapter", [None, {"rank": 2}], ids=["full", "lora"])
def test_training_with_an_average_resumes_bit_for_bit(workplace, adapter):
    flag = workplace.folder / "flag"
    common: dict[str, Any] = {
        "steps": 4,
        "model": {"adapter": adapter},
        "optimizer": {"learning_rate": 1e-3, "ema": 0.5, "ema_every": 2},
        "checkpoint": {"every": 2, "keep": 2},
        "evaluate": {"every": 1},
        "advantages": [{"name": f"{workplace.folder}/plugins.py:interrupted_at_two", "flag": str(flag)},
                       "group_relative"],
    }  # fmt: skip
    whole = workplace.train("whole", **common)
    flag.touch()
    with pytest.raises(KeyboardInterrupt):
        workplace.train("parts", **common)
    flag.unlink()
    parts = workplace.train("parts", resume=True, **common)
    for step in (1, 3):
        first, second = (run / f"checkpoints/step-{step:06d}" for run in (whole, parts))
        for one, other in [
            (weights(first, adapter=bool(adapter)), weights(second, adapter=bool(adapter))),
            (load_file(first / "trained.safetensors"), load_file(second / "trained.safetensors")),
        ]:
            assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    scores = [[event["score"] for event in read_events(run) if event["kind"] == "evaluation"] for run in (whole, parts)]
    assert scores[0] == scores[1][:2] + scores[1][-2:]


def test_an_average_changes_no_training_and_is_what_is_evaluated_and_kept(workplace):
    common: dict[str, Any] = {"steps": 3, "evaluate": {"every": 3}}
    optimizer = {"learning_rate": 1e-3}
    plain = workplace.train("plain", **common, optimizer=optimizer)
    averaged = workplace.train("averaged", **common, optimizer={**optimizer, "ema": 0.9})
    rewards = [[line["reward"] for line in read_metrics(run)] for run in (plain, averaged)]
    assert rewards[0] == rewards[1]

    trained = load_file(averaged / "checkpoints/step-000002/trained.safetensors")
    without = weights(plain / "checkpoints/step-000002", adapter=False)
    kept = weights(averaged / "checkpoints/step-000002", adapter=False)
    assert all(torch.equal(trained[name], without[name]) for name in trained)
    assert not (plain / "checkpoints/step-000002/trained.safetensors").exists()

    # By hand: the weights after every step, from runs of 1, 2 and 3 steps.
    start = DiffusionPolicy(load_pipeline(ModelConfig(path=str(workplace.model))))
    expected = {name: values.detach().clone() for name, values in start.trainable()}
    for n in range(3):
        run = workplace.train(f"steps-{n}", steps=n + 1, optimizer=optimizer)
        now = weights(run / f"checkpoints/step-{n:06d}", adapter=False)
        decay = min((1 + n) / (10 + n), 0.9)
        expected = {name: decay * expected[name] + (1 - decay) * now[name] for name in expected}
    for name, values in expected.items():
        torch.testing.assert_close(kept[name], values, atol=1e-7, rtol=1e-6)
    assert any(not torch.equal(kept[name], without[name]) for name in expected)

    events = [json.loads(line) for line in (averaged / "events.jsonl").read_text().splitlines()]
    (during,) = [event["score"] for event in events if event["kind"] == "evaluation"]
    data = str(workplace.folder / "prompts.jsonl")
    after = run_evaluation(
        str(averaged), data, config_file=None, settings=EvaluateConfig(), console=Console(quiet=True)
    )
    assert after.score == during
