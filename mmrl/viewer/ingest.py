"""The Parquet files of a run into its index: those that are new or changed, the newest steps first.

A file that cannot be read, or has a newer schema than this mmrl, is named in the index's problems and left out until it
changes; the rest goes on.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from mmrl.runs import layout
from mmrl.viewer.prompts import modality, prompt_text
from mmrl.viewer.queries import score_names
from mmrl.viewer.store import Index, Progress

FIRST, FILES, BYTES = 4, 64, 64 << 20
"""At most so many are read at a time, few at first: somebody waits for a page."""

GROUP = "(step::BIGINT << 32) | (rank::BIGINT << 20) | grp"
PROMPT = "hash(sample_id, messages)"
# The text is looked at first: JSON is read of the few rows that may have it.
FAILED = "contains(notes, '\"error\":') AND len(json_extract(notes, '$.*.error')) > 0"
UNPARSED = "contains(notes, '\"why\":') AND NOT contains(notes, '\"parsed\":')"
COLUMNS = ("sample_id", "origin", "messages", "media", "meta", "completion", "made", "tokens", "truncated", "reward",
           "advantage", "scores", "notes")  # fmt: skip


@dataclass(frozen=True)
class File:
    step: int
    rank: int
    path: Path
    size: int
    changed: int
    """Nanoseconds."""

    @property
    def stamp(self) -> tuple[int, int]:
        return self.size, self.changed


class RunReader:
    """Brings the index of the run in `folder` up to date; `Store.index` calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listed: int | None = None

    def __call__(self, index: Index) -> None:
        """Nothing to do costs one look at the folder: files appear, change and go by renaming, which it shows."""
        try:
            changed = (self.folder / layout.ROLLOUTS).stat().st_mtime_ns
        except OSError:
            changed = -1
        if changed != self._listed:
            self._bring_up_to_date(index)
            self._listed = changed if not index.stopped else None

    def _bring_up_to_date(self, index: Index) -> None:
        con = index.cursor()
        if self._listed is None:  # opened just now: what could not be read then may be today
            con.execute("DELETE FROM files WHERE problem IS NOT NULL")
        there = {file.path.name: file for file in files(self.folder)}
        known = {row[0]: row[1:] for row in con.execute("SELECT name, size, changed, step, rank FROM files").fetchall()}
        gone = [
            name for name, (*stamp, _, _) in known.items() if name not in there or there[name].stamp != tuple(stamp)
        ]
        if gone:
            _forget(con, [(name, *known.pop(name)[2:]) for name in gone])
            index.version += 1
        waiting = {name: file for name, file in there.items() if name not in known}
        index.progress = Progress(len(known), len(there))
        self._say_problems(con, index)
        while waiting and not index.stopped:
            most = min(FILES, max(FIRST, 2 * (len(there) - len(waiting) - len(known))))
            some = _next(waiting, index.wanted, most)
            for file in some:
                del waiting[file.path.name]
            _read(con, some)
            index.version += 1
            index.progress = Progress(len(there) - len(waiting), len(there))
            self._say_problems(con, index)
        con.execute("CHECKPOINT")

    def _say_problems(self, con: duckdb.DuckDBPyConnection, index: Index) -> None:
        found = con.execute("SELECT name, problem FROM files WHERE problem IS NOT NULL ORDER BY step, rank").fetchall()
        index.problems = dict(found)


def files(folder: Path, *, step: int | None = None) -> Iterator[File]:
    """What is recorded of all steps, or of one, sorted by step and rank; links are left out."""
    for recorded, rank, path in layout.rollout_files(folder):
        if step not in (None, recorded):
            continue
        try:
            about = path.lstat()
        except OSError:  # it went just now
            continue
        if not stat.S_ISREG(about.st_mode):  # a link could lead anywhere
            continue
        yield File(recorded, rank, path, about.st_size, about.st_mtime_ns)


def _next(waiting: dict[str, File], wanted: set[int], most: int) -> list[File]:
    """Those of the steps that somebody waits for, then the newest; at most so many, and so few that memory is small."""
    order = sorted(waiting.values(), key=lambda file: (file.step in wanted, file.step, -file.rank), reverse=True)
    some: list[File] = []
    size = 0
    for file in order[:most]:
        if some and size + file.size > BYTES:
            break
        some.append(file)
        size += file.size
    wanted -= {file.step for file in some}
    return some


def _read(con: duckdb.DuckDBPyConnection, some: Sequence[File]) -> None:
    """One transaction: all of the files or, if one of them is bad, each by itself."""
    con.execute("BEGIN")
    try:
        newer = _newer(con, some)
        good = [file for file in some if file.path.name not in newer]
        if good:
            _insert(con, [str(file.path) for file in good])
        for file in some:
            _note(con, file, newer.get(file.path.name))
        con.execute("COMMIT")
    except Exception as error:  # a foreign file can be wrong in any way
        con.execute("ROLLBACK")
        if len(some) == 1:
            _note(con, some[0], f"{some[0].path.name} cannot be read and is left out: {first_line(error)}")
        else:
            for file in some:
                _read(con, [file])


