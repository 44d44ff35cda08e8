"""The table of a campaign, on the terminal and for the docs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.faults.rows import Row

HEAD = ("what happens", "times", "in a checkpoint", "in rollouts", "elsewhere", "ended with", "runs", "resumed",
        "equal", "rollouts", "lost", "doubled", "partial", "problems", "s")  # fmt: skip


def cells(row: Row) -> list[str]:
    if row.skipped:
        return [row.scenario, f"skipped: {row.skipped}", *[""] * (len(HEAD) - 2)]
    found = row.found
    writes = {name: row.struck.get(name, 0) for name in ("checkpoint", "rollouts")}
    ends = ", ".join(
        f"{code} ({count})" if len(row.ends) > 1 else f"{code}" for code, count in sorted(row.ends.items())
    )
    numbers = [row.times, *writes.values(), row.times - sum(writes.values())]
    checked = [found.rollouts, found.lost + found.changed, found.doubled, found.partial, len(found.problems)]
    return [row.scenario, *map(str, numbers), ends, str(found.runs), str(row.resumed), f"{found.equal} of {found.runs}",
            *(f"{number:,}" for number in checked), f"{row.seconds:.0f}"]  # fmt: skip


def total(rows: Sequence[Row]) -> Row:
    whole = Row("all")
    for row in rows:
        whole.found.add(row.found)
        whole.times, whole.resumed = whole.times + row.times, whole.resumed + row.resumed
        whole.seconds += row.seconds
        for where, count in row.struck.items():
            whole.struck[where] = whole.struck.get(where, 0) + count
    return whole


def printed(rows: Sequence[Row]) -> None:
    table = Table(*HEAD, title="fault campaign")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*cells(row), style="" if row.found.clean else "red")
    table.add_section()
    table.add_row(*cells(total(rows)), style="bold")
    Console(width=None if Console().is_terminal else 200).print(table)


def markdown(rows: Sequence[Row]) -> str:
    ruler = ["---", *["---:"] * (len(HEAD) - 1)]
    lines = [HEAD, ruler, *map(cells, rows), cells(total(rows))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
