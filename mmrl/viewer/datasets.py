"""A data set shown as a run without completions: every row is a group, before any training.

Rows are read once, into the same index that runs have; media are found from the rows, opened when a group is, and named
by the hash of their path, so that the page cannot name a file itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import duckdb

from data_pipelines.media import locate, probe
from data_pipelines.reading import Problem
from data_pipelines.rows import name_of
from data_pipelines.sources import Rows
from mmrl.runs import layout
from mmrl.viewer.answers import Columns, Live, Metrics, Place, RunDetail, RunSummary, Tokens, Weighted
from mmrl.viewer.files import TYPES
from mmrl.viewer.ingest import insert_prompts
from mmrl.viewer.prompts import kind_of, modality, parts_of, prompt_text
from mmrl.viewer.queries import columns, indexing, reading
from mmrl.viewer.store import Index, Progress, Store
from mmrl.viewer.subjects import Gone

BATCH = 500
"""Rows read at a time."""
FRAMES = 8
"""Of a video, evenly spread: nobody has chosen those that a model sees yet."""
SEARCH = 5.0
"""Seconds to wait for a row that somebody has the address of, while the file is still being read."""
LISTED = 20
"""Rows with problems that are spelled out."""

TABLES = """
CREATE TABLE IF NOT EXISTS samples (g BIGINT, row_json VARCHAR);
CREATE TABLE IF NOT EXISTS media (name VARCHAR, path VARCHAR);
"""


class DataSet:
    """One data file, as a `Subject`."""

    kind: Literal["dataset"] = "dataset"

    def __init__(self, path: Path, store: Store) -> None:
        self.path, self.store, self.name = path, store, path.name

    def check(self) -> None:
        if not self.path.is_file():
            raise Gone(f"The data set {self.name} is no longer there.")

    def index(self, *, wait: float | None = None, steps: Sequence[int] = ()) -> Index:
        self.check()
        index = self.store.index(self.path, self._read)
        index.refresh(**({} if wait is None else {"wait": wait}))
        return index

    def summary(self) -> RunSummary:
        self.check()
        return RunSummary(
            id=self.name, name=self.name, kind="dataset", method="", model="", data=str(self.path), step=None,
            steps=None, state="finished", reward=None, spark=[], updated=self.path.stat().st_mtime, problems=[],
        )  # fmt: skip

    def detail(self) -> RunDetail:
        index = self.index()
        listed = list(index.problems.values())
        more = [f"{len(listed) - LISTED} more rows cannot be read."] if len(listed) > LISTED else []
        return RunDetail(
            **{**self.summary().model_dump(), "problems": [*listed[:LISTED], *more]},
            config_text="", config={}, rewards=[], events=[], step_list=[0], columns=self.columns(index),
            indexing=indexing(index),
        )  # fmt: skip

    def columns(self, index: Index) -> Columns:
        return columns(index, [])

    def metrics(self, after: int | None) -> Metrics:
        return Metrics(steps=[], series={})

    def live(self) -> Live:
        index = self.index(wait=0)
        return Live(version=str(index.version), state=None, step=None, rollout_steps=1, indexing=indexing(index))

    def weights(self) -> list[Weighted]:
        return []

    def tokens(self, step: int, rank: int, row: int) -> Tokens:
        raise Gone("A data set has no completions, and so no tokens.")

    def group(self, step: int, rank: int, group: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        index = self.index(wait=SEARCH)
        with reading(index) as con:
            found = con.execute("SELECT row_json FROM samples WHERE g = ?", [group]).fetchone()
        if found is None or (step, rank) != (0, 0):
            raise Gone(f"The data set has no row {group}, counted from 0, or it is not read yet.")
        row = json.loads(found[0])
        meta = row.get("meta") or {}
        prompt = {
            "sample_id": name_of(row),
            "messages": row.get("messages"),
            "media": [self._describe(kind, file) for kind, file in _media(row)],
            "target": row.get("target") or {},
            "meta": meta,
            "coordinates": str(meta.get("coordinates", "pixel")) if isinstance(meta, dict) else "pixel",
        }
        return prompt, []

    def neighbours(self, step: int, rank: int, group: int) -> tuple[Place | None, Place | None]:
        with reading(self.index()) as con:
            sides = con.execute(
                "SELECT (SELECT max(g) FROM samples WHERE g < $1), (SELECT min(g) FROM samples WHERE g > $1)", [group]
            ).fetchone()
        before, after = (None if g is None else Place(step=step, rank=rank, group=g) for g in sides or (None, None))
        return before, after

    def media_path(self, name: str) -> Path | None:
        with reading(self.index()) as con:
            found = con.execute("SELECT path FROM media WHERE name = ?", [name]).fetchone()
        path = Path(found[0]) if found else None
        return path if path is not None and path.is_file() and path.suffix.lower() in TYPES else None

    def _describe(self, kind: str, file: str) -> dict[str, Any]:
        """A medium as runs record it."""
        nothing = {"kind": kind, "file": None, "width": 0, "height": 0, "seen_width": None, "seen_height": None}
        try:
            path = locate(file, folder=self.path.parent.absolute())
            found = probe(path, "video" if kind == "video" else "image")
        except ValueError:  # it leaves the data folder, is not there, or is damaged
            return {**nothing, "times": []}
        seconds = found.frames / found.fps if found.fps else 0.0
        times = [seconds * number / FRAMES for number in range(FRAMES)] if kind == "video" and seconds else []
        width, height = found.size
        return {**nothing, "file": media_file(path), "width": width, "height": height, "times": times}

    def _read(self, index: Index) -> None:
        """All rows, again when the file has changed."""
        con = index.cursor()
        con.execute(TABLES)
        about = self.path.stat()
        stamp = [self.name, about.st_size, about.st_mtime_ns]
        if con.execute("SELECT 1 FROM files WHERE name = ? AND size = ? AND changed = ?", stamp).fetchone():
            index.progress = Progress(1, 1)
            return
        for table in ("files", "groups", "prompts", "samples", "media"):
            con.execute(f"DELETE FROM {table}")
        index.problems, index.progress = {}, Progress(0, 1)
        rows, count = Rows(self.path), 0
        stream = iter(rows)
        while batch := [] if index.stopped else list(islice(stream, BATCH)):
            good = []
            for where, row in batch:
                if isinstance(row, Problem):
                    index.problems[where] = f"{where.rpartition('/')[2]}: {row.message}"
                else:
                    good.append(row)
            self._insert(con, good, count)
            count += len(good)
            index.version += 1
            index.progress = Progress(min(rows.done, about.st_size - 1), about.st_size)
        if index.stopped:
            return
        con.execute("INSERT INTO files VALUES (?, 0, 0, ?, ?, NULL)", stamp)
        con.execute("CHECKPOINT")
        index.progress = Progress(1, 1)
        index.version += 1

    def _insert(self, con: duckdb.DuckDBPyConnection, rows: Sequence[dict[str, Any]], first: int) -> None:
        prompts, media = [], []
        for number, row in enumerate(rows, first):
            listed: list[tuple[str, str | None]] = []
            for kind, file in _media(row):
                try:
                    path = locate(file, folder=self.path.parent.absolute())
                except ValueError:
                    listed.append((kind, None))
                    continue
                listed.append((kind, media_file(path)))
                media.append((Path(media_file(path)).name, str(path)))
            meta = row.get("meta")
            task = meta.get("task") if isinstance(meta, dict) else None
            thumb: tuple[str | None, str | None] = next(((kind, file) for kind, file in listed if file), (None, None))
            said = prompt_text(json.dumps(row.get("messages")))
            prompts.append(
                (number, name_of(row), said, None if task is None else str(task),
                 modality([kind for kind, _ in listed], made=None), *thumb)
            )  # fmt: skip
        if not prompts:
            return
        con.execute("BEGIN")
        insert_prompts(con, prompts)
        numbers = [prompt[0] for prompt in prompts]
        con.execute("INSERT INTO samples SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[])",
                    [numbers, [json.dumps(row, ensure_ascii=False) for row in rows]])  # fmt: skip
        con.execute(
            "INSERT INTO groups SELECT g, 0, 0, g, g, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, NULL "
            "FROM (SELECT unnest(?::BIGINT[]) AS g)",
            [numbers],
        )
        if media:
            con.execute("INSERT INTO media SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
                        [list(column) for column in zip(*media, strict=True)])  # fmt: skip
        con.execute("COMMIT")


class DataLibrary:
    """One data set."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path, self.store, self.name = path, store, str(path)
        self._set = DataSet(path, store)

    def __getitem__(self, name: str) -> DataSet:
        if name != self._set.name:
            raise Gone(f"There is nothing named {name!r} here; the data set is {self._set.name}.")
        return self._set

    def summaries(self) -> list[RunSummary]:
        return [self._set.summary()]


def media_file(path: Path) -> str:
    """What the page calls a file."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()
    return f"{layout.MEDIA}/{digest}{path.suffix.lower()}"


def _media(row: dict[str, Any]) -> list[tuple[str, str]]:
    """(kind, path as written) of the media of a row, in order."""
    messages = row.get("messages")
    parts = [part for message in (messages if isinstance(messages, list) else []) for part in parts_of(message)]
    return [(kind_of(part), str(part[kind_of(part)])) for part in parts if kind_of(part) != "text"]
