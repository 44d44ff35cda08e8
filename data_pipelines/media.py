"""The one place that opens images and videos: header and digest, what the model will see, and the pixels it sees.

`probe` is cheap (no image is decoded), `outcome` says from the probe alone what a `Budget` makes of a file, `load`
decodes, `verify` tries to. A video is a container file, a folder of images, or an `.npz` (`video_frames.py`); it is
read in processes of its own (`decoding.py`). Which row a file belongs to is `dataset.py`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipelines.budget import (
    MEDIA_KINDS,
    Budget,
    MediaKind,
    Seen,
    part_settings,
    seen_image,
    seen_video,
    vision_process,
    within,
)
from data_pipelines.cache import ByteCache
from data_pipelines.decoding import BadMedia, Decoders, Decoding
from data_pipelines.images import image_size, limit_pixels, open_image
from data_pipelines.video_frames import Stored, frame_files
from mmrl.records import Media, Sample

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = [
    "MEDIA_KINDS",
    "BadMedia",
    "Budget",
    "Decoding",
    "LoadedMedia",
    "MediaKind",
    "Seen",
    "configure",
    "load",
    "locate",
    "measured",
    "open_image",
    "outcome",
    "probe",
    "readers_used",
    "verify",
]

PROBED = 1 << 17
"""Files whose probe is remembered."""


@dataclass(frozen=True)
class LoadedMedia:
    """The decoded media of one chat, ready for a processor called with `do_resize=False`."""

    images: list[Image] = field(default_factory=list)
    """RGB, resized, in order of appearance. Shared with later loads of the same file: not to be written to."""
    videos: list[Tensor] = field(default_factory=list)
    """f32[frames, 3, height, width] in 0..255, resized, in order of appearance."""
    video_metadata: list[dict[str, Any]] = field(default_factory=list)
    """One per video: `fps` of the file, `frames_indices` of the frames seen, `total_num_frames`, `video_backend`."""
    video_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for the processor (`do_sample_frames=False`)."""
    outcomes: tuple[Seen, ...] = ()
    """Per image or video in order of appearance: what `outcome` says of it."""

    @property
    def seen(self) -> tuple[tuple[int, int], ...]:
        """(width, height) in pixels after the budget, per image or video in order of appearance."""
        return tuple(seen.size for seen in self.outcomes)

    @property
    def times(self) -> tuple[tuple[float, ...], ...]:
        """Seconds of every frame seen, per image (empty) or video in order of appearance."""
        return tuple(seen.times for seen in self.outcomes)


# -- settings of the process -----------------------------------------------------------------------------------------


class _Opened:
    """The processes that decode and what they decoded, shared by all threads."""

    def __init__(self, settings: Decoding) -> None:
        self.settings = settings
        self.decoders = Decoders(settings)
        self.cache: ByteCache[Any] = ByteCache(settings.cache_bytes)
        limit_pixels(settings.max_image_pixels)


_opened: _Opened | None = None
_OPENING = threading.Lock()


def configure(settings: Decoding) -> None:
    """How this process opens media from now on. Ends the processes that decoded before and empties the cache."""
    global _opened
    with _OPENING:
        if _opened is not None:
            _opened.decoders.close()
        _opened = _Opened(settings)
        _probe.cache_clear()


def _current() -> _Opened:
    if _opened is None:
        with _OPENING:
            if _opened is None:
                globals()["_opened"] = _Opened(Decoding())
    assert _opened is not None
    return _opened


def readers_used() -> dict[str, int]:
    """How many times each reader gave the frames of a video, in this process: `{"decord": 12, "pyav": 1}`."""
    return dict(_current().decoders.used)


# -- what a file holds ---------------------------------------------------------------------------------------------


def probe(path: str | Path, kind: MediaKind) -> Media:
    """Size, digest, frames and frame rate of a file, remembered within the process until the file changes.

    Images are read up to their header. Of a container file the packets are counted and one frame is decoded, because
    only frames carry the rotation that phones record. BadMedia, a ValueError, says what is wrong with the file.
    """
    return _probed(os.path.abspath(path), kind)[0]


