"""The one place that reads completions: numbers, points, boxes, tags, option letters, coordinates.

Every function takes any text, runs in time linear in its length, and answers None (or an empty list) when the text
does not have the asked form. The regular expressions never repeat two patterns in a row that can match the same
character, so they cannot backtrack more than once over a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from mmrl.records import Media

Values = tuple[float, ...]

# ASCII digits only; a minus sign counts unless it joins two words or numbers, as in "10-20".
_NUMBER = r"(?:(?<![\w.])-)?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"
_LIST = rf"{_NUMBER}(?:\s*,\s*{_NUMBER})*"
_NUMBERS = re.compile(_NUMBER)
_BRACKETED = re.compile(rf"\(\s*{_LIST}\s*\)|\[\s*{_LIST}\s*\]")
_POINT = re.compile(rf"\s*\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)\s*")
_THINK_ANSWER = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")

LARGEST = 1e9
"""No image is larger: a coordinate beyond it is no coordinate, and areas stay finite."""


def numbers(text: str) -> list[float]:
    """Every finite decimal number in the text, in order: `-3`, `2.5`, `1e3`."""
    return [value for value in map(float, _NUMBERS.findall(text)) if math.isfinite(value)]


def shapes(text: str) -> list[Values]:
    """Every point (two numbers) and box (four numbers) in brackets, in order of appearance.

    `(x, y)`, `[x, y]`, `[x1, y1, x2, y2]` and, with whatever is around it, JSON such as `{"bbox_2d": [...]}`. Two
    points joined by a comma alone, `(x1, y1),(x2, y2)`, are a box; three or more are points.
    """
    runs: list[list[Values]] = []
    end = 0
    for match in _BRACKETED.finditer(text):
        values = tuple(float(number) for number in _NUMBERS.findall(match[0]))
        if runs and text[end : match.start()].strip() == ",":
            runs[-1].append(values)
        else:
            runs.append([values])
        end = match.end()
    found: list[Values] = []
    for run in runs:
        found += [run[0] + run[1]] if [len(values) for values in run] == [2, 2] else run
    return [values for values in found if len(values) in (2, 4) and all(abs(value) <= LARGEST for value in values)]


def last_point(text: str) -> Values | None:
    """The last point (x, y) in the text; if a box comes last, its centre."""
    found = shapes(text)
    return centre(found[-1]) if found else None


def last_box(text: str) -> Values | None:
    """The last box (x1, y1, x2, y2) in the text, corners as written."""
    return next((values for values in reversed(shapes(text)) if len(values) == 4), None)


def centre(values: Sequence[float]) -> Values:
    """The centre of a box; a point is its own."""
    if len(values) == 2:
        return tuple(values)
    x1, y1, x2, y2 = values
    return (x1 + x2) / 2, (y1 + y2) / 2


def is_point(text: str) -> bool:
    """Whether the text is one point `(x, y)` and nothing else."""
    return _POINT.fullmatch(text) is not None


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


def normalised(text: str) -> str:
    """For comparing short answers: case folded, blanks collapsed, no full stop at the end."""
    return " ".join(text.casefold().split()).rstrip(".").rstrip()


def to_pixels(values: Sequence[float], convention: str, media: Media) -> Values:
    """x, y, x, y, ... from a coordinate convention to pixels of the stored image.

    `pixel`: stored pixels already. `seen`: pixels of the image as the model saw it. `norm1`: shares of width and
    height. `norm1000`: thousandths of them. Raises ValueError for another convention, or `seen` before the policy has
    encoded the sample.
    """
    if convention == "pixel":
        return tuple(values)
    extents = {"seen": media.seen, "norm1": (1, 1), "norm1000": (1000, 1000)}
    if convention not in extents:
        raise ValueError(f"no coordinate convention {convention!r}; there are pixel, {', '.join(extents)}")
    extent = extents[convention]
    if extent is None:
        raise ValueError(f"coordinates are those of the image as seen, but nothing has encoded {media.path} yet")
    return tuple(value * media.size[axis % 2] / extent[axis % 2] for axis, value in enumerate(values))
