"""Foreign rows to a checked dataset, as a stream that may be interrupted: `mmrl data convert` and `transform`.

Rows come from a reader (`reading.py`), are checked as `mmrl data check` checks them, and are written one by one into a
file beside the output. A record next to it says how far that is (items read, bytes written); it is replaced after what
it describes is on disk. Killed at any moment, the same command cuts the files to the record, passes over the items it
has read, and ends with the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from data_pipelines.opening import Opener
from data_pipelines.reading import Problem, Row
from data_pipelines.rows import RowError, chat, doubts, dump, faults, name_of, parse, relative_to, sample_of
from data_pipelines.sources import FirstRows, problem_line, write_parquet
from mmrl import __version__
from mmrl.plugins import ConfigError, Stage

VERSION = 1
"""Of the record; another one is not continued."""
PAUSE = 1.0
"""Seconds between two records of the progress."""
STEP = 16
"""Items between two looks at the clock."""
SHOWN = 5
"""Problems kept for the message at the end."""

Items = Iterator[Row | Problem | None]
"""None is an item left out on purpose."""


@dataclass
class Progress:
    """How far a conversion is; stored as JSON beside the unfinished output."""

    arguments: str
    items: int = 0
    rows: int = 0
    left_out: int = 0
    bytes: int = 0
    problem_bytes: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    """The first problems."""
    finished: bool = False
    version: int = VERSION

    @property
    def problems(self) -> int:
        return sum(self.kinds.values())


class Conversion:
    """One output file in the making. `arguments` is a digest of all that decides what it will hold."""

    def __init__(self, out: Path, arguments: str, *, decode: bool = False) -> None:
        if out.suffix not in (".jsonl", ".parquet"):
            raise ConfigError(f"--out {out}: the name must end in .jsonl or .parquet.")
        self.out, self.arguments = out, arguments
        self.folder = out.parent.absolute()
        self.media = Opener(self.folder, decode=decode)
        self.problem_file = problems_beside(out)
        self.rows_file = out.with_name(f".{out.name}.unfinished")
        self.bad_file = out.with_name(f".{out.name}.unfinished-problems")
        self.record = out.with_name(f".{out.name}.progress.json")

    def run(self, items: Callable[[], Items], *, tick: Callable[[Progress], None] = lambda progress: None) -> Progress:
        """Convert all items, or what an interrupted run has left of them. `tick` is called now and then.

        Without a single valid row nothing is put in place but the problems. ConfigError if another process is at work
        on the same output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.rows_file.open("ab") as lock:
            _lock(lock, self.out)
            progress = self._continued()
            if not progress.finished:
                try:
                    self._convert(progress, items(), tick)
                except ConfigError:
                    if progress.items == 0:  # a source that is no source leaves nothing to continue
                        for file in (self.rows_file, self.bad_file, self.record):
                            file.unlink(missing_ok=True)
                    raise
            self._put_in_place(progress)
        return progress

    def _convert(self, progress: Progress, items: Items, tick: Callable[[Progress], None]) -> None:
        first = FirstRows()
        with self.rows_file.open("r+b") as rows, self.bad_file.open("r+b") as bad:
            for number, line in enumerate(rows, 1):
                first.seen(name_of(parse(line)), number)
            rows.seek(progress.bytes)
            bad.seek(progress.problem_bytes)
            next(islice(items, progress.items, progress.items), None)
            recorded = time.monotonic()
            with contextlib.closing(self.media.opened(items)) as opened:
                for item in opened:
                    self._take(item, progress, first, rows, bad)
                    if progress.items % STEP:
                        continue
                    tick(progress)
                    if time.monotonic() - recorded >= PAUSE:
                        self._save(progress, rows, bad)
                        recorded = time.monotonic()
            tick(progress)
            progress.finished = True
            self._save(progress, rows, bad)

    def _take(
        self, item: Row | Problem | None, progress: Progress, first: FirstRows, rows: BinaryIO, bad: BinaryIO
    ) -> None:
        """One item into one of the two files."""
        progress.items += 1
        if item is None:
            progress.left_out += 1
            return
        row = None
        if isinstance(item, Problem):
            problem = item
        else:
            where = str(item.get("where") or f"item {progress.items}")
            row = {key: value for key, value in item.items() if key != "where"}
            try:
                line = self._line(row, where, progress.rows + 1, first)
            except RowError as error:
                name = f" (id {row['id']})" if isinstance(row.get("id"), (str, int)) else ""
                problem = Problem(f"{where}{name}", str(error), error.kind)
            else:
                progress.rows += 1
                progress.bytes += rows.write(line)
                return
        progress.kinds[problem.kind] = progress.kinds.get(problem.kind, 0) + 1
        if len(progress.shown) < SHOWN:
            progress.shown.append(f"{problem.where}: {problem.message.rstrip('.')}."[:1000])
        progress.problem_bytes += bad.write(problem_line(problem, row))

    def _line(self, row: Row, where: str, number: int, first: FirstRows) -> bytes:
        """The row as it is stored. RowError if it is not to be."""
        chat(row.get("messages"))
        row = relative_to(row, self.folder)
        sample = sample_of(row, "", folder=self.folder, where=where)
        for error in (*faults(sample), *doubts(sample), *self.media.faults(sample)):
            raise error
        line = dump(row)
        if (other := first.seen(name_of(row), number)) is not None:
            raise RowError("duplicate ids", f"the id is already that of row {other} of the output")
        return line

    def _save(self, progress: Progress, rows: BinaryIO, bad: BinaryIO) -> None:
        for file in (rows, bad):
            file.flush()
            os.fsync(file.fileno())
        unfinished = self.record.with_suffix(".tmp")
        unfinished.write_text(json.dumps(vars(progress)), encoding="utf-8")
        os.replace(unfinished, self.record)

    def _continued(self) -> Progress:
        """The progress so far, and the unfinished files cut to it."""
        progress = Progress(self.arguments)
        with contextlib.suppress(OSError, ValueError, TypeError):
            stored = Progress(**json.loads(self.record.read_text(encoding="utf-8")))
            if (stored.arguments, stored.version) == (self.arguments, VERSION) and self._holds(stored):
                progress = stored
        if not progress.finished:
            for file, size in ((self.rows_file, progress.bytes), (self.bad_file, progress.problem_bytes)):
                with file.open("ab") as unfinished:
                    unfinished.truncate(size)
        return progress

    def _holds(self, stored: Progress) -> bool:
        """Whether what the record describes is there: unfinished, or, if all is done, perhaps in place already."""
        if not stored.finished:
            return _size(self.rows_file) >= stored.bytes and _size(self.bad_file) >= stored.problem_bytes
        rows = not stored.rows or _size(self.rows_file) == stored.bytes or self.out.is_file()
        bad = not stored.problems or _size(self.bad_file) == stored.problem_bytes or self.problem_file.is_file()
        return rows and bad

    def _put_in_place(self, progress: Progress) -> None:
        """A run that was killed in the middle of this does what is left of it."""
        if not progress.problems:
            self.problem_file.unlink(missing_ok=True)
        elif _size(self.bad_file) == progress.problem_bytes:
            os.replace(self.bad_file, self.problem_file)
        if progress.rows and _size(self.rows_file) == progress.bytes:
            if self.out.suffix == ".parquet":
                packed = self.out.with_name(f".{self.out.name}.packed")
                with self.rows_file.open("rb") as rows:
                    write_parquet(packed, map(parse, rows))
                os.replace(packed, self.out)
            else:
                os.replace(self.rows_file, self.out)
        for file in (self.rows_file, self.bad_file, self.record):
            file.unlink(missing_ok=True)


