"""Points and boxes written in a text, and the conventions they are written in."""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_pipelines import coordinates
from mmrl.records import Media, Sample
from rewards.parsing.quantities import NUMBER
from rewards.parsing.tags import answer_or_text

Values = tuple[float, ...]

_LIST = rf"{NUMBER}(?:\s*,\s*{NUMBER})*"
_NUMBERS = re.compile(NUMBER)
_BRACKETED = re.compile(rf"\(\s*{_LIST}\s*\)|\[\s*{_LIST}\s*\]")

LARGEST = 1e9
"""No image is larger: a coordinate beyond it is no coordinate, and areas stay finite."""


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


def boxes(text: str) -> list[Values]:
    """Every box (x1, y1, x2, y2) in the text, in order, corners as written."""
    return [values for values in shapes(text) if len(values) == 4]


def last_box(text: str) -> Values | None:
    """The last box (x1, y1, x2, y2) in the text, corners as written."""
    found = boxes(text)
    return found[-1] if found else None


def last_point(text: str) -> Values | None:
    """The last point (x, y) in the text; if a box comes last, its centre."""
    found = shapes(text)
    return centre(found[-1]) if found else None


def centre(values: Sequence[float]) -> Values:
    """The centre of a box; a point is its own."""
    if len(values) == 2:
        return tuple(values)
    x1, y1, x2, y2 = values
    return (x1 + x2) / 2, (y1 + y2) / 2


def is_point(text: str) -> bool:
    """Whether the text is one point `(x, y)` and nothing else."""
    text = text.strip()
    alone = text.startswith("(") and _BRACKETED.fullmatch(text) is not None
    return alone and [len(values) for values in shapes(text)] == [2]


def answer_shape(completion: str, sample: Sample) -> Values | None:
    """The last point or box of the completion's answer, in pixels of the stored image; None if it has none."""
    found = shapes(answer_or_text(completion))
    return placed(found[-1], sample) if found else None


def answer_point(completion: str, sample: Sample) -> Values | None:
    """The last point of the completion's answer (of a box, its centre), in pixels of the stored image."""
    shape = answer_shape(completion, sample)
    return None if shape is None else centre(shape)


def answer_box(completion: str, sample: Sample) -> Values | None:
    """The last box of the completion's answer, corners as written, in pixels of the stored image."""
    box = last_box(answer_or_text(completion))
    return None if box is None else placed(box, sample)


def placed(values: Sequence[float], sample: Sample) -> Values:
    """Coordinates in the sample's convention, in pixels of its stored image."""
    return to_pixels(values, sample.coordinates, image_of(sample))


def image_of(sample: Sample) -> Media:
    """The image that coordinates are in: the sample's first medium."""
    if not sample.media:
        raise ValueError("the sample has no image to place coordinates in")
    return sample.media[0]


def to_pixels(values: Sequence[float], convention: str, media: Media) -> Values:
    """x, y, x, y, ... from a coordinate convention (`data_pipelines/coordinates.py`) to pixels of the stored image.

    Raises ValueError for an unknown convention, or `seen` before the policy has encoded the sample.
    """
    if convention == "seen" and media.seen is None:
        raise ValueError(f"coordinates are those of the image as seen, but nothing has encoded {media.path} yet")
    return coordinates.to_pixels(values, convention, media.size, seen=media.seen)
