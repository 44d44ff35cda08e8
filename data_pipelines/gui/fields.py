"""Values out of foreign annotation files, checked: each function returns the value or says in a ValueError what was
found instead. Used by the readers of this folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.reading import Problem, inside, is_number, json_items, short
from mmrl.plugins import ConfigError


def items_of(source: Path, pattern: str) -> Iterator[tuple[Path, str, Any, Any]]:
    """(file, where, key, item) of a JSON file, or of the files of a folder that fit a pattern, by name.

    ConfigError for a folder without such files. A file of a folder that is no JSON, or not to its end, is an item that
    is a Problem; the next one is read.
    """
    files = sorted(source.glob(pattern)) if source.is_dir() else [source]
    if not files:
        raise ConfigError(f"{source}: there is no {Path(pattern).name} annotation file in this folder.")
    for file in files:
        try:
            for where, key, item in json_items(file):
                yield file, where, key, item
        except ConfigError as error:
            if len(files) == 1:
                raise
            yield file, str(file), -1, Problem(str(file), str(error).removeprefix(f"{file}: "), "file cut short")


def text(item: dict[str, Any], *keys: str) -> str:
    """The first of the keys that is there; a text that is not empty."""
    key = next((key for key in keys if key in item), keys[0])
    value = item.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{key}` is a text that is not empty; found {_found(item, key)}")
    return value.strip()


def numbers(item: dict[str, Any], key: str, count: int) -> list[float]:
    value = item.get(key)
    if not isinstance(value, (list, tuple)) or len(value) != count or not all(_is_number(one) for one in value):
        raise ValueError(f"`{key}` is a list of {count} numbers; found {_found(item, key)}")
    return list(value)


def number(item: dict[str, Any], key: str) -> float:
    value: Any = item.get(key)
    if not _is_number(value):
        raise ValueError(f"`{key}` is a number; found {_found(item, key)}")
    return float(value)


def media_file(folder: Path, name: str) -> str:
    """As `reading.inside`; these formats write slashes, so a backslash is no part of a path."""
    if "\\" in name:
        raise ValueError(f"{short(name)} is not a file of {folder}")
    return inside(folder, name)


def proper(box: Sequence[float], written: str) -> list[float]:
    """x1, y1, x2, y2 with x1 < x2, y1 < y2 and nothing below 0; `written` is the box as the file has it, and how it
    was read."""
    x1, y1, x2, y2 = box
    if min(box) < 0 or x1 >= x2 or y1 >= y2:
        raise ValueError(f"{written}, is no box: x1 < x2 and y1 < y2, none below 0, do not hold for {list(box)}")
    return list(box)


def _is_number(value: Any) -> bool:
    return is_number(value) and abs(value) <= 1e9


def _found(item: dict[str, Any], key: str) -> str:
    return short(item[key]) if key in item else f"no such key (keys: {', '.join(sorted(map(str, item))[:12])})"
