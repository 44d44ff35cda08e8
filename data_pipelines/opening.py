"""The media of many rows, opened by several threads ahead of the rows that use them, within flat memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_pipelines.media import locate, probe, verify
from data_pipelines.rows import ADDRESS, RowError, media_parts
from mmrl.records import Media, Sample

BATCH = 256
"""Rows to look ahead."""
THREADS = 4
REMEMBERED = 4096
"""Files whose decoding is remembered: rows of one file mostly stand together."""


class Opener:
    """Probes, and with `decode` decodes, the media of rows; `folder` and `roots` as in `media.locate`."""

    def __init__(self, folder: Path, *, decode: bool, roots: Sequence[str | Path] = ()) -> None:
        self.folder, self.decode, self.roots = folder, decode, roots
        self.pool = ThreadPoolExecutor(THREADS)
        self._decoded = lru_cache(maxsize=REMEMBERED)(_decode)

    def ahead(self, rows: Iterable[Any]) -> None:
        """Open the media of a batch at once; what is wrong with them is said row by row."""
        files = {
            (part["type"], part[part["type"]])
            for row in rows
            if isinstance(row, dict)
            for part in media_parts(row.get("messages"))
        }
        list(self.pool.map(self._open, files))

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


def _decode(media: Media) -> str:
    """Why it cannot be decoded, or nothing."""
    try:
        verify(media)
    except ValueError as error:
        return str(error)
    return ""
