"""Thought and answer tags of a completion."""

from __future__ import annotations

import re

_THINK_ANSWER = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def last_answer(text: str) -> str | None:
    """What is inside the last complete `<answer>...</answer>`, without surrounding blanks."""
    start = text.rfind("<answer>", 0, max(0, text.rfind("</answer>")))
    if start < 0:
        return None
    start += len("<answer>")
    return text[start : text.index("</answer>", start)].strip()


def answer_or_text(text: str) -> str:
    """The part of a completion that counts: its last answer tag if it has a complete one, else all of it."""
    answer = last_answer(text)
    return text.strip() if answer is None else answer


def think_answer(text: str) -> tuple[str, str] | None:
    """Thought and answer, if the text is one `<think>...</think>`, then one `<answer>...</answer>`, nothing else."""
    if any(text.count(tag) != 1 for tag in _TAGS):
        return None
    match = _THINK_ANSWER.fullmatch(text)
    return (match[1].strip(), match[2].strip()) if match else None
