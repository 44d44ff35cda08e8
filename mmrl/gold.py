"""A target written as the completion that earns its reward: `target.span` [2, 5] as `<answer>2.00 to 5.00</answer>`.

For methods that learn from the ground truth. The forms are those that `data_pipelines/video/prompts.py` asks for and
that `rewards/` reads; a target of any other kind has no text, which is no error: there may be no one right completion.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

from data_pipelines.coordinates import from_pixels
from mmrl.plugins import ConfigError
from mmrl.records import Sample

Style = Literal["plain", "answer", "json"]
"""`plain`: nothing but the answer; `answer`: in answer tags; `json`: the same, spans as Temporal-R1's JSON object."""


def gold_kind(sample: Sample) -> str | None:
    """The key of `target` that a completion would state; None if it cannot be written.

    An action is more than its place, and a grounded question asks for an answer and spans: neither is a key alone.
    """
    target = sample.target
    if "action" in target or ("spans" in target and "span" not in target):
        return None
    return next((kind for kind in WRITERS if target.get(kind) is not None), None)


def gold_text(sample: Sample, *, style: Style = "answer", decimals: int = 2) -> str:
    """The right completion. `decimals`: of seconds. ConfigError for a target that is malformed or of no known kind."""
    kind = gold_kind(sample)
    if kind is None:
        keys = ", ".join(sample.target) or "nothing"
        raise ConfigError(f"{sample.where}: no text can be made of a target with {keys}.")
    try:
        text = WRITERS[kind](sample, style, decimals)
    except (TypeError, ValueError, IndexError) as error:
        found = f"target.{kind} = {sample.target[kind]!r}"
        raise ConfigError(f"{sample.where}: {found} cannot be written: {error}") from None
    return text if style == "plain" else f"<answer>{text}</answer>"


def _span(sample: Sample, style: Style, decimals: int) -> str:
    start, end = (f"{float(time):.{decimals}f}" for time in sample.target["span"])
    return json.dumps({"start_time": start, "end_time": end}) if style == "json" else f"{start} to {end}"


def _highlights(sample: Sample, style: Style, decimals: int) -> str:
    columns = zip(*sample.target["highlights"], strict=True)
    times, scores = (", ".join(f"{value:g}" for value in column) for column in columns)
    return f"The highlight timestamps are in the {times} seconds. Their saliency scores are {scores}."


def _choices(sample: Sample, style: Style, decimals: int) -> str:
    return ",".join(sorted(map(str, sample.target["choices"])))


def _answer(sample: Sample, style: Style, decimals: int) -> str:
    return str(sample.target["answer"])


def _count(sample: Sample, style: Style, decimals: int) -> str:
    return str(int(sample.target["count"]))


def _box(sample: Sample, style: Style, decimals: int) -> str:
    """Its centre, `(x, y)` in the convention that the sample is asked in."""
    x1, y1, x2, y2 = sample.target["box"]
    media = sample.media[0]
    x, y = from_pixels(((x1 + x2) / 2, (y1 + y2) / 2), sample.coordinates, media.size, seen=media.seen)
    return f"({x:.3f}, {y:.3f})" if sample.coordinates == "norm1" else f"({round(x)}, {round(y)})"


WRITERS: dict[str, Callable[[Sample, Style, int], str]] = {
    "span": _span,
    "highlights": _highlights,
    "choices": _choices,
    "answer": _answer,
    "count": _count,
    "box": _box,
}
"""Kinds of target, the first that a sample has is written."""