def _probed(path: str, kind: MediaKind) -> tuple[Media, Stored | None]:
    """The media, and of a video what its readers need to know."""
    try:
        if kind == "video" and os.path.isdir(path):
            entries = [entry.stat() for entry in os.scandir(path)]
            changed = max((entry.st_mtime_ns for entry in entries), default=0)
            size = sum(entry.st_size for entry in entries)
        else:
            about = os.stat(path)
            changed, size = about.st_mtime_ns, about.st_size
            if not stat.S_ISREG(about.st_mode):
                raise BadMedia(f"{path} is no regular file")
            if size == 0:
                raise BadMedia(f"{path} is empty (0 bytes)")
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be opened: {error.strerror}"
        raise BadMedia(f"{kind} {path} {reason}") from None
    found = _probe(path, kind, changed, size)
    if isinstance(found, str):
        raise BadMedia(found)
    return found


@lru_cache(maxsize=PROBED)
def _probe(path: str, kind: MediaKind, changed: int, size: int) -> tuple[Media, Stored | None] | str:
    """What is wrong with a file is remembered as well: one that hangs its reader does so once."""
    try:
        return _probe_now(path, kind)
    except BadMedia as error:
        return str(error)


def _probe_now(path: str, kind: MediaKind) -> tuple[Media, Stored | None]:
    try:
        digest = _digest(path)
        if kind == "image":
            return Media(kind=kind, path=path, digest=digest, size=image_size(path)), None
    except (OSError, ValueError) as error:
        raise BadMedia(str(error) if str(error).startswith(path) else f"{path} cannot be read: {error}") from None
    stored = _current().decoders.describe(path)
    if stored.frames < 2:
        raise BadMedia(f"{path} has one frame; a video needs at least 2 (an image is given as `image`)")
    return Media(kind=kind, path=path, digest=digest, size=stored.size, frames=stored.frames, fps=stored.fps), stored


