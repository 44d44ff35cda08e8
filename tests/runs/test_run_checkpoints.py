from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from mmrl.plugins import ConfigError
from mmrl.runs.checkpoints import (
    flatten_optimizer,
    latest_checkpoint,
    list_checkpoints,
    load_optimizer,
    model_at,
    read_state,
    restore_optimizer,
    save_checkpoint,
)


def save_model(folder: Path) -> None:
    (folder / "weights").write_text("w")


def save(run: Path, step: int, *, keep: int = 2, **more) -> Path:
    return save_checkpoint(run, step, save_model=save_model, state=more.pop("state", {}), keep=keep, **more)


def make_training(seed: int = 0, *, width: int = 3) -> tuple[torch.nn.Module, torch.optim.AdamW]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Tanh(), torch.nn.Linear(width, 2).bfloat16())
    first, last = model[0].parameters(), model[2].parameters()
    groups = [{"params": first, "lr": 3e-3, "weight_decay": 0.1}, {"params": last, "lr": 1e-2, "betas": (0.8, 0.9)}]
    return model, torch.optim.AdamW(groups)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        batch = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
        optimizer.param_groups[0]["lr"] *= 0.7
        loss = model[2](model[1](model[0](batch)).bfloat16()).float().square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_training_with_a_restored_optimizer_equals_training_uninterrupted(tmp_path: Path):
    model, optimizer = make_training()
    train(model, optimizer, range(3))
    checkpoint = save(tmp_path, 3, optimizer=flatten_optimizer(optimizer))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, optimizer, range(3, 6))

    resumed, fresh = make_training(seed=1)
    resumed.load_state_dict(weights)
    restore_optimizer(fresh, *load_optimizer(checkpoint))
    train(resumed, fresh, range(3, 6))
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    tensors, numbers = flatten_optimizer(optimizer)
    tensors_resumed, numbers_resumed = flatten_optimizer(fresh)
    assert numbers == numbers_resumed
    assert all(torch.equal(tensors[name], tensors_resumed[name]) for name in tensors)
    assert {"0.exp_avg", "0.exp_avg_sq", "0.step"} <= tensors.keys() == tensors_resumed.keys()


def test_an_optimizer_before_its_first_step_survives(tmp_path: Path):
    _, optimizer = make_training()
    restore_optimizer(optimizer, *load_optimizer(save(tmp_path, 0, optimizer=flatten_optimizer(optimizer))))
    assert optimizer.state_dict()["state"] == {}


def test_state_that_is_no_tensor_survives():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    parameter.grad = torch.ones(2)
    optimizer.step()
    optimizer.state[parameter]["calls"] = 3
    tensors, numbers = flatten_optimizer(optimizer)
    fresh = torch.optim.SGD([parameter], lr=0.2)
    restore_optimizer(fresh, tensors, numbers)
    assert fresh.state_dict() == optimizer.state_dict()


def test_an_optimizer_of_another_model_is_refused(tmp_path: Path):
    model, optimizer = make_training()
    train(model, optimizer, range(1))
    checkpoint = save(tmp_path, 1, optimizer=flatten_optimizer(optimizer))
    with pytest.raises(ConfigError, match="parameters in its groups"):
        restore_optimizer(torch.optim.AdamW(model.parameters()), *load_optimizer(checkpoint))
    with pytest.raises(ConfigError, match="has shape"):
        restore_optimizer(make_training(width=5)[1], *load_optimizer(checkpoint))
    with pytest.raises(ConfigError, match="holds no optimizer"):
        restore_optimizer(optimizer, *load_optimizer(save(tmp_path, 2)))


def test_state_is_exact(tmp_path: Path):
    state = {"sampler": {"chance": 0.1 + 0.2, "seen": {"é": 3}}, "metrics": {"reward": math.pi, "kl": 5e-324}}
    assert read_state(save(tmp_path, 7, state=state)) == {**state, "step": 7}


def test_only_the_newest_are_kept(tmp_path: Path):
    for step in (5, 999_999, 1_000_000):
        save(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-999999", "step-1000000"]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-1000000"
    assert (latest_checkpoint(tmp_path) / "model" / "weights").read_text() == "w"
    assert save(tmp_path, 6, keep=1).is_dir(), "the one just written stays"
    with pytest.raises(ConfigError, match="keep"):
        save(tmp_path, 7, keep=0)


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_checkpoint_leaves_nothing_and_deletes_nothing(tmp_path: Path, failure: BaseException):
    def fail(folder: Path) -> None:
        save_model(folder)
        raise failure

    save(tmp_path, 1)
    with pytest.raises(type(failure)):
        save_checkpoint(tmp_path, 2, save_model=fail, state={}, keep=1)
    with pytest.raises(TypeError):
        save(tmp_path, 3, keep=1, state={"tensor": torch.ones(1)})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def test_incomplete_and_foreign_folders_are_no_checkpoints(tmp_path: Path):
    assert latest_checkpoint(tmp_path) is None
    for name in (".step-000009.0123.tmp", "step-000008.old", "step-last"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "state.json").write_text("{}")
    (tmp_path / "checkpoints" / "step-000007" / "model").mkdir(parents=True)
    assert latest_checkpoint(tmp_path) is None
    with pytest.raises(ConfigError, match="no complete checkpoint"):
        read_state(tmp_path / "checkpoints" / "step-000007")


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path):
    for value in (1, 2):
        checkpoint = save(tmp_path, 4, state={"value": value})
    assert read_state(checkpoint)["value"] == 2
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_a_run_stands_for_the_model_of_its_latest_checkpoint_and_anything_else_for_itself(tmp_path: Path):
    (tmp_path / "run").mkdir()
    names = ["tiny", "Qwen/Qwen2.5-VL-3B-Instruct", str(tmp_path), str(tmp_path / "run")]
    assert [model_at(name) for name in names] == names
    (tmp_path / "run/config.yaml").touch()
    with pytest.raises(ConfigError, match="run has no checkpoint yet"):
        model_at(str(tmp_path / "run"))
    newest = [save(tmp_path / "run", step) for step in (1, 12)][-1]
    assert model_at(str(tmp_path / "run")) == str(newest / "model") == model_at(str(newest / "model"))
