"""A contact sheet of a dataset: media with their gold boxes, points and spans drawn on them, question and answer below.

`mmrl data show`. Videos are shown as frames with their times above a time line on which gold spans and highlights
stand. A row that cannot be read has a cell that says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from data_pipelines.media import Budget, load, media_parts, open_image, outcome
from data_pipelines.reading import Problem, Row
from data_pipelines.rows import doubts, faults, name_of, sample_of, texts
from data_pipelines.sources import Rows
from data_pipelines.targets import clip_duration, golds
from mmrl.pictures import wrap
from mmrl.plugins import ConfigError
from mmrl.records import Media, Sample
from mmrl.runs.summary import clean

CELL = 420
"""Pixels across a cell."""
TALL = 340
"""Pixels that a single image may be high."""
COLUMNS = 3
GAP = 14
FRAMES = 6
"""Frames of a video that are shown, an even number; fewer, if it has fewer."""
SHOWN_PART = ("video_start", "video_end", "sample_fps")
"""Settings of a video part that say which seconds of the file it is."""
MOST_MEDIA = 4
"""Media of a row that are shown."""
MOST_CHARACTERS = 1500
"""Of a question or an answer."""
FONT = 13
GOLD, FAINT, BAD = (214, 40, 57), (120, 120, 120), (176, 0, 32)


def choose(source: str, *, limit: int, seed: int | None = None) -> tuple[Path, list[tuple[str, Row | Problem]]]:
    """The folder of a source's media, and the first rows; with a seed, as many drawn from all of them, in order."""
    rows = Rows(source)
    chosen: list[tuple[int, tuple[str, Row | Problem]]] = []
    rng = Random(seed)
    for index, pair in enumerate(rows):
        if index < limit:
            chosen.append((index, pair))
        elif seed is None:
            break
        elif (place := rng.randrange(index + 1)) < limit:
            chosen[place] = (index, pair)
    if not chosen:
        raise ConfigError(f"{source}: there are no rows.")
    return rows.folder, [pair for _, pair in sorted(chosen, key=lambda item: item[0])]


