"""What `mmrl reproduce` shows while its processes run: how many are done, and the last line of each that runs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

SECONDS = 1.0
"""Between two looks at the logs."""
TAIL = 2000
"""Bytes of a log in which its last line is looked for."""


class Progress:
    """Lines of what is done go to the console; on a terminal, bars below them."""

    def __init__(self, console: Console, *, total: int) -> None:
        self.console = console
        self._logs: dict[TaskID, Path] = {}
        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[last]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._all = self._bars.add_task("[bold]all commands", total=total, last="")
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        self._bars.start()
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watcher.join()
        self._bars.stop()

    @contextmanager
    def running(self, label: str, log: Path) -> Iterator[None]:
        task = self._bars.add_task(escape(label), total=None, last="")
        self._logs[task] = log
        try:
            yield
        finally:
            del self._logs[task]
            self._bars.remove_task(task)

    def done(self, label: str, seconds: float) -> None:
        self.console.print(f"{label}: {seconds:.0f} s", markup=False, highlight=False)
        self._bars.advance(self._all)

    def kept(self, label: str) -> None:
        self.console.print(f"{label}: done before", markup=False, highlight=False, style="dim")
        self._bars.advance(self._all)

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS):
            for task, log in list(self._logs.items()):
                line = last_line(log)
                step = re.match(r"\s*(?:step )?(\d+)/(\d+)\s", line)
                completed, total = (float(step[1]), float(step[2])) if step else (None, None)
                try:
                    self._bars.update(task, last=escape(line[:60]), completed=completed, total=total)
                except KeyError:  # it ended meanwhile
                    pass


def last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
