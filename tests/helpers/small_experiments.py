"""An experiment of `mmrl reproduce` that takes seconds, in the working directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from mmrl.replication.reproduce import reproduce

ROOT = Path(__file__).parents[2]


def experiment(**changes: Any) -> dict[str, Any]:
    """Two arms, two seeds, two steps on four screens."""
    task = "configs/reproduce/tasks/mini.yaml"
    return {
        "method": "grpo",
        "claim": "A larger step moves further.",
        "prepare": ["data make gui data/mini count=4 test_count=3"],
        "arms": [
            {"name": "GRPO", "train": task},
            {"name": "fast | GRPO", "train": f"{task} optimizer.learning_rate=1e-3"},
            {"name": "before", "model": "tiny", "config": task},
        ],
        "seeds": 2,
        "evaluate": "data/mini/test.jsonl",
        "measures": [
            {"name": "held-out reward", "source": "evaluation", "metric": "reward"},
            {"name": "length", "source": "training", "metric": "length", "over": "all"},
            {"name": "steps to 2", "source": "training", "reach": 2.0},
        ],
        "expect": {"measure": "held-out reward", "arm": "fast | GRPO", "over": "GRPO", "by": 0.5},
        "tried": "Nothing else.",
    } | changes


TASK = {
    "extends": str(ROOT / "configs/base/grpo"),
    "steps": 2,
    "prompts_per_step": 2,
    "group_size": 4,
    "model": {"path": "tiny"},
    "data": {"train": "data/mini/train.jsonl"},
    "sampling": {"max_new_tokens": 8},
    "rewards": ["point_in_box"],
    "checkpoint": {"every": 1},
}


def write(content: Any) -> Path:
    file = Path("configs/reproduce/mini.yaml")
    file.write_text(yaml.safe_dump(content))
    return file


def run(*names: str, page_only: bool = False) -> None:
    reproduce(
        names, jobs=2, out=Path("runs/reproduce"), page=Path("docs/reproduce.md"), page_only=page_only,
        console=Console(quiet=True),
    )  # fmt: skip
