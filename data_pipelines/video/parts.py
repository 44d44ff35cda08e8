"""What the readers of this folder share: fields, media paths, spans and options, checked; rows put together.

Everything raises `RowError` for a value that makes no sense; `reading.attempt` turns it into a `Problem`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.reading import Row, RowError, inside, short

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
EXTENSIONS = ("mp4", "mkv", "webm")
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
_MARK = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])[.):])\s+")
_LETTER = re.compile(r"\s*\(?([A-Z])\)?[.:]?\s*")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def row(
    id: str, parts: Sequence[Mapping[str, Any]], *, target: Mapping[str, Any], meta: Mapping[str, Any], split: str
) -> Row:
    """A row of one user turn; `meta` keys without a value are left out."""
    about = {key: value for key, value in meta.items() if value is not None}
    if split:
        about["split"] = split
    return {
        "id": id,
        "messages": [{"role": "user", "content": [dict(part) for part in parts]}],
        "target": dict(target),
        "meta": about,
    }


def text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def split_of(annotations: Path, split: str) -> str:
    """The split as given, else the one that a word of the file name says, else none."""
    words = re.findall("[a-z]+", Path(annotations).stem.lower())
    return split or next((SPLITS[word] for word in reversed(words) if word in SPLITS), "")


# -- fields ----------------------------------------------------------------------------------------------------------


def an_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError("wrong type", f"an object is expected, and this is {short(value)}")
    return value


def field(item: Mapping[str, Any], key: str) -> Any:
    if key not in item or item[key] is None:
        raise RowError("missing key", f"there is no `{key}`")
    return item[key]


def text(item: Mapping[str, Any], key: str) -> str:
    """A text that is not empty, without the blanks around it."""
    value = field(item, key)
    if not isinstance(value, str):
        raise RowError("wrong type", f"`{key}` is {short(value)}; a text is expected")
    if not value.strip():
        raise RowError("empty text", f"`{key}` is empty")
    return value.strip()


def identifier(item: Mapping[str, Any], key: str) -> str:
    """A text or a whole number, as a text."""
    value = field(item, key)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(item, key)


def a_list(item: Mapping[str, Any], key: str) -> list[Any]:
    value = field(item, key)
    if not isinstance(value, list):
        raise RowError("wrong type", f"`{key}` is {short(value)}; a list is expected")
    return value


def number(value: Any, what: str) -> float:
    """A finite number; texts of numbers count, as CSV files have nothing else."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise RowError("wrong type", f"{what} is {short(value)}; a number is expected")
    return found


def duration(item: Mapping[str, Any], key: str = "duration") -> float:
    seconds = number(field(item, key), f"`{key}`")
    if seconds <= 0:
        raise RowError("wrong duration", f"`{key}` is {seconds:g} seconds")
    return seconds


# -- media -----------------------------------------------------------------------------------------------------------


def media_file(media: Path, *names: str, extensions: Sequence[str] = ("",)) -> str:
    """Absolute path of the first of `names`, each with the first of `extensions`, that exists; if none does, of the
    very first. RowError if it would lie outside the folder."""
    files = [f"{name}.{extension}" if extension else name for name in names for extension in extensions]
    file = next((file for file in files if os.path.exists(os.path.join(media, file))), files[0])
    return inside(media, file)


def video_part(path: str, *, within: Sequence[float] | None = None) -> dict[str, Any]:
    """`within` shows the model only these seconds of the file."""
    clip = {} if within is None else {"video_start": within[0], "video_end": within[1]}
    return {"type": "video", "video": path, **clip}


# -- spans -----------------------------------------------------------------------------------------------------------


def span(value: Any, seconds: float | None, *, slack: float) -> list[float]:
    """[start, end] in seconds, start < end, inside a video of `seconds`.

    Ends that leave the video by no more than `slack` seconds are cut to it: hand-made annotations are rounded.
    """
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise RowError("wrong type", f"the span is {short(value)}; start and end are expected")
    start, end = (number(side, "the span's start or end") for side in value)
    if start > end:
        raise RowError("reversed span", f"the span {start:g} to {end:g} is reversed")
    if start == end:
        raise RowError("empty span", f"the span {start:g} to {end:g} is empty")
    latest = math.inf if seconds is None else seconds
    if start < -slack or end > latest + slack:
        of = "" if seconds is None else f" of {seconds:g} seconds"
        raise RowError("span outside", f"the span {start:g} to {end:g} leaves the video{of}")
    start, end = max(start, 0.0), min(end, latest)
    if start >= end:
        raise RowError("span outside", f"the span {value[0]} to {value[1]} lies after the end of the video, {latest:g}")
    return [start, end]


def spans(value: Any, seconds: float | None, *, slack: float) -> list[list[float]]:
    if not isinstance(value, list) or not value:
        raise RowError("wrong type", f"the spans are {short(value)}; a list of [start, end] is expected")
    return [span(each, seconds, slack=slack) for each in value]


# -- options ---------------------------------------------------------------------------------------------------------


def options(values: Any) -> list[str]:
    """Texts of at least two different options, as they are."""
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) and value.strip() for value in values):
        raise RowError("wrong type", f"the options are {short(values)}; a list of texts is expected")
    found = [value.strip() for value in values]
    if not 2 <= len(found) <= len(LETTERS):
        raise RowError("wrong options", f"there are {len(found)} options; 2 to {len(LETTERS)} are possible")
    if len(set(found)) < len(found):
        twice = next(value for value in found if found.count(value) > 1)
        raise RowError("wrong options", f"two options are {short(twice)}")
    return found


def unlettered(values: Sequence[str]) -> list[str]:
    """Options without their `A. `, `(A) ` or `A: `, if every one of them has its own letter in order."""
    marks = [_MARK.match(value) for value in values]
    in_order = all(mark and (mark[1] or mark[2]) == letter for mark, letter in zip(marks, LETTERS, strict=False))
    return [value[mark.end() :] for value, mark in zip(values, marks, strict=True) if mark] if in_order else [*values]


def letters(right: Iterable[int]) -> list[str]:
    return [LETTERS[index] for index in sorted(right)]


def answer_letters(answer: str) -> list[str]:
    """The letters of a gold answer, in order: `C`, `(C)`, `C.`, `A,C`, `A, C`. RowError if it is anything else."""
    found = [_LETTER.fullmatch(word) for word in answer.split(",")]
    if not all(found) or len(chosen := sorted({match[1] for match in found if match})) < len(found):
        raise RowError("wrong answer", f"the answer {short(answer)} is not option letters such as `C` or `A,C`")
    return chosen


def tagged_answer(solution: str) -> str:
    """What stands in the last answer tag, else the whole text."""
    found = _ANSWER.findall(solution)
    answer = (found[-1] if found else solution).strip()
    if not answer:
        raise RowError("empty text", f"the solution {short(solution)} holds no answer")
    return answer
