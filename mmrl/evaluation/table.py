"""What `mmrl eval` prints and writes: a table, one JSON object, and the completions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from mmrl import distributed
from mmrl.evaluation import Evaluation
from mmrl.evaluation.estimates import Estimate
from mmrl.plugins import ConfigError
from mmrl.runs.files import atomic_write
from mmrl.runs.writer import RunWriter, holds_run


def table(result: Evaluation, *, samples: int) -> Table | None:
    """A row per metric, with the vote beside single completions and pass@k below; None if there are no metrics."""
    if not result.metrics:
        return None
    titles = ["metric", "one completion" if samples > 1 else "value"]
    grid = Table(title="95 % intervals", title_justify="left")
    for title in [*titles, *([f"vote of {samples}"] if result.voted else []), "prompts"]:
        grid.add_column(title, no_wrap=title != "metric", overflow="fold")
    for name, value in result.metrics.items():
        vote = [said(result.voted.get(name))] if result.voted else []
        grid.add_row(name, said(value), *vote, str(value.prompts))
        for k, passed in result.passed.get(name, {}).items():
            grid.add_row(f"  pass@{k}", said(passed), *([""] if result.voted else []), str(passed.prompts))
    return grid


def said(value: Estimate | None) -> str:
    if value is None or math.isnan(value.mean):
        return ""
    return f"{value.mean:.3f} ({value.low:.2f} to {value.high:.2f})"


def write_json(file: Path, result: Evaluation, **about: Any) -> None:
    """`about` says what was evaluated, and how; every number has its interval and how many prompts it counts."""

    def plain(values: Mapping[Any, Estimate]) -> dict[str, Any]:
        return {
            str(name): {key: finite(part) for key, part in value._asdict().items()} for name, value in values.items()
        }

    content = {
        **about,
        "reward": {key: finite(getattr(result, key)) for key in ("score", "low", "high", "prompts")},
        "scores": {name: finite(value) for name, value in result.scores.items()},
        "length": float(result.rollouts.length.float().mean()),
        "metrics": plain(result.metrics),
        "voted": plain(result.voted),
        "pass_at": {name: plain(passed) for name, passed in result.passed.items()},
    }
    with atomic_write(file) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def check_new(folder: Path) -> None:
    """ConfigError, before anything is completed, for a folder that `write_completions` would refuse."""
    if holds_run(folder):
        raise ConfigError(f"--out {folder} already holds a run.\n  Choose another folder.")


def write_completions(folder: Path, result: Evaluation) -> None:
    """A run directory of one step. Every rank writes the completions that it holds."""
    rank = distributed.rank()
    if rank == 0:
        RunWriter.create(folder, "")
    distributed.wait()
    writer = RunWriter(folder, rank=rank)
    writer.record_rollouts(0, result.rollouts.select(result.rollouts.held.nonzero().flatten().tolist()))
    distributed.wait()
    if rank == 0:
        writer.record_metrics(0, {"reward": result.score})


def finite(value: float) -> float | None:
    """JSON has no NaN: what could not be measured is null."""
    return None if math.isnan(value) else value
