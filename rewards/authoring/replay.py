"""`mmrl rewards replay RUN my.py:fn`: the stored completions of a run, scored again by another reward.

Compared is within groups, because that is all that group-relative methods learn from. How samples are rebuilt from
what a run stores: `stored.py`. Completions are untrusted: shown as plain text, control characters taken out (`clean`).
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import get_console
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from rich.text import Text

from mmrl.plugins import ConfigError, nearest
from mmrl.records import Sample
from mmrl.runs import layout
from mmrl.runs.reader import read_rollouts, rollout_steps, run_info
from mmrl.runs.summary import clean, mean
from rewards.authoring.stored import DataFiles, rollouts_of
from rewards.calling import Outcome, describe
from rewards.entry import Entry
from rewards.registry import Score

COMBINED = "reward"
"""What a new reward is compared with unless a score is named: the run's combined reward."""
SHOWN = 3


@dataclass(frozen=True)
class Row:
    """One stored completion, before and after."""

    step: int
    group: int
    """Unique within the step."""
    sample: Sample
    completion: str
    before: float
    """NaN = it had none."""
    after: float
    """NaN = does not apply, or failed."""
    outcome: Outcome


@dataclass(frozen=True)
class Move:
    """A completion and its ranks in its group, 1 the best; equal ones share the mean of theirs."""

    row: Row
    rank_before: float
    rank_after: float
    of: int


@dataclass(frozen=True)
class Replay:
    """What would have changed. Shares are of groups and 0 to 1; a number is NaN where there is nothing to count."""

    rows: list[Row]
    groups: int
    rank_correlation: float
    """Spearman's, within each group in which both rewards differ between completions, then the mean of those groups."""
    correlated: int
    """How many these are."""
    best_changed: float
    """Share of the same groups in which no completion is among the best of both."""
    flat_before: float
    """Share of groups whose completions all have the same reward: they teach nothing."""
    flat_after: float
    mean_before: float
    mean_after: float
    failures: list[Row]
    not_applicable: int
    moves: list[Move]
    """Completions whose rank in their group changes most, one per group."""


def replay(run: Path, spec: dict[str, Any], *, steps: str | None = None, against: str = COMBINED) -> Replay:
    """Score a run's completions again with the entry `spec` of a recipe's `rewards`; `steps` is `a:b`, b excluded.

    ConfigError for steps and scores that are not there, and for samples that lack what the reward needs.
    """
    info = run_info(run)
    entry = Entry.from_config(spec, where=f"mmrl rewards replay {spec['name']}")
    if entry.info.reads in ("image", "video"):
        raise ConfigError(f"{entry.name} reads {entry.info.reads}s, but the completions that {run} stores are texts.")
    chosen = _chosen_steps(run, steps)
    data = DataFiles(run)
    rows: list[Row] = []
    try:
        for step in track(chosen, "scoring", transient=True, disable=not get_console().is_terminal):
            stored = read_rollouts(run, step)
            before = [_before(row, against, run) for row in stored]
            rollouts = rollouts_of(stored, run, entry, data)
            outcomes = entry.outcomes(rollouts, step=step, total=info.planned or chosen[-1] + 1)
            rows += [
                Row(step, row["group"], rollouts.sample_of(i), row["completion"], before[i], _value(found), found)
                for i, row in enumerate(stored)
                if i in outcomes  # its task is one the reward applies to
                for found in [outcomes[i]]
            ]
    finally:
        entry.close()
    return compare(rows)


def compare(rows: list[Row]) -> Replay:
    """From rows in the order of steps and groups."""
    import numpy as np
    from scipy.stats import rankdata, spearmanr

    groups = [list(members) for _, members in groupby(rows, key=lambda row: (row.step, row.group))]
    flat: dict[str, list[bool]] = {"before": [], "after": []}
    correlations: list[float] = []
    changed: list[bool] = []
    moves: list[Move] = []
    for members in groups:
        for side, values in flat.items():
            numbers = [value for value in (getattr(row, side) for row in members) if not math.isnan(value)]
            if numbers:
                values.append(max(numbers) == min(numbers))
        both = [row for row in members if not math.isnan(row.before) and not math.isnan(row.after)]
        if len(both) < 2:
            continue
        before, after = (np.array([getattr(row, side) for row in both]) for side in flat)
        ranks_before, ranks_after = rankdata(-before), rankdata(-after)
        most = int(np.abs(ranks_before - ranks_after).argmax())
        moves.append(Move(both[most], float(ranks_before[most]), float(ranks_after[most]), len(both)))
        if np.ptp(before) > 0 and np.ptp(after) > 0:
            correlations.append(float(spearmanr(before, after).statistic))
            changed.append(not np.any((before == before.max()) & (after == after.max())))

    def share_moved(move: Move) -> float:
        return abs(move.rank_before - move.rank_after) / move.of

    return Replay(
        rows=rows,
        groups=len(groups),
        rank_correlation=mean(correlations),
        correlated=len(correlations),
        best_changed=mean(changed),
        flat_before=mean(flat["before"]),
        flat_after=mean(flat["after"]),
        mean_before=mean([row.before for row in rows]),
        mean_after=mean([row.after for row in rows]),
        failures=[row for row in rows if isinstance(row.outcome, Exception)],
        not_applicable=sum(row.outcome is None for row in rows),
        moves=[move for move in sorted(moves, key=share_moved, reverse=True)[:SHOWN] if share_moved(move) > 0],
    )


