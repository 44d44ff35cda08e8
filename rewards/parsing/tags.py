"""Thought, answer and other tags of a completion."""

from __future__ import annotations


def last_tag(text: str, name: str) -> str | None:
    """What is inside the last complete `<name>...</name>`, without surrounding blanks."""
    opening, closing = f"<{name}>", f"</{name}>"
    start = text.rfind(opening, 0, max(0, text.rfind(closing)))
    if start < 0:
        return None
    start += len(opening)
    return text[start : text.index(closing, start)].strip()


def last_answer(text: str) -> str | None:
    """What is inside the last complete `<answer>...</answer>`, without surrounding blanks."""
    return last_tag(text, "answer")


def answer_or_text(text: str) -> str:
    """The part of a completion that counts: its last answer tag if it has a complete one, else all of it."""
    answer = last_answer(text)
    return text.strip() if answer is None else answer


def only_tags(text: str, *names: str) -> tuple[str, ...] | None:
    """What is inside each tag, if the text is one `<name>...</name>` per name, in this order, and nothing else."""
    tags = [tag for name in names for tag in (f"<{name}>", f"</{name}>")]
    if any(text.count(tag) != 1 for tag in tags):
        return None
    starts = [text.index(tag) for tag in tags]
    if starts != sorted(starts):
        return None
    ends = [start + len(tag) for start, tag in zip(starts, tags, strict=True)]
    pieces = [text[end:start].strip() for end, start in zip([0, *ends], [*starts, len(text)], strict=True)]
    return None if any(pieces[::2]) else tuple(pieces[1::2])


def think_answer(text: str) -> tuple[str, str] | None:
    """Thought and answer, if the text is one `<think>...</think>`, then one `<answer>...</answer>`, nothing else."""
    found = only_tags(text, "think", "answer")
    return (found[0], found[1]) if found else None
