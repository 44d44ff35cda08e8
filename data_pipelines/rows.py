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

from data_pipelines import targets
from data_pipelines.budget import PART_SETTINGS, part_settings
from data_pipelines.coordinates import CONVENTIONS
from data_pipelines.media import MEDIA_KINDS, Budget, MediaKind, locate, outcome, probe
from data_pipelines.reading import LONGEST, Row
from data_pipelines.reading import RowError as RowError  # raised by most functions here
from data_pipelines.reading import short as short
from mmrl.plugins import nearest
from mmrl.records import Media, Messages, Sample

KEYS = ("id", "messages", "target", "meta")
ROLES = ("system", "user", "assistant", "tool")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
DIGEST = re.compile(r"@[0-9a-f]{8}$")
"""Of a sample's media, at the end of its id."""
RESERVED = re.compile(r"<\|(?:image_pad|video_pad|vision_pad|vision_start|vision_end)\|>")
"""Tokens that a processor alone may write: one more of them than there are features ends a run."""

FRAMES = ("fps", "nframes", "min_frames", "max_frames", "video_start", "video_end", "sample_fps")
"""Settings of a video part that choose frames, which the file must have; pixels are fitted to any setting."""

Gold = Literal["target", "target or turns", "optional"]
"""What a row must hold to learn from: a target; that or assistant turns (supervised learning); nothing (prompts to make
images or videos of)."""


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


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{short(text)} is larger than any number")
    return number


DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_finite)


def dump(row: Row) -> bytes:
    """A row as one line of UTF-8, the line's end included. RowError if it cannot be written, or not read again."""
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError as error:
        if "\udc80" <= (half := error.object[error.start]) <= "\udcff":  # as `reading.lines` gives such a byte
            byte = f"\\x{ord(half) - 0xDC00:02x}"
            raise RowError("not UTF-8", f"the byte {byte} is not UTF-8; save the file as UTF-8") from None
        raise RowError("not JSON", "half of a surrogate pair (\\ud800 to \\udfff), which is no text") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError("not JSON", f"cannot be written as JSON ({error})") from None
    if len(line) > LONGEST:
        raise RowError("too long", f"the row has {len(line):,} bytes; at most {LONGEST:,} are read")
    return line


def name_of(row: Row) -> str:
    """The row's own id, or a hash of its messages."""
    given = row.get("id")
    return short_hash(json.dumps(row.get("messages"), sort_keys=True)) if given is None else str(given)


def sample_of(
    row: Row, name: str, *, folder: Path, where: str, gold: Gold = "optional", roots: Sequence[str | Path] = ()
) -> Sample:
    """The row as training sees it, its media probed; `roots` as in `media.locate`. RowError says what is wrong."""
    target, meta = ({} if row.get(key) is None else row[key] for key in ("target", "meta"))
    if unknown := [str(key) for key in row if key not in KEYS]:
        raise RowError("schema", f"unknown key `{min(unknown)}`. {nearest(min(unknown), KEYS)}")
    _require(isinstance(target, dict) and isinstance(meta, dict), "`target` and `meta` must be JSON objects")
    known = row.get("id") is None or type(row["id"]) is int or (isinstance(row["id"], str) and row["id"] != "")
    _require(known, "`id` must be a whole number, or a text that is not empty")
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


def own_name(sample: Sample) -> str:
    """`name_of` the row that a sample was read from: its id without the digest of its media."""
    return DIGEST.sub("", sample.id) if sample.media else sample.id


def row_of(sample: Sample) -> Row:
    """The inverse of `sample_of`, for writing: the row under its own name, with its media's paths absolute and its
    place as `where`, as a reader yields it."""
    return {
        "id": own_name(sample),
        "messages": list(sample.messages),
        "target": sample.target,
        "meta": sample.meta,
        "where": sample.where,
    }


def faults(sample: Sample) -> Iterator[RowError]:
    """What would spoil training: a target that cannot be met, text that a processor takes for media."""
    if found := RESERVED.search(_text(sample)):
        yield RowError("placeholders", f"the text holds {found[0]}, which stands for media; take it out")
    convention = sample.meta.get("coordinates", "pixel")
    if convention not in CONVENTIONS:
        known = nearest(str(convention), CONVENTIONS)
        yield RowError("coordinates", f"meta.coordinates = {short(convention)}. {known}")
    for media, part in zip(sample.media, media_parts(sample.messages), strict=True):
        choice = {key: part[key] for key in FRAMES if key in part}
        if media.kind == "video" and (choice or not media.fps):
            try:
                outcome(media, Budget(), patch_size=14, part=choice)
            except ValueError as error:
                yield RowError("part settings", str(error))
    yield from targets.faults(sample)


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
    yield from targets.doubts(sample)


def remarks(sample: Sample, folder: Path) -> Iterator[RowError]:
    """What may be meant."""
    if any(_written(sample, kind) == _there(sample, kind) for kind in _mentioned(sample)):
        yield RowError("placeholder left in text", "<image> or <video> is text to the model; media stand as parts")
    yield from targets.remarks(sample)
    for item in sample.media:
        if not Path(os.path.realpath(item.path)).is_relative_to(os.path.realpath(folder)):
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
            if kind in MEDIA_KINDS:
                _check_part(part, kind)
    return messages


def _check_part(part: dict[str, Any], kind: MediaKind) -> None:
    """Its own settings by themselves; whether the file can meet them is asked in `faults`."""
    for key in part:
        if key not in ("type", kind, *PART_SETTINGS[kind]):
            known = nearest(str(key), PART_SETTINGS[kind])
            raise RowError("schema", f"`{str(key)[:60]}` is not a setting of a part of type {kind}. {known}")
    try:
        part_settings(part, kind)
    except ValueError as error:
        raise RowError("part settings", str(error)) from None


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
    """A copy of a row whose relative media paths, those of `folder`, are absolute. RowError if it holds no chat, or if
    a path leaves the folder: once absolute it would pass."""

    def absolute(kind: MediaKind, file: str) -> str:
        try:
            return file if ADDRESS.match(file) else os.path.normpath(locate(file, folder=folder))
        except (ValueError, OSError) as error:
            raise RowError("media", str(error)) from None

    return row | {"messages": list(with_paths(chat(row.get("messages")), absolute))}


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise RowError("schema", problem)
