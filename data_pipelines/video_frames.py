"""Reads video: container files, folders of images, and `.npz` arrays. Runs in a decoding process; imports no torch.

`describe` says what a file holds, `READERS` give its frames by number. What runs them under a time limit is
`decoding.py`; which frames a model sees is `budget.py`.

An `.npz` holds `frames`, uint8[frames, height, width, 3], and `fps`, a number; a folder holds images of one size, in
the order of their names with numbers compared as numbers.
"""

from __future__ import annotations

import importlib.util
import re
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from data_pipelines.images import SUFFIXES, check_pixels, image_size, open_image

if TYPE_CHECKING:
    from numpy import ndarray

Frames = Iterator["ndarray"]
"""uint8[n, height, width, 3] with any n >= 1, RGB, in the order asked for."""

FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,ogg,asf,gif,ivf,mxf,rm,dv,nut,h264,hevc"
"""FFmpeg's names of what may be opened: no playlists, which name further files, and no text drawn as a picture."""
MODULES = {"decord": "decord", "torchcodec": "torchcodec", "pyav": "av"}
"""Of the readers of container files, in the order to try them."""
BATCH = 16
"""Frames asked of decord at a time."""
TOLERANCE = 0.1
"""Share by which the duration of the header may differ from that of the frames; less than a second never matters."""


@dataclass(frozen=True)
class Stored:
    """What a video file holds."""

    frames: int
    fps: float
    """Average frames per second; 0 where only the row says it (a folder, an array without `fps`)."""
    size: tuple[int, int]
    """(width, height) in pixels, upright."""
    readers: tuple[str, ...]
    """Names in `READERS`, in the order to try them."""


def describe(path: str, alive: Callable[[], None] = lambda: None) -> Stored:
    """ValueError says why a file or folder is no video that can be read.

    `alive` is called after every packet of a container file and every frame of a folder: looking through all of a film
    may take long, and is no sign of a decoder that hangs.
    """
    if Path(path).is_dir():
        return _describe_folder(path, alive)
    if path.lower().endswith(".npz"):
        return _describe_array(path)
    return _describe_container(path, alive)


# -- container files -----------------------------------------------------------------------------------------------


def _describe_container(path: str, alive: Callable[[], None]) -> Stored:
    """Counts packets, as headers lie; one frame is decoded, as only frames carry the rotation that phones record."""
    import av

    try:
        with av.open(path, options={"format_whitelist": FORMATS}) as container:
            if not container.streams.video:
                raise ValueError("it has no video")
            stream = container.streams.video[0]
            stamps: list[int | None] = []
            cut = False
            for packet in _packets(container, stream):
                stamps.append(packet.pts)
                cut = packet.is_corrupt
                alive()
            if not stamps:
                raise ValueError("it has no frames")
            if cut and stream.frames > len(stamps):
                raise ValueError(
                    f"it is cut short: its header counts {stream.frames} frames, {len(stamps) - 1} are whole"
                )
            fps = _frame_rate(container, stream, stamps)
        with av.open(path, options={"format_whitelist": FORMATS}) as container:
            first = next(container.decode(video=0))
    except (av.FFmpegError, ValueError, StopIteration) as error:
        reason = getattr(error, "strerror", None) or error or "no frame can be decoded"
        raise ValueError(f"{path} is not a readable video: {reason}") from None
    turned = bool(first.rotation % 180)
    size = (first.height, first.width) if turned else (first.width, first.height)
    check_pixels(path, size)
    # decord may crash on a file with a rotation.
    return Stored(len(stamps), fps, size, installed("pyav", "decord") if first.rotation else installed())


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Those that hold a frame. Nobody may keep them: together they are the whole file."""
    return (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)


def _frame_rate(container: Any, stream: Any, stamps: Sequence[int | None]) -> float:
    """Frames per second on average. ValueError if the header's duration is not that of the frames."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    if any(stamp is None for stamp in stamps):
        if rate <= 0:
            raise ValueError("it has neither a frame rate nor time stamps")
        return rate
    known = [stamp for stamp in stamps if stamp is not None]
    between = float((max(known) - min(known)) * stream.time_base)
    seconds = between * len(known) / max(1, len(known) - 1)
    if rate <= 0 or _differ(len(known) / rate, seconds):
        if seconds <= 0:
            raise ValueError("its frames have no times")
        rate = len(known) / seconds
    said = 0.0
    if stream.duration:
        said = float(stream.duration * stream.time_base)
    elif container.duration and len(container.streams) == 1:
        said = container.duration / 1e6
    if said and _differ(said, seconds):
        raise ValueError(
            f"its header says {said:.1f} s and its {len(known)} frames last {seconds:.1f} s: it was cut short or its "
            "header is wrong (`ffmpeg -i FILE -c copy NEW` writes a right one)"
        )
    return rate


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > max(1.0, TOLERANCE * other)


def installed(*first: str) -> tuple[str, ...]:
    """Names of the readers of container files, in the order to try them."""
    return tuple(name for name in dict.fromkeys((*first, *MODULES)) if importlib.util.find_spec(MODULES[name]))


def _with_decord(path: str, indices: Sequence[int], stored: Stored) -> Frames:
    import decord

    video = decord.VideoReader(path)
    if len(video) != stored.frames:
        raise ValueError(f"it finds {len(video)} frames of {stored.frames}")
    for start in range(0, len(indices), BATCH):
        yield video.get_batch(indices[start : start + BATCH]).asnumpy()


def _with_torchcodec(path: str, indices: Sequence[int], stored: Stored) -> Frames:
    from torchcodec.decoders import VideoDecoder

    video = VideoDecoder(path, dimension_order="NHWC")
    if len(video) != stored.frames:
        raise ValueError(f"it finds {len(video)} frames of {stored.frames}")
    for start in range(0, len(indices), BATCH):
        yield video.get_frames_at(indices=list(indices[start : start + BATCH])).data.numpy()


