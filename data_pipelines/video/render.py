"""Paint a `Clip` frame by frame, and store and read frames as mp4.

Shapes are drawn at four times their size and reduced, at a quarter of a pixel's precision.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from data_pipelines.gui.shapes import COLOURS, SHARPNESS, glyph, rectangle
from data_pipelines.video.clips import BACKGROUNDS, Clip
from mmrl.plugins import ConfigError

if TYPE_CHECKING:
    from numpy import ndarray

ENCODERS = ("libx264", "libopenh264", "mpeg4")
"""The first that the installed FFmpeg has is used; all are read by decord and PyAV."""
QUALITY = 14
"""Constant rate factor of x264: 0 is lossless, 51 worst. Tiny pictures need a low one."""


def frames(clip: Clip) -> Iterator[Image.Image]:
    """RGB frames, fps * seconds of them."""
    form = clip.form
    for number in range(form.fps * form.seconds):
        yield paint(clip, number / form.fps)


def paint(clip: Clip, time: float) -> Image.Image:
    """What is seen at that time."""
    image = Image.new("RGB", clip.form.size, BACKGROUNDS[clip.background])
    for actor in clip.in_view(time):
        x, y = actor.place(time)
        left, top = (round((centre - actor.diameter / 2) * SHARPNESS) for centre in (x, y))
        layer = _sprite(actor.kind, actor.colour_at(time), actor.diameter, left % SHARPNESS, top % SHARPNESS)
        image.paste(layer, (left // SHARPNESS, top // SHARPNESS), layer)
    return image


@lru_cache(maxsize=4096)
def _sprite(kind: str, colour: str, diameter: int, dx: int, dy: int) -> Image.Image:
    """A shape moved right and down by quarters of a pixel, RGBA."""
    side = diameter * SHARPNESS
    shape = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    painter = rectangle(COLOURS[colour]) if kind == "square" else glyph(kind, COLOURS[colour])
    painter(ImageDraw.Draw(shape), side, side)
    layer = Image.new("RGBA", (side + SHARPNESS, side + SHARPNESS), (0, 0, 0, 0))
    layer.paste(shape, (dx, dy))
    # Premultiplied while reducing: transparent pixels must not darken the edges.
    return layer.convert("RGBa").reduce(SHARPNESS).convert("RGBA")


def write_video(path: Path, images: Iterable[Any], fps: Fraction | int) -> Path:
    """Store RGB frames (PIL images or uint8[height, width, 3]) of one even size as mp4, complete or not at all.

    The same frames give the same bytes with the same FFmpeg.
    """
    import av
    import numpy as np

    encoder = _encoder()
    options = {"crf": str(QUALITY), "preset": "veryfast"} if encoder == "libx264" else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with av.open(str(unfinished), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            stream: Any = None
            for image in images:
                pixels = np.ascontiguousarray(image)
                if stream is None:
                    stream = container.add_stream(encoder, rate=fps, options=options)
                    stream.height, stream.width = pixels.shape[:2]
                    stream.pix_fmt = "yuv420p"
                    stream.codec_context.thread_count = 1
                    stream.codec_context.gop_size = 12  # a key frame now and then, for decoders that seek
                    if not options:
                        stream.bit_rate = max(400_000, 4 * pixels.size)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            if stream is None:
                raise ValueError(f"{path}: there are no frames to store")
            container.mux(stream.encode(None))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def read_video(path: Path) -> tuple[ndarray, Fraction]:
    """uint8[frames, height, width, 3] of a whole video, and its frames per second. ValueError if there is none."""
    import av
    import numpy as np

    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate
            pixels = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} is not a readable video: {error}") from None
    if not pixels or not rate:
        raise ValueError(f"{path} is not a readable video: it has no frames")
    return np.stack(pixels), rate


@lru_cache(maxsize=1)
def _encoder() -> str:
    import av

    for name in ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except ValueError:  # av.codec.UnknownCodecError
            continue
        return name
    raise ConfigError(f"the installed FFmpeg (PyAV {av.__version__}) has none of the encoders {', '.join(ENCODERS)}.")