def sheet(folder: Path, rows: Sequence[tuple[str, Row | Problem]]) -> Image.Image:
    """The contact sheet of some rows, `COLUMNS` beside each other."""
    cells = [_stacked(list(_row(folder, where, row))) for where, row in rows]
    lines = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    heights = [max(cell.height for cell in line) for line in lines]
    columns = min(COLUMNS, len(cells))
    size = (columns * (CELL + GAP) + GAP, sum(heights) + (len(lines) + 1) * GAP)
    figure = Image.new("RGB", size, "white")
    draw, y = ImageDraw.Draw(figure), GAP
    for line, height in zip(lines, heights, strict=True):
        for column, cell in enumerate(line):
            figure.paste(cell, (GAP + column * (CELL + GAP), y))
        y += height + GAP
        draw.line((GAP, y - GAP // 2, size[0] - GAP, y - GAP // 2), fill=(225, 225, 225))
    return figure


def _row(folder: Path, where: str, row: Row | Problem) -> Iterator[Image.Image]:
    """The parts of a cell, from top to bottom."""
    try:
        if isinstance(row, Problem):
            raise ValueError(row.message)
        sample = sample_of(row, name_of(row), folder=folder, where=where)
    except ValueError as error:
        yield _text(where, colour=FAINT)
        yield _text(str(error), colour=BAD, lines=8)
        return
    facts = [sample.id, *(str(sample.meta[key]) for key in ("task", "coordinates") if key in sample.meta)]
    yield _text("   ".join(facts), colour=FAINT, lines=2)
    yield from _media(sample)
    for message in sample.messages:
        said = " ".join(texts([message])).strip()
        if said:
            yield _text(said, lines=9, prefix={"user": "Q  ", "assistant": "A  "}.get(message["role"], "   "))
    for key, value in sample.target.items():
        told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield _text(f"{key}: {told}", colour=GOLD, lines=4)
    for found in (*faults(sample), *doubts(sample)):
        yield _text(f"{found.kind}: {found}", colour=BAD, lines=3)


def _media(sample: Sample) -> Iterator[Image.Image]:
    shown = sample.media[:MOST_MEDIA]
    parts = []
    for index, (media, settings) in enumerate(zip(shown, media_parts(sample.messages), strict=False)):
        width = CELL if len(shown) == 1 or media.kind == "video" else (CELL - 4) // 2
        gold = sample.target if index == 0 else {}
        try:
            parts.append(_video(media, settings, sample, gold) if media.kind == "video" else _image(media, gold, width))
        except ValueError as error:
            parts.append(_text(str(error), colour=BAD, lines=6))
    row: list[Image.Image] = []
    for part in [*parts, None]:
        if row and (part is None or sum(p.width + 4 for p in row) + part.width > CELL):
            yield _beside(row)
            row = []
        if part is not None:
            row.append(part)
    if len(sample.media) > MOST_MEDIA:
        yield _text(f"and {len(sample.media) - MOST_MEDIA} more media", colour=FAINT)


def _image(media: Media, gold: dict[str, Any], width: int) -> Image.Image:
    image = open_image(media.path)
    scale = min(width / image.width, TALL / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS)
    _mark(image, gold, media.size)
    return image


def _video(media: Media, part: Mapping[str, Any], sample: Sample, gold: dict[str, Any]) -> Image.Image:
    """Frames of the row's part with their times, three beside each other, and the time line."""
    shown = {key: part[key] for key in SHOWN_PART if key in part}
    if not media.fps and "sample_fps" not in shown and "fps" in part:
        shown["sample_fps"] = part["fps"]
    total = outcome(media, Budget(), patch_size=14, part=shown).total
    frames = {"type": "video", "video": media.path, "nframes": min(FRAMES, total // 2 * 2), **shown}
    loaded = load([{"role": "user", "content": [frames]}], Budget(), patch_size=14)
    times = loaded.outcomes[0].times
    across = (CELL - 8) // 3
    cells = []
    for frame, second in zip(loaded.videos[0], times, strict=True):
        picture = Image.fromarray(frame.clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy())
        scale = min(across / media.size[0], 200 / media.size[1])
        size = (max(1, round(media.size[0] * scale)), max(1, round(media.size[1] * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        _mark(picture, gold, media.size)
        cells.append(_stacked([picture, _text(f"{second:.1f} s", colour=FAINT, width=across)], width=across))
    lines = [_beside(cells[start : start + 3]) for start in range(0, len(cells), 3)]
    duration = clip_duration(sample) or times[-1] or 1.0
    return _stacked([*lines, _time_line(duration, times, gold)])


def _time_line(duration: float, times: Sequence[float], gold: dict[str, Any]) -> Image.Image:
    """Grey is the clip, gold the spans, ticks the frames above, bars the saliency of highlights."""
    height, top = 34, 14
    line = Image.new("RGB", (CELL, height), "white")
    draw = ImageDraw.Draw(line)

    def at(second: float) -> float:
        return min(max(second / duration, 0.0), 1.0) * (CELL - 1)

    draw.rectangle((0, top, CELL - 1, height - 1), fill=(232, 232, 232))
    for span in golds({"span": gold["span"]} if "span" in gold else gold, "span", "spans", 2):
        draw.rectangle((at(span[0]), top, max(at(span[1]), at(span[0]) + 1), height - 1), fill=GOLD)
    highlights = golds(gold, "", "highlights", 2)
    highest = max((value for _, value in highlights), default=0) or 1
    for second, value in highlights:
        tall = (height - top) * max(value, 0) / highest
        draw.rectangle((at(second) - 1, height - 1 - tall, at(second) + 1, height - 1), fill=(242, 150, 40))
    for second in times:
        draw.line((at(second), top, at(second), height - 1), fill="black")
    draw.text((0, 0), "0 s", fill=FAINT, font=_font(10))
    draw.text((CELL - 1, 0), f"{duration:.1f} s", fill=FAINT, font=_font(10), anchor="ra")
    return line


def _mark(image: Image.Image, gold: dict[str, Any], size: tuple[int, int]) -> None:
    """Boxes and points, which are in pixels of the stored image of `size`, on the image as it is shown."""
    draw = ImageDraw.Draw(image)
    scale = (image.width / size[0], image.height / size[1])
    boxes = golds(gold, "box", "boxes", 4)
    for number, box in enumerate(boxes, 1):
        x1, x2 = sorted((box[0] * scale[0], box[2] * scale[0]))
        y1, y2 = sorted((box[1] * scale[1], box[3] * scale[1]))
        draw.rectangle((x1 - 3, y1 - 3, x2 + 3, y2 + 3), outline="white", width=1)
        draw.rectangle((x1 - 2, y1 - 2, x2 + 2, y2 + 2), outline=GOLD, width=2)
        if 1 < len(boxes) <= 40:
            draw.text((x1 + 3, y1 + 1), str(number), fill=GOLD, font=_font(11), stroke_width=2, stroke_fill="white")
    for x, y in golds(gold, "point", "points", 2):
        x, y = x * scale[0], y * scale[1]
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), outline="white", width=1)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), outline=GOLD, width=2)


def _text(text: str, *, colour: Any = "black", lines: int = 1, prefix: str = "", width: int = CELL) -> Image.Image:
    font = _font(FONT)
    height = sum(font.getmetrics()) + 2
    paragraphs = [line for line in clean(text[:MOST_CHARACTERS]).splitlines() if line.strip()]
    left = int(font.getlength(prefix))
    broken = [line for part in paragraphs for line in wrap(part, font, width - left, lines=lines).split("\n")]
    if len(broken) > lines:
        broken = [*broken[: lines - 1], wrap(f"{broken[lines - 1]} ...", font, width - left, lines=1)]
    image = Image.new("RGB", (width, height * max(1, len(broken))), "white")
    draw = ImageDraw.Draw(image)
    draw.text((0, 0), prefix, fill=FAINT, font=font)
    for index, line in enumerate(broken):
        draw.text((left, index * height), line, fill=colour, font=font)
    return image


def _stacked(parts: Sequence[Image.Image], width: int = CELL) -> Image.Image:
    column = Image.new("RGB", (width, sum(part.height + 4 for part in parts)), "white")
    y = 0
    for part in parts:
        column.paste(part, (0, y))
        y += part.height + 4
    return column


def _beside(parts: Sequence[Image.Image]) -> Image.Image:
    if len(parts) == 1:
        return parts[0]
    row = Image.new("RGB", (sum(part.width + 4 for part in parts) - 4, max(part.height for part in parts)), "white")
    x = 0
    for part in parts:
        row.paste(part, (x, 0))
        x += part.width + 4
    return row


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which ships with matplotlib: Latin, Greek, Cyrillic, arrows and signs."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