def _with_pyav(path: str, indices: Sequence[int], stored: Stored) -> Frames:
    """Frames by their time stamps, from the key frame before each; by counting where there are no time stamps."""
    import av

    with av.open(path, options={"format_whitelist": FORMATS}) as container:
        stream = container.streams.video[0]
        packets = [(packet.pts, packet.is_keyframe) for packet in _packets(container, stream)]
    stamps = [stamp for stamp, _ in packets if stamp is not None]
    keys = sorted(stamp for stamp, is_key in packets if stamp is not None and is_key)
    if len(set(stamps)) < len(packets):
        frames = _by_counting(path, indices)
    else:
        ordered = sorted(stamps)
        frames = _by_time(path, [ordered[index] for index in indices], keys)
    for frame in frames:
        yield _upright(frame)[None]


def _by_counting(path: str, indices: Sequence[int]) -> Iterator[Any]:
    import av

    with av.open(path, options={"format_whitelist": FORMATS}) as container:
        decoded = enumerate(container.decode(video=0))
        for wanted in indices:
            frame = next((frame for number, frame in decoded if number == wanted), None)
            if frame is None:
                raise ValueError(f"it ends before frame {wanted}")
            yield frame


def _by_time(path: str, wanted: Sequence[int], keys: Sequence[int]) -> Iterator[Any]:
    import av

    with av.open(path, options={"format_whitelist": FORMATS}) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames, reached = container.decode(stream), keys[0] if keys else wanted[0]
        for stamp in wanted:
            key = keys[max(0, bisect_right(keys, stamp) - 1)] if keys else reached
            if key > reached:
                container.seek(key, stream=stream)
                frames = container.decode(stream)
            frame = next((frame for frame in frames if frame.pts is not None and frame.pts >= stamp), None)
            if frame is None or frame.pts != stamp:
                raise ValueError(f"the frame at {float(stamp * stream.time_base):.3f} s is missing")
            reached = stamp
            yield frame


def _upright(frame: Any) -> ndarray:
    """uint8[height, width, 3] of a PyAV frame, turned as its display matrix asks."""
    import numpy as np

    return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)


# -- folders of images ---------------------------------------------------------------------------------------------


def frame_files(folder: str) -> list[Path]:
    """The images of a folder in order: `2.png` before `10.png`."""

    def order(file: Path) -> list[Any]:
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)]

    return sorted((file for file in Path(folder).iterdir() if file.suffix.lower() in SUFFIXES), key=order)


def _describe_folder(path: str, alive: Callable[[], None]) -> Stored:
    files = frame_files(path)
    if not files:
        raise ValueError(f"{path} is a folder without frames ({', '.join(SUFFIXES)})")
    size = image_size(files[0])
    for file in files[1:]:
        if (other := image_size(file)) != size:
            raise ValueError(f"{file} has {other[0]} x {other[1]} pixels and the first frame {size[0]} x {size[1]}")
        alive()
    return Stored(len(files), 0.0, size, ("images",))


def _from_images(path: str, indices: Sequence[int], stored: Stored) -> Frames:
    import numpy as np

    files = frame_files(path)
    for index in indices:
        yield np.asarray(open_image(files[index]))[None]


# -- arrays --------------------------------------------------------------------------------------------------------


def _describe_array(path: str) -> Stored:
    import numpy as np

    with _frames_member(path) as (_, shape):
        pass
    fps = 0.0
    with zipfile.ZipFile(path) as archive:
        if "fps.npy" in archive.namelist():
            with archive.open("fps.npy") as file:
                value = np.lib.format.read_array(file, allow_pickle=False, max_header_size=1000)
            if value.size != 1 or value.dtype.kind not in "iuf" or not 0 < float(value.reshape(())) < 1e6:
                raise ValueError(f"{path}: `fps` must be one positive number, and is {value.dtype}{list(value.shape)}")
            fps = float(value.reshape(()))
    size = (shape[2], shape[1])
    check_pixels(path, size)
    return Stored(shape[0], fps, size, ("numpy",))


@contextmanager
def _frames_member(path: str) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
    """The member `frames` of an `.npz`, behind its header, and the header's shape. Nothing is unpickled."""
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive, archive.open("frames.npy") as file:
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, by_column, dtype = read[np.lib.format.read_magic(file)](file, max_header_size=1000)
            if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape or by_column:
                raise ValueError(f"`frames` must be uint8[frames, height, width, 3], and is {dtype}{list(shape)}")
            yield file, shape
    except KeyError:
        raise ValueError(f"{path} has no array `frames`; numpy.savez(file, frames=..., fps=...) writes one") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path} is not a readable .npz: {error or type(error).__name__}") from None


def _from_array(path: str, indices: Sequence[int], stored: Stored) -> Frames:
    """Reads up to the last frame wanted, one frame in memory at a time."""
    import numpy as np

    with _frames_member(path) as (file, shape):
        length, position = shape[1] * shape[2] * 3, 0
        for index in indices:
            while position < index:
                _exactly(file, length)
                position += 1
            yield np.frombuffer(_exactly(file, length), np.uint8).reshape(1, *shape[1:])
            position += 1


def _exactly(file: IO[bytes], length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError("it ends before its last frame")
    return data


READERS: dict[str, Callable[[str, Sequence[int], Stored], Frames]] = {
    "decord": _with_decord,
    "torchcodec": _with_torchcodec,
    "pyav": _with_pyav,
    "images": _from_images,
    "numpy": _from_array,
}
"""(path, ascending frame numbers, what `describe` said) -> frames; they raise what their libraries raise."""
