"""The list of lettered options inside a prompt: found, and replaced by another one.

Rows that can be changed carry `meta.question` and `meta.options` (the texts without letters) and hold both in one text
part of a user turn, the options in order with one kind of mark: `A. x`, `(A) x`, `A) x`, `A: x` or `A x`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from data_pipelines.reading import Row
from data_pipelines.video.parts import LETTERS

MARKS = ("{}. ", "({}) ", "{}) ", "{}: ", "{} ")


@dataclass(frozen=True)
class Listed:
    """Where a text lists its options."""

    start: int
    end: int
    mark: str
    between: str
    """What stands between two options."""

    def write(self, options: Sequence[str]) -> str:
        marked = [f"{self.mark.format(letter)}{option}" for letter, option in zip(LETTERS, options, strict=False)]
        return self.between.join(marked)


def find_options(text: str, options: Sequence[str]) -> Listed | None:
    """The last place where the text lists these options in order; None if there is none."""
    for mark in MARKS:
        marked = [f"{mark.format(letter)}{option}" for letter, option in zip(LETTERS, options, strict=False)]
        start = text.rfind(marked[0])
        if start < 0 or len(marked) < 2:
            continue
        second = text.find(marked[1], start + len(marked[0]))
        between = text[start + len(marked[0]) : second] if second >= 0 else ""
        if between and not between.strip(" \t\n,;|") and text.startswith(between.join(marked), start):
            return Listed(start, start + len(between.join(marked)), mark, between)
    return None


def options_of(row: Row) -> list[str]:
    """`meta.options`. ValueError if the row has none."""
    found = row.get("meta", {}).get("options")
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(option, str) for option in found):
        raise ValueError("there are no `meta.options`, the texts of the options")
    return found


def letters_of(row: Row) -> list[str]:
    """The letters of the right options, from `target.choices`, else `target.answer`. ValueError if they are none."""
    target, options = row.get("target", {}), options_of(row)
    found = target.get("choices", str(target.get("answer", "")).split(","))
    right = [str(letter).strip() for letter in found] if isinstance(found, list) else []
    if not right or any(len(letter) != 1 or letter not in LETTERS[: len(options)] for letter in right):
        raise ValueError(f"the target {target} names no letters of {len(options)} options")
    return sorted(set(right))


def with_letters(row: Row, right: Sequence[str], options: Sequence[str], **meta: Any) -> Row:
    """A copy of the row with another target and other options in `meta`; the prompt is not touched."""
    changed = deepcopy(row)
    changed["target"]["answer"] = ",".join(right)
    changed["target"]["choices"] = list(right)
    changed["meta"] |= {"options": list(options), **meta}
    return changed


def rewrite(row: Row, change: Callable[[str], str | None]) -> bool:
    """Replace, in place, the text of the first user turn for which `change` gives another one; False if none did."""
    for message in row["messages"]:
        if message["role"] != "user":
            continue
        content = message["content"]
        for part in content if isinstance(content, list) else [message]:
            key = "content" if part is message else "text"
            found = change(part[key]) if isinstance(part.get(key), str) else None
            if found is not None:
                part[key] = found
                return True
    return False
