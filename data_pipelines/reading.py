"""What a reader of a foreign format is, and the parts that readers share.

A reader is a generator with one required argument, the annotations, and keyword-only settings:

    def read_charades_sta(annotations: Path, *, media: Path) -> Read:
        for where, line in lines(annotations):
            yield {...} or Problem(where, "what is wrong with it")

It yields rows as `dataset.py` describes them, in the order of the file, and a `Problem` where a row cannot be made, so
that one bad line never ends a conversion. It opens annotation files only: whether media exist and can be decoded is
asked later, in one place, of every row. Paths of media in rows are absolute (`inside`). A row may hold `where` beside
its other keys, its file and line, which messages then name and which is not written. Run twice over the same files a
reader yields the same items: that is how an interrupted conversion continues; one that finds a file by another's name
has an attribute `reads(source, **settings)` that gives it, so that a changed file begins anew. `mmrl data convert` runs
it; `READERS` in `makers.py` names it.
"""

from __future__ import annotations

import csv
import json
import os
import stat
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from mmrl.plugins import ConfigError

Row = dict[str, Any]

LONGEST = 2**24
"""Characters of a line; a longer one is nobody's row."""
LARGEST = 2**28
"""Characters of one item of a JSON file."""


@dataclass(frozen=True)
class Problem:
    """A row that could not be made."""

    where: str
    """File and line or item, as `file.txt, line 12`."""
    message: str
    kind: str = "not made"
    """What problems are counted by; two or three words."""


