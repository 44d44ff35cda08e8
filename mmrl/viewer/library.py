"""What a path holds: runs, one run, or a data set."""

from __future__ import annotations

from pathlib import Path

from mmrl.viewer.runs import Runs
from mmrl.viewer.store import Store
from mmrl.viewer.subjects import Library

DATA = (".jsonl", ".parquet")


def library(subject: Path, store: Store) -> Library:
    """Of a folder with runs, a run, or a data file."""
    if subject.is_file() and subject.suffix in DATA:
        from mmrl.viewer.datasets import DataLibrary

        return DataLibrary(subject, store)
    return Runs(subject, store)
