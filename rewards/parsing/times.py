"""Times, spans and highlights of a video, written in a text. Times are in seconds; a span is (start, end)."""

from __future__ import annotations

import math
import re
from typing import Any

from rewards.parsing.quantities import NUMBER, numbers
from rewards.parsing.structured import json_value

Span = tuple[float, float]

LATEST = 1e9
"""No video is longer: a time beyond it is no time, and lengths stay finite."""

_TIME = rf"{NUMBER}(?::[0-9]+(?:\.[0-9]*)?)*"
_CLOCK = re.compile(r"[0-9]{1,4}(?::[0-5][0-9]){1,2}(?:\.[0-9]*)?")
_TIMES = re.compile(_TIME)
_JOIN = re.compile(r"\s*(?:(?:s|secs?|seconds?)\.?\s*)?(?:to|and|[-–—])\s*", re.IGNORECASE)  # noqa: RUF001
_PAIR = rf"\(\s*{NUMBER}\s*,\s*{NUMBER}\s*\)"
_LIST = re.compile(rf"\[\s*(?:{_PAIR}(?:\s*,\s*{_PAIR})*\s*(?:,\s*)?)?\]")
_SALIENCY = re.compile("saliency", re.IGNORECASE)
_TIMESTAMPS = re.compile("timestamps?", re.IGNORECASE)


def spans(text: str) -> list[Span]:
    """Every span in the text, in order of appearance, ends as written.

    `A to B`, `A and B`, `A - B` and, in brackets, `(A, B)` or `[A, B]`; a time is a number (`12.5`, `12.5 s`) or a
    clock's (`1:02:03.5`, `02:03`). A time belongs to one span.
    """
    times = list(_TIMES.finditer(text))
    starts = [time.start() for time in times]
    gaps = [text[end:start] for end, start in zip([0, *(t.end() for t in times)], [*starts, len(text)], strict=True)]
    found: list[Span] = []
    first = 0
    while first + 1 < len(times):
        a, b = times[first][0], times[first + 1][0]
        before, between, after = gaps[first : first + 3]
        if b[0] == "-" and _JOIN.fullmatch(f"{between}-"):  # "10 -20"
            joined, b = True, b[1:]
        elif between.strip() == ",":
            joined = before.rstrip().endswith(("(", "[")) and after.lstrip().startswith((")", "]"))
        else:
            joined = _JOIN.fullmatch(between) is not None
        span = _seconds(a), _seconds(b)
        if joined and all(abs(time) <= LATEST for time in span):
            found.append(span)
        first += 2 if joined else 1
    return found


def last_span(text: str) -> Span | None:
    """The span of the text's last JSON object, `{"start_time": A, "end_time": B}`, else the last of its `spans`."""
    opening = text.rfind("{")
    span = json_span(text[opening : text.find("}", opening) + 1]) if opening >= 0 else None
    found = [span] if span else spans(text)
    return found[-1] if found else None


def json_span(text: str) -> Span | None:
    """The span of a text that is the JSON object `{"start_time": A, "end_time": B}`, its times numbers or strings."""
    found, _ = json_value(text)
    if not isinstance(found, dict):
        return None
    start, end = (_time(found.get(key)) for key in ("start_time", "end_time"))
    return None if start is None or end is None else (start, end)


def span_list(text: str) -> list[Span] | None:
    """The spans of a text that is a list of pairs, `[(A, B), ...]` or `[]`, each with A <= B; else None."""
    if not _LIST.fullmatch(text):
        return None
    found = spans(text)
    ordered = len(found) == text.count("(") and all(start <= end for start, end in found)
    return found if ordered else None


def highlights(text: str) -> dict[float, float] | None:
    """Time -> saliency of `The highlight timestamps are in the 82, 84 seconds. Their saliency scores are 1.3, 2`.

    The numbers between the last `timestamps` and the last `saliency` are times, those after it their scores, in the
    same order. A time without a score has 0. None if there are no times.
    """
    scored = [match.start() for match in _SALIENCY.finditer(text)]
    if not scored:
        return None
    named = [match.end() for match in _TIMESTAMPS.finditer(text, 0, scored[-1])]
    times = numbers(text[named[-1] if named else 0 : scored[-1]])
    scores = numbers(text[scored[-1] :])
    return dict(zip(times, scores + [0.0] * len(times), strict=False)) or None


def _time(value: Any) -> float | None:
    """A time of JSON, a number or the text of one."""
    if isinstance(value, str):
        written = _TIMES.fullmatch(value.strip())
        value = _seconds(written[0]) if written else None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and abs(value) <= LATEST else None


def _seconds(written: str) -> float:
    """Of a number or a clock's time; not finite if it is neither, as `0:61`, or too large."""
    if ":" not in written:
        return float(written)
    if not _CLOCK.fullmatch(written):
        return math.nan
    seconds = 0.0
    for part in written.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
