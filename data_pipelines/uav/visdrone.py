"""VisDrone-DET (arXiv 1804.07437): a text file per picture, one object a line, no header:

    684,8,273,116,0,0,0,0        left, top, width, height, score, category, truncation, occlusion

The traps: width and height, not corners; some lines end with a comma; category 0 is a region that nobody annotated,
and score 0 marks boxes that the benchmark ignores as well; `pedestrian` and `people` differ by posture only; there is
a box of no height in the official training set. VisDrone-VID and -MOT have ten fields and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from data_pipelines.coordinates import corners as from_form
from data_pipelines.reading import Problem, Read
from data_pipelines.uav.pictures import BadLine, Hard, Picture, number, read_label_file, read_pictures
from data_pipelines.uav.questions import Thing, View
from data_pipelines.uav.tiles import corners
from mmrl.plugins import ConfigError

Ignored = Literal["skip", "empty"]
IGNORED, OTHER = "ignored region", "other"
CATEGORIES = (IGNORED, "person", "person", "bicycle", "car", "van", "truck", "tricycle", "tricycle with an awning",
              "bus", "motorcycle", OTHER)  # fmt: skip
"""What category 0, 1, ... 11 is called. 11 is any other vehicle, which no question can name."""
KINDS = {
    "person": "people",
    "bicycle": "bicycles",
    "car": "cars",
    "van": "vans",
    "truck": "trucks",
    "tricycle": "tricycles",
    "tricycle with an awning": "tricycles with an awning",
    "bus": "buses",
    "motorcycle": "motorcycles",
}
TRANSPORT = frozenset(KINDS) - {"person"}
FIELDS = 8
HEAVY = 2
"""The highest occlusion: more than half hidden."""


def read_visdrone(
    annotations: Path,
    *,
    images: Path | None = None,
    split: str = "train",
    suffix: str = ".jpg",
    questions: int = 4,
    tasks: Sequence[str] | None = None,
    most: int = 30,
    ignored: Ignored = "skip",
    occluded: Hard = "skip",
    coordinates: str = "pixel",
    think: bool = True,
    seed: int = 0,
) -> Read:
    """Up to `questions` rows per picture. `annotations` is the folder of label files, or one of them; `images` is the
    folder `images` beside it, unless given.

    In a picture with ignored regions nothing is counted and nothing said to be absent, unless `ignored="empty"` takes
    them for empty; of a kind with objects more than half hidden nothing is counted, unless `occluded="count"` counts
    them. (`mmrl data make uav-tiles` paints ignored regions over instead.)
    """
    return read_pictures(
        annotations, lambda path: visdrone_pictures(path, ignored=ignored, occluded=occluded), source="visdrone",
        images=images, suffix=suffix, split=split, number=questions, tasks=tasks, most=most, coordinates=coordinates,
        think=think, seed=seed,
    )  # fmt: skip


def visdrone_pictures(path: Path, *, ignored: Ignored, occluded: Hard) -> Iterator[Picture | Problem]:
    """The picture of a label file, after the problems of its lines."""
    for name, value, known in (("ignored", ignored, ("skip", "empty")), ("occluded", occluded, ("skip", "count"))):
        if value not in known:
            raise ConfigError(f"{name} = {value}: one of {', '.join(known)}.")

    def view(things: list[Thing]) -> View:
        regions = tuple(thing.box for thing in things if thing.kind == IGNORED)
        named = tuple(thing for thing in things if thing.kind in KINDS)
        return View(named, KINDS, TRANSPORT, ignored=regions if ignored == "skip" else ())

    return read_label_file(path, lambda line: _thing(line, occluded), view)


def _thing(line: str, occluded: Hard) -> Thing:
    fields = [field.strip() for field in line.strip().rstrip(",").split(",")]
    if len(fields) != FIELDS:
        hint = "; ten are VisDrone-VID or -MOT, this reads VisDrone-DET" if len(fields) == 10 else ""
        raise BadLine(f"{len(fields)} fields; a line has {FIELDS} between commas{hint}")
    left, top, width, height, score, category, truncation, occlusion = map(number, fields)
    if category not in range(len(CATEGORIES)):
        raise BadLine(f"category {category:g}; 0 to {len(CATEGORIES) - 1} are known")
    kind = CATEGORIES[int(category)] if score != 0 else IGNORED
    if score not in (0, 1) or truncation not in (0, 1) or occlusion not in (0, 1, HEAVY):
        raise BadLine(f"score, truncation and occlusion are {score:g}, {truncation:g}, {occlusion:g}; they are 0 or 1, "
                      "0 or 1, and 0 to 2", kind if kind in KINDS else None)  # fmt: skip
    if not (width > 0 and height > 0 and left >= 0 and top >= 0):
        raise BadLine(f"left, top, width, height are {left:g}, {top:g}, {width:g}, {height:g}; width and height are "
                      "positive, and left and top not negative",
                      kind if kind != IGNORED else OTHER)  # fmt: skip
    hard = occlusion == HEAVY and occluded == "skip"
    return Thing(kind, corners(from_form((left, top, width, height), "xywh")), hard=hard)