def convert(
    stage: Stage,
    sources: Sequence[str],
    out: Path,
    *,
    decode: bool = False,
    tick: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Run a reader, bound to its settings, over its sources one after the other, into `out`."""

    def items() -> Items:
        for source in sources:
            begun = False
            try:
                for item in stage.plugin(Path(source), **stage.settings):
                    begun = True
                    yield item
            except ConfigError as error:
                if not begun:
                    raise
                yield Problem(source, f"{error} What follows is lost", "cut short")

    arguments = digest(stage, sources, out, decode)
    return Conversion(out, arguments, decode=decode).run(items, tick=tick)


def digest(stage: Stage, sources: Sequence[str], out: Path, *settings: Any) -> str:
    """Of all that decides what an output holds: mmrl's version, the function and its file, its settings, and what is in
    the sources, in files named by settings, and in files that the reader finds by itself.

    Those last are what its attribute `reads` gives, if it has one: a function of a source and the settings.
    """
    made = frozenset((out.absolute(), problems_beside(out).absolute()))
    code = inspect.getsourcefile(inspect.unwrap(stage.plugin))
    reads: Callable[..., Sequence[Path]] = getattr(stage.plugin, "reads", lambda source, **settings: ())
    beside = [Path(value) for value in stage.settings.values() if isinstance(value, (str, Path))]
    for source in sources:
        beside += reads(Path(source), **stage.settings)
    parts = [
        __version__,
        stage.name,
        _content(Path(code)) if code else "",
        repr(sorted(stage.settings.items())),
        os.getcwd(),
        str(out.absolute()),
        repr(settings),
        *(f"{source} {_content(Path(source), made)}" for source in sources),
        *(f"{file} {_content(file)}" for file in beside if _is_file(file)),
    ]
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()


def _content(path: Path, made: frozenset[Path] = frozenset()) -> str:
    """A digest of a file, or of the names, sizes and times of a folder's files but hidden ones and those `made`."""
    found = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as content:
            while block := content.read(2**20):
                found.update(block)
    for file in sorted(path.rglob("[!.]*")) if path.is_dir() else []:
        if file.is_file() and file.absolute() not in made:
            about = file.stat()
            found.update(f"{file} {about.st_size} {about.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def _is_file(path: Path) -> bool:
    """False as well for a setting that is no path at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def problems_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.problems.jsonl")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else -1


def _lock(file: BinaryIO, out: Path) -> None:
    """One process at a time per output, where the system has file locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError(f"{out}: another process is converting into it.") from None
