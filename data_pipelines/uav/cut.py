"""High-resolution pictures cut into tiles, with questions about each tile: `mmrl data make uav-tiles`.

Only here are pictures of a data set opened and written. Where a tile lies in its picture is in `meta.tile`, so that
`tiles.Tile` moves an answer's coordinates back, and `tiles.merge` joins those of overlapping tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Literal

from data_pipelines.dataset import write_samples
from data_pipelines.drawing import counted
from data_pipelines.images import limit_pixels, open_image
from data_pipelines.reading import Problem, Row
from data_pipelines.sources import atomic
from data_pipelines.uav.build import scene_pictures
from data_pipelines.uav.dota import dota_pictures, function_of
from data_pipelines.uav.pictures import Hard, Picture, image_folder, label_files
from data_pipelines.uav.prompts import units
from data_pipelines.uav.questions import View, ask_about, check_tasks, rows_of
from data_pipelines.uav.tiles import LEAST, OVERLAP, SIDE, Tile, area, clip, crop, hull, tiles, visible
from data_pipelines.uav.visdrone import visdrone_pictures
from mmrl.plugins import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

Format = Literal["dota", "visdrone", "scenes"]
READ: dict[str, tuple[Callable[..., Iterator[Picture | Problem]], str, str, dict[str, str]]] = {
    "dota": (dota_pictures, "*.txt", ".png", {"difficult": "skip", "version": "1.0"}),
    "visdrone": (partial(visdrone_pictures, ignored="skip"), "*.txt", ".jpg", {"occluded": "skip"}),
    "scenes": (scene_pictures, "*.json", ".jpg", {}),
}
"""Format -> what reads a label file, which files those are, the ending of pictures, and the format's own settings.
`scenes` are drawn ones."""
LARGEST = 2**29
"""Pixels of a picture: DOTA's largest have 20,000 x 20,000, 1.2 GB when decoded."""
GREY = (114, 114, 114)
"""What ignored regions are painted over with."""
SMALLEST = 6.0
"""Shorter side of a thing in pixels of its tile; smaller ones cannot be told apart and count as hard."""