class RowError(ValueError):
    """What is wrong with a row; `kind` is what such errors are counted by."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def at(self, where: str) -> Problem:
        return Problem(where, str(self), self.kind)


Read = Iterator[Row | Problem]


def attempt(where: str, make: Callable[..., Row], *arguments: Any) -> Row | Problem:
    """The row with `where`, the place it comes from, or the problem that kept it (or an argument) from being made."""
    for argument in arguments:
        if isinstance(argument, Problem):
            return argument
    try:
        return make(*arguments) | {"where": where}
    except RowError as error:
        return error.at(where)


def short(value: Any) -> str:
    """A value as a message shows it: JSON of at most 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold: NaN is none, nor is a whole number of 400 digits, which JSON may
    have."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def inside(folder: Path, name: str) -> str:
    """The absolute path of a file that an annotation names; RowError if, with links followed, it is none of the
    folder's."""
    folder = Path(os.path.abspath(folder))
    path = os.path.normpath(folder / name)
    if not name or "\0" in name or not Path(path).is_relative_to(folder) or Path(path) == folder:
        raise RowError("path outside", f"{name[:200]!r} is not a file of {folder}")
    if not Path(real := os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise RowError("path outside", f"{name[:200]!r} is not a file of {folder} (a link leads to {real})")
    return path


def regular(path: Path) -> Path:
    """The path of a file that can be read to its end in UTF-8. ConfigError on a pipe, which might never end, and on
    UTF-16, which would be read as letters between NULs."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                start = file.read(4)
            if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or (b"\0" in start and path.suffix != ".parquet"):
                raise ConfigError(f"{path}: the text is UTF-16 or UTF-32; save it as UTF-8.")
        elif not path.is_dir():
            raise ConfigError(f"{path}: this is a pipe or a device; write what it gives into a file, and name that.")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from None
    return path


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """(where, line) of the non-empty lines of a text file. A byte that is no UTF-8 becomes half of a surrogate pair,
    and a row that holds it is refused.

    Of a line over `LONGEST` the beginning is yielded; a row that holds it is refused for its length.
    """
    with _open(path) as file:
        number = 0
        while line := file.readline(LONGEST):
            number += 1
            rest = line
            while rest and not rest.endswith("\n"):
                rest = file.readline(2**20)
            if line.strip():
                yield f"{path}, line {number}", line.rstrip("\n")


def json_lines(path: Path) -> Iterator[tuple[str, Row | Problem]]:
    """(where, object) of a JSON Lines file; a `Problem` for a line that is none."""
    for where, line in lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = f"longer than {LONGEST:,} characters" if len(line) >= LONGEST else _reason(error)
            yield where, Problem(where, f"not valid JSON ({reason})", "not JSON")
            continue
        yield where, row if isinstance(row, dict) else Problem(where, "not a JSON object", "not JSON")


def json_items_or_lines(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """As `json_items`; of a file whose name ends in .jsonl, (where, place from 0, object or `Problem`) of its lines."""
    if path.suffix == ".jsonl":
        yield from ((where, place, item) for place, (where, item) in enumerate(json_lines(path)))
    else:
        yield from json_items(path)


def json_items(path: Path, *, under: str | None = None) -> Iterator[tuple[str, Any, Any]]:
    """(where, key, value) of the items of a JSON file that holds one list or one object; the key of a list is the
    place in it, from 0. With `under`, the items of the list or object that stands under this key of the outer object.

    One item is in memory at a time. ConfigError if the file is something else, and, once the items before it have been
    yielded, where it stops being JSON.
    """
    with _open(path) as file:
        text = _Decoding(file, path)
        inside = text.character("[{")
        if under is not None:
            if inside != "{" or not any(key == under for key in text.object_keys(skip=under)):
                raise ConfigError(f"{path}: an object with the key `{under}` is expected, and there is none.")
            inside = text.character("[{")
        if inside == "{":
            for key in text.object_keys():
                yield f"{path}, item {key}", key, text.value()
        elif text.character("]", optional=True) is None:
            number = 0
            more: str | None = ","
            while more == ",":
                yield f"{path}, item {number}", number, text.value()
                number, more = number + 1, text.character(",]")


def csv_rows(path: Path, *, delimiter: str = ",") -> Iterator[tuple[str, dict[str, str] | Problem]]:
    """(where, {column: value}) of a CSV file with a header line; a `Problem` for a row with another number of fields.

    A row may span lines in quotes and is named by its first. Where such a row does not come out right, a quote was
    left open: the rows after its first line are read for themselves.
    """
    csv.field_size_limit(LONGEST)
    with _open(path) as file:
        source = _CsvLines(file)
        columns: list[str] | None = None
        while (begun := source.row(delimiter)) is not None:
            number, fields = begun
            where = f"{path}, line {number}"
            if columns is None and not isinstance(fields, str):
                columns = fields
            elif columns is None:
                raise ConfigError(f"{where}: cannot be read as CSV ({fields}).")
            elif isinstance(fields, str):
                yield where, Problem(where, f"cannot be read as CSV ({fields})", "fields")
            elif len(fields) != len(columns):
                source.again()
                message = f"{len(fields)} fields, and the header has {len(columns)}; a comma in a text needs quotes"
                yield where, Problem(where, message, "fields")
            else:
                yield where, {key: value for key, value in zip(columns, fields, strict=True) if key}


class _CsvLines:
    """Rows of a CSV file, with the lines of the last one kept so that they can be read once more."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.waiting = file, deque[str]()
        self.used: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        while line := self.waiting.popleft() if self.waiting else self.file.readline(LONGEST):
            self.used.append(line)
            yield line
        self.ended = True

    def row(self, delimiter: str) -> tuple[int, list[str] | str] | None:
        """(number of the first line, fields) of the next row that is not empty, or what is wrong with it; None at the
        end."""
        fields: list[str] = []
        while not fields:
            self.number += len(self.used)
            self.used, self.ended = [], False
            try:
                fields = next(csv.reader(self, delimiter=delimiter))
                if len(self.used) > 1 or self.ended:  # an open quote may have gone on to the next quote, or to the end
                    next(csv.reader(self.used, delimiter=delimiter, strict=True))
            except StopIteration:
                return None
            except csv.Error as error:
                self.again()
                return self.number + 1, str(error)
        return self.number + 1, fields

    def again(self) -> None:
        """Every line of the last row but the first will be read again."""
        self.waiting.extendleft(reversed(self.used[1:]))
        del self.used[1:]


class _Decoding:
    """JSON decoded value by value from a file of any size."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self.file, self.path = file, path
        self.text, self.at, self.line = "", 0, 1
        self.decode = json.JSONDecoder().raw_decode

    def more(self) -> bool:
        """Twice as much text from here on, so that retries cost as much as one reading; False at the end."""
        read = self.file.read(max(2**16, len(self.text) - self.at))
        self.line += self.text.count("\n", 0, self.at)
        self.text, self.at = self.text[self.at :] + read, 0
        return bool(read)

    def character(self, expected: str, *, optional: bool = False) -> str | None:
        """The next character that is no space, which must be one of `expected`; None if it is optional and is not."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\n\r\ufeff":
                self.at += 1
            if self.at < len(self.text):
                break
            if not self.more():
                self.fail("the file ends in the middle")
        found = self.text[self.at]
        if found in expected:
            self.at += 1
            return found
        if not optional:
            self.fail(f"{' or '.join(expected)} is expected, and {found!r} found")
        return None

    def value(self) -> Any:
        while True:
            self.character("", optional=True)  # to where the value begins
            try:
                value, end = self.decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError) or len(self.text) - self.at > LARGEST or not self.more():
                    self.fail(_reason(error))
                continue
            if end < len(self.text):
                self.at = end
                return value
            if not self.more():  # otherwise a number may go on there
                self.at = len(self.text)
                return value

    def object_keys(self, *, skip: str | None = None) -> Iterator[str]:
        """The keys of an object, each to be followed by `value()`; up to the key `skip`, values are passed over."""
        if self.character("}", optional=True) is not None:
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                self.fail(f"a key is expected, and {str(key)[:40]} found")
            self.character(":")
            if skip is not None and key != skip:
                self.value()
            yield key
            if self.character(",}") == "}":
                return

    def fail(self, reason: str) -> NoReturn:
        line = self.line + self.text.count("\n", 0, self.at)
        raise ConfigError(f"{self.path}, line {line}: not valid JSON from here on ({reason}).")


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _open(path: Path) -> IO[str]:
    try:
        return regular(path).open(encoding="utf-8-sig", errors="surrogateescape", newline=None)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from None
