"""Diffusion policies on every pipeline family, with tiny random weights and real diffusers pipelines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_pipelines
from tiny_policies import generate, settings

from mmrl.config import AdapterConfig, ModelConfig
from mmrl.policies.diffusion import DiffusionPolicy
from mmrl.policies.pipelines import load_pipeline
from mmrl.records import Rollouts, Sample


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a tiny pipeline, made when it is first asked for."""
    root = tmp_path_factory.mktemp("pipelines")

    def find(name: str) -> Path:
        return root / name if (root / name).exists() else tiny_pipelines.save(name, root / name)

    return find


@pytest.fixture(scope="session")
def build(folder) -> Callable[..., DiffusionPolicy]:
    """A policy of its own for a test that changes it."""

    def policy(name: str, *, lora: bool = False, **changes: Any) -> DiffusionPolicy:
        adapter = AdapterConfig(rank=2) if lora else None
        return DiffusionPolicy(load_pipeline(ModelConfig(path=str(folder(name)), adapter=adapter, **changes)))

    return policy


@pytest.fixture(scope="session")
def shared(build) -> Callable[[str], DiffusionPolicy]:
    """One policy per family: leave its weights as they are."""
    made: dict[str, DiffusionPolicy] = {}
    return lambda name: made.setdefault(name, made.get(name) or build(name))


@pytest.fixture(scope="session")
def samples(studio) -> list[Sample]:
    return [studio.sample(text, text, studio.picture()) for text in ("a red circle", "the green square moves")]


@pytest.fixture(scope="session")
def rollouts(shared, samples) -> Callable[..., Rollouts]:
    made: dict[tuple[str, float], Rollouts] = {}

    def find(name: str, guidance: float = 1.0) -> Rollouts:
        if (name, guidance) not in made:
            made[name, guidance] = generate(shared(name), samples, settings(name, guidance))
        return made[name, guidance]

    return find
