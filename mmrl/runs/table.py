"""Rollouts as a Parquet table: its schema, and the way there and back. Where the files are: `layout.py`.

Imports no torch: tensors are only asked for their lists.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mmrl.plain import valid_text
from mmrl.plugins import ConfigError
from mmrl.runs.layout import VERSION, to_json

if TYPE_CHECKING:
    from torch import Tensor

    from mmrl.records import Media, Rollouts, Sample

PER_ACTION = ("pieces", "token_values")
"""Columns with an entry per action: most of a file, and read only by who looks at tokens."""
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
        ("pieces", pa.list_(pa.string())),  # the text of each token; null = the policy has none (denoising steps)
        ("token_values", pa.map_(pa.string(), pa.list_(pa.float32()))),  # `token_values`, one number per action
    ],
    metadata={_VERSION_KEY: str(VERSION)},
)


def to_table(
    rollouts: Rollouts,
    *,
    step: int,
    rank: int,
    media_file: Callable[[Media], str | None],
    made_file: Callable[[Any], str],
    pieces: Sequence[Sequence[str]] | None = None,
) -> pa.Table:
    """One row per completion. `media_file` gives the path of a media's copy, relative to the run directory, and
    `made_file` that of a picture, one of `rollouts.images`; `pieces` are the texts of each row's tokens.

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
    per_action = token_values(rollouts)
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
            "pieces": None if pieces is None else [valid_text(piece) for piece in pieces[row]],
            "token_values": list(per_action[row].items()),
        }
        for row, (group, tokens) in enumerate(zip(rollouts.group.tolist(), rollouts.length.tolist(), strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def token_values(rollouts: Rollouts) -> list[dict[str, list[float | None]]]:
    """Per row, what is known of each of its actions: `advantage`, log-probs, and every signal that is f[N, T].

    None where there is none: the advantage of an action that is not trained, the log-prob of a denoising step that is
    not, whatever is not finite. A name that has no number in any row is left out.
    """
    log_probs = {name: getattr(rollouts, name) for name in ("logp_old", "logp_rollout", "logp_ref")}
    there = rollouts.made if rollouts.images is None else rollouts.mask
    named = {"advantage": (rollouts.advantage, rollouts.mask), **{name: (log_probs[name], there) for name in log_probs}}
    for name, value in rollouts.signals.items():
        if value.shape == rollouts.mask.shape and value.is_floating_point():
            named.setdefault(name, (value, there))
    rows: list[dict[str, list[float | None]]] = [{} for _ in range(len(rollouts))]
    for name, (values, known) in named.items():
        if values is None or not (known & values.isfinite()).any():
            continue
        kept = (known & values.isfinite()).tolist()
        for row, (numbers, keep, length) in enumerate(
            zip(values.tolist(), kept, rollouts.length.tolist(), strict=True)
        ):
            rows[row][name] = [number if keep[i] else None for i, number in enumerate(numbers[:length])]
    return rows


def from_table(table: pa.Table, *, where: Path) -> list[dict[str, Any]]:
    """The rows of `to_table` as dicts, JSON columns decoded, `token_values` a dict; columns that an older schema lacks,
    or that were not read, are None.

    ConfigError for a schema newer than this mmrl.
    """
    version = int((table.schema.metadata or {}).get(_VERSION_KEY, b"0"))
    if version > VERSION:
        raise ConfigError(f"{where} has schema {version}; this mmrl reads up to {VERSION}.\n  Install a newer mmrl.")
    coded = [name for name in _JSON_COLUMNS if name in table.column_names]
    decoded = {name: [json.loads(text) for text in table[name].to_pylist()] for name in coded}
    if "token_values" in table.column_names:
        decoded["token_values"] = [
            None if pairs is None else dict(pairs) for pairs in table["token_values"].to_pylist()
        ]
    rows = table.drop_columns(list(decoded)).to_pylist()
    absent = dict.fromkeys(SCHEMA.names)
    return [{**absent, **row, **{name: decoded[name][i] for name in decoded}} for i, row in enumerate(rows)]


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
