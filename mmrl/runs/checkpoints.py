"""Checkpoints: `checkpoints/step-000100/` with the model, its optimizer and the state of the run, complete or absent.
`checkpoints/best` is a link to the one of the highest score.

    model/                   written by the policy: what the run has made, `optimizer.ema`'s average if there is one
    trained.safetensors      then the weights that training goes on with
    optimizer.safetensors    the optimizer's tensors, bit for bit
    state.json               everything else; written last, so its presence says that the rest is there

No pickle anywhere: loading a checkpoint cannot run code. torch is imported only where an optimizer is handled.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl.plugins import ConfigError
from mmrl.runs import layout
from mmrl.runs.files import atomic_folder, point_to, remove_folder
from mmrl.runs.space import bytes_in, require

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

MODEL = "model"
STATE = "state.json"
OptimizerState = tuple[dict[str, "Tensor"], dict[str, Any]]
"""Tensors by `<parameter index>.<name>`, and what JSON can hold."""
OPTIMIZER = "optimizer.safetensors"
TRAINED = "trained.safetensors"
BEST = "best"


def save_checkpoint(
    run: Path,
    step: int,
    *,
    save_model: Callable[[Path], None],
    state: Mapping[str, Any],
    keep: int,
    optimizer: OptimizerState | None = None,
    trained: Mapping[str, Tensor] | None = None,
    keep_best: bool = False,
) -> Path:
    """Write a checkpoint, then delete all others but the newest `keep - 1`, and with `keep_best` that of the highest
    `state["score"]`. Call it on one rank. DiskFull, before anything is written, where there is no room for it.

    `save_model` fills the folder it is given; where that is not the weights that training goes on with, `trained` is.
    `state` must survive JSON: string keys, no tensors, lists for tuples;
    `step` and, with an optimizer, `optimizer` are added to it.
    """
    if keep < 1:
        raise ConfigError(f"keep = {keep} would delete the checkpoint just written; it must be at least 1.")
    path = Path(run) / layout.CHECKPOINTS / layout.step_name(step)
    content = {**state, "step": step}
    require(path, bytes_needed(run, optimizer), what=f"the checkpoint {path}")
    with atomic_folder(path) as folder:
        (folder / MODEL).mkdir()
        save_model(folder / MODEL)
        if optimizer is not None:
            from safetensors.torch import save_file

            tensors, content["optimizer"] = optimizer
            save_file(tensors, folder / OPTIMIZER)
        if trained:
            from safetensors.torch import save_file

            save_file({name: weights.contiguous() for name, weights in trained.items()}, folder / TRAINED)
        (folder / STATE).write_text(json.dumps(content, indent=1), encoding="utf-8")
    best = best_checkpoint(run) if keep_best else None
    if best is not None:
        point_to(path.parent / BEST, best.name)
    others = [checkpoint for checkpoint in list_checkpoints(run) if checkpoint not in (path, best)]
    for old in others[: max(0, len(others) - (keep - 1))]:
        remove_folder(old)
    return path


def list_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, by ascending step."""
    paths = (Path(run) / layout.CHECKPOINTS).glob("*")
    found = ((re.fullmatch(r"step-(\d+)", path.name), path) for path in paths if (path / STATE).is_file())
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]


def latest_checkpoint(run: Path) -> Path | None:
    """The complete checkpoint of the highest step, if there is any."""
    return next(reversed(list_checkpoints(run)), None)


def model_of(run: Path) -> Path:
    """The model folder of a run's latest checkpoint."""
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
        raise ConfigError(f"{run} has no checkpoint yet.")
    return checkpoint / MODEL


def model_at(target: str) -> str:
    """What `model.path` and every `MODEL|RUN` name: the model itself; of a run, what its latest checkpoint holds."""
    is_run = (Path(target) / layout.CONFIG).is_file()
    return str(model_of(Path(target))) if is_run else target


def best_checkpoint(run: Path) -> Path | None:
    """The complete checkpoint of the highest score, the newest of equal ones; None if none has a score."""
    scored = [(read_state(path).get("score"), path) for path in list_checkpoints(run)]
    known = [(score, path) for score, path in scored if score is not None and math.isfinite(score)]
    return max(reversed(known), key=lambda pair: pair[0])[1] if known else None


def bytes_needed(run: Path, optimizer: OptimizerState | None) -> int:
    """About as many as the latest checkpoint takes; before there is one, the optimizer's tensors, which are two numbers
    per trained weight, and half as many again for the weights."""
    latest = latest_checkpoint(run)
    if latest is not None:
        return bytes_in(latest)
    return 0 if optimizer is None else sum(tensor.nbytes for tensor in optimizer[0].values()) * 3 // 2


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `state`, with `step`. Floats are exact."""
    path = Path(checkpoint) / STATE
    if not path.is_file():
        raise ConfigError(f"{checkpoint} is no complete checkpoint: there is no {STATE} in it.")
    return json.loads(path.read_text(encoding="utf-8"))


def load_trained(checkpoint: Path) -> dict[str, Tensor]:
    """The weights that training goes on with, by name, if they are not those of the model."""
    from safetensors.torch import load_file

    file = Path(checkpoint) / TRAINED
    return load_file(file) if file.is_file() else {}


def load_optimizer(checkpoint: Path) -> OptimizerState:
    """The optimizer's state when the checkpoint was written."""
    from safetensors.torch import load_file

    numbers = read_state(checkpoint).get("optimizer")
    if numbers is None:
        raise ConfigError(f"{checkpoint} holds no optimizer, so training cannot continue from it exactly.")
    return load_file(Path(checkpoint) / OPTIMIZER), numbers


def flatten_optimizer(optimizer: Optimizer) -> OptimizerState:
    """Split an optimizer's state into tensors, named `<parameter index>.<name>`, and what JSON can hold."""
    import torch

    content = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    others: dict[str, dict[str, Any]] = {}
    for index, entries in content["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value.detach().contiguous()
            else:
                others.setdefault(str(index), {})[name] = value
    return tensors, {"param_groups": content["param_groups"], "state": others}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """The inverse of `flatten_optimizer`, bit for bit. ConfigError if the optimizer has other parameters."""
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in numbers["state"].items()}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    # JSON turns the betas into a list.
    groups = [
        {name: tuple(value) if name == "betas" else value for name, value in group.items()}
        for group in numbers["param_groups"]
    ]
    saved, present = ([len(group["params"]) for group in listed] for listed in (groups, optimizer.param_groups))
    if saved != present:
        raise ConfigError(
            f"the saved optimizer has {saved} parameters in its groups, this one {present}.\n"
            f"  Resume with the model and the trained parts of the original config."
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entries in state.items():
        shape = tuple(parameters[index].shape)
        for name, value in entries.items():
            if getattr(value, "ndim", 0) and tuple(value.shape) != shape:
                raise ConfigError(
                    f"the saved `{name}` of parameter {index} has shape {tuple(value.shape)}, the parameter {shape}.\n"
                    f"  Resume with the model of the original config."
                )
    optimizer.load_state_dict({"state": state, "param_groups": groups})
