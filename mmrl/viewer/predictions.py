"""What a completion predicts and what is right, as shapes on the stored media: pixels and seconds.

Rewards note what they read (`notes.<reward>.parsed`), in pixels of the stored image and in seconds; that is shown.
Where the gold is a place or a span and no reward read one, the completion is read the way rewards read it, and moved
from its declared coordinates to pixels here, never in the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmrl.records import Media, Sample
from mmrl.viewer.answers import Shapes

MOST = 256
"""Shapes of one kind that are shown of one completion."""
LONGEST_ANSWER = 500


def gold(target: Any) -> Shapes:
    """What a target says is right."""
    if not isinstance(target, dict):
        return Shapes()
    tolerance = target.get("tolerance")
    return Shapes(
        boxes=_several(target, "box", "boxes", 4),
        points=_several(target, "point", "points", 2),
        spans=_several(target, "span", "spans", 2),
        answer=_answer(next((target[key] for key in ("answer", "choices", "count") if key in target), None)),
        tolerance=float(tolerance) if isinstance(tolerance, int | float) else None,
    )


def predicted(completion: str, notes: Any, right: Shapes, media: Sequence[dict[str, Any]], coordinates: str) -> Shapes:
    """What rewards read in a completion; else what it says of the kinds that `right` has."""
    found = Shapes()
    for note in notes.values() if isinstance(notes, dict) else []:
        parsed = note.get("parsed") if isinstance(note, dict) else None
        if isinstance(parsed, dict):
            _join(found.boxes, _several(parsed, "box", "boxes", 4))
            _join(found.points, _several(parsed, "point", "points", 2))
            _join(found.spans, _several(parsed, "span", "spans", 2))
            found.answer = found.answer or _answer(parsed.get("answer"))
        elif parsed is not None and not isinstance(parsed, bool):
            found.answer = found.answer or _answer(parsed)
    if (right.boxes or right.points) and not (found.boxes or found.points):
        _read_place(found, completion, media, coordinates)
    if right.spans and not found.spans:
        _read_span(found, completion)
    if right.answer is not None and found.answer is None:
        from rewards.parsing import answer_or_text

        found.answer = _answer(answer_or_text(completion).strip() or None)
    return found


def _read_place(found: Shapes, completion: str, media: Sequence[dict[str, Any]], coordinates: str) -> None:
    from rewards.parsing.coordinates import answer_shape

    if not media:
        return
    first = media[0]
    seen = (first["seen_width"], first["seen_height"]) if first["seen_width"] and first["seen_height"] else None
    shown = Media(first["kind"], "", "", (first["width"] or 0, first["height"] or 0), seen)
    try:
        shape = answer_shape(completion, Sample("", (), (shown,), meta={"coordinates": coordinates}))
    except ValueError:  # an unknown convention, or a size that nobody recorded
        return
    if shape is not None:
        (found.boxes if len(shape) == 4 else found.points).append(list(shape))


def _read_span(found: Shapes, completion: str) -> None:
    from rewards.parsing import answer_or_text
    from rewards.parsing.times import last_span

    span = last_span(answer_or_text(completion))
    if span is not None:
        found.spans.append(list(span))


def _several(value: dict[str, Any], one: str, more: str, count: int) -> list[list[float]]:
    """Those of both keys that are `count` finite numbers."""
    listed = value.get(more)
    shapes = [value.get(one), *(listed if isinstance(listed, list) else [])]
    return [list(map(float, shape)) for shape in shapes[:MOST] if _numbers(shape, count)]


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value)
    )


def _join(known: list[list[float]], new: list[list[float]]) -> None:
    known += [shape for shape in new if shape not in known]


def _answer(value: Any) -> str | None:
    if value is None or isinstance(value, dict):
        return None
    if isinstance(value, list):
        return ", ".join(map(str, value))[:LONGEST_ANSWER] or None
    return str(value)[:LONGEST_ANSWER]
