"""The media of many rows, opened by several threads ahead of the rows that use them, within flat memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from data_pipelines.media import locate, probe, verify
from data_pipelines.reading import Problem
from data_pipelines.rows import ADDRESS, RowError, media_parts, name_of, sample_of
from mmrl.records import Media, Sample

if TYPE_CHECKING:
    from data_pipelines.sources import Rows

BATCH = 256
"""Rows to look ahead."""
THREADS = 4
REMEMBERED = 4096
"""Files whose decoding is remembered: rows of one file mostly stand together."""

Item = TypeVar("Item")


class Opener:
    """Probes, and with `decode` decodes, the media of rows; `folder` and `roots` as in `media.locate`."""

    def __init__(self, folder: Path, *, decode: bool, roots: Sequence[str | Path] = ()) -> None:
        self.folder, self.decode, self.roots = folder, decode, roots
        self.pool = ThreadPoolExecutor(THREADS)
        self._decoded = lru_cache(maxsize=REMEMBERED)(_decode)
        self._begun: OrderedDict[tuple[Any, str], Future[None]] = OrderedDict()
        """Of the last files, by kind and path."""

    def ahead(self, rows: Iterable[Any]) -> None:
        """Open the media of a batch at once; what is wrong with them is said row by row."""
        for begun in [begun for row in rows for begun in self._begin(row)]:
            begun.result()

    def opened(self, items: Iterable[Item]) -> Generator[Item, None, None]:
        """The items in order, each once its media are open; meanwhile those of the next `BATCH` items are opened.

        An item that is no row (a problem, one left out) has no media. Closing the iterator ends the looking ahead.
        """
        waiting: deque[tuple[Item, list[Future[None]]]] = deque()
        try:
            for item in items:
                waiting.append((item, self._begin(item)))
                if len(waiting) > BATCH:
                    yield _waited_for(waiting.popleft())
            while waiting:
                yield _waited_for(waiting.popleft())
        finally:
            for _, begun in waiting:
                for future in begun:
                    future.cancel()

    def _begin(self, row: Any) -> list[Future[None]]:
        """A file that several rows in a row share is opened for all of them at once."""
        parts = media_parts(row.get("messages")) if isinstance(row, dict) else ()
        return [self._begin_file((part["type"], part[part["type"]])) for part in parts]

    def _begin_file(self, file: tuple[Any, str]) -> Future[None]:
        if file not in self._begun:
            self._begun[file] = self.pool.submit(self._open, file)
            if len(self._begun) > REMEMBERED:
                self._begun.popitem(last=False)
        return self._begun[file]

    def _open(self, file: tuple[Any, str]) -> None:
        kind, path = file
        if ADDRESS.match(path) or "\0" in path:
            return
        try:
            media = probe(locate(path, folder=self.folder, roots=self.roots), kind)
        except ValueError:
            return
        if self.decode:
            self._decoded(media)

    def faults(self, sample: Sample) -> Iterator[RowError]:
        """The media of a row that cannot be decoded; nothing without `decode`."""
        for media in sample.media if self.decode else ():
            if reason := self._decoded(media):
                yield RowError("media", reason)


def samples_of(rows: Rows, *, tick: Callable[[Rows], None] = lambda rows: None) -> Iterator[Sample | Problem]:
    """Every row of a source in order as a sample, or what keeps it from being one; the media of a batch are opened
    together. `tick` is called after every batch."""
    opener, stream = Opener(rows.folder, decode=False), iter(rows)
    while batch := list(islice(stream, BATCH)):
        opener.ahead(row for _, row in batch)
        for where, row in batch:
            if isinstance(row, Problem):
                yield row
                continue
            try:
                yield sample_of(row, name_of(row), folder=rows.folder, where=where)
            except RowError as error:
                yield error.at(where)
        tick(rows)


def _waited_for(pair: tuple[Item, list[Future[None]]]) -> Item:
    item, begun = pair
    for future in begun:
        future.result()
    return item


def _decode(media: Media) -> str:
    """Why it cannot be decoded, or nothing."""
    try:
        verify(media)
    except ValueError as error:
        return str(error)
    return ""
