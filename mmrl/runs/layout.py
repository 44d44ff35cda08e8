"""The layout of a run directory: the names of its parts, its JSON, and the Parquet schema of completions.

    config.yaml                            the whole recipe as it ran
    metrics.jsonl                          one line per step, flat; a number that is not finite is null
    events.jsonl                           {"time": Unix seconds, "kind": ..., "rank": ..., ...}
    rollouts/step-000012.<rank>.parquet    one row per completion, `SCHEMA`
    media/<SHA-256>.<ext>                  every image and video once, those of the prompts and those that were made
    checkpoints/step-000100/               see `checkpoints.py`

Imports no torch: tensors are only asked for their lists.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from mmrl.plain import plain, valid_text
from mmrl.plugins import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from mmrl.records import Media, Rollouts, Sample

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
ROLLOUTS = "rollouts"
MEDIA = "media"
CHECKPOINTS = "checkpoints"

EventKind = Literal["started", "resumed", "warning", "checkpoint", "evaluation", "finished", "failed"]

_IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
_VIDEOS = {".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg"}
MEDIA_SUFFIXES = frozenset(_IMAGES | _VIDEOS)
"""What may be copied into a run directory. SVG and HTML are not among them: a browser would run their scripts."""

DEEPEST = 50
"""Levels of what a reward wants shown; deeper ones, and circles, are cut."""

VERSION = 2
"""2 added `made`; before it, `logp_old` was the mean over all actions."""
_VERSION_KEY = b"mmrl.schema"
_JSON_COLUMNS = ("messages", "target", "meta", "scores", "notes")

_MEDIA_TYPE = pa.struct(
    [
        ("kind", pa.string()),  # image | video
        ("file", pa.string()),  # relative to the run directory; null = could not be kept (an event says why)
        ("width", pa.int64()),  # pixels, as stored
        ("height", pa.int64()),
        ("seen_width", pa.int64()),  # pixels, what the model saw
        ("seen_height", pa.int64()),
        ("times", pa.list_(pa.float64())),  # seconds, one per frame the model saw
    ]
)

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("rank", pa.int64()),
        ("group", pa.int64()),  # within this step and rank
        ("row", pa.int64()),  # within this step and rank
        ("sample_id", pa.string()),
        ("origin", pa.string()),
        ("messages", pa.string()),  # JSON: the prompt as chat messages
        ("media", pa.list_(_MEDIA_TYPE)),  # in order of appearance in the messages
        ("target", pa.string()),  # JSON
        ("meta", pa.string()),  # JSON
        ("coordinates", pa.string()),
        ("completion", pa.string()),  # empty where an image or a video was made
        ("made", pa.string()),  # the image or video, relative to the run directory; null = a text was made
        ("tokens", pa.int64()),  # actions: tokens, the end-of-turn included, or denoising steps
        ("truncated", pa.bool_()),  # null = cannot be
        ("reward", pa.float64()),  # null = this completion has none
        ("scores", pa.string()),  # JSON: reward name -> number, null = not applicable or failed
        ("advantage", pa.float64()),  # mean over the actions that may receive loss
        ("logp_old", pa.float64()),  # the same
        ("notes", pa.string()),  # JSON: reward name -> what it wants shown
    ],
    metadata={_VERSION_KEY: str(VERSION)},
)


def step_name(step: int) -> str:
    return f"step-{step:06d}"


def rollout_files(run: Path) -> list[tuple[int, int, Path]]:
    """(step, rank, file) of everything recorded, sorted; temporaries are not among them."""
    found = ((re.fullmatch(r"step-(\d+)\.(\d+)\.parquet", path.name), path) for path in (run / ROLLOUTS).glob("*"))
    return sorted((int(match[1]), int(match[2]), path) for match, path in found if match)


def to_json(value: Any) -> str:
    """JSON that any parser reads: numbers that are not finite become null, unknown objects their text."""
    return json.dumps(plain(value, deepest=DEEPEST), ensure_ascii=False)


def to_table(
    rollouts: Rollouts,
    *,
    step: int,
    rank: int,
    media_file: Callable[[Media], str | None],
    made_file: Callable[[Any], str],
) -> pa.Table:
    """One row per completion. `media_file` gives the path of a media's copy, relative to the run directory, and
    `made_file` that of a picture, one of `rollouts.images`.

    Prompts repeat G times in the table and are stored once: Parquet keeps a dictionary per column.
    """
    asked = [_describe(sample, media_file) for sample in rollouts.samples]
    count = len(rollouts)
    reward = _numbers(rollouts.reward, count)
    advantage = _numbers(_row_means(rollouts.advantage, rollouts.mask), count)
    logp_old = _numbers(_row_means(rollouts.logp_old, rollouts.mask), count)
    truncated = _numbers(rollouts.signals.get("truncated"), count)
    made = [None if image is None else made_file(image) for image in rollouts.images or [None] * count]
    scores = {name: _numbers(values, count) for name, values in rollouts.scores.items()}
    rows = [
        {
            **asked[group],
            "step": step,
            "rank": rank,
            "group": group,
            "row": row,
            "origin": rollouts.origin[row],
            "completion": valid_text(rollouts.text[row]),
            "made": made[row],
            "tokens": tokens,
            "truncated": None if truncated[row] is None else bool(truncated[row]),
            "reward": reward[row],
            "scores": to_json({name: values[row] for name, values in scores.items()}),
            "advantage": advantage[row],
            "logp_old": logp_old[row],
            "notes": to_json(rollouts.notes[row]),
        }
        for row, (group, tokens) in enumerate(zip(rollouts.group.tolist(), rollouts.length.tolist(), strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def from_table(table: pa.Table, *, where: Path) -> list[dict[str, Any]]:
    """The rows of `to_table` as dicts, JSON columns decoded, columns that an older schema lacks None.

    ConfigError for a schema newer than this mmrl.
    """
    version = int((table.schema.metadata or {}).get(_VERSION_KEY, b"0"))
    if version > VERSION:
        raise ConfigError(f"{where} has schema {version}; this mmrl reads up to {VERSION}.\n  Install a newer mmrl.")
    decoded = {name: [json.loads(text) for text in table[name].to_pylist()] for name in _JSON_COLUMNS}
    rows = table.drop_columns(list(_JSON_COLUMNS)).to_pylist()
    absent = dict.fromkeys(SCHEMA.names)
    return [{**absent, **row, **{name: decoded[name][i] for name in _JSON_COLUMNS}} for i, row in enumerate(rows)]


def _describe(sample: Sample, media_file: Callable[[Media], str | None]) -> dict[str, Any]:
    return {
        "sample_id": valid_text(sample.id),
        "messages": to_json(sample.messages),
        "target": to_json(sample.target),
        "meta": to_json(sample.meta),
        "coordinates": valid_text(sample.coordinates),
        "media": [
            {
                "kind": media.kind,
                "file": media_file(media),
                "width": media.size[0],
                "height": media.size[1],
                "seen_width": media.seen[0] if media.seen else None,
                "seen_height": media.seen[1] if media.seen else None,
                "times": list(media.times),
            }
            for media in sample.media
        ],
    }


def _numbers(values: Tensor | None, count: int) -> list[float | None]:
    """[N] -> N numbers, None where not finite."""
    if values is None:
        return [None] * count
    return [value if math.isfinite(value) else None for value in values.double().tolist()]


def _row_means(values: Tensor | None, mask: Tensor) -> Tensor | None:
    """Mean of each row where `mask` is True, NaN where that is nowhere. [N, T] -> [N]."""
    return None if values is None else values.double().masked_fill(~mask, 0.0).sum(1) / mask.sum(1)