def _value(outcome: Outcome) -> float:
    return outcome.value if isinstance(outcome, Score) else math.nan


def _before(row: dict[str, Any], against: str, run: Path) -> float:
    if against != COMBINED and against not in row["scores"]:
        raise ConfigError(f"{run} has no score `{against}`.\n  {nearest(against, [COMBINED, *row['scores']])}")
    value = row["reward"] if against == COMBINED else row["scores"][against]
    return math.nan if value is None else float(value)


def _chosen_steps(run: Path, steps: str | None) -> list[int]:
    recorded = rollout_steps(run)
    if not recorded:
        raise ConfigError(f"{run} has no rollouts yet.")
    first, colon, last = (steps or ":").partition(":")
    try:
        low = int(first) if first else recorded[0]
        high = (int(last) if last else recorded[-1] + 1) if colon else low + 1
    except ValueError:
        raise ConfigError(f"--steps {steps}: written a:b, for example 10:20, 100: or 7.") from None
    chosen = [step for step in recorded if low <= step < high]
    if not chosen:
        raise ConfigError(f"--steps {steps}: {run} has rollouts of steps {recorded[0]} to {recorded[-1]}.")
    return chosen


def report(result: Replay, run: Path, spec: Mapping[str, Any], *, against: str = COMBINED) -> Group:
    """`replay`'s result for the terminal, with what to do next."""
    name = str(spec["name"])
    steps = [row.step for row in result.rows]
    where = f"steps {min(steps)} to {max(steps)}: " if steps else ""
    head = f"{run}, {where}{len(result.rows):,} completions in {result.groups:,} groups"
    table = Table(
        "",
        escape(clean(f"stored {against}")),
        escape(clean(name)),
        "",
        box=None,
        header_style="bold",
        padding=(0, 2, 0, 0),
    )
    lines = [
        ("mean", _number(result.mean_before), _number(result.mean_after), ""),
        ("groups without spread", _share(result.flat_before), _share(result.flat_after), "they teach nothing"),
        (
            "rank correlation",
            "",
            _number(result.rank_correlation),
            f"Spearman in each group, mean of {result.correlated:,}",
        ),
        ("best completion changes", "", _share(result.best_changed), f"of these {result.correlated:,}"),
        ("failures", "", f"{len(result.failures):,}", _first_failure(result)),
        ("does not apply", "", f"{result.not_applicable:,}", ""),
    ]
    for line in lines:
        table.add_row(*map(Text, line))
    parts: list[RenderableType] = [Text(clean(head), style="bold"), Text(), table]
    if result.moves:
        parts.append(Text(clean(f"\nSeen most differently ({against} → {name})"), style="bold"))
        parts += map(_shown, result.moves)
    parts.append(Text(_advice(result), style="yellow"))
    if result.correlated or not result.failures:
        parts.append(Text(f"Next: {clean(_train(run, spec))}", style="dim", no_wrap=True, overflow="ignore"))
    return Group(*parts)


def _shown(move: Move) -> Text:
    row = move.row
    why = row.outcome.why if isinstance(row.outcome, Score) else ""
    text = Text(f"\nstep {row.step}, {clean(row.sample.id)}: {_number(row.before)} → {_number(row.after)}")
    text.append(f", place {move.rank_before:g} → {move.rank_after:g} of {move.of}")
    text.append(f"  ({clean(_short(why))})\n" if why else "\n", style="dim")
    text.append(f"  prompt      {clean(_short(row.sample.prompt))}\n", style="dim")
    text.append(f"  target      {clean(_short(json.dumps(row.sample.target, ensure_ascii=False)))}\n", style="dim")
    return text.append(f"  completion  {clean(_short(row.completion))}")


def _first_failure(result: Replay) -> str:
    errors = [describe(row.outcome) for row in result.failures if isinstance(row.outcome, Exception)]
    return clean(_short(errors[0])) if errors else ""


def _advice(result: Replay) -> str:
    if result.failures:
        return "\nSome completions fail; `mmrl rewards check` shows why.\n"
    if result.flat_after == 1:
        return "\nIt gives every completion of a group the same, so training with it would change nothing.\n"
    if result.rank_correlation < 0:
        return "\nIt prefers what the stored one does not: is the sign right?\n"
    return ""


def _train(run: Path, spec: Mapping[str, Any]) -> str:
    """The command that trains the same recipe with this reward."""
    settings = "".join(f", {key}: {json.dumps(value)}" for key, value in spec.items() if key != "name")
    entry = f"{{name: {spec['name']}{settings}}}" if settings else spec["name"]
    name = str(spec["name"]).rpartition(":")[2]
    return f"mmrl train {run}/{layout.CONFIG} {shlex.quote(f'rewards=[{entry}]')} name={name}"


def _short(text: str, length: int = 200) -> str:
    """On one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 60]} ... {line[-50:]}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"
