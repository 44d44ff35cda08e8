"""Stars and notes, beside the run in annotations.jsonl: one line per row that has any, in order.

    {"step": 3, "rank": 0, "row": 17, "star": true, "note": "right for the wrong reason", "time": 1795375901.8}

The only thing the viewer ever writes into a run. The file is replaced as a whole, so it is complete at any moment;
lines of it that are no annotations stay as they are.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from pydantic import ValidationError

from mmrl.runs.files import atomic_write
from mmrl.viewer.answers import Annotation
from mmrl.viewer.subjects import Subject

FILE = "annotations.jsonl"
LONGEST = 10_000
"""Characters of a note."""

Key = tuple[int, int, int]


class Notebook:
    """The annotations of one run; what others write into the file meanwhile is seen."""

    def __init__(self, run: Path) -> None:
        self.path = run / FILE
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._known: dict[Key, Annotation] = {}
        self._times: dict[Key, float] = {}
        self._others: list[str] = []

    def all(self) -> dict[Key, Annotation]:
        with self._lock:
            self._read()
            return dict(self._known)

    def stars(self) -> list[Key]:
        return [key for key, mark in self.all().items() if mark.star]

    def put(self, mark: Annotation) -> None:
        """Set a row's star and note; neither takes the line away."""
        with self._lock:
            self._read()
            key = (mark.step, mark.rank, mark.row)
            self._known.pop(key, None)
            self._times.pop(key, None)
            if mark.star or mark.note:
                self._known[key] = mark.model_copy(update={"note": mark.note[:LONGEST]})
            now = time.time()
            lines = [
                json.dumps({**self._known[key].model_dump(), "time": self._times.get(key, now)}, ensure_ascii=False)
                for key in sorted(self._known)
            ]
            with atomic_write(self.path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in [*self._others, *lines]), encoding="utf-8")
            self._stamp = None

    def _read(self) -> None:
        try:
            about = self.path.stat()
            stamp = (about.st_mtime_ns, about.st_size)
            text = "" if stamp == self._stamp else self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            self._stamp, self._known, self._others, self._times = None, {}, [], {}
            return
        if stamp == self._stamp:
            return
        self._known, self._others, self._times = {}, [], {}
        for line in filter(None, text.split("\n")):
            try:
                value = json.loads(line)
                mark = Annotation.model_validate(value, strict=True)
            except (ValueError, ValidationError, RecursionError):
                self._others.append(line)
                continue
            key = (mark.step, mark.rank, mark.row)
            self._known[key] = mark
            if isinstance(value.get("time"), int | float):
                self._times[key] = value["time"]
        self._stamp = stamp


class Notebooks:
    """One notebook per run; a data set has an empty one, which cannot be written."""

    def __init__(self) -> None:
        self._opened: dict[Path, Notebook] = {}

    def __getitem__(self, run: Subject) -> Notebook:
        return self._opened.setdefault(run.path, Notebook(run.path))
