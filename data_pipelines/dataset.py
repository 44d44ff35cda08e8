"""Samples on disk: one JSON object per line, media beside it.

    {"id"?: "gui-000012", "messages": [...], "target": {...}, "meta": {...}}

`messages` is a chat whose content is a string or a list of parts: `{"type": "text", "text": ...}`,
`{"type": "image", "image": path}`, `{"type": "video", "video": path, ...}`. Paths are relative to the file's folder.
Reading checks every row but decodes no image; `check_samples` does. Files are opened by `media.py` only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from data_pipelines.media import MEDIA_KINDS, MediaKind, probe, verify
from mmrl.plugins import ConfigError, nearest
from mmrl.records import Media, Messages, Sample

ROLES = ("system", "user", "assistant", "tool")
LISTED = 5
"""Bad rows spelled out in one error message."""
DECODERS = 4
"""Threads that decode media."""
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def read_samples(path: str | Path, *, need_target: bool = True, prompts_only: bool = False) -> list[Sample]:
    """All samples of a JSON Lines file, media paths made absolute.

    The stored id is the row's own (or a hash of its messages) followed by `@` and 8 hex digits of its media's hash.
    With `need_target=False` a row may hold assistant turns instead of a target (supervised learning), with
    `prompts_only=True` it may hold neither (what makes images needs no gold). ConfigError lists the first bad rows,
    each as `file, row N (id X): what to do`, and their number; rows count from 1.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a JSON Lines file ({error}).") from None
    samples: list[Sample] = []
    problems: list[tuple[str, str]] = []
    first_row: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, row {number}"
        try:
            row = _parse(line)
            name = str(row.get("id") or _hash(json.dumps(row.get("messages"), sort_keys=True)))
            where = f"{where} (id {name})"
            if name in first_row:
                raise ValueError(f"the id is already that of row {first_row[name]}; ids (or messages) must differ")
            first_row[name] = number
            sample = _sample(row, name, folder=path.parent.absolute(), where=where)
            if not prompts_only:
                _check_gold(sample, need_target=need_target)
            samples.append(sample)
        except ValueError as error:
            problems.append((where, str(error)))
    _raise_if_any(problems, f"bad rows of {len(samples) + len(problems)} in {path}")
    if not samples:
        raise ConfigError(f"{path}: there are no rows.")
    return samples


def write_samples(path: str | Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as JSON Lines, complete or not at all. Absolute media paths become relative to the file's folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.absolute()

    def relative(kind: MediaKind, file: str) -> str:
        return Path(os.path.relpath(file, folder)).as_posix() if os.path.isabs(file) else file

    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            for row in rows:
                row = row | {"messages": _with_paths(row["messages"], relative)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def check_samples(samples: Sequence[Sample]) -> None:
    """Decode every image and frames of every video. ConfigError lists the broken files with their rows."""
    _raise_if_any(broken_media(samples), f"media that cannot be decoded, of {len(samples)} samples")


def broken_media(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """(where, message) for every file that cannot be decoded; a file used by many rows is named with the first."""
    from rich.progress import track

    first_use: dict[str, tuple[str, Media]] = {}
    for sample in samples:
        for media in sample.media:
            first_use.setdefault(media.path, (sample.where or sample.id, media))

    def problem(use: tuple[str, Media]) -> tuple[str, str] | None:
        try:
            verify(use[1])
        except ValueError as error:
            return use[0], str(error)
        return None

    with ThreadPoolExecutor(DECODERS) as pool:
        found = pool.map(problem, first_use.values())
        return [bad for bad in track(found, "Decoding media", total=len(first_use), transient=True) if bad]


def _raise_if_any(problems: Sequence[tuple[str, str]], what: str) -> None:
    if not problems:
        return
    lines = [f"{where}: {message}." for where, message in problems[:LISTED]]
    rest = f" ({len(problems) - LISTED} more not listed)" if len(problems) > LISTED else ""
    raise ConfigError("\n".join([*lines, f"{len(problems)} {what}{rest}."]))


def _parse(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg} at column {error.colno})") from None
    _require(isinstance(row, dict), 'not a JSON object; a row is {"messages": ..., "target": ...}')
    return row


def _check_gold(sample: Sample, *, need_target: bool) -> None:
    answered = any(message["role"] == "assistant" for message in sample.messages)
    if not sample.target and (need_target or not answered):
        raise ValueError("row without target" if need_target else "row without target and without assistant turns")


def _sample(row: dict[str, Any], name: str, *, folder: Path, where: str) -> Sample:
    """ValueError says what is wrong with the row."""
    target, meta = row.get("target") or {}, row.get("meta") or {}
    if unknown := set(row) - {"id", "messages", "target", "meta"}:
        raise ValueError(f"unknown key `{min(unknown)}`. {nearest(min(unknown), ['id', 'messages', 'target', 'meta'])}")
    _require(isinstance(target, dict) and isinstance(meta, dict), "`target` and `meta` must be JSON objects")
    messages = _chat(row.get("messages"))
    media: list[Media] = []

    def absolute(kind: MediaKind, file: str) -> str:
        if ADDRESS.match(file):
            scheme = file.split(":", 1)[0]
            raise ValueError(f"{kind} is given as {scheme}:...; download it into {folder}")
        media.append(probe(folder / file, kind))
        return media[-1].path

    located = _with_paths(messages, absolute)
    if media:
        digest = media[0].digest if len(media) == 1 else _hash("".join(m.digest for m in media))
        name = f"{name}@{digest[:8]}"
    return Sample(id=name, messages=located, media=tuple(media), target=target, meta=meta, where=where)


def _chat(messages: Any) -> list[dict[str, Any]]:
    """The messages as they are, once they are known to be a chat."""
    what = "row without messages; a chat is a non-empty list of {role, content}"
    _require(isinstance(messages, list) and len(messages) > 0, what)
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ValueError(f"a message needs a role out of {', '.join(ROLES)}: {_short(message)}")
        content = message.get("content")
        _require(isinstance(content, (str, list)), "the content of a message must be text or a list of parts")
        for part in content if isinstance(content, list) else []:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in ("text", *MEDIA_KINDS):
                raise ValueError(f"unknown part type {_short(kind)}. {nearest(str(kind), ['text', *MEDIA_KINDS])}")
            if not isinstance(part.get(kind), str) or not part[kind]:
                raise ValueError(f"a part of type {kind} needs a string under `{kind}`: {_short(part)}")
    return messages


def _with_paths(messages: Sequence[dict[str, Any]], change: Callable[[MediaKind, str], str]) -> Messages:
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


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
