"""VLAA-Thinking (arXiv 2504.11468): questions on pictures from many sources, each answered in a way of its own.

    {"id": "clevr_3", "image": "clevr/3.png", "question": "How many cubes remain?", "gt": "4", "meta": {}}

What kind of answer a source asks for is not in the rows: `kinds` says it by the first folder of the picture's path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from data_pipelines.images import image_size
from data_pipelines.reading import Problem, Read, Row, inside, json_items_or_lines

Kind = Literal["digit", "mcq", "math", "box", "open"]
TASKS: dict[Kind, str] = {"digit": "count", "mcq": "mcq", "math": "math", "box": "locate", "open": "open"}
"""Kind -> `meta.task`."""
KINDS: dict[str, Kind] = {
    "clevr": "digit", "clevr_math": "digit", "geoqa": "mcq", "geoqa170k": "mcq", "arxivqa": "mcq", "synthesis": "math",
    "puma": "math", "vg": "box", "allava_laion": "open", "coco": "open",
}  # fmt: skip
"""By the sources that the paper names for its five kinds; DocVQA and VizWiz it gives none."""
SYSTEM = (
    "Think about the question and the picture first, then answer: <think> reasoning </think> <answer> answer </answer>"
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def read_vlaa(
    annotations: Path, *, media: Path, kinds: Mapping[str, Kind] = KINDS, system: str = SYSTEM, split: str = "train"
) -> Read:
    """One row per question, from a JSON list or JSON Lines. Boxes are read as [x1, y1, x2, y2] in shares of the sides,
    stored in pixels and asked for as shares (`meta.coordinates: norm1`).

    `kinds` maps the first folder of `image` (lower case) to digit, mcq, math, box or open; a row of another is a
    problem. An open answer is `target.reference`, which `better_than_reference` compares with.
    """
    annotations, media = Path(annotations), Path(media)
    for where, _, item in json_items_or_lines(annotations):
        if isinstance(item, Problem):
            yield item
            continue
        try:
            yield _row(item, media, kinds, system, split) | {"where": where}
        except (ValueError, OSError) as error:
            yield Problem(where, str(error))


def _row(item: Row, media: Path, kinds: Mapping[str, Kind], system: str, split: str) -> Row:
    for key in ("id", "image", "question", "gt"):
        if not str(item.get(key) or "").strip():
            raise ValueError(f"`{key}` is missing or empty")
    source = str(item["image"]).partition("/")[0].lower()
    if source not in kinds:
        raise ValueError(f"kinds has no `{source}`, the first folder of image {item['image']!r}")
    picture, kind = inside(media, str(item["image"])), kinds[source]
    content = [
        {"type": "image", "image": picture},
        {"type": "text", "text": str(item["question"]).replace("<image>", "").strip()},
    ]
    meta: Row = {"task": TASKS[kind], "source": f"vlaa-{source}", "split": split}
    return {
        "id": f"vlaa-{item['id']}",
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": content}],
        "target": _target(str(item["gt"]).strip(), kind, Path(picture)),
        "meta": meta | ({"coordinates": "norm1"} if kind == "box" else {}),
    }


def _target(gold: str, kind: Kind, picture: Path) -> Row:
    if kind == "box":
        shares = [float(number) for number in _NUMBER.findall(gold)]
        if len(shares) != 4 or not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"`gt` is {gold[:60]!r}; a box of four shares, [x1, y1, x2, y2], is expected")
        width, height = image_size(picture)
        return {"box": [share * side for share, side in zip(shares, (width, height) * 2, strict=True)]}
    if kind == "mcq":
        letter = re.fullmatch(r"\(?([A-Za-z])\)?[.:]?(?:\s.*)?", gold, re.DOTALL)
        if not letter:
            raise ValueError(f"`gt` is {gold[:60]!r}; an option's letter is expected")
        return {"answer": letter[1].upper()}
    if kind == "digit" and not _NUMBER.fullmatch(gold):
        raise ValueError(f"`gt` is {gold[:60]!r}; a number is expected")
    return {"reference": gold} if kind == "open" else {"answer": gold}
