"""A JSONL file that grows: each call reads what was added. `mmrl/runs/reader.py` reads from the start."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Follower:
    """The records of one file, in order. Lines that are none are counted, and so is a last line cut by a crash."""

    def __init__(self, path: Path, is_record: Callable[[Record], bool]) -> None:
        self.path, self.is_record = path, is_record
        self.records: list[Record] = []
        self.broken = 0
        self.changed: float | None = None
        """Unix time of the file's last change."""
        self._identity: tuple[int, int] | None = None
        self._offset = 0
        self._lock = threading.Lock()

    def read(self) -> list[Record]:
        """All records up to now; a copy of the list. A file that is not there has none."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    about = os.fstat(file.fileno())
                    identity = (about.st_dev, about.st_ino)
                    if identity != self._identity or about.st_size < self._offset:  # replaced: a run was resumed
                        self._identity, self._offset, self.records, self.broken = identity, 0, [], 0
                    self.changed = about.st_mtime
                    if about.st_size > self._offset:
                        file.seek(self._offset)
                        self._take(file.read())
            except (FileNotFoundError, NotADirectoryError):
                self._identity, self._offset, self.records, self.broken, self.changed = None, 0, [], 0, None
            return list(self.records)

    def _take(self, added: bytes) -> None:
        """Whole lines; the rest waits for its end."""
        whole = added.rfind(b"\n") + 1
        self._offset += whole
        for line in added[:whole].decode("utf-8", "replace").split("\n"):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict) and self.is_record(record):
                self.records.append(record)
            else:
                self.broken += 1


def finite(value: Any) -> float | None:
    """A number as the page's JSON can hold it; None for what is none, or not finite."""
    usual = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return float(value) if usual else None
