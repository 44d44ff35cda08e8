"""Short texts and lists of them, made comparable."""

from __future__ import annotations

import re

_COMMA_IN_NUMBER = re.compile(r"(?<=[0-9]),(?=[0-9])")
_DROPPED = re.compile(r"['\u2019`]|\.(?![0-9])")
_BLANKED = re.compile(r"""[;/\[\]"{}()=+\\_<>@,?!]|(?<=\w)-|-(?![0-9])""")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_ARTICLES = {"a", "an", "the"}
_NUMBER_WORDS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip


def normalised(text: str) -> str:
    """For comparing short answers: case folded, blanks collapsed, no full stop at the end."""
    return " ".join(text.casefold().split()).rstrip(".").rstrip()


def vqa_normalised(text: str) -> str:
    """For comparing short answers as VQA does: lower case, no punctuation, no articles, number words as digits.

    Punctuation becomes a blank; apostrophes, full stops and commas inside numbers just go (`don't` is `dont`, `1,000`
    is `1000`), a decimal point and a minus sign stay. none, zero, one ... ten become digits. An answer of articles
    alone keeps them.
    """
    text = _COMMA_IN_NUMBER.sub("", text.casefold())
    words = [_NUMBER_WORDS.get(word, word) for word in _BLANKED.sub(" ", _DROPPED.sub("", text)).split()]
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def items(text: str) -> list[str]:
    """The items of a list written as `[1, 2]`, `a, b` or a line each, without brackets, quotes and bullets.

    They are separated by semicolons and line ends if there are any, else by commas followed by a blank, else by commas;
    so `1,234, 5,678` has two items, and so has `[100,200]`.
    """
    text = text.strip(" \t\n\r[](){}")
    separator = r"[;\n]" if re.search(r"[;\n]", text) else r",\s" if re.search(r",\s", text) else ","
    found = [item.strip(" \t\r[](){}\"'`*,").removeprefix("- ") for item in re.split(separator, text)]
    return [item.removeprefix("and ") for item in found if item]


def sentences(text: str) -> list[str]:
    """The sentences of a text in order: they end in `.`, `!` or `?` before a blank, or with their line."""
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence.strip()]
