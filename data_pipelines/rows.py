"""What a row must be: its JSON, its chat, its media, its target against its media. One row at a time.

Training (`dataset.py`), `mmrl data check` and `mmrl data convert` ask the same functions, in three degrees: `sample_of`
and `faults` are what training refuses, `doubts` what a conversion refuses as well, `remarks` what is worth knowing.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from data_pipelines.coordinates import CONVENTIONS
from data_pipelines.media import MEDIA_KINDS, MediaKind, locate, probe
from data_pipelines.reading import LONGEST, Row
from mmrl.plugins import nearest
from mmrl.records import Media, Messages, Sample

KEYS = ("id", "messages", "target", "meta")
ROLES = ("system", "user", "assistant", "tool")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
RESERVED = re.compile(r"<\|(?:image_pad|video_pad|vision_pad|vision_start|vision_end)\|>")
"""Tokens that a processor alone may write: one more of them than there are features ends a run."""

PLACES = frozenset(("box", "boxes", "point", "points"))
TIMES = frozenset(("span", "spans", "highlights"))
"""Keys of targets that are checked against the media."""

Gold = Literal["target", "target or turns", "optional"]
"""What a row must hold to learn from: a target; that or assistant turns (supervised learning); nothing (prompts to make
images or videos of)."""

EDGE = 1.0
"""Pixels by which a gold box or point may leave its image: annotations are rounded."""
LATE = 1.0
"""Seconds by which a gold span may leave its clip: durations are rounded, and differ between decoders."""


class RowError(ValueError):
    """What is wrong with a row; `kind` is what such errors are counted by."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def parse(line: str | bytes) -> Row:
    """The object of one line. RowError says why it is none."""
    try:
        text = line if isinstance(line, str) else line.decode("utf-8")
        row = DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise RowError("not JSON", f"not UTF-8 (byte {error.start:,})") from None
    except json.JSONDecodeError as error:
        raise RowError("not JSON", f"not valid JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise RowError("not JSON", f"not valid JSON ({error})") from None
    if not isinstance(row, dict):
        raise RowError("not JSON", 'not a JSON object; a row is {"messages": ..., "target": ...}')
    if "\\ud" in text or "\\uD" in text:
        dump(row)
    return row


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


DECODER = json.JSONDecoder(parse_constant=_constant)


def dump(row: Row) -> bytes:
    """A row as one line of UTF-8, the line's end included. RowError if it cannot be written, or not read again."""
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        raise RowError("not JSON", "half of a surrogate pair (\\ud800 to \\udfff), which is no text") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError("not JSON", f"cannot be written as JSON ({error})") from None
    if len(line) > LONGEST:
        raise RowError("too long", f"the row has {len(line):,} bytes; at most {LONGEST:,} are read")
    return line


def name_of(row: Row) -> str:
    """The row's own id, or a hash of its messages."""
    return str(row.get("id") or short_hash(json.dumps(row.get("messages"), sort_keys=True)))


def sample_of(
    row: Row, name: str, *, folder: Path, where: str, gold: Gold = "optional", roots: Sequence[str | Path] = ()
) -> Sample:
    """The row as training sees it, its media probed; `roots` as in `media.locate`. RowError says what is wrong."""
    target, meta = row.get("target") or {}, row.get("meta") or {}
    if unknown := [str(key) for key in row if key not in KEYS]:
        raise RowError("schema", f"unknown key `{min(unknown)}`. {nearest(min(unknown), KEYS)}")
    _require(isinstance(target, dict) and isinstance(meta, dict), "`target` and `meta` must be JSON objects")
    _require(row.get("id") is None or isinstance(row["id"], (str, int)), "`id` must be a text or a whole number")
    messages = chat(row.get("messages"))
    if not target and gold == "target":
        raise RowError("no target", "row without target")
    if not target and gold == "target or turns" and not answered(messages):
        raise RowError("no target", "row without target and without assistant turns")
    media: list[Media] = []

    def absolute(kind: MediaKind, file: str) -> str:
        if ADDRESS.match(file):
            scheme = file.split(":", 1)[0]
            raise RowError("media", f"{kind} is given as {scheme}:...; download it into {folder}")
        if "\0" in file:
            raise RowError("media", f"no path of {kind}: {short(file)}")
        try:
            media.append(probe(locate(file, folder=folder, roots=roots), kind))
        except ValueError as error:
            raise RowError("media", str(error)) from None
        return media[-1].path

    located = with_paths(messages, absolute)
    if media:
        digest = media[0].digest if len(media) == 1 else short_hash("".join(m.digest for m in media))
        name = f"{name}@{digest[:8]}"
    return Sample(id=name, messages=located, media=tuple(media), target=target, meta=meta, where=where)


def faults(sample: Sample) -> Iterator[RowError]:
    """What would spoil training: a target that cannot be met, text that a processor takes for media."""
    if found := RESERVED.search(_text(sample)):
        yield RowError("placeholders", f"the text holds {found[0]}, which stands for media; take it out")
    convention = sample.meta.get("coordinates", "pixel")
    if convention not in CONVENTIONS:
        known = nearest(str(convention), CONVENTIONS)
        yield RowError("coordinates", f"meta.coordinates = {short(convention)}. {known}")
    if not PLACES.isdisjoint(sample.target):
        yield from _places(sample)
    if not TIMES.isdisjoint(sample.target):
        yield from _times(sample)


def doubts(sample: Sample) -> Iterator[RowError]:
    """What makes no sense, though a run would go through it."""
    asked = [message for message in sample.messages if message["role"] == "user"]
    if not asked or not all("".join(texts([message])).strip() for message in asked):
        yield RowError("empty question", "a user turn without text" if asked else "no user turn")
    for kind in _mentioned(sample):
        written, there = _written(sample, kind), _there(sample, kind)
        if written and written != there:
            message = f"{written} <{kind}> in the texts and {there} {kind} parts; media stand as parts, not in texts"
            yield RowError("placeholders", message)

    declared, stored = (declared_duration(sample), stored_duration(sample)) if sample.media else (None, None)
    if declared and stored and abs(declared - stored) > max(LATE, 0.05 * stored):
        yield RowError("wrong duration", f"meta.duration is {declared:g} s, and the video has {stored:.2f} s")


def remarks(sample: Sample, folder: Path) -> Iterator[RowError]:
    """What may be meant."""
    if any(_written(sample, kind) == _there(sample, kind) for kind in _mentioned(sample)):
        yield RowError("placeholder left in text", "<image> or <video> is text to the model; media stand as parts")
    if "coordinates" not in sample.meta and not PLACES.isdisjoint(sample.target):
        yield RowError("coordinates not declared", "a box or point without meta.coordinates; pixel is assumed")
    for item in sample.media:
        if not Path(item.path).is_relative_to(folder):
            yield RowError("media outside the folder", f"{item.path} does not move with {folder}")
            return


def _text(sample: Sample) -> str:
    return "\n".join(texts(sample.messages))


def _mentioned(sample: Sample) -> list[MediaKind]:
    """The kinds of media that a placeholder in the text names."""
    text = _text(sample)
    return [kind for kind in MEDIA_KINDS if f"<{kind}>" in text]


def _written(sample: Sample, kind: MediaKind) -> int:
    return _text(sample).count(f"<{kind}>")


def _there(sample: Sample, kind: MediaKind) -> int:
    return sum(item.kind == kind for item in sample.media)


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
            if not _numbers(value, count):
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
        if not _numbers(value, 2):
            yield RowError("schema", f"{where}: start and end in seconds are expected")
        elif value[0] >= value[1]:
            yield RowError("reversed spans", f"{where}: start < end does not hold")
        elif value[0] < 0 or (duration is not None and value[1] > duration + LATE):
            clip = "" if duration is None else f" of {duration:g} s"
            yield RowError("spans outside", f"{where} leaves the clip{clip}")
    highlights = target.get("highlights", [])
    if not isinstance(highlights, (list, tuple)) or not all(_numbers(pair, 2) for pair in highlights):
        yield RowError("schema", f"target.highlights is a list of [second, saliency]; found {short(highlights)}")
    elif duration is not None and any(not 0 <= second <= duration + LATE for second, _ in highlights):
        yield RowError("spans outside", f"target.highlights leave the clip of {duration:g} s")


def clip_duration(sample: Sample) -> float | None:
    """Seconds of the clip that spans lie in: as `meta.duration` says or as the file is, whichever is longer.

    None if nobody knows, or if the row shows only a part of its file.
    """
    durations = [duration for duration in (declared_duration(sample), stored_duration(sample)) if duration]
    return max(durations, default=None)


def declared_duration(sample: Sample) -> float | None:
    """`meta.duration`, if it is a number of seconds."""
    duration: Any = sample.meta.get("duration")
    return float(duration) if _numbers([duration], 1) and duration > 0 else None


def stored_duration(sample: Sample) -> float | None:
    """Seconds of the row's video, if it has one, shows all of it and its frame rate is known."""
    videos = [media for media in sample.media if media.kind == "video"]
    parted = any("video_start" in part or "video_end" in part for part in media_parts(sample.messages))
    return videos[0].frames / videos[0].fps if len(videos) == 1 and videos[0].fps > 0 and not parted else None


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == count
        and all(type(number) in (int, float) and abs(number) < 1e15 and math.isfinite(number) for number in value)
    )


