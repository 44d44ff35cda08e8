"""Two parts of a dataset that share no media: `mmrl data split`. Which part a row is in is a function of the seed and
of what is hashed, not of the other rows, unless they join media."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from data_pipelines.reading import Problem, Row
from data_pipelines.rows import absolute_from, name_of, sample_of, texts
from data_pipelines.sources import Rows, write_samples
from mmrl.plugins import ConfigError
from mmrl.records import Sample

By = Literal["media", "id"]


def split(source: str, folder: Path, *, test: float, by: By = "media", seed: int = 0) -> dict[str, tuple[Path, int]]:
    """Write `NAME.train` and `NAME.test` into `folder`, in the source's form; returns path and number of rows of each.

    About the share `test` of the rows, drawn by hash, is in the second. By media, rows with a file in common (by
    content, also through other rows) stay together, and rows without media that ask the same. ConfigError on the first
    bad row, and if a part would be empty.
    """
    if not 0 < test < 1:
        raise ConfigError(f"--test {test:g}: a share between 0 and 1 is expected.")
    groups = _joined(source) if by == "media" else {}
    parquet = all(file.suffix == ".parquet" for file in Rows(source).files)
    stem, suffix = Path(source.partition(":")[0]).stem, ".parquet" if parquet else ".jsonl"
    written: dict[str, tuple[Path, int]] = {}
    counts = {"train": 0, "test": 0}

    def part(name: str) -> Iterator[Row]:
        for row, sample in _samples(source):
            drawn = share_of(seed, _key(row, sample, by, groups)) < test
            if drawn == (name == "test"):
                counts[name] += 1
                yield row

    for name in ("test", "train"):
        path = folder / f"{stem}.{name}{suffix}"
        write_samples(path, part(name))
        written[name] = (path, counts[name])
    if empty := [name for name, count in counts.items() if not count]:
        for path, _ in written.values():
            path.unlink()
        raise ConfigError(f"{source}: the {empty[0]} part would be empty; change --test or --seed.")
    return written


def share_of(seed: int, key: str) -> float:
    """A number in [0, 1), a function of the seed and the key."""
    digest = hashlib.sha256(f"{seed}/{key}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _samples(source: str) -> Iterator[tuple[Row, Sample]]:
    rows = Rows(source)
    for where, row in rows:
        try:
            if isinstance(row, Problem):
                raise ValueError(row.message)
            sample = sample_of(row, name_of(row), folder=rows.folder, where=where)
            yield absolute_from(row, rows.folder), sample
        except ValueError as error:
            raise ConfigError(f"{where}: {error}.\n  `mmrl data check {source}` lists all bad rows.") from None


def _key(row: Row, sample: Sample, by: By, groups: dict[str, str]) -> str:
    if by == "id":
        return name_of(row)
    if not sample.media:
        return "\n".join(texts([message for message in sample.messages if message["role"] != "assistant"]))
    return _root(groups, sample.media[0].digest)


def _joined(source: str) -> dict[str, str]:
    """Digest -> another of its group, for media of rows with several; the smallest digest of a group is its root."""
    groups: dict[str, str] = {}
    for _, sample in _samples(source):
        roots = {_root(groups, media.digest) for media in sample.media} if len(sample.media) > 1 else set()
        for root in roots - {min(roots, default="")}:
            groups[root] = min(roots)
    return groups


def _root(groups: dict[str, str], digest: str) -> str:
    while digest in groups:
        if groups[digest] in groups:
            groups[digest] = groups[groups[digest]]
        digest = groups[digest]
    return digest
