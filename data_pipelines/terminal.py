"""What the `mmrl data` commands say on the terminal: progress while they work, and what became of a conversion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import TaskID

    from data_pipelines.convert import Progress as Converted

console = Console(soft_wrap=False)


def report(progress: Converted, out: Path, *, strict: bool) -> None:
    """What became of a conversion, its first problems, and the exit status."""
    from data_pipelines.convert import problems_beside

    for line in progress.shown:
        console.print(told(line), soft_wrap=True)
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(progress.kinds.items(), key=lambda pair: -pair[1]))
    if progress.problems:
        text = f"{progress.problems:,} problems ({kinds}): {problems_beside(out)}"
        console.print(told(text), soft_wrap=True)
    left_out = f", {progress.left_out:,} left out" if progress.left_out else ""
    where = out if progress.rows else "nothing is written"
    console.print(f"{where}: {progress.rows:,} rows{left_out}", highlight=False, soft_wrap=True)
    if not progress.rows or (strict and progress.problems):
        raise typer.Exit(1)


def told(text: str) -> Text:
    from mmrl.runs.summary import clean

    return Text(clean(text)[:2000].encode(errors="backslashreplace").decode())


@contextmanager
def counting(what: str) -> Iterator[Callable[[Converted], None]]:
    """Progress of unknown length."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def tick(done: Converted) -> None:
            bar.update(task, description=f"{what}: {done.items:,} read, {done.rows:,} rows, {done.problems:,} problems")

        yield tick


@contextmanager
def making() -> Iterator[None]:
    """Progress of what is drawn or cut, split by split."""
    from time import monotonic

    from rich.progress import Progress

    from data_pipelines.drawing import watched

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, tuple[TaskID, float]] = {}

        def tick(split: str, done: int, total: int) -> None:
            if split not in tasks:
                tasks[split] = bar.add_task(split, total=total), monotonic()
            task, start = tasks[split]
            rate = f", {done / seconds:,.1f} a second" if (seconds := monotonic() - start) > 1 else ""
            bar.update(task, completed=done, description=f"{split}: {done:,} of {total:,}{rate}")

        with watched(tick):
            yield


@contextmanager
def reading(what: str) -> Iterator[Callable[[Any], None]]:
    """Progress through the files of a source."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda rows: bar.update(task, completed=rows.done, total=rows.total)
