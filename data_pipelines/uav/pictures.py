"""What the readers of annotated pictures share: one label file per picture, questions drawn for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

from data_pipelines.reading import Problem, Read, RowError, lines
from data_pipelines.uav.prompts import units
from data_pipelines.uav.questions import Thing, View, ask_about, check_tasks, rows_of
from mmrl.plugins import ConfigError

Hard = Literal["skip", "count"]
"""Objects that a data set calls difficult: no question depends on them, or they are like any other."""


class BadLine(RowError):
    """A line of which no object could be made."""

    def __init__(self, message: str, thing: str | None = None) -> None:
        super().__init__("bad label line", message)
        self.thing = thing
        """The object's kind, where that much can be read."""


@dataclass(frozen=True)
class Picture:
    """A picture with its annotations."""

    name: str
    """File name without its ending."""
    where: str
    """The label file."""
    view: View


Read1 = Callable[[Path], Iterator[Picture | Problem]]
"""Reads a label file: what is wrong with lines of it, then the picture."""


def label_files(annotations: Path, pattern: str = "*.txt") -> list[Path]:
    """The label file, or all of a folder, by name. ConfigError if there is none."""
    if not annotations.is_dir():
        return [annotations]
    files = sorted(annotations.glob(pattern))
    if not files:
        raise ConfigError(f"{annotations}: there is no {pattern} label file in this folder.")
    return files


def image_folder(annotations: Path, images: Path | None) -> Path:
    """`images`, or the folder of that name beside the folder of label files. Absolute."""
    labels = annotations if annotations.is_dir() else annotations.parent
    return (Path(images) if images else labels.parent / "images").absolute()


def read_label_file(
    path: Path, read: Callable[[str], Thing | None], view: Callable[[list[Thing]], View]
) -> Iterator[Picture | Problem]:
    """A picture from the lines of a label file; `read` makes a thing of a line (None: no object) or raises BadLine.

    A line that cannot be read costs no more than certainty about its kind, or, if not even the kind is known, about
    what is not in the picture; what the place is for is not told then.
    """
    things: list[Thing] = []
    unsure: set[str] = set()
    complete, empty, whole = True, True, True
    for where, line in lines(path):
        empty = False
        try:
            thing = read(line)
        except BadLine as error:
            yield error.at(where)
            whole = False
            if error.thing is None:
                complete = False
            else:
                unsure.add(error.thing)
            continue
        if thing is not None:
            things.append(thing)
    if empty:
        yield Problem(str(path), "the label file is empty, which may mean a picture without objects or a lost file",
                      "empty label file")  # fmt: skip
        return
    known = view(things)
    function = known.function if whole else None
    yield Picture(path.stem, str(path), replace(known, unsure=frozenset(unsure), complete=complete, function=function))


def read_pictures(
    annotations: Path,
    read: Read1,
    *,
    source: str,
    images: Path | None,
    suffix: str,
    split: str,
    number: int,
    tasks: Sequence[str] | None,
    most: int,
    coordinates: str,
    think: bool,
    seed: int,
) -> Read:
    """Rows of every picture: up to `number` questions each, drawn by (seed, name of the picture)."""
    annotations = Path(annotations)
    folder = image_folder(annotations, images)
    units(coordinates)
    if tasks is not None:
        check_tasks(tasks)
    for path in label_files(annotations):
        for item in read(path):
            if isinstance(item, Problem):
                yield item
                continue
            rng = Random(f"{source}/{seed}/{item.name}")
            asked = list(ask_about(item.view, rng, number=number, tasks=tasks, coordinates=coordinates, most=most))
            if not asked:
                yield Problem(item.where, "no question about this picture has a certain answer", "no question")
            meta = {"source": source, "split": split, "image": item.name}
            rows = rows_of(
                iter(asked), image=str(folder / f"{item.name}{suffix}"), name=f"{source}-{item.name}", meta=meta,
                think=think, coordinates=coordinates,
            )  # fmt: skip
            yield from (row | {"where": item.where} for row in rows)


def number(text: str) -> float:
    """A finite number, or BadLine."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadLine(f"a number is expected; found {text[:40]!r}")
    return value
