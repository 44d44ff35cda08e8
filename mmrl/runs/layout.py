"""The layout of a run directory: the names of its parts, and its JSON. Rollouts are Parquet: `table.py`.

    config.yaml                            the whole recipe as it ran
    metrics.jsonl                          one line per step, flat; a number that is not finite is null
    events.jsonl                           {"time": Unix seconds, "kind": ..., "rank": ..., ...}
    rollouts/step-000012.<rank>.parquet    one row per completion, `table.SCHEMA`
    annotations.jsonl                      stars and notes of whoever looked (`mmrl/viewer/annotations.py`)
    media/<SHA-256>.<ext>                  every image and video once, those of the prompts and those that were made
    checkpoints/step-000100/               see `checkpoints.py`
    .lock                                  held by whoever trains (`lock.py`)

Imports neither torch nor pyarrow, which take a while: whoever only follows a run's lines needs neither.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from mmrl.plain import plain

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
LOCK = ".lock"
ROLLOUTS = "rollouts"
MEDIA = "media"
CHECKPOINTS = "checkpoints"

EventKind = Literal[
    "started", "resumed", "warning", "checkpoint", "evaluation", "finished", "failed", "stopped", "skipped", "memory"
]
"""`skipped`: an update or a row of the data that was left out; `memory`: less goes through the model at once."""

_IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg"}
MEDIA_SUFFIXES = frozenset(_IMAGES | VIDEO_SUFFIXES)
"""What may be copied into a run directory. SVG and HTML are not among them: a browser would run their scripts."""

DEEPEST = 50
"""Levels of what a reward wants shown; deeper ones, and circles, are cut."""

VERSION = 3
"""Of the rollouts' schema. 2 added `made`; before it, `logp_old` was the mean over all actions. 3 added `pieces` and
`token_values`."""


def step_name(step: int) -> str:
    return f"step-{step:06d}"


def rollout_files(run: Path) -> list[tuple[int, int, Path]]:
    """(step, rank, file) of everything recorded, sorted; temporaries are not among them."""
    found = ((re.fullmatch(r"step-(\d+)\.(\d+)\.parquet", path.name), path) for path in (run / ROLLOUTS).glob("*"))
    return sorted((int(match[1]), int(match[2]), path) for match, path in found if match)


def to_json(value: Any) -> str:
    """JSON that any parser reads: numbers that are not finite become null, unknown objects their text."""
    return json.dumps(plain(value, deepest=DEEPEST), ensure_ascii=False)
