"""What a chat says, for lists and search. Chats are untrusted: anything in them may have any form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

LONGEST = 20_000
"""Characters of a prompt that are kept for search and lists; a group shows all of it."""


def parts_of(message: Any) -> list[dict[str, Any]]:
    """The parts of a message's content; a string is one text."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def kind_of(part: dict[str, Any]) -> str:
    """`image`, `video` or `text`."""
    return next((kind for kind in ("image", "video") if kind in part), "text")


def prompt_text(messages: str) -> str:
    """The texts of a chat in JSON, one per line, media left out; empty where it is none."""
    try:
        chat = json.loads(messages)
    except (ValueError, RecursionError):
        return ""
    texts = (
        str(part.get("text", ""))
        for message in (chat if isinstance(chat, list) else [])
        for part in parts_of(message)
        if kind_of(part) == "text"
    )
    return "\n".join(text for text in texts if text)[:LONGEST]


def modality(kinds: Sequence[str], *, made: str | None) -> str:
    """What goes in, or, where a picture comes out, what is made: text, image, images, video, mixed, made image, ..."""
    if made is not None:
        return f"made {made}"
    if not kinds:
        return "text"
    if len(set(kinds)) > 1:
        return "mixed"
    return kinds[0] if len(kinds) == 1 else f"{kinds[0]}s"


def without_paths(messages: Any) -> list[dict[str, Any]]:
    """A chat whose media parts are `{"type": kind, "media": n}`, n counting over the chat; other settings stay."""
    shown, count = [], 0
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict):
            continue
        parts: list[dict[str, Any]] = []
        for part in parts_of(message):
            kind = kind_of(part)
            if kind == "text":
                parts.append({"type": "text", "text": str(part.get("text", ""))})
            else:
                rest = {key: value for key, value in part.items() if key not in (kind, "type")}
                parts.append({"type": kind, "media": count, **rest})
                count += 1
        shown.append({"role": str(message.get("role", "?")), "content": parts})
    return shown
