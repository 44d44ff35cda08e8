"""The policy that `MODEL|RUN` names: a model, or what a run has made so far. A run's checkpoint that is no whole model
(LoRA, a denoiser) goes onto the model that the run began with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.config import Config, ModelConfig, load_config
from mmrl.policies import policy_class
from mmrl.runs import layout
from mmrl.runs.checkpoints import model_of

if TYPE_CHECKING:
    from data_pipelines.budget import Budget
    from mmrl.stages import Policy

WHOLE = ("config.json", "model_index.json")
"""Either is in the folder of a model that can be loaded by itself."""


def resolve(target: str, settings: ModelConfig) -> tuple[ModelConfig, Path | None]:
    """The model to load, and the folder of weights to put into it then, if there are any. `settings` say how a whole
    model is loaded; what such weights go onto is loaded as the run did."""
    file = Path(target) / layout.CONFIG
    if not file.is_file():
        return replace(settings, path=target, adapter=None), None
    weights = model_of(Path(target))
    if is_whole(weights):
        return replace(settings, path=str(weights), adapter=None), None
    config: Config = load_config(file)
    return config.model, weights


def is_whole(folder: Path) -> bool:
    return any((folder / name).is_file() for name in WHOLE)


def load_policy(target: str, settings: ModelConfig, budget: Budget) -> Policy:
    """Of a run as it is at its newest checkpoint."""
    settings, weights = resolve(target, settings)
    policy = policy_class(settings.path).load(settings, budget)
    if weights is not None:
        policy.restore(weights)
    return policy
