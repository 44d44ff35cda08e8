"""Which options of a multiple choice a completion picks: exactly one, or a set of them."""

from __future__ import annotations

import re

from rewards.parsing.tags import answer_or_text

# An option letter is a capital. What follows it must end the phrase, so that an article ("A man", "answer is a dog")
# or a word ("T-shirt") never counts, and every letter is treated alike.
_LONE_LETTER = re.compile(r"[(*]{0,3}([A-Z])[).:*]{0,3}")
_MARKED_LETTER = re.compile(r"\(([A-Z])\)|^[ \t*]{0,8}([A-Z])[.):](?!\S)", re.MULTILINE)
_STATED_LETTER = re.compile(
    r"\b(?i:(?:answer|option|choice)(?: is:?|:)?)(?: (?i:option|choice))?[\s(*]{0,4}([A-Z])"
    r"(?=[).,;:!*<\n]|\s*$| (?:because|since|due|given|so|which|not)\b)"
)
# TeX around a letter says nothing more than the letter.
_WRAPPED = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\{\s*([A-Z](?:\s*,\s*[A-Z])*)\s*\}")

_BETWEEN = re.compile(r"[\s,;&()\[\]{}*.:]+|\band\b")
_ITEM = r"[(\[*]{0,3}[A-Z][)\]*]{0,3}"
_LIST = rf"{_ITEM}(?:(?: and |, ?(?:and )?|; ?| ?& ?){_ITEM})*"
_STATED_LETTERS = re.compile(rf"\b(?i:answers?(?: (?:is|are):?|:))\s{{0,4}}({_LIST})(?=[.,;:!<\n]|\s*$)")
_MARK = re.compile(r"(?<![\w.])(?:\(([A-Z])\)|([A-Z])[.):](?!\S))")
_CAPITAL = re.compile(r"(?<![\w'\u2019])(?:A(?! [a-z])|[B-HJ-Z])(?![\w'\u2019])")


def option_letter(text: str) -> str | None:
    """The option the text chooses, A to Z, or None when it chooses none or is ambiguous.

    In this order: the text (or its answer tag) is one letter, `B`, `(B)`, `B.`, `\\boxed{B}`; the last `answer is B`,
    `Answer: B` or `option B` that ends its phrase or goes on with `because`; the letter of a `(B)` or of a line that
    starts with `B.` or `B)`, if no other is marked so.
    """
    answer = _unwrapped(answer_or_text(text))
    if lone := _LONE_LETTER.fullmatch(answer):
        return lone[1]
    if stated := _STATED_LETTER.findall(answer):
        return stated[-1]
    marked = {first or second for first, second in _MARKED_LETTER.findall(answer)}
    return marked.pop() if len(marked) == 1 else None


def _unwrapped(text: str) -> str:
    """`\\boxed{\\text{B}}` as `(B)`, `\\boxed{A, C}` as `(A, C)`: whatever TeX stands around letters."""
    for _ in range(2):
        text = _WRAPPED.sub(lambda match: f"({match[1]})" if match[0].startswith("\\boxed") else match[1], text)
    return text


def option_letters(text: str) -> list[str]:
    """The set of options the text chooses, in alphabetical order; empty when it chooses none.

    In this order: the text (or its answer tag) is capital letters alone, `A,C`, `(A) and (C)`, or, in alphabetical
    order, `AC`; the last `answers are A and C`, with the letters marked after it; all letters marked `(A)`, `A.` or
    `A)`, unless another capital stands alone, as in `A, C. Sure`.
    """
    answer = _unwrapped(answer_or_text(text))
    words = [word for word in _BETWEEN.split(answer) if word]
    if words and all(_is_choice(word) for word in words):
        return sorted(set("".join(words)))
    if stated := list(_STATED_LETTERS.finditer(answer)):
        last = stated[-1]
        return sorted({*re.findall("[A-Z]", last[1]), *_marked(answer[last.end(1) :])})
    marked = _marked(answer)
    return sorted(marked) if marked.issuperset(_CAPITAL.findall(answer)) else []


def _is_choice(word: str) -> bool:
    return len(word) <= 26 and re.fullmatch("[A-Z]+", word) is not None and list(word) == sorted(set(word))


def _marked(text: str) -> set[str]:
    return {first or second for first, second in _MARK.findall(text)}
