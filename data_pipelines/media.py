"""The one place that opens images and videos: header and digest, full decode, and what the model sees of them.

`probe` is cheap (no image is decoded), `verify` decodes, `load` decodes under a `Budget` and says what came out.
Resizing and frame sampling are those of `qwen_vl_utils`; which row a file belongs to is `dataset.py`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from mmrl.records import Media

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MediaKind = Literal["image", "video"]
MEDIA_KINDS: tuple[MediaKind, ...] = get_args(MediaKind)
TRANSPOSED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

IMPORTING = threading.Lock()
"""Held while `qwen_vl_utils` is imported: `load` may run in several threads."""


@dataclass(frozen=True)
class Budget:
    """How much of an image or video the model sees. None leaves `qwen_vl_utils`' own default.

    A media part of a message may set the same keys for itself (and `nframes`, `video_start`, `video_end` in
    seconds); the part wins.
    """

    min_pixels: int | None = None
    """Pixels per image or video frame; smaller ones are enlarged. For video it wins over `total_pixels`."""
    max_pixels: int | None = None
    """Pixels per image or video frame, at least one vision token's; larger ones are shrunk."""
    fps: float | None = None
    """Video: frames per second to sample."""
    max_frames: int | None = None
    """Video: frames at most, an even number of at least 2."""
    total_pixels: int | None = None
    """Video: pixels of all frames together, counted in pairs of frames as the model merges them."""
    max_prompt_tokens: int = 4096
    """Tokens of the encoded prompt, vision tokens included. The policy refuses longer prompts; nothing is cut."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value <= 0:
                raise ValueError(f"budget.{name} = {value}; it must be positive.")
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError(f"budget.min_pixels {self.min_pixels:,} is above budget.max_pixels {self.max_pixels:,}.")
        if self.max_frames is not None and self.max_frames < 2:
            raise ValueError("budget.max_frames = 1; frames are merged in pairs, so it must be at least 2.")


@dataclass(frozen=True)
class LoadedMedia:
    """The decoded media of one chat, ready for a processor called with `do_resize=False`."""

    images: list[Image] = field(default_factory=list)
    """RGB, resized, in order of appearance."""
    videos: list[Tensor] = field(default_factory=list)
    """f32[frames, 3, height, width] in 0..255, resized, in order of appearance."""
    video_metadata: list[dict[str, Any]] = field(default_factory=list)
    """One per video: `fps` of the file, `frames_indices` of the frames seen, `total_num_frames`, `video_backend`."""
    video_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for the processor (`do_sample_frames=False`)."""
    seen: tuple[tuple[int, int], ...] = ()
    """(width, height) in pixels after the budget, per image or video in order of appearance."""
    times: tuple[tuple[float, ...], ...] = ()
    """Seconds of every frame seen, per image (empty) or video in order of appearance: frame index / average fps."""


def probe(path: str | Path, kind: MediaKind) -> Media:
    """Size and digest of a file, cached within the process until the file changes.

    Images are read up to their header. Of a video one frame is decoded, because only frames carry the rotation that
    phones record. ValueError says what is wrong with the file.
    """
    path = os.path.abspath(path)
    try:
        stat = os.stat(path)
    except OSError:
        raise ValueError(f"{kind} {path} does not exist") from None
    return _probe(path, kind, stat.st_mtime_ns, stat.st_size)


@cache
def _probe(path: str, kind: MediaKind, mtime_ns: int, size: int) -> Media:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    dimensions = _image_size(path) if kind == "image" else _first_frame(path)
    return Media(kind=kind, path=path, digest=digest.hexdigest(), size=dimensions)


def _image_size(path: str) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            # PIL decodes a whole PNG in search of orientation data behind the pixels; nothing writes it there.
            searchable = image.format != "PNG" or "exif" in image.info
            transposed = searchable and image.getexif().get(0x0112) in TRANSPOSED
            return image.size[::-1] if transposed else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable image: {error}") from None


def _first_frame(path: str) -> tuple[int, int]:
    import av

    try:
        with av.open(path) as container:
            frame = next(container.decode(video=0))
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise ValueError(f"{path} is not a readable video: {error or 'it has no frames'}") from None
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)


