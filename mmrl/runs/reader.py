"""Reading run directories, also while they are being written. What is in them: `layout.py`. Imports no torch."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from mmrl.plugins import ConfigError, nearest
from mmrl.runs import layout

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SILENCE = 15 * 60
"""Seconds without a sign of life after which a run of another host counts as stopped."""

State = Literal["running", "finished", "failed", "stopped"]


class Lines(list[dict[str, Any]]):
    """The records of a JSONL file; `broken` counts the lines that were left out because they could not be read."""

    broken: int = 0


@dataclass(frozen=True)
class RunInfo:
    """One run, as a list of runs shows it."""

    name: str
    path: Path
    steps: int
    """Steps recorded."""
    planned: int | None
    """Steps the config asks for."""
    reward: float | None
    """Mean reward of the last recorded step."""
    state: State
    """`stopped`: by a signal, or neither finished nor failed and nobody is at work on it."""
    started: float | None
    """Unix time in seconds."""


def run_path(root: Path, name: str) -> Path:
    """The folder of the run called `name`. ConfigError for names that leave `root` and for runs that do not exist."""
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        raise ConfigError(f"{name!r} is not the name of a run: names are single folders of {root}.")
    path = Path(root) / name
    if not _is_run(path):
        raise ConfigError(f"{root} has no run named `{name}`.\n  {nearest(name, map(name_of, _run_folders(root)))}")
    return path


def name_of(run: Path) -> str:
    """That of its folder, also where the path is `.`."""
    return run.name or run.resolve().name


def list_runs(root: Path) -> list[RunInfo]:
    """All runs directly under `root`, the latest first; empty if there is no such folder."""
    return sorted(map(run_info, _run_folders(root)), key=lambda info: (info.started or 0.0, info.name), reverse=True)


def run_info(run: Path) -> RunInfo:
    """ConfigError if the folder holds no run."""
    run = Path(run)
    if not _is_run(run):
        raise ConfigError(f"{run} holds no run: there is no {layout.CONFIG} in it.")
    metrics, events = read_metrics(run), read_events(run)
    rewards = [line.get("reward") for line in metrics]
    return RunInfo(
        name=name_of(run),
        path=run,
        steps=len(metrics),
        planned=_planned_steps(run),
        reward=rewards[-1] if rewards else None,
        state=state_of(run, events),
        started=next((event["time"] for event in events if event["kind"] == "started"), None),
    )


def read_metrics(run: Path) -> Lines:
    """One flat dict per recorded step, in order. A number that was not finite is None."""
    return _read_lines(Path(run) / layout.METRICS, is_metrics)


def read_events(run: Path) -> Lines:
    """Events in the order of writing; each has `time` (Unix seconds), `kind` and `rank`."""
    return _read_lines(Path(run) / layout.EVENTS, is_event)


def is_metrics(line: dict[str, Any]) -> bool:
    """Whether this is a record of metrics.jsonl."""
    return isinstance(line.get("step"), int)


def is_event(line: dict[str, Any]) -> bool:
    """Whether this is a record of events.jsonl."""
    return isinstance(line.get("kind"), str) and isinstance(line.get("time"), (int, float))


def rollout_steps(run: Path) -> list[int]:
    """The steps that have rollouts, ascending."""
    return sorted({step for step, _, _ in layout.rollout_files(Path(run))})


def read_rollouts(run: Path, step: int) -> list[dict[str, Any]]:
    """The completions of a step from all ranks, as `table.SCHEMA` says, with the JSON columns decoded.

    `group` and `row` are numbered across ranks here, so that a group's number is unique within its step. What is known
    of single tokens is left out (`read_row`).
    """
    from mmrl.runs.table import from_table

    rows: list[dict[str, Any]] = []
    files = [path for recorded, _, path in layout.rollout_files(Path(run)) if recorded == step]
    if not files:
        raise ConfigError(f"{run} has no rollouts of step {step}.\n  {_recorded(run)}")
    for path in files:
        first_group = rows[-1]["group"] + 1 if rows else 0
        for row in from_table(_read_table(path), where=path):
            rows.append({**row, "group": first_group + row["group"], "row": len(rows)})
    return rows


def read_group(run: Path, step: int, rank: int, group: int) -> list[dict[str, Any]]:
    """The rows of one group as its rank wrote them, empty if it has none. Instead of what is known of single tokens,
    `has_tokens` says whether there is anything (`read_row`)."""
    return _read_some(run, step, rank, "group", [group])


def group_numbers(run: Path, step: int, rank: int) -> list[int]:
    """The groups that a rank wrote in a step, in order."""
    return sorted(set(_read_table(_rollout_file(run, step, rank), only=("group",))["group"].to_pylist()))


def read_rows(run: Path, step: int, rank: int, rows: Collection[int]) -> list[dict[str, Any]]:
    """The same for some rows, those that there are, in order."""
    return _read_some(run, step, rank, "row", rows)


def _read_some(run: Path, step: int, rank: int, column: str, values: Collection[int]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    from mmrl.runs.table import from_table

    path = _rollout_file(run, step, rank)
    with pq.ParquetFile(path) as file:
        has_tokens = "token_values" in file.schema_arrow.names
        table = _columns(file)
    rows = from_table(_where(table, column, values), where=path)
    return [{**row, "has_tokens": has_tokens} for row in rows]


def read_row(run: Path, step: int, rank: int, row: int) -> dict[str, Any] | None:
    """One row as its rank wrote it, with its `pieces` and `token_values`, its texts and notes left out; None if there
    is none."""
    from mmrl.runs.table import PER_ACTION, from_table

    path = _rollout_file(run, step, rank)
    table = _read_table(path, only=("row", "origin", "made", "tokens", *PER_ACTION))
    found = from_table(_where(table, "row", [row]), where=path)
    return found[0] if found else None


def _rollout_file(run: Path, step: int, rank: int) -> Path:
    path = Path(run) / layout.ROLLOUTS / f"{layout.step_name(step)}.{rank}.parquet"
    if not path.is_file():
        raise ConfigError(f"{run} has no rollouts of step {step} by rank {rank}.\n  {_recorded(run)}")
    return path


def _read_table(path: Path, *, only: Sequence[str] | None = None) -> pa.Table:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return _columns(file, only=only)


def _columns(file: pq.ParquetFile, *, only: Sequence[str] | None = None) -> pa.Table:
    """Some of the columns, those that there are; by default all but those with an entry per token."""
    from mmrl.runs.table import PER_ACTION

    names = file.schema_arrow.names
    return file.read(columns=[name for name in names if (name in only if only else name not in PER_ACTION)])


def _where(table: pa.Table, column: str, values: Collection[int]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.filter(pc.is_in(table[column], pa.array(list(values), pa.int64())))


def _recorded(run: Path) -> str:
    steps = rollout_steps(run)
    return f"Recorded: {len(steps)} steps from {steps[0]} to {steps[-1]}." if steps else "None are recorded yet."


def _run_folders(root: Path) -> list[Path]:
    root = Path(root)
    return sorted(filter(_is_run, root.iterdir())) if root.is_dir() else []


def _is_run(path: Path) -> bool:
    return (path / layout.CONFIG).is_file()


def _read_lines(path: Path, is_record: Callable[[dict[str, Any]], bool]) -> Lines:
    lines = Lines()
    if not path.is_file():
        return lines
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and is_record(line):
            lines.append(line)
        else:
            lines.broken += 1
    return lines


def _planned_steps(run: Path) -> int | None:
    try:
        config = yaml.safe_load((run / layout.CONFIG).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    steps = config.get("steps") if isinstance(config, dict) else None
    return steps if isinstance(steps, int) else None


def state_of(run: Path, events: Sequence[dict[str, Any]]) -> State:
    """What a run's events say of it, and where they leave it open, its process."""
    turns = [event for event in events if event["kind"] in ("started", "resumed", "finished", "failed", "stopped")]
    if turns and turns[-1]["kind"] in ("finished", "failed", "stopped"):
        return turns[-1]["kind"]
    return "running" if turns and _alive(run, turns[-1]) else "stopped"


def _alive(run: Path, begun: dict[str, Any]) -> bool:
    """Whether the process that began a run is still there; on another host, whether it wrote something lately."""
    if begun.get("host") == socket.gethostname() and isinstance(begun.get("pid"), int):
        try:
            os.kill(begun["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it is somebody else's, and there
            return True
        return True
    written = [path.stat().st_mtime for name in (layout.METRICS, layout.EVENTS) if (path := run / name).is_file()]
    return time.time() - max(written, default=0.0) < SILENCE