def _newer(con: duckdb.DuckDBPyConnection, some: Sequence[File]) -> dict[str, str]:
    """By name, what is to be said of files of a schema that this mmrl does not know."""
    versions = con.execute(
        "SELECT file_name, decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = 'mmrl.schema'",
        [[str(file.path) for file in some]],
    ).fetchall()
    return {
        Path(name).name: f"{Path(name).name} has schema {version}; this mmrl reads up to {layout.VERSION}. "
        "Install a newer mmrl."
        for name, version in versions
        if not version.isdecimal() or int(version) > layout.VERSION
    }


def _insert(con: duckdb.DuckDBPyConnection, paths: list[str]) -> None:
    source = con.read_parquet(paths, union_by_name=True, hive_partitioning=False)
    there = set(source.columns)
    columns = ", ".join(name if name in there else f"NULL AS {name}" for name in COLUMNS)
    con.execute(
        f'CREATE OR REPLACE TEMP TABLE chunk AS SELECT step, rank, "group" AS grp, row AS nr, {columns}, '
        f"{GROUP} AS g, {PROMPT} AS prompt "
        "FROM read_parquet(?, union_by_name = true, hive_partitioning = false)",
        [paths],
    )
    odd = "SELECT 1 FROM chunk WHERE step IS NULL OR rank IS NULL OR grp IS NULL OR nr IS NULL OR messages IS NULL"
    if con.execute(odd).fetchone():
        raise ValueError("it lacks columns that rollouts have")
    _insert_prompts(con)
    names = _score_names(con)
    scores = "".join(f", TRY_CAST(json_extract(scores, '{_pointer(name)}') AS DOUBLE)" for name in names)
    con.execute(
        "INSERT INTO completions SELECT g, step, rank, grp, nr, prompt, origin, completion, made, tokens, truncated, "
        "reward, advantage, "
        f"{FAILED}, {UNPARSED}{scores} FROM chunk ORDER BY g, nr"
    )
    con.execute(
        "INSERT INTO groups SELECT g, any_value(step), any_value(rank), any_value(grp), any_value(prompt), count(*), "
        "avg(reward), min(reward), max(reward), stddev_samp(reward), max(tokens), "
        f"count(*) FILTER (truncated), count(*) FILTER ({FAILED}), count(*) FILTER ({UNPARSED}), "
        "arg_max(made, reward) "
        "FROM chunk GROUP BY g ORDER BY g"
    )
    con.execute("DROP TABLE chunk")


def _insert_prompts(con: duckdb.DuckDBPyConnection) -> None:
    """Chats that are new. Their text is read here, once, and not in SQL: a chat may have any form."""
    found = con.execute(
        "SELECT prompt, any_value(sample_id), any_value(messages), any_value(json_extract_string(meta, '$.task')), "
        "any_value(media), any_value(made) FROM chunk ANTI JOIN prompts USING (prompt) GROUP BY prompt"
    ).fetchall()
    rows = [
        (prompt, sample_id, prompt_text(messages), task, *_media(media or [], made))
        for prompt, sample_id, messages, task, media, made in found
    ]
    insert_prompts(con, rows)


def insert_prompts(con: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    """(prompt, sample_id, said, task, modality, thumb_kind, thumb_file) each. One list per column: quick in DuckDB."""
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        con.execute(
            "INSERT INTO prompts SELECT unnest(?::UBIGINT[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), "
            "unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
            columns,
        )


def _media(media: Sequence[dict[str, Any]], made: str | None) -> tuple[str, str | None, str | None]:
    """Modality, and the kind and file of the first picture that was asked about."""
    kinds = [str(item["kind"]) for item in media]
    if odd := sorted(set(kinds) - {"image", "video"}):
        raise ValueError(f"it has media of kind {odd[0]!r}")
    first = next(((item["kind"], item["file"]) for item in media if item["file"]), (None, None))
    return modality(kinds, made=None if made is None else made_kind(made)), *first


def made_kind(file: str) -> str:
    return "video" if Path(file).suffix in layout.VIDEO_SUFFIXES else "image"


def _score_names(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Of the columns s0, s1, ... in order; names that are new get one."""
    known = score_names(con)
    for (text,) in con.execute("SELECT DISTINCT json_keys(scores)::VARCHAR[] FROM chunk").fetchall():
        for name in text or []:
            if name not in known:
                con.execute(f"ALTER TABLE completions ADD COLUMN s{len(known)} DOUBLE")
                con.execute("INSERT INTO scores VALUES (?, ?)", [len(known), name])
                known.append(name)
    return known


def _pointer(name: str) -> str:
    """A key as a JSON pointer in an SQL string; a path of DuckDB's own cannot hold every name."""
    return ("/" + name.replace("~", "~0").replace("/", "~1")).replace("'", "''")


def _forget(con: duckdb.DuckDBPyConnection, gone: Sequence[tuple[str, int, int]]) -> None:
    con.execute("BEGIN")
    for name, step, rank in gone:
        for table in ("completions", "groups"):
            con.execute(f"DELETE FROM {table} WHERE step = ? AND rank = ?", [step, rank])
        con.execute("DELETE FROM files WHERE name = ?", [name])
    con.execute("COMMIT")


def _note(con: duckdb.DuckDBPyConnection, file: File, problem: str | None) -> None:
    con.execute(
        "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)",
        [file.path.name, file.step, file.rank, file.size, file.changed, problem],
    )


def first_line(error: Exception) -> str:
    """An error in one line without the folder's name, which says nothing to the reader of a page."""
    return json.dumps(str(error).split("\n")[0][:300], ensure_ascii=False).strip('"')
