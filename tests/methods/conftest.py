"""The numeric vectors of visual generation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / "golden" / "diffusion.json"


@pytest.fixture(scope="session")
def vectors() -> dict[str, dict[str, Any]]:
    """By name: inputs, expected, how_obtained."""
    return {vector["name"]: vector for vector in json.loads(FILE.read_text())}
