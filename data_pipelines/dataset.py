"""Samples on disk: one JSON object per line (or row of a Parquet file), media beside it.

    {"id"?: "gui-000012", "messages": [...], "target": {...}, "meta": {...}}

`messages` is a chat whose content is a string or a list of parts: `{"type": "text", "text": ...}`,
`{"type": "image", "image": path}`, `{"type": "video", "video": path, ...}`. Paths are relative to the file's folder.
Reading checks every row but decodes no image; `check_samples` does. What a row must be is `rows.py`, files as streams
are `sources.py`, and media are opened by `media.py` only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_pipelines.media import verify
from data_pipelines.reading import Problem
from data_pipelines.rows import Gold, RowError, faults, name_of, sample_of
from data_pipelines.sources import Rows, write_samples
from mmrl.plugins import ConfigError
from mmrl.records import Media, Sample

__all__ = ["broken_media", "check_samples", "read_samples", "write_samples"]

LISTED = 5
"""Bad rows spelled out in one error message."""
DECODERS = 4
"""Threads that decode media."""


def read_samples(
    path: str | Path,
    *,
    need_target: bool = True,
    prompts_only: bool = False,
    roots: Sequence[str | Path] = (),
    skipped: Callable[[str], None] | None = None,
) -> list[Sample]:
    """All samples of a dataset (JSON Lines, Parquet, or what else `Rows` reads), media paths made absolute.

    The stored id is the row's own (or a hash of its messages) followed by `@` and 8 hex digits of its media's hash.
    With `need_target=False` a row may hold assistant turns instead of a target (supervised learning), with
    `prompts_only=True` it may hold neither (what makes images needs no gold). ConfigError lists the first bad rows,
    each as `file, row N (id X): what to do`, and their number; rows count from 1. With `skipped`, rows whose media
    cannot be read are left out and it hears of each. `roots` as in `media.locate`.
    """
    gold: Gold = "optional" if prompts_only else "target" if need_target else "target or turns"
    rows = Rows(path)
    samples: list[Sample] = []
    problems: list[tuple[str, str]] = []
    first_row: dict[str, str] = {}
    for where, row in rows:
        try:
            if isinstance(row, Problem):
                raise ValueError(row.message)
            name, place = name_of(row), where
            where = f"{where} (id {name})"
            if name in first_row:
                raise ValueError(f"the id is already that of {first_row[name]}; ids (or messages) must differ")
            first_row[name] = place.rpartition(", ")[2]
            sample = sample_of(row, name, folder=rows.folder, where=where, gold=gold, roots=roots)
            for fault in faults(sample):
                raise fault
            samples.append(sample)
        except ValueError as error:
            if skipped is not None and isinstance(error, RowError) and error.kind == "media":
                skipped(f"{where}: {error}.")
            else:
                problems.append((where, str(error)))
    _raise_if_any(problems, f"bad rows of {len(samples) + len(problems)} in {path}")
    if not samples:
        raise ConfigError(f"{path}: there are no rows.")
    return samples


def check_samples(samples: Sequence[Sample]) -> None:
    """Decode every image and frames of every video. ConfigError lists the broken files with their rows."""
    _raise_if_any(broken_media(samples), f"media that cannot be decoded, of {len(samples)} samples")


def broken_media(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """(where, message) for every file that cannot be decoded; a file used by many rows is named with the first."""
    from rich.progress import track

    first_use: dict[str, tuple[str, Media]] = {}
    for sample in samples:
        for media in sample.media:
            first_use.setdefault(media.path, (sample.where or sample.id, media))

    def problem(use: tuple[str, Media]) -> tuple[str, str] | None:
        try:
            verify(use[1])
        except ValueError as error:
            return use[0], str(error)
        return None

    with ThreadPoolExecutor(DECODERS) as pool:
        found = pool.map(problem, first_use.values())
        return [bad for bad in track(found, "Decoding media", total=len(first_use), transient=True) if bad]


def _raise_if_any(problems: Sequence[tuple[str, str]], what: str) -> None:
    if not problems:
        return
    lines = [f"{where}: {message}." for where, message in problems[:LISTED]]
    rest = f" ({len(problems) - LISTED} more not listed)" if len(problems) > LISTED else ""
    raise ConfigError("\n".join([*lines, f"{len(problems)} {what}{rest}."]))
