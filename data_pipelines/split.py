"""Two parts of a dataset that share no media: `mmrl data split`. Which part a row is in is a function of the seed and
of what is hashed, not of the other rows, unless they join media."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from data_pipelines.opening import samples_of
from data_pipelines.reading import Problem, Row
from data_pipelines.rows import absolute_from, own_name, short_hash, texts
from data_pipelines.sources import Rows, atomic, write_rows
from mmrl.plugins import ConfigError
from mmrl.records import Sample

By = Literal["media", "id"]
LISTED = 5
"""Bad rows spelled out in one error message."""


def split(
    source: str,
    folder: Path,
    *,
    test: float,
    by: By = "media",
    seed: int = 0,
    tick: Callable[[Rows], None] = lambda rows: None,
) -> dict[str, tuple[Path, int]]:
    """Write `NAME.train` and `NAME.test` into `folder`, in the source's form; returns path and number of rows of each.

    About the share `test` of the rows, drawn by hash, is in the second. By media, rows with a file in common (by
    content, also through other rows) stay together, and rows without media that ask the same. ConfigError lists the
    first bad rows; with any, or if a part would be empty, nothing is written. `tick` is called after every batch.
    """
    if not 0 < test < 1:
        raise ConfigError(f"--test {test:g}: a share between 0 and 1 is expected.")
    rows, place = Rows(source), Path(source.partition(":")[0])
    if place.is_dir() and folder.resolve() == place.resolve():
        raise ConfigError(f"{source}: both parts would be read as rows of this folder; name another one with --out.")
    name = place.resolve().name if place.is_dir() else place.stem
    suffix = ".parquet" if all(file.suffix == ".parquet" for file in rows.files) else ".jsonl"
    second = _drawn(rows, source, test=test, by=by, seed=seed, tick=tick)
    counts = {"train": second.count(False), "test": second.count(True)}
    if empty := [part for part, count in counts.items() if not count]:
        raise ConfigError(f"{source}: the {empty[0]} part would be empty; change --test or --seed.")

    def part(wanted: bool) -> Iterator[Row]:
        again = Rows(source)
        for (_, row), drawn in zip(again, second, strict=True):
            if drawn == wanted and not isinstance(row, Problem):
                yield absolute_from(row, again.folder)

    paths = {part: folder / f"{name}.{part}{suffix}" for part in ("train", "test")}
    with atomic(paths["train"]) as train, atomic(paths["test"]) as held_out:
        write_rows(train, part(False), paths["train"])
        write_rows(held_out, part(True), paths["test"])
    return {part: (path, counts[part]) for part, path in paths.items()}


def share_of(seed: int, key: str) -> float:
    """A number in [0, 1), a function of the seed and the key."""
    digest = hashlib.sha256(f"{seed}/{key}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _drawn(rows: Rows, source: str, *, test: float, by: By, seed: int, tick: Callable[[Rows], None]) -> list[bool]:
    """For every row in order, whether it is in the second part."""
    keys: list[str] = []
    groups: dict[str, str] = {}
    problems: list[str] = []
    for sample in samples_of(rows, tick=tick):
        if isinstance(sample, Problem):
            problems.append(f"{sample.where}: {sample.message.rstrip('.')}." if len(problems) < LISTED else "")
        else:
            keys.append(_key(sample, by))
            _join(groups, sample)
    if problems:
        more = f" ({len(problems) - LISTED:,} more not listed)" if len(problems) > LISTED else ""
        raise ConfigError(
            "\n".join(problems[:LISTED])
            + f"\n{len(problems):,} bad rows{more}; `mmrl data check {source}` lists all, and `mmrl data convert rows "
            f"{source} --out FILE` leaves them out."
        )
    return [share_of(seed, key if by == "id" else _root(groups, key)) < test for key in keys]


def _key(sample: Sample, by: By) -> str:
    """What a row is drawn by: its id; its first medium; the hash of its question."""
    if by == "id":
        return own_name(sample)
    if not sample.media:
        asked: list[Any] = [message for message in sample.messages if message["role"] != "assistant"]
        return short_hash("\n".join(texts(asked)))
    return sample.media[0].digest


def _join(groups: dict[str, str], sample: Sample) -> None:
    """Digest -> another of its group, for media of rows with several; the smallest digest of a group is its root."""
    roots = {_root(groups, media.digest) for media in sample.media} if len(sample.media) > 1 else set()
    for root in roots - {min(roots, default="")}:
        groups[root] = min(roots)


def _root(groups: dict[str, str], digest: str) -> str:
    while digest in groups:
        if groups[digest] in groups:
            groups[digest] = groups[groups[digest]]
        digest = groups[digest]
    return digest