def chat(messages: Any) -> list[dict[str, Any]]:
    """The messages as they are, once they are known to be a chat."""
    what = "row without messages; a chat is a non-empty list of {role, content}"
    _require(isinstance(messages, list) and len(messages) > 0, what)
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise RowError("schema", f"a message needs a role out of {', '.join(ROLES)}: {short(message)}")
        content = message.get("content")
        _require(isinstance(content, (str, list)), "the content of a message must be text or a list of parts")
        for part in content if isinstance(content, list) else []:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in ("text", *MEDIA_KINDS):
                known = nearest(str(kind), ["text", *MEDIA_KINDS])
                raise RowError("schema", f"unknown part type {short(kind)}. {known}")
            if not isinstance(part.get(kind), str) or not part[kind]:
                raise RowError("schema", f"a part of type {kind} needs a string under `{kind}`: {short(part)}")
    return messages


def texts(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    """All texts of a chat."""
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            yield content
        else:
            yield from (part["text"] for part in content if part["type"] == "text")


def answered(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a chat holds an assistant turn."""
    return any(message["role"] == "assistant" for message in messages)


def media_parts(messages: Any) -> Iterator[dict[str, Any]]:
    """The image and video parts of what may be a chat."""
    for message in messages if isinstance(messages, (list, tuple)) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") in MEDIA_KINDS and isinstance(part.get(part["type"]), str):
                yield part


def with_paths(messages: Sequence[dict[str, Any]], change: Callable[[MediaKind, str], str]) -> Messages:
    """A copy of a chat in which `change(kind, path)` replaced the path of every image and video."""

    def parts(content: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for part in content:
            kind = part["type"]
            yield part | {kind: change(kind, part[kind])} if kind in MEDIA_KINDS else dict(part)

    return tuple(
        message
        | {"content": list(parts(message["content"])) if isinstance(message["content"], list) else message["content"]}
        for message in messages
    )


def relative_to(row: Row, folder: Path) -> Row:
    """A copy of a row as it is stored in `folder`: absolute paths of media below it are relative, others stay."""
    real = os.path.realpath(folder)

    def relative(kind: MediaKind, file: str) -> str:
        below = os.path.isabs(file) and Path(os.path.realpath(file)).is_relative_to(real)
        return Path(os.path.relpath(file, folder)).as_posix() if below else file

    return row | {"messages": list(with_paths(row["messages"], relative))}


def absolute_from(row: Row, folder: Path) -> Row:
    """A copy of a row whose relative media paths, those of `folder`, are absolute. RowError if it holds no chat."""

    def absolute(kind: MediaKind, file: str) -> str:
        return file if ADDRESS.match(file) else os.path.normpath(folder / file)

    return row | {"messages": list(with_paths(chat(row.get("messages")), absolute))}


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise RowError("schema", problem)
