"""What a reader of a foreign format is, and the parts that readers share.

A reader is a generator with one required argument, the annotations, and keyword-only settings:

    def read_charades_sta(annotations: Path, *, media: Path) -> Read:
        for where, line in lines(annotations):
            yield {...} or Problem(where, "what is wrong with it")

It yields rows as `dataset.py` describes them, in the order of the file, and a `Problem` where a row cannot be made, so
that one bad line never ends a conversion. It opens annotation files only: whether media exist and can be decoded is
asked later, in one place, of every row. Paths of media in rows are absolute. `mmrl data convert` runs it; `READERS` in
`makers.py` names it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.plugins import ConfigError

Row = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """A row that could not be made."""

    where: str
    """File and line or item, as `file.txt, line 12`."""
    message: str


Read = Iterator[Row | Problem]


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """(where, line) of the non-empty lines of a text file; a byte that is no UTF-8 becomes U+FFFD."""
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"{path}, line {number}", line.rstrip("\n")


def json_lines(path: Path) -> Iterator[tuple[str, Row | Problem]]:
    """(where, object) of a JSON Lines file; a `Problem` for a line that is none."""
    for where, line in lines(path):
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield where, Problem(where, f"not valid JSON ({getattr(error, 'msg', error)})")
            continue
        yield where, row if isinstance(row, dict) else Problem(where, "not a JSON object")


def json_items(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """(where, key, value) of the items of a JSON file that holds one list or one object; the key of a list is the
    place in it, from 0. ConfigError if the file is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as a JSON file ({error}).") from None
    if not isinstance(content, (list, dict)):
        raise ConfigError(f"{path}: a list or an object is expected, and this is a {type(content).__name__}.")
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield f"{path}, item {key}", key, value


def csv_rows(path: Path, *, delimiter: str = ",") -> Iterator[tuple[str, dict[str, str]]]:
    """(where, {column: value}) of a CSV file with a header line."""
    with _open(path) as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        for row in reader:
            yield f"{path}, line {reader.line_num}", {key: value or "" for key, value in row.items() if key}


def _open(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8", errors="replace", newline=None)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from None
