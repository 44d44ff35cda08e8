"""Which option of a multiple choice a completion picks."""

from __future__ import annotations

import re

from rewards.parsing.tags import answer_or_text

# An option letter is a capital. What follows it must end the phrase, so that an article ("A man", "answer is a dog")
# or a word ("T-shirt") never counts, and every letter is treated alike.
_LONE_LETTER = re.compile(r"[(*]{0,3}([A-Z])[).:*]{0,3}")
_MARKED_LETTER = re.compile(r"\(([A-Z])\)|^[ \t*]{0,8}([A-Z])[.):](?!\S)", re.MULTILINE)
_STATED_LETTER = re.compile(r"\b(?i:answer(?: is:?|:))[\s(*]{0,4}([A-Z])(?=[).,;:!*<\n]|\s*$)")


def option_letter(text: str) -> str | None:
    """The option the text chooses, A to Z, or None when it chooses none or is ambiguous.

    In this order: the text (or its answer tag) is one letter, `B`, `(B)`, `B.`; the last `answer is B` or `Answer: B`
    that ends its phrase; the letter of a `(B)` or of a line that starts with `B.` or `B)`, if no other is marked so.
    """
    answer = answer_or_text(text)
    if lone := _LONE_LETTER.fullmatch(answer):
        return lone[1]
    if stated := _STATED_LETTER.findall(answer):
        return stated[-1]
    marked = {first or second for first, second in _MARKED_LETTER.findall(answer)}
    return marked.pop() if len(marked) == 1 else None
