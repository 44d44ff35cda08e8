"""What a target must be: the form of each key's value, and whether the row's media can hold it. `rows.py` asks.

Keys that are not named here are whatever a reward of one's own makes of them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from data_pipelines.media import media_parts
from data_pipelines.reading import RowError, is_number, short
from mmrl.records import Sample

PLACES = frozenset(("box", "boxes", "point", "points"))
TIMES = frozenset(("span", "spans", "highlights"))
"""Keys of targets that are checked against the media."""

EDGE = 1.0
"""Pixels by which a gold box or point may leave its image: annotations are rounded."""
LATE = 1.0
"""Seconds by which a gold span may leave its clip: durations are rounded, and differ between decoders."""


def numbers(value: Any, count: int) -> bool:
    """Whether it is a list of so many finite numbers of a sensible size."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == count
        and all(is_number(number) and abs(number) < 1e15 for number in value)
    )


def golds(target: Mapping[str, Any], one: str, several: str, count: int) -> list[list[float]]:
    """The boxes, points or spans of a target under both of its keys, but for those that `faults` complains of."""
    values = [target[one]] if one in target else []
    more = target.get(several)
    return [value for value in [*values, *(more if isinstance(more, (list, tuple)) else [])] if numbers(value, count)]


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _several(form: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and bool(value) and all(map(form, value))


def _plain(value: Any) -> bool:
    return _text(value) or is_number(value)


def _letter(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 1 and "A" <= value <= "Z"


def _answer(value: Any) -> bool:
    return value is not None and value not in ([], {}) and (not isinstance(value, str) or _text(value))


def _count(value: Any) -> bool:
    return numbers([value], 1) and value >= 0 and value == int(value)


def _position(value: Any) -> bool:
    return numbers(value, 2) and all(0 <= share <= 1 for share in value)


FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "count": (_count, "a whole number, 0 or more"),
    "answer": (_answer, "a text, a number or a list, and not empty"),
    "answers": (_several(_plain), "a list of texts or numbers, and not empty"),
    "choices": (_several(_letter), "a list of option letters, A to Z, and not empty"),
    "action": (_text, "the name of an action"),
    "position": (_position, "two shares of the image's sides, 0 to 1"),
    "reference": (_text, "a text that is not empty"),
    "caption": (_text, "a text that is not empty"),
    "captions": (_several(_text), "a list of texts, and not empty"),
    "text": (_text, "a text that is not empty"),
}
"""What the value of a key is, and the words for it; boxes, points and times have functions of their own."""


def faults(sample: Sample) -> Iterator[RowError]:
    """What no reward could compare with, or the media cannot hold."""
    for key, value in sample.target.items():
        form, words = FORMS.get(key, (None, ""))
        if form is not None and not form(value):
            yield RowError("schema", f"target.{key} is {words}; found {short(value)}")
    if not PLACES.isdisjoint(sample.target):
        yield from _places(sample)
    if not TIMES.isdisjoint(sample.target):
        yield from _times(sample)


def doubts(sample: Sample) -> Iterator[RowError]:
    """What makes no sense, though a run would go through it."""
    target = sample.target
    if not sample.media and (keys := sorted(PLACES & target.keys())):
        yield RowError("target without media", f"target.{keys[0]} is in pixels, and the row has no image")
    pictures = [media.kind for media in sample.media]  # several images may be the frames of a film
    if pictures in ([], ["image"]) and (keys := sorted(TIMES & target.keys())):
        yield RowError("target without media", f"target.{keys[0]} is in seconds, and the row has no video")
    if numbers(box := target.get("box"), 4) and numbers(point := target.get("point"), 2):
        assert box is not None and point is not None
        if not all(box[side] - EDGE <= point[side] <= box[side + 2] + EDGE for side in (0, 1)):
            yield RowError("points outside", f"target.point {short(point)} is not in target.box {short(box)}")
    yield from _durations(sample)


def remarks(sample: Sample) -> Iterator[RowError]:
    """What may be meant."""
    if "coordinates" not in sample.meta and not PLACES.isdisjoint(sample.target):
        yield RowError("coordinates not declared", "a box or point without meta.coordinates; pixel is assumed")
    known = FORMS.keys() | PLACES | TIMES
    for key in sorted(map(str, sample.target.keys() - known)):
        if close := difflib.get_close_matches(key, known - sample.target.keys(), n=1, cutoff=0.8):
            yield RowError("unusual target keys", f"target.{key}: is {close[0]} meant?")


def _durations(sample: Sample) -> Iterator[RowError]:
    declared = declared_duration(sample)
    if declared is None and sample.meta.get("duration") is not None:
        found = short(sample.meta["duration"])
        yield RowError("wrong duration", f"meta.duration is the seconds of the clip, a number above 0; found {found}")
    stored, (first, last) = stored_duration(sample), shown_part(sample)
    if declared and stored:
        lengths = {stored, min(last, stored) - first}
        if all(abs(declared - length) > max(LATE, 0.05 * length) for length in lengths):
            yield RowError("wrong duration", f"meta.duration is {declared:g} s, and the video has {stored:.2f} s")


def _places(sample: Sample) -> Iterator[RowError]:
    """Gold boxes and points: x1 < x2, y1 < y2, in pixels of the first medium."""
    target = sample.target
    size = sample.media[0].size if sample.media else None
    for key, count, several in (("box", 4, False), ("boxes", 4, True), ("point", 2, False), ("points", 2, True)):
        if key not in target:
            continue
        values = target[key] if several else [target[key]]
        if not isinstance(values, (list, tuple)):
            yield RowError("schema", f"target.{key} is a list of boxes or points; found {short(values)}")
            continue
        for value in values:
            where = f"target.{key} {short(value)}"
            if not numbers(value, count):
                yield RowError("schema", f"{where}: {'x1, y1, x2, y2' if count == 4 else 'x, y'} are expected")
                continue
            kind = "boxes" if count == 4 else "points"
            if count == 4 and not (value[0] < value[2] and value[1] < value[3]):
                hint = guess(value, size) if size else ""
                yield RowError(f"reversed {kind}", f"{where}: x1 < x2 and y1 < y2 do not hold{hint}")
            elif size and not inside_image(value, size):
                text = f"{where} leaves the image of {size[0]} x {size[1]}{guess(value, size)}"
                yield RowError(f"{kind} outside", text)
            elif size and min(size) > 4 and _shares(value):
                yield RowError(f"{kind} outside", f"{where}: targets are in pixels of the stored image, not in shares")


def inside_image(value: Sequence[float], size: tuple[int, int]) -> bool:
    return all(-EDGE <= number <= size[index % 2] + EDGE for index, number in enumerate(value))


def guess(value: Sequence[float], size: tuple[int, int]) -> str:
    """`; it fits as ...`, for a box or point that does not fit as pixels x1, y1, x2, y2."""
    if len(value) == 4:
        x, y, w, h = value
        if min(value) >= 0 and w > 0 and h > 0 and inside_image((x, y, x + w, y + h), size):
            return "; it fits as x, y, width, height"
        if y < h and x < w and inside_image((y, x, h, w), size):
            return "; it fits as y1, x1, y2, x2"
    elif inside_image((value[1], value[0]), size):
        return "; it fits as y, x"
    if min(value) >= 0 and max(value) <= 1000 and (len(value) == 2 or (value[0] < value[2] and value[1] < value[3])):
        pixels = [round(number * size[index % 2] / 1000) for index, number in enumerate(value)]
        return f"; as 0 to 1000 it would be {pixels} in pixels"
    return ""


def _shares(value: Sequence[float]) -> bool:
    whole = all(float(number).is_integer() for number in value)
    return max(value) <= 1 and min(value) >= 0 and (not whole or list(value) == [0, 0, 1, 1])


def _times(sample: Sample) -> Iterator[RowError]:
    """Gold spans and highlights: 0 <= start < end, in seconds, within the clip where its duration is known."""
    target, duration = sample.target, clip_duration(sample)
    spans = target.get("spans", [])
    if not isinstance(spans, (list, tuple)):
        yield RowError("schema", f"target.spans is a list of [start, end]; found {short(spans)}")
        spans = []
    for key, value in [("span", target.get("span")), *(("spans", value) for value in spans)]:
        if key == "span" and "span" not in target:
            continue
        where = f"target.{key} {short(value)}"
        if not numbers(value, 2):
            yield RowError("schema", f"{where}: start and end in seconds are expected")
        elif value[0] >= value[1]:
            yield RowError("reversed spans", f"{where}: start < end does not hold")
        elif value[0] < 0 or (duration is not None and value[1] > duration + LATE):
            clip = "" if duration is None else f" of {duration:g} s"
            yield RowError("spans outside", f"{where} leaves the clip{clip}")
    highlights = target.get("highlights", [])
    if not isinstance(highlights, (list, tuple)) or not all(numbers(pair, 2) for pair in highlights):
        yield RowError("schema", f"target.highlights is a list of [second, saliency]; found {short(highlights)}")
    elif duration is not None and any(not 0 <= second <= duration + LATE for second, _ in highlights):
        yield RowError("spans outside", f"target.highlights leave the clip of {duration:g} s")


def clip_duration(sample: Sample) -> float | None:
    """Seconds that spans may reach: as `meta.duration` says or as the file is, whichever is longer, or, if less, where
    the row's part of the file ends. None if nobody knows."""
    durations = [duration for duration in (declared_duration(sample), stored_duration(sample)) if duration]
    end = shown_part(sample)[1]
    return min(max(durations), end) if durations else end if math.isfinite(end) else None


def declared_duration(sample: Sample) -> float | None:
    """`meta.duration`, if it is a number of seconds."""
    duration: Any = sample.meta.get("duration")
    return float(duration) if numbers([duration], 1) and duration > 0 else None


def stored_duration(sample: Sample) -> float | None:
    """Seconds of the row's video, all of it, if it has one and its frame rate, or that of stored frames, is known."""
    videos = [media for media in sample.media if media.kind == "video"]
    part = _video_part(sample)
    fps = part.get("sample_fps") or videos[0].fps or part.get("fps", 0) if len(videos) == 1 else 0
    return videos[0].frames / fps if fps > 0 else None


def shown_part(sample: Sample) -> tuple[float, float]:
    """`video_start` and `video_end` of the row's video, in seconds of the file; 0 and infinity where it has none."""
    part = _video_part(sample)
    return float(part.get("video_start", 0)), float(part.get("video_end", math.inf))


def _video_part(sample: Sample) -> dict[str, Any]:
    """The part of the row's only video; empty if there is none or several."""
    parts = [part for part in media_parts(sample.messages) if "video" in part]
    return dict(parts[0]) if len(parts) == 1 else {}
