"""Runs in words: what a run came to, a table of runs, and the completions of a step. For the terminal.

The functions return rich renderables and print nothing. Completions are untrusted: they are shown as plain text, with
markup inert and control characters taken out.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mmrl.plugins import ConfigError
from mmrl.runs.reader import RunInfo, read_metrics, read_rollouts, rollout_steps, run_info

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
# C0 and C1 but newline and tab; and the characters that reorder the text around them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_STATE_STYLES = {"running": "cyan", "finished": "green", "failed": "red", "stopped": "yellow"}


def summarize(run: Path) -> dict[str, Any]:
    """What a run came to, as plain values; None for what was not recorded.

    `reward_first` and `reward_last` are means over the first and last tenth of the steps; `zero_spread`, `all_right`
    and `all_wrong` mean shares of groups (0 to 1); `seconds` totals per phase.
    """
    info, metrics = run_info(run), read_metrics(run)
    tenth = max(1, len(metrics) // 10)
    rewards = [(line["reward"], line["step"]) for line in metrics if line.get("reward") is not None]
    best = max(rewards, key=lambda pair: pair[0], default=(None, None))
    phases = {name.removeprefix("seconds/") for line in metrics for name in line if name.startswith("seconds/")}
    seconds = {phase: math.fsum(_values(metrics, f"seconds/{phase}")) for phase in phases}
    return {
        "name": info.name,
        "path": str(info.path.resolve()),
        "state": info.state,
        "steps": info.steps,
        "planned": info.planned,
        "reward_first": _mean(metrics[:tenth], "reward"),
        "reward_last": _mean(metrics[-tenth:], "reward"),
        "best_reward": best[0],
        "best_step": best[1],
        "zero_spread": _mean(metrics, "groups_zero_spread"),
        "all_right": _mean(metrics, "groups_all_right"),
        "all_wrong": _mean(metrics, "groups_all_wrong"),
        "seconds": dict(sorted(seconds.items(), key=lambda item: -item[1])),
        "total_seconds": math.fsum(seconds.values()),
        "broken_lines": metrics.broken,
    }


def summary(run: Path) -> Table:
    """`summarize` as a table of two columns."""
    facts = summarize(run)
    table = Table(title=Text(clean(facts["name"])), title_justify="left", show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    total = facts["total_seconds"]
    tenths = f"{_number(facts['reward_first'])} → {_number(facts['reward_last'])}"
    outcomes = f"all right {_share(facts['all_right'])}, all wrong {_share(facts['all_wrong'])}"
    rows = [
        ("state", f"{facts['state']}, {_progress(facts['steps'], facts['planned'])} steps"),
        ("reward", f"{tenths} (first and last tenth of the steps)"),
        ("best step", f"{_number(facts['best_reward'])} at step {_or_dash(facts['best_step'])}"),
        ("groups without spread", f"{_share(facts['zero_spread'])} ({outcomes})"),
        ("time", _duration(total)),
        *(
            (f"  {phase}", f"{_duration(spent)}, {_share(spent / total if total else None)}")
            for phase, spent in facts["seconds"].items()
        ),
        ("folder", facts["path"]),
    ]
    if facts["broken_lines"]:
        rows.append(("unreadable lines", str(facts["broken_lines"])))
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    return table


def runs_table(runs: Sequence[RunInfo]) -> Table:
    """One line per run, as `list_runs` gives them."""
    table = Table("run", "state", box=None, header_style="bold")
    for heading in ("steps", "last reward"):
        table.add_column(heading, justify="right")
    table.add_column("started")
    for run in runs:
        started = datetime.fromtimestamp(run.started).strftime("%Y-%m-%d %H:%M") if run.started else "-"
        state = Text(run.state, style=_STATE_STYLES[run.state])
        cells = (_progress(run.steps, run.planned), _number(run.reward), started)
        table.add_row(Text(clean(run.name)), state, *map(Text, cells))
    return table


def show_run(run: Path, step: int | None = None, *, limit: int = 4) -> Group:
    """The completions of a step (default: the last), for the first `limit` prompts, each with its group.

    ConfigError if the step, or any step, has no rollouts.
    """
    steps = rollout_steps(run)
    if not steps:
        raise ConfigError(f"{run} has no rollouts yet.")
    step = steps[-1] if step is None else step
    groups = [list(rows) for _, rows in groupby(read_rollouts(run, step), key=lambda row: row["group"])]
    shown = [part for rows in groups[:limit] for part in _show_group(rows)]
    head = Text(f"step {step}: {min(limit, len(groups))} of {len(groups)} prompts", style="bold")
    return Group(head, *shown)


def mean(values: Iterable[float]) -> float:
    """Of those that are numbers; NaN of none."""
    numbers = [value for value in values if not math.isnan(value)]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def clean(text: str) -> str:
    """`text` without terminal escape sequences and control characters; newlines and tabs stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def _show_group(rows: list[dict[str, Any]]) -> list[Text | Table]:
    first = rows[0]
    files = ", ".join(media["file"] or "(not kept)" for media in first["media"])
    head = Text(f"\n{clean(first['sample_id'])}", style="bold")
    question = Text(clean(_prompt_text(first["messages"])), style="italic")
    facts = Text(clean(f"target {json.dumps(first['target'], ensure_ascii=False)}  {files}".rstrip()), style="dim")
    names = list(first["scores"])
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    actions = "tokens" if all(row["made"] is None for row in rows) else "steps"
    for name in ("reward", "advantage", *names, actions):
        table.add_column(Text(clean(name)), justify="right")
    table.add_column("completion", overflow="fold")
    for row in rows:
        tokens = f"{row['tokens']}{'…' if row['truncated'] else ''}"
        origin = "" if row["origin"] == "policy" else f"({row['origin']}) "
        numbers = (row["reward"], row["advantage"], *(row["scores"].get(name) for name in names))
        cells = (*map(_number, numbers), tokens, clean(origin + (row["made"] or row["completion"])))
        table.add_row(*map(Text, cells))
    return [head, question, facts, table]


def _prompt_text(messages: Iterable[dict[str, Any]]) -> str:
    """The texts of a chat, one line per message; media as `[image]`."""
    lines = []
    for message in messages:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        said = " ".join(str(part.get("text", f"[{part.get('type')}]")) for part in parts)
        lines.append(f"{message.get('role', '?')}: {said}")
    return "\n".join(lines)


def _values(metrics: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [line[name] for line in metrics if line.get(name) is not None]


def _mean(metrics: Sequence[dict[str, Any]], name: str) -> float | None:
    values = _values(metrics, name)
    return statistics.fmean(values) if values else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _or_dash(value: Any) -> str:
    return "-" if value is None else str(value)


def _progress(steps: int, planned: int | None) -> str:
    return str(steps) if planned is None else f"{steps}/{planned}"


def _duration(seconds: float) -> str:
    """`8.3 s`, `2 min 05 s` or `3 h 07 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