def open_image(path: str | Path) -> Image:
    """A decoded RGB image: EXIF orientation applied, transparency over white. ValueError on a damaged file."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as stored:
            image = ImageOps.exif_transpose(stored)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be decoded: {error}") from None


def verify(media: Media) -> None:
    """Decode an image completely, or the first and the last frame of a video. ValueError with the reason."""
    if media.kind == "image":
        size = open_image(media.path).size
        if size != media.size:
            raise ValueError(f"{media.path} decodes to {size}, but its header says {media.size}")
    else:
        load([{"role": "user", "content": [{"video": media.path, "nframes": 2}]}], Budget(), patch_size=14)


def load(messages: Sequence[dict[str, Any]], budget: Budget, *, patch_size: int) -> LoadedMedia:
    """Decode every image and video of a chat within the budget.

    Sizes become multiples of 2 * `patch_size`, the pixels of one vision token. ValueError on a file that cannot be
    decoded or a video too short for its frames.
    """
    parts = [dict(part) for message in messages if isinstance(message["content"], list) for part in message["content"]]
    parts = [_within(budget, part, patch_size) for part in parts if "image" in part or "video" in part]
    if not parts:
        return LoadedMedia()
    chat = [{"role": "user", "content": parts}]
    with IMPORTING:
        vision_process = _vision_process()
    images, videos, video_kwargs = vision_process.process_vision_info(
        chat, image_patch_size=patch_size, return_video_kwargs=True, return_video_metadata=True
    )
    images, videos = images or [], videos or []
    left = {"image": iter(images), "video": iter(videos)}
    seen, times = [], []
    for part in parts:
        if "image" in part:
            seen.append(next(left["image"]).size)
            times.append(())
        else:
            frames, about = next(left["video"])
            seen.append((frames.shape[-1], frames.shape[-2]))
            times.append(tuple(float(index) / about["fps"] for index in about["frames_indices"]))
    return LoadedMedia(
        images=images,
        videos=[frames for frames, _ in videos],
        video_metadata=[about for _, about in videos],
        video_kwargs=video_kwargs,
        seen=tuple(seen),
        times=tuple(times),
    )


def _within(budget: Budget, part: dict[str, Any], patch_size: int) -> dict[str, Any]:
    """A copy of a media part with the budget filled in where the part is silent, and images opened."""
    kind = "image" if "image" in part else "video"
    limits: dict[str, float | None] = {"min_pixels": budget.min_pixels, "max_pixels": budget.max_pixels}
    if kind == "video":
        limits["total_pixels"] = budget.total_pixels
        if "nframes" not in part:
            limits |= {"fps": budget.fps, "max_frames": budget.max_frames}
    part = {key: value for key, value in limits.items() if value is not None} | part
    if "max_pixels" in part and "min_pixels" not in part:
        # A maximum under the default minimum (4 tokens per image, 128 per frame) replaces it.
        token = (2 * patch_size) ** 2
        if part["max_pixels"] < token * (4 if kind == "image" else 128):
            part["min_pixels"] = token
    if kind == "image":
        part["image"] = open_image(part["image"])
    return part


@cache
def _vision_process() -> Any:
    """`qwen_vl_utils.vision_process`, reading video with decord and, where decord is missing or fails, with PyAV.

    The library's own second choice is torchvision's reader, which current torchvision no longer has.
    """
    from mmrl.compat import declare_torchvision_operators

    declare_torchvision_operators()
    from qwen_vl_utils import vision_process

    reader = "decord" if importlib.util.find_spec("decord") else "torchvision"
    vision_process.get_video_reader_backend = lambda: reader
    vision_process.VIDEO_READER_BACKENDS["torchvision"] = _read_with_pyav
    return vision_process


def _read_with_pyav(part: dict[str, Any]) -> tuple[Tensor, dict[str, Any], float]:
    """A `qwen_vl_utils` video reader: uint8[frames, 3, height, width], metadata, sampled frames per second."""
    import av
    import torch
    from qwen_vl_utils.vision_process import calculate_video_frame_range, smart_nframes

    path = part["video"]
    try:
        with av.open(path) as container:
            fps = float(container.streams.video[0].average_rate)
            frames = sum(packet.size > 0 for packet in container.demux(video=0))
        first, last, frames = calculate_video_frame_range(part, frames, fps)
        count = smart_nframes(part, total_frames=frames, video_fps=fps)
        indices = torch.linspace(first, last, count).round().long().tolist()
        wanted = set(indices)
        with av.open(path) as container:
            decoded = zip(range(indices[-1] + 1), container.decode(video=0), strict=False)
            kept = {index: _upright(frame) for index, frame in decoded if index in wanted}
        video = torch.stack([kept[i] for i in indices]).permute(0, 3, 1, 2)
    except (av.FFmpegError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be decoded: {error}") from None
    about = {"fps": fps, "frames_indices": indices, "total_num_frames": frames, "video_backend": "pyav"}
    return video, about, count / frames * fps


def _upright(frame: Any) -> Tensor:
    """uint8[height, width, 3] of a PyAV frame, turned as its display matrix asks."""
    import numpy as np
    import torch

    turns = round(frame.rotation / 90) % 4
    return torch.from_numpy(np.rot90(frame.to_ndarray(format="rgb24"), turns).copy())
