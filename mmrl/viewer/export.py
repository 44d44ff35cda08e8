"""A selection taken away: JSON Lines that `mmrl sft` reads, or a folder that opens from disk (`static.py`)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.plugins import ConfigError
from mmrl.runs import layout
from mmrl.viewer.answers import ExportRequest
from mmrl.viewer.filters import from_query
from mmrl.viewer.groups import Marks, some_rows
from mmrl.viewer.prompts import kind_of, parts_of
from mmrl.viewer.queries import chosen
from mmrl.viewer.subjects import Gone, Subject

MOST_ROWS = {"jsonl": 100_000, "static": 2_000}
"""A page of more than that opens in no browser."""

Key = tuple[int, int, int]


@dataclass(frozen=True)
class File:
    """A download."""

    name: str
    kind: str
    content: bytes


def export(subject: Subject, wanted: ExportRequest, marks: Marks) -> File:
    """The rows that are chosen, in order of step, rank and number. ConfigError if there are none or too many."""
    if subject.kind == "dataset":
        raise ConfigError("A data set has no completions to export; it is a file already.")
    keys = _keys(subject, wanted, marks)
    rows = list(_rows(subject, keys))
    name = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in subject.name
    )
    if wanted.form == "jsonl":
        lines = [json.dumps(sft_row(subject, row), ensure_ascii=False) + "\n" for row in rows]
        return File(f"{name}.jsonl", "application/x-ndjson", "".join(lines).encode())
    from mmrl.viewer.static import bundle

    return File(f"{name}.zip", "application/zip", bundle(subject, rows, marks, folder=f"mmrl-{name}"))


def sft_row(subject: Subject, row: dict[str, Any]) -> dict[str, Any]:
    """A row as data: the chat with the completion as its last turn, media as the run keeps them.

    ConfigError for a picture that was made: it is no turn of a chat.
    """
    if row["made"] is not None:
        raise ConfigError("Pictures that were made are no text to learn from: export them with form=static.")
    chat = [message for message in row["messages"] if isinstance(message, dict)]
    while chat and chat[-1].get("role") == "assistant":  # the policy did not see it
        chat.pop()
    files = iter(row["media"] or [])
    messages = [{**message, "content": _with_kept_media(subject, message, files)} for message in chat]
    place = {"run": subject.name, **{key: row[key] for key in ("step", "rank", "row", "reward", "advantage")}}
    sample = row["sample_id"].rpartition("@")[0] or row["sample_id"]
    return {
        "id": f"{sample}-{subject.name}-{row['step']}-{row['rank']}-{row['row']}",
        "messages": [*messages, {"role": "assistant", "content": row["completion"]}],
        "target": row["target"],
        "meta": {**row["meta"], "rollout": place},
    }


def _with_kept_media(subject: Subject, message: dict[str, Any], files: Iterator[dict[str, Any]]) -> Any:
    """The content with the paths of the run's own copies, which stay while the data may move."""
    if isinstance(message.get("content"), str):
        return message["content"]
    parts = []
    for part in parts_of(message):
        kind = kind_of(part)
        if kind != "text" and (item := next(files, None)) and item["file"]:
            path = subject.media_path(Path(item["file"]).name)
            part = part if path is None else {**part, kind: str(path.absolute())}
        parts.append(part)
    return parts


def _keys(subject: Subject, wanted: ExportRequest, marks: Marks) -> list[Key]:
    most = MOST_ROWS[wanted.form]
    if wanted.selection is not None:
        keys = [(one.step, one.rank, one.row) for one in wanted.selection]
    else:
        stars = [key for key, mark in marks.items() if mark.star]
        index = subject.index(wait=60)
        if index.progress.done < index.progress.total:
            raise ConfigError("The run is still being read, and so not all rows are known: save again in a while.")
        keys = chosen(index, from_query(wanted.filters or ""), stars, most + 1)
    if not keys:
        raise ConfigError("Nothing is chosen: no row is as the filters say.")
    if len(keys) > most:
        raise ConfigError(f"{wanted.form} holds at most {most:,} rows, and more are chosen. Filter more narrowly.")
    return sorted(set(keys))


def _rows(subject: Subject, keys: Collection[Key]) -> Iterator[dict[str, Any]]:
    """What is stored of the rows, a file at a time."""
    files: dict[tuple[int, int], list[int]] = defaultdict(list)
    for step, rank, row in keys:
        files[step, rank].append(row)
    for (step, rank), numbers in files.items():
        found = some_rows(subject.path, step, rank, numbers)
        if len(found) < len(numbers):
            missing = sorted(set(numbers) - {row["row"] for row in found})
            raise Gone(f"{layout.step_name(step)} of rank {rank} has no row {missing[0]}.")
        yield from found
