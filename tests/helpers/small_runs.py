"""Runs that train a small model on a few rows, for tests that look at what a run leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def write_recipe(place: Path, name: str, **settings: Any) -> str:
    """`NAME.yaml` in `place`, for the model that is saved there; its runs end up there as well, unless settings say
    so."""
    config = {
        "name": name,
        "runs": str(place / "runs"),
        "model": {"path": str(place / "model"), "vision": "trained"},
        "optimizer": {"learning_rate": 1e-3},
        **settings,
    }
    file = place / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config))
    return str(file)
