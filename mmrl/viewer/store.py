"""One DuckDB for all runs, with an index of each in a file of the cache folder; nothing is written beside a run.

An index holds the light columns of the completions, their texts and the prompts, each once. It is made from the Parquet
files by `ingest.py`, the newest steps first, and follows them: a request looks whether files came, went or changed,
waits a moment for those to be read, and answers from what is there, saying how many files are still to come.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

logger = logging.getLogger("mmrl.viewer")

FORMAT = 1
"""Of the index; one of another format is made anew."""
KEPT = 30 * 24 * 3600
"""Seconds for which an index that nobody opened is kept."""
SETTLE = 0.3
"""Seconds a request waits for new files to be read before it answers without them."""

TABLES = """
CREATE TABLE files (name VARCHAR PRIMARY KEY, step INTEGER, rank INTEGER, size BIGINT, changed BIGINT, problem VARCHAR);
CREATE TABLE scores (place INTEGER, name VARCHAR);
CREATE TABLE prompts (prompt UBIGINT PRIMARY KEY, sample_id VARCHAR, said VARCHAR, task VARCHAR, modality VARCHAR,
    thumb_kind VARCHAR, thumb_file VARCHAR);
CREATE TABLE groups (g BIGINT, step INTEGER, rank INTEGER, grp INTEGER, prompt UBIGINT, n INTEGER, mean DOUBLE,
    low DOUBLE, high DOUBLE, std DOUBLE, length INTEGER, truncated INTEGER, failed INTEGER, unparsed INTEGER,
    made VARCHAR);
CREATE TABLE completions (g BIGINT, step INTEGER, rank INTEGER, grp INTEGER, nr INTEGER, prompt UBIGINT, origin VARCHAR,
    completion VARCHAR, made VARCHAR, tokens INTEGER, truncated BOOLEAN, reward DOUBLE, advantage DOUBLE,
    failed BOOLEAN, unparsed BOOLEAN);
"""
"""`g` orders groups by step, rank and number; `prompt` is a hash of the sample and its chat. The scores of a completion
are further columns s0, s1, ..., of which `scores` has the names: names are what a recipe's author likes."""


@dataclass(frozen=True)
class Progress:
    done: int
    total: int


class Index:
    """The index of one run or data set. `update` brings it up to date, on one thread at a time."""

    def __init__(
        self, connect: Callable[[], duckdb.DuckDBPyConnection], catalog: str, update: Callable[[Index], None]
    ) -> None:
        self.catalog = catalog
        self.progress = Progress(0, 0)
        self.problems: dict[str, str] = {}
        """What could not be read, by file: shown, never fatal."""
        self.wanted: set[int] = set()
        """Steps that somebody looks at and that are not read yet: they are next."""
        self.stopped = False
        self.version = 0
        """Grows with every change."""
        self._connect, self._update = connect, update
        self._busy = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for one thread, with this index's tables."""
        cursor = self._connect()
        cursor.execute(f"USE {self.catalog}")
        return cursor

    def refresh(self, wait: float = SETTLE) -> None:
        """Begin to read what is new, unless that is under way; return when it is done, at the latest after `wait`."""
        if self._busy.acquire(blocking=False):
            self._idle.clear()
            threading.Thread(target=self._run, name=f"index {self.catalog}", daemon=True).start()
        self._idle.wait(wait)

    def finish(self) -> None:
        """Stop reading, after the files that are being read."""
        self.stopped = True
        self._idle.wait()

    def _run(self) -> None:
        try:
            self._update(self)
        except Exception:
            logger.exception("the index %s could not be brought up to date", self.catalog)
            self.problems["index"] = "The index could not be brought up to date; the server's log says why."
        finally:
            self._busy.release()
            self._idle.set()


class Store:
    """Opens indexes. `memory` bounds DuckDB, all runs together."""

    def __init__(self, cache: Path | None = None, *, memory: str = "400MB", threads: int = 2) -> None:
        self.cache = cache or cache_folder()
        self.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection = duckdb.connect(
            config={
                "memory_limit": memory,
                "threads": threads,
                "temp_directory": str(self.cache / "spill"),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        self._connection.execute("SET parquet_metadata_cache = true")
        self._indexes: dict[str, Index] = {}
        self._own: list[Path] = []
        self._lock, self._cursors = threading.Lock(), threading.Lock()
        self._forget_old()

    def index(self, subject: Path, update: Callable[[Index], None]) -> Index:
        """That of a run directory or data file, opened or made."""
        key = hashlib.sha256(os.fsencode(subject.resolve())).hexdigest()[:24]
        with self._lock:
            if key not in self._indexes:
                catalog = f"i_{key}"
                self._attach(catalog, self.cache / f"{key}.{FORMAT}.duckdb")
                self._indexes[key] = Index(self._cursor, catalog, update)
            return self._indexes[key]

    def close(self) -> None:
        for index in self._indexes.values():
            index.finish()
        self._connection.close()
        for path in self._own:
            path.unlink(missing_ok=True)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """One at a time: a connection that two threads ask for a cursor refuses one of them."""
        with self._cursors:
            return self._connection.cursor()

    def _attach(self, catalog: str, path: Path) -> None:
        """An index file as a catalog; one that is damaged or of another DuckDB is made anew, and one that another
        viewer has open is left to it: this one then has its own until it ends."""
        try:
            self._cursor().execute(f"ATTACH '{_quoted(path)}' AS {catalog}")
        except duckdb.Error as error:
            if "lock" in str(error) or "already attached" in str(error):
                path = path.with_suffix(f".{os.getpid()}.duckdb")
                self._own.append(path)
            path.unlink(missing_ok=True)
            self._cursor().execute(f"ATTACH '{_quoted(path)}' AS {catalog}")
        cursor = self._cursor()
        cursor.execute(f"USE {catalog}")
        if not cursor.execute("SELECT 1 FROM duckdb_tables() WHERE database_name = ?", [catalog]).fetchone():
            cursor.execute(TABLES)
        os.utime(path)

    def _forget_old(self) -> None:
        for path in self.cache.glob("*.duckdb*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > KEPT:
                    path.unlink()


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/mmrl/view`, by default in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmrl" / "view"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