def make_uav_tiles(
    out: str | Path,
    *,
    annotations: str,
    format: Format,
    images: str | None = None,
    suffix: str | None = None,
    split: str = "train",
    side: int | None = SIDE,
    overlap: int = OVERLAP,
    max_pixels: int | None = None,
    least: float = LEAST,
    questions: int = 2,
    tasks: Sequence[str] | None = None,
    most: int = 30,
    version: str | None = None,
    difficult: Hard | None = None,
    occluded: Hard | None = None,
    max_image_pixels: int = LARGEST,
    coordinates: str = "pixel",
    think: bool = True,
    seed: int = 0,
) -> dict[str, Path]:
    """Cut the pictures of `annotations` (a folder of label files, or one) and write `<split>.jsonl` and the tiles.

    Tiles are `side` pixels of the picture wide and high, overlap by `overlap` (None: the whole picture) and are shrunk
    to `max_pixels`. A thing belongs to a tile that shows at least `least` of its area; of a kind with things that a
    tile shows less of, nothing is counted there. VisDrone's ignored regions are painted grey, and things mostly under
    the paint are not asked for. Tiles without a thing are left out. `version` and `difficult` are the settings of the
    reader of DOTA, `occluded` of that of VisDrone. Pictures of more than `max_image_pixels` are not decoded.

    What cannot be read or decoded is listed in `<split>_problems.txt`, if anything. Returns the paths.
    """
    if format not in READ:
        raise ConfigError(f"format = {format}: one of {', '.join(READ)}.")
    if not 0 < least <= 1:
        raise ConfigError(f"least = {least}; it is a share of an area, more than 0 and at most 1.")
    units(coordinates)
    check_tasks(tasks or ())
    tiles((1, 1), side=side, overlap=overlap, max_pixels=max_pixels)  # refuses settings before anything is opened
    read, pattern, usual, own = READ[format]
    chosen = {"version": version, "difficult": difficult, "occluded": occluded}
    given = {name: value for name, value in chosen.items() if value is not None}
    if other := [name for name in given if name not in own]:
        known = f"its own are {', '.join(own)}" if own else "it has none of its own"
        raise ConfigError(f"{other[0]} = {given[other[0]]} is no setting of format = {format}; {known}.")
    read = partial(read, **own | given)
    labels, out = Path(annotations), Path(out)
    folder = (
        labels.absolute()
        if format == "scenes" and images is None
        else image_folder(labels, Path(images) if images else None)
    )
    stored = out.absolute() / split
    files = label_files(labels, pattern)
    stored.mkdir(parents=True, exist_ok=True)
    listed = out / f"{split}_problems.txt"

    def rows(problem: Callable[[Problem], object]) -> Iterator[Row]:
        for path in counted(files, split, len(files)):
            for item in read(path):
                if isinstance(item, Problem):
                    problem(item)
                    continue
                source = folder / f"{item.name}{suffix or usual}"
                try:
                    image = open_image(source)
                except ValueError as error:
                    problem(Problem(item.where, str(error)))
                    continue
                yield from of_picture(item, image, str(source))

    def of_picture(picture: Picture, image: Image, source: str) -> Iterator[Row]:
        for region in picture.view.ignored:
            x1, y1, x2, y2 = map(round, region)
            image.paste(GREY, (x1, y1, x2, y2))
        for tile in tiles(image.size, side=side, overlap=overlap, max_pixels=max_pixels):
            view = view_of(picture.view, tile, least)
            if format == "dota" and view.complete and not view.unsure:
                view = replace(view, function=function_of(list(view.things)))
            if not any(not thing.hard for thing in view.things):
                continue
            name = f"{picture.name}-{tile.box[0]}-{tile.box[1]}"
            rng = Random(f"{format}/{seed}/{name}")
            asked = list(ask_about(view, rng, number=questions, tasks=tasks, coordinates=coordinates, most=most))
            if asked:
                path = stored / f"{name}.jpg"
                crop(image, tile).save(path, quality=95, subsampling=0)
                meta = {"source": format, "split": split, "image": source,
                        "tile": {"box": list(tile.box), "size": list(tile.size)}}  # fmt: skip
                yield from rows_of(
                    iter(asked),
                    image=str(path),
                    name=f"{format}-{name}",
                    meta=meta,
                    think=think,
                    coordinates=coordinates,
                )

    with (
        atomic(listed) as unfinished,
        unfinished.open("w", encoding="utf-8") as file,
        _large_pictures(max_image_pixels),
    ):
        made = rows(lambda problem: file.write(f"{problem.where}: {problem.message}.\n"))
        paths = {split: write_samples(out / f"{split}.jsonl", made)}
    if listed.stat().st_size:
        return paths | {f"{split}_problems": listed}
    listed.unlink()
    return paths


@contextmanager
def _large_pictures(pixels: int) -> Iterator[None]:
    """Pictures that are cut may be larger than those a model is given whole."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    limit_pixels(pixels)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def view_of(view: View, tile: Tile, least: float = LEAST) -> View:
    """What is known about a tile of a picture whose ignored regions are painted over."""
    things = []
    for thing in view.things:
        part, share = visible(thing.polygon, tile)
        if not share:
            continue
        whole = area(thing.polygon)
        painted = sum(area(cut) for region in view.ignored if (cut := clip(thing.polygon, region))) / whole
        if painted > 0.99:
            continue
        x1, y1, x2, y2 = hull(part)
        hard = thing.hard or share < least or painted > 1 - least or min(x2 - x1, y2 - y1) < SMALLEST
        things.append(replace(thing, polygon=part, hard=hard, whole=thing.whole and share > 0.999 and not painted))
    across, down = tile.scale
    metres = None if view.metres is None else view.metres / math.sqrt(across * down)
    return replace(view, things=tuple(things), ignored=(), bounded=True, metres=metres, function=None)
