"""Fixtures for rewards that a test defines; `tests/helpers/reward_rows.py` makes what they score."""

from __future__ import annotations

import sys
import types

import pytest

from rewards.scoring import Rewards


@pytest.fixture
def config(monkeypatch):
    """`config({"name": function, ...}, ...)`: Rewards from functions defined in a test."""

    def build(*specs, **options):
        module = types.ModuleType("rewards_under_test")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        named = []
        for index, spec in enumerate(specs):
            setattr(module, f"function_{index}", spec["name"])
            named.append({**spec, "name": f"{module.__name__}:function_{index}"})
        return Rewards.from_config(named, where="recipe.yaml: rewards", **options)

    return build


@pytest.fixture
def scored(config):
    """`scored(plugin, rollouts, **entry)`: the scores, NaN where a row has none; failures go to the notes."""

    def score(plugin, rolled, **entry):
        config({"name": plugin, "as": "x", **entry}, max_failed=1.0).score(rolled, step=1, total=4)
        return rolled.scores["x"].tolist()

    return score
