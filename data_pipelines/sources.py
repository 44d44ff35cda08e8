"""Rows in files, as a stream: JSON Lines, Parquet, a folder of them, or what `datasets` opens. Memory stays flat.

What a row must be is `rows.py`; a whole dataset in memory, for training, is `dataset.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data_pipelines.reading import LONGEST, Problem, Read, Row, regular
from data_pipelines.rows import RowError, absolute_from, dump, parse, relative_to
from mmrl.plugins import ConfigError

COLUMNS = ("id", "messages", "target", "meta")
ROW_GROUP = 4096
"""Rows of a row group of the Parquet files written."""
BATCH = 256
"""Rows of a Parquet file in memory at a time."""
NO_ROWS = (".*", "*.problems.jsonl", "screens.jsonl")
"""Files of a folder that `mmrl data` itself writes beside rows: unfinished ones, problems, what was captured."""


class Rows:
    """The rows of a source in order: an iterable of (where, row), or (where, problem) for what is no row.

    `source` is a JSON Lines or Parquet file, a folder of such files (`*.jsonl`, `*.parquet`, by name), a folder that
    `datasets` saved, or `owner/name`, which `datasets` streams; these two may end in `:split`. `folder` is where
    relative media paths begin; `done` of `total` counts bytes, or rows of Parquet, for progress (`total` is None where
    unknown).
    """

    def __init__(self, source: str | Path) -> None:
        self.source = str(source)
        path = Path(source)
        if not path.exists():
            path = Path(self.source.partition(":")[0])
        self.folder = (path if path.is_dir() else path.parent).absolute()
        self.files = _files(path)
        self.done = 0
        self.total: int | None = sum(map(_extent, self.files)) if self.files else None

    def __iter__(self) -> Iterator[tuple[str, Row | Problem]]:
        for file in self.files:
            yield from self._parquet(file) if file.suffix == ".parquet" else self._json_lines(file)
        if not self.files:
            yield from self._datasets()

    def _json_lines(self, path: Path) -> Iterator[tuple[str, Row | Problem]]:
        start = self.done
        with _opened(path) as file:
            for number, line in _bounded(file):
                where = f"{path}, row {number}"
                if line is None:
                    yield where, Problem(where, f"a line of more than {LONGEST:,} bytes", "too long")
                elif line.strip():
                    try:
                        yield where, parse(line)
                    except RowError as error:
                        yield where, error.at(where)
                self.done = start + file.tell()

    def _parquet(self, path: Path) -> Iterator[tuple[str, Row | Problem]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=BATCH):
                    for stored in batch.to_pylist():
                        number += 1
                        where = f"{path}, row {number}"
                        try:
                            yield where, _unpacked(stored)
                        except RowError as error:
                            yield where, error.at(where)
                        self.done += 1
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{path}, after row {number}: cannot be read as Parquet ({error}).") from None

    def _datasets(self) -> Iterator[tuple[str, Row | Problem]]:
        for number, stored in enumerate(_open_with_datasets(self.source), 1):
            where = f"{self.source}, row {number}"
            try:
                yield where, _unpacked(stored)
            except RowError as error:
                yield where, error.at(where)


def read_rows(source: Path, *, drop: Sequence[str] = (), meta: Sequence[str] = ()) -> Read:
    """Rows of mmrl's own form: JSON Lines, Parquet, a folder of them, or a dataset that `datasets` opens.

    Of further columns (or keys), those in `drop` are left out and those in `meta` become keys of the row's `meta`.
    """
    if own := sorted({*drop, *meta} & {"messages", "target", "meta"}):
        raise ConfigError(f"mmrl data convert: {own[0]} is a column that rows need; drop= and meta= are for others.")
    rows = Rows(source)
    for where, row in rows:
        if isinstance(row, Problem):
            yield row
            continue
        kept = {key: value for key, value in row.items() if key not in (*drop, *meta)}
        if moved := {key: row[key] for key in meta if row.get(key) is not None}:
            about = row.get("meta") or {}
            kept["meta"] = {**about, **moved} if isinstance(about, dict) else about
        try:
            yield absolute_from(kept, rows.folder) | {"where": where}
        except RowError as error:
            yield error.at(where)


def write_samples(path: str | Path, rows: Iterable[Row]) -> Path:
    """Write rows as JSON Lines, or as Parquet if the name ends so, complete or not at all.

    Absolute media paths become relative to the file's folder.
    """
    path = Path(path)
    with atomic(path) as unfinished:
        write_rows(unfinished, rows, path)
    return path


def write_rows(unfinished: Path, rows: Iterable[Row], path: Path) -> None:
    """Rows as they are to stand in `path`, under the name `unfinished`."""
    folder = path.parent.absolute()
    if path.suffix == ".parquet":
        write_parquet(unfinished, (relative_to(row, folder) for row in rows))
    else:
        with unfinished.open("wb") as file:
            for row in rows:
                file.write(dump(relative_to(row, folder)))


def write_parquet(path: Path, rows: Iterable[Row]) -> None:
    """A column per key: `id` is a text, the others JSON, so that what is read equals what was written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in COLUMNS], metadata={"mmrl": "rows of JSON"})
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        group: list[dict[str, str | None]] = []
        for row in rows:
            dump(row)
            group.append({name: _packed(name, row[name]) for name in COLUMNS if name in row})
            if len(group) == ROW_GROUP:
                file.write_table(pa.Table.from_pylist(group, schema=schema))
                group = []
        file.write_table(pa.Table.from_pylist(group, schema=schema))


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A name to write under, which becomes `path` if nothing was raised, and else nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


