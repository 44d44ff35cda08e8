"""DOTA v1.0, v1.5 and v2.0 (arXiv 1711.10398, 2102.12219): a text file per picture.

    imagesource:GoogleEarth
    gsd:0.146343590398
    2753.0 2408.0 2861.0 2385.0 2888.0 2468.0 2805.0 2502.0 plane 0

Two header lines (not in every version; `gsd`, the side of a pixel in metres, may be `null`), then an object a line:
four corners x y in order around it, starting at its front, category, difficulty. Difficulty is 0 or 1, in v1.5 and v2.0
also 2 for objects of a few pixels. Corners may lie outside the picture, where an object goes on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_pipelines.reading import Problem, Read
from data_pipelines.uav.pictures import BadLine, Hard, Picture, number, read_label_file, read_pictures
from data_pipelines.uav.questions import Thing, View
from data_pipelines.uav.tiles import Polygon, area
from mmrl.plugins import ConfigError

KINDS = {
    "plane": "planes",
    "ship": "ships",
    "storage tank": "storage tanks",
    "baseball diamond": "baseball diamonds",
    "tennis court": "tennis courts",
    "basketball court": "basketball courts",
    "ground track field": "ground track fields",
    "harbor": "harbors",
    "bridge": "bridges",
    "large vehicle": "large vehicles",
    "small vehicle": "small vehicles",
    "helicopter": "helicopters",
    "roundabout": "roundabouts",
    "soccer ball field": "soccer ball fields",
    "swimming pool": "swimming pools",
}
"""v1.0. A category is written with hyphens in the file."""
LATER = {"container crane": "container cranes", "airport": "airports", "helipad": "helipads"}
"""Of v1.5 (the first) and v2.0, annotated in those only."""
TRANSPORT = frozenset({"plane", "ship", "large vehicle", "small vehicle", "helicopter"})
FUNCTIONS = {
    "air traffic": ("plane", "helicopter", "airport", "helipad"),
    "shipping": ("ship", "harbor", "container crane"),
    "sports": ("baseball diamond", "tennis court", "basketball court", "ground track field", "soccer ball field"),
    "storing liquids or gas": ("storage tank",),
}
"""What a place is for, told by the objects that only such places have; the others are found anywhere."""
ENOUGH = 2
"""Objects that make a place one of these; a single plane may fly over, a single pool of boats be a garden's."""
HEADER = re.compile(r"\s*(imagesource|gsd|acquisition dates)\s*:\s*(.*)", re.IGNORECASE)
FIELDS = 10


def read_dota(
    annotations: Path,
    *,
    images: Path | None = None,
    split: str = "train",
    suffix: str = ".png",
    questions: int = 4,
    tasks: Sequence[str] | None = None,
    most: int = 30,
    difficult: Hard = "skip",
    version: str = "1.0",
    coordinates: str = "pixel",
    think: bool = True,
    seed: int = 0,
) -> Read:
    """Up to `questions` rows per picture. `annotations` is the folder of label files (`labelTxt`), or one of them;
    `images` is the folder `images` beside it, unless given.

    Of a kind with difficult objects nothing is counted, unless `difficult="count"` counts them. `version` (1.0, 1.5 or
    2.0) says which categories were annotated at all, so that their absence means something.
    """
    return read_pictures(
        annotations, lambda path: dota_pictures(path, difficult=difficult, version=version), source="dota",
        images=images, suffix=suffix, split=split, number=questions, tasks=tasks, most=most, coordinates=coordinates,
        think=think, seed=seed,
    )  # fmt: skip


def dota_pictures(path: Path, *, difficult: Hard, version: str) -> Iterator[Picture | Problem]:
    """The picture of a label file, after the problems of its lines."""
    later = {"1.0": 0, "1.5": 1, "2.0": 3}
    if version not in later:
        raise ConfigError(f"version = {version}: one of {', '.join(later)}.")
    if difficult not in ("skip", "count"):
        raise ConfigError(f"difficult = {difficult}: one of skip, count.")
    kinds = KINDS | dict(list(LATER.items())[: later[version]])
    metres: list[float] = []

    def read(line: str) -> Thing | None:
        header = HEADER.fullmatch(line)
        if header is None:
            return _thing(line, kinds, difficult)
        if header[1].lower() == "gsd":
            metres.extend(_metres(header[2].strip()))
        return None

    def view(things: list[Thing]) -> View:
        return View(
            tuple(things), kinds, TRANSPORT, metres=metres[0] if metres else None, function=function_of(things),
            functions=tuple(FUNCTIONS), bounded=False,
        )  # fmt: skip

    return read_label_file(path, read, view)


def _metres(text: str) -> list[float]:
    """The side of a pixel, none if it is not known."""
    if text.lower() in ("null", "none", "nan", ""):
        return []
    value = number(text)
    if not 0 < value < 100:
        raise BadLine(f"gsd, the metres a pixel covers, is {text}; more than 0 and less than 100 is expected", "")
    return [value]


def _thing(line: str, kinds: dict[str, str], difficult: Hard) -> Thing:
    fields = line.split()
    if len(fields) != FIELDS:
        raise BadLine(f"{len(fields)} fields; a line has {FIELDS}: eight coordinates, category, difficulty")
    kind = fields[8].lower().replace("-", " ").replace("_", " ")
    if kind not in kinds:
        raise BadLine(f"category {fields[8]!r} is none of {', '.join(kinds)}" if kind not in LATER else
                      f"category {fields[8]!r} is of a later version; set version=1.5 or 2.0", kind)  # fmt: skip
    try:
        values = [number(field) for field in fields[:8]]
        hard = number(fields[9])
    except BadLine as error:
        raise BadLine(str(error), kind) from None
    if hard not in (0, 1, 2):
        raise BadLine(f"difficulty {fields[9]}; it is 0, 1 or 2", kind)
    polygon = tuple(zip(values[::2], values[1::2], strict=True))
    if area(polygon) == 0 or _crosses(polygon):
        raise BadLine("the corners enclose no area, or the outline crosses itself; four corners in order around the "
                      f"object are expected: {' '.join(fields[:8])}", kind)  # fmt: skip
    if max(values[::2]) <= 0 or max(values[1::2]) <= 0:
        raise BadLine(f"the object lies outside the picture: {' '.join(fields[:8])}", kind)
    return Thing(kind, polygon, hard=hard > 0 and difficult == "skip")


def _crosses(polygon: Polygon) -> bool:
    """Whether opposite sides of a quadrangle cross."""

    def side(a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = polygon[a], polygon[b], polygon[c]
        return math.copysign(1, value) if (value := (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)) else 0.0

    def cross(a: int, b: int, c: int, d: int) -> bool:
        return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0

    return cross(0, 1, 2, 3) or cross(1, 2, 3, 0)


def function_of(things: list[Thing]) -> str | None:
    """The only function that objects of the picture speak for, difficult ones included, with enough that are not."""
    present = {name: [t for t in things if t.kind in kinds] for name, kinds in FUNCTIONS.items()}
    speaking = [name for name, found in present.items() if found]
    if len(speaking) != 1 or sum(not thing.hard for thing in present[speaking[0]]) < ENOUGH:
        return None
    return speaking[0]
