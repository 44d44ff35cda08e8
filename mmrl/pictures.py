"""Pictures as files and as figures: PNG and mp4 of what a diffusion policy makes, and grids of it with captions.

A picture is a PIL image, or the list of a video's PIL frames, as in `Rollouts.images`. What a reward sees of them is
`rewards/images/`; opening the files of a dataset is `data_pipelines/media.py`. Imports no torch.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    import av

Picture: TypeAlias = "Image.Image | Sequence[Image.Image]"

FPS = 8
"""Frames per second of the videos written: what DanceGRPO writes. The frames are the same at any rate."""
GAP = 8
"""Pixels between the cells of a grid."""
FONT_SIZE = 14


def encode(made: Picture, *, fps: float = FPS) -> tuple[bytes, str]:
    """The file of a picture and its suffix: PNG for an image, exact; mp4 for a video, lossy and of even sizes."""
    if isinstance(made, Image.Image):
        file = io.BytesIO()
        made.save(file, format="PNG", compress_level=1)  # 5 times faster than the default, and hardly larger
        return file.getvalue(), ".png"
    return _mp4(made, fps), ".mp4"


def _mp4(frames: Sequence[Image.Image], fps: float) -> bytes:
    """H.264 where PyAV has an encoder for it, MPEG-4 elsewhere. Odd sizes grow by a repeated row or column."""
    import av
    import numpy as np

    if not frames or not fps > 0:
        raise ValueError(f"a video has frames, and more than none per second; found {len(frames)} at {fps}.")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = _video_stream(container, fps)
        width, height = frames[0].size
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        for frame in frames:
            pixels = np.pad(np.asarray(frame.convert("RGB")), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _video_stream(container: av.container.OutputContainer, fps: float) -> Any:
    import av

    rate = Fraction(fps).limit_denominator(1000)
    if "libx264" in av.codecs_available:
        return container.add_stream("libx264", rate=rate, options={"crf": "16"})
    stream: Any = container.add_stream("mpeg4", rate=rate)
    stream.bit_rate = 8_000_000
    return stream


def grid(
    rows: Sequence[Sequence[Picture]],
    captions: Sequence[str] = (),
    *,
    headings: Sequence[str] = (),
    side: int = 192,
    caption_width: int = 176,
) -> Image.Image:
    """A figure: one row of pictures per caption, which stands at its left; `headings` stand over the columns.

    The longer side of a picture becomes `side` pixels, small ones enlarged without smoothing; a video shows its first,
    middle and last frame. Rows may have different lengths.
    """
    if captions and len(captions) != len(rows):
        raise ValueError(f"{len(captions)} captions for {len(rows)} rows.")
    cells = [[_cell(made, side) for made in row] for row in rows]
    sizes = [cell.size for row in cells for cell in row]
    if not sizes:
        raise ValueError("a grid needs a picture.")
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    font = ImageFont.load_default(FONT_SIZE)
    line = sum(font.getmetrics()) + 2 if isinstance(font, ImageFont.FreeTypeFont) else FONT_SIZE
    left, top = caption_width + GAP if captions else 0, line + GAP if headings else 0
    columns = max(len(row) for row in cells)
    tall = max(height, 3 * line if captions else 0)
    figure = Image.new("RGB", (left + columns * (width + GAP) + GAP, top + len(rows) * (tall + GAP) + GAP), "white")
    draw = ImageDraw.Draw(figure)
    for column, heading in enumerate(headings):
        text = wrap(heading, font, width, lines=1)
        draw.text((left + GAP + column * (width + GAP), GAP), text, fill="black", font=font)
    for index, row in enumerate(cells):
        y = top + GAP + index * (tall + GAP)
        if captions:
            text = wrap(captions[index], font, caption_width, lines=tall // line)
            draw.multiline_text((GAP, y), text, fill="black", font=font, spacing=2)
        for column, cell in enumerate(row):
            x = left + GAP + column * (width + GAP)
            figure.paste(cell, (x + (width - cell.width) // 2, y + (tall - cell.height) // 2))
    return figure


def wrap(text: str, font: Any, width: int, *, lines: int) -> str:
    """`text` broken into at most `lines` lines of `width` pixels; what does not fit becomes an ellipsis."""
    broken, words = [""], text.split()
    while words:
        word = words.pop(0)
        longer = f"{broken[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            broken[-1] = longer
        elif broken[-1]:
            broken.append("")
            words.insert(0, word)
        else:  # a word longer than a line
            fits = next(n for n in range(len(word), 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
            broken[-1] = word[:fits]
            words[:0] = [word[fits:]] if word[fits:] else []
    if len(broken) > lines:
        last = broken[lines - 1]
        while last and font.getlength(f"{last}…") > width:
            last = last[:-1]
        broken = [*broken[: lines - 1], f"{last}…"]
    return "\n".join(broken)


def _cell(made: Picture, side: int) -> Image.Image:
    """A picture as it stands in a grid; a video as its first, middle and last frame beside each other."""
    if isinstance(made, Image.Image):
        return _resized(made, side)
    chosen = sorted({0, len(made) // 2, len(made) - 1})
    frames = [_resized(made[index], side) for index in chosen]
    strip = Image.new("RGB", (sum(frame.width + 2 for frame in frames) - 2, frames[0].height), "white")
    for index, frame in enumerate(frames):
        strip.paste(frame, (index * (frame.width + 2), 0))
    return strip


def _resized(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