class FirstRows:
    """Which row had a key first, for any number of keys: a private database on disk that vanishes with the process."""

    def __init__(self) -> None:
        self.rows = sqlite3.connect("", isolation_level=None)
        self.rows.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000;"
            "CREATE TABLE first (key BLOB PRIMARY KEY, row INTEGER) WITHOUT ROWID; BEGIN;"
        )

    def seen(self, key: str, row: int) -> int | None:
        """The row that had this key before, or None: then it is this one's."""
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=12).digest()
        if self.rows.execute("INSERT OR IGNORE INTO first VALUES (?, ?)", (digest, row)).rowcount:
            return None
        return int(self.rows.execute("SELECT row FROM first WHERE key = ?", (digest,)).fetchone()[0])


def problem_line(problem: Problem, row: Row | None = None) -> bytes:
    """A problem as a line of JSON, with the row it is about, so that nothing is lost."""
    told = vars(problem) | ({} if row is None else {"row": row})
    try:
        return json.dumps(told, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError):
        return json.dumps(vars(problem) | {"row": repr(row)[:LONGEST]}).encode() + b"\n"


def _files(path: Path) -> list[Path]:
    """The files of a source in order; none if `datasets` is to open it."""
    if path.is_file():
        return [path]
    if path.exists() and not path.is_dir():
        regular(path)
    if not path.is_dir():
        if path.suffix in (".jsonl", ".json", ".parquet") or len(path.parts) != 2 or path.parent.is_dir():
            raise ConfigError(f"{path}: there is no such file or folder.")
        return []
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        return []
    files = sorted(
        file
        for file in path.iterdir()
        if file.suffix in (".jsonl", ".parquet") and not any(map(file.match, NO_ROWS)) and not file.is_dir()
    )
    names = {file.stem for file in files}
    for name in sorted(names):
        whole, _, part = name.rpartition(".")
        if part in ("train", "test") and whole in names:
            raise ConfigError(f"{path}: the folder holds {whole} and its part {name}; name the files to read.")
    if not files:
        raise ConfigError(f"{path}: the folder holds neither *.jsonl nor *.parquet, and no dataset of `datasets`.")
    if len({file.suffix for file in files}) > 1:
        raise ConfigError(f"{path}: the folder holds *.jsonl and *.parquet; name the files to read.")
    return files


def _extent(path: Path) -> int:
    """Bytes of a JSON Lines file, rows of a Parquet file."""
    if path.suffix != ".parquet":
        return path.stat().st_size
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as Parquet ({error}).") from None


def _open_with_datasets(source: str) -> Iterable[dict[str, Any]]:
    try:
        import datasets
    except ImportError:
        raise ConfigError(f"{source}: reading it needs the package `datasets` (pip install datasets).") from None
    path, _, split = source.partition(":")
    try:
        if Path(path).is_dir():
            opened = datasets.load_from_disk(path)
            opened = opened[split or next(iter(opened))] if isinstance(opened, datasets.DatasetDict) else opened
        else:
            opened = datasets.load_dataset(path, split=split or "train", streaming=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{source}: `datasets` cannot open it ({error}).") from None
    return opened


def _opened(path: Path) -> IO[bytes]:
    try:
        return regular(path).open("rb")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as a JSON Lines file ({error}).") from None


def _bounded(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, line), None for a line over `LONGEST`, of which no more than that is in memory."""
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        long = len(line) > LONGEST
        while long and line and not line.endswith(b"\n"):
            line = file.readline(2**20)
        yield number, None if long else line


def _packed(name: str, value: Any) -> str | None:
    return (None if value is None else str(value)) if name == "id" else json.dumps(value, ensure_ascii=False)


def _unpacked(stored: dict[str, Any]) -> Row:
    """A row from columns: texts that hold JSON, or nested columns, where a key that a row lacks stands as null."""
    row: Row = {}
    for key, value in stored.items():
        if value is None:
            continue
        if key in ("messages", "target", "meta") and isinstance(value, str):
            value = parse(f'{{"value": {value}}}')["value"]
        elif key != "id":
            value = _without_nulls(value)
        row[key] = value
    return row


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value