def _digest(path: str) -> str:
    """SHA-256 of a file, or of the names and bytes of a folder's frames."""
    digest = hashlib.sha256()
    for file in frame_files(path) if os.path.isdir(path) else [Path(path)]:
        if os.path.isdir(path):
            digest.update(f"\0{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def locate(file: str, *, folder: Path, roots: Sequence[str | Path] = ()) -> Path:
    """The path of a row's file. ValueError if it leaves the data folder.

    A relative path, with links followed, must stay below `folder` (that of the dataset) or one of `roots`. An absolute
    path may lead anywhere as long as no `roots` are given, and then must stay below them or `folder` as well.
    """
    path = folder / file
    if os.path.isabs(file) and not roots:
        return path
    real = path.resolve()
    if not any(real.is_relative_to(Path(root).resolve()) for root in (folder, *roots)):
        leads = "" if os.path.normpath(path) == str(real) else f" (it leads to {real})"
        raise ValueError(f"{file} leaves the data folder {folder}{leads}; name its folder in data.roots to allow it")
    return Path(os.path.normpath(path))


def verify(media: Media) -> None:
    """Decode an image completely, or the first and the last frame of a video. BadMedia with the reason."""
    if media.kind == "image":
        size = _bad(media.path, open_image).size
        if size != media.size:
            raise BadMedia(f"{media.path} decodes to {size}, but its header says {media.size}")
    else:
        _read(media, [0, media.frames - 1], lambda start, frames: None)


# -- what the model sees -------------------------------------------------------------------------------------------


def outcome(media: Media, budget: Budget, *, patch_size: int, part: Mapping[str, Any] | None = None) -> Seen:
    """What the model sees of a probed file under `budget`, without opening it; what `load` gives is exactly this.

    `part` is the media part of the message, whose own settings win. ValueError, naming the file, if nothing can be
    seen under these settings.
    """
    try:
        settings = part_settings(part or {}, media.kind)
        fps = _stored_fps(media, settings) if media.kind == "video" else 0.0
        settings = within(budget, settings, media.kind, patch_size=patch_size)
        if media.kind == "image":
            return seen_image(media.size, settings, patch_size=patch_size)
        return seen_video(media.size, media.frames, fps, settings, patch_size=patch_size)
    except ValueError as error:
        raise ValueError(f"{media.path}: {error}") from None


def _stored_fps(media: Media, settings: Mapping[str, float]) -> float:
    """Frames per second of a video: the part's `sample_fps`, the file's own, or, for a folder, the part's `fps`."""
    fps = settings.get("sample_fps") or media.fps or settings.get("fps")
    if not fps:
        raise ValueError("frames without a rate; give `sample_fps`, the frames per second they are stored at")
    return fps


def measured(sample: Sample, budget: Budget, *, patch_size: int) -> Sample:
    """The sample with what the model sees written to its media, as `VLMPolicy.encode` does, without decoding."""
    parts = media_parts(sample.messages)
    outcomes = [
        outcome(item, budget, patch_size=patch_size, part=part) for item, part in zip(sample.media, parts, strict=True)
    ]
    return with_outcomes(sample, outcomes)


def with_outcomes(sample: Sample, outcomes: Sequence[Seen]) -> Sample:
    """The sample whose media say what was seen of them, in order of appearance."""
    media = tuple(
        replace(item, seen=seen.size, times=seen.times, grid=seen.grid, tokens=seen.tokens)
        for item, seen in zip(sample.media, outcomes, strict=True)
    )
    return replace(sample, media=media)


def media_parts(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The parts of a chat that are images or videos, in order of appearance."""
    contents = (message["content"] for message in messages if isinstance(message["content"], list))
    return [part for content in contents for part in content if "image" in part or "video" in part]


# -- its pixels ----------------------------------------------------------------------------------------------------


def load(messages: Sequence[Mapping[str, Any]], budget: Budget, *, patch_size: int) -> LoadedMedia:
    """Decode every image and video of a chat within the budget.

    Sizes become multiples of 2 * `patch_size`, the pixels of one vision token. BadMedia, a ValueError, on a file that
    cannot be decoded, ValueError on one that cannot meet the settings, as a video with fewer frames than `nframes`.
    """
    parts = media_parts(messages)
    if not parts:
        return LoadedMedia()
    loaded = LoadedMedia(video_kwargs={"do_sample_frames": False})
    outcomes = []
    for part in parts:
        kind: MediaKind = "image" if "image" in part else "video"
        media = probe(part[kind], kind)
        seen = outcome(media, budget, patch_size=patch_size, part=part)
        outcomes.append(seen)
        if kind == "image":
            loaded.images.append(_image(media, seen))
            continue
        frames, reader = _frames(media, seen)
        loaded.videos.append(frames.float())
        loaded.video_metadata.append(
            {
                "fps": _stored_fps(media, part_settings(part, kind)),
                "frames_indices": list(seen.indices),
                "total_num_frames": seen.total,
                "video_backend": reader,
            }
        )
    return replace(loaded, outcomes=tuple(outcomes))


def _image(media: Media, seen: Seen) -> Image:
    cache, key = _current().cache, (media.digest, seen.size)
    image = cache.get(key)
    if image is None:
        # As `fetch_image` of qwen_vl_utils does.
        image = _bad(media.path, open_image).resize(seen.size)
        cache.put(key, image, seen.size[0] * seen.size[1] * 3)
    return image


def _frames(media: Media, seen: Seen) -> tuple[Tensor, str]:
    """u8[frames, 3, height, width], resized as `fetch_video` of qwen_vl_utils does, and the name of the reader."""
    import torch

    vision_process()  # torchvision may need it
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize

    opened, key = _current(), (media.digest, seen.size, seen.indices)
    if (cached := opened.cache.get(key)) is not None:
        return cached
    width, height = seen.size
    frames = torch.empty(seen.frames, 3, height, width, dtype=torch.uint8)

    def take(start: int, read: Any) -> None:
        stored = torch.from_numpy(read).permute(0, 3, 1, 2)
        frames[start : start + len(read)] = resize(
            stored, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True
        )

    reader = _read(media, seen.indices, take)
    opened.cache.put(key, (frames, reader), frames.numel())
    return frames, reader


def _read(media: Media, indices: Sequence[int], take: Callable[[int, Any], None]) -> str:
    current, stored = _probed(media.path, "video")
    if stored is None or current.digest != media.digest:
        raise BadMedia(f"{media.path} is not the file that was probed; it changed since")
    return _current().decoders.read(media.path, indices, stored, take)


def _bad(path: str, opener: Any) -> Image:
    try:
        return opener(path)
    except ValueError as error:
        raise BadMedia(str(error)) from None
