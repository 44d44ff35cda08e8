"""How much of an image or video a model sees: the settings, and the arithmetic from a stored size to a seen one.

Nothing is opened here. Sizes, frame counts and frame choices are those of `qwen_vl_utils`' own functions; what its
readers and `fetch_video` do around them is repeated below, and the tests compare both. `media.py` opens files.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Literal, get_args

from data_pipelines.reading import is_number

MediaKind = Literal["image", "video"]
MEDIA_KINDS: tuple[MediaKind, ...] = get_args(MediaKind)

PART_SETTINGS = {
    "image": ("min_pixels", "max_pixels", "resized_width", "resized_height"),
    "video": (
        *("min_pixels", "max_pixels", "total_pixels", "resized_width", "resized_height"),
        *("fps", "nframes", "min_frames", "max_frames", "video_start", "video_end", "sample_fps"),
    ),
}
"""What a media part of a message may set for itself; all are positive numbers, `video_start` may be 0."""
TEMPORAL_PATCH = 2
"""Frames that the models merge into one row of patches."""
CONTEXT_TOKENS = 128_000
"""What `qwen_vl_utils` takes as the longest prompt, where the environment does not tell it otherwise."""
IMPORTING = threading.Lock()
"""Held while `qwen_vl_utils` is imported: media are loaded in several threads."""


@dataclass(frozen=True)
class Budget:
    """How much of an image or video the model sees. None leaves `qwen_vl_utils`' own default.

    A media part of a message may set the same keys for itself (and those of `PART_SETTINGS`); the part wins. No
    environment variable matters.
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
    max_tokens: int = 4096
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
class Seen:
    """What the model sees of one image or video."""

    size: tuple[int, int]
    """(width, height) in pixels, multiples of a vision token's side."""
    frames: int
    """Frames, an even number; 1 for an image."""
    times: tuple[float, ...]
    """Video: seconds of every frame, index / average frames per second of the file."""
    grid: tuple[int, int, int]
    """(pairs of frames, rows, columns) of patches: a row of `image_grid_thw` or `video_grid_thw`."""
    tokens: int
    """Vision tokens. The text around them, such as Qwen3-VL's time stamps, is not counted."""
    indices: tuple[int, ...] = ()
    """Video: which frames of the file."""
    total: int = 1
    """Video: frames of the file, or of the clip from `video_start` to `video_end`, that `indices` were chosen from."""


def part_settings(part: Mapping[str, Any], kind: MediaKind) -> dict[str, float]:
    """The settings of a media part. ValueError names one that is no positive number."""
    settings = {key: part[key] for key in PART_SETTINGS[kind] if key in part}
    for key, value in settings.items():
        if not is_number(value) or value < 0 or (value == 0 and key != "video_start"):
            raise ValueError(f"`{key}` of the {kind} part is {value!r}; it must be a positive number")
    return settings


def within(budget: Budget, settings: Mapping[str, float], kind: MediaKind, *, patch_size: int) -> dict[str, float]:
    """A part's settings with the budget filled in where the part is silent."""
    limits: dict[str, float | None] = {"min_pixels": budget.min_pixels, "max_pixels": budget.max_pixels}
    if kind == "video":
        limits["total_pixels"] = budget.total_pixels
        if "nframes" not in settings:
            limits |= {"fps": budget.fps, "max_frames": budget.max_frames}
    chosen = {key: value for key, value in limits.items() if value is not None} | dict(settings)
    if "max_pixels" in chosen and "min_pixels" not in chosen:
        # A maximum under the default minimum (4 tokens per image, 128 per frame) replaces it.
        token = (2 * patch_size) ** 2
        if chosen["max_pixels"] < token * (4 if kind == "image" else 128):
            chosen["min_pixels"] = token
    return chosen


def seen_image(size: tuple[int, int], settings: Mapping[str, float], *, patch_size: int) -> Seen:
    """Of an image of (width, height) `size`, under settings as `within` gives them. ValueError if nothing is left."""
    new = _fit(size, settings, patch_size=patch_size)
    return Seen(size=new, frames=1, times=(), **_patches(new, 1, patch_size))


def seen_video(
    size: tuple[int, int], frames: int, fps: float, settings: Mapping[str, float], *, patch_size: int
) -> Seen:
    """Of a video of so many `frames` at `fps` on average. ValueError on a clip outside of it or with too few frames."""
    import torch

    vision = vision_process()
    if "nframes" in settings and "fps" in settings:
        raise ValueError("the video part sets both `fps` and `nframes`; keep one")
    first, last, total = vision.calculate_video_frame_range(settings, frames, fps)
    count = vision.smart_nframes(settings, total_frames=total, video_fps=fps)
    indices = torch.linspace(first, last, count).round().long().tolist()
    token = (2 * patch_size) ** 2
    low = settings.get("min_pixels", vision.VIDEO_MIN_TOKEN_NUM * token)
    every = settings.get("total_pixels", CONTEXT_TOKENS * token * 0.9)
    high = max(min(vision.VIDEO_MAX_TOKEN_NUM * token, every / count * TEMPORAL_PATCH), int(low * 1.05))
    high = min(settings.get("max_pixels", high), high)
    new = _fit(size, {**settings, "min_pixels": low, "max_pixels": high}, patch_size=patch_size)
    return Seen(
        size=new,
        frames=count,
        times=tuple(index / fps for index in indices),
        **_patches(new, count // TEMPORAL_PATCH, patch_size),
        indices=tuple(indices),
        total=total,
    )


def _fit(size: tuple[int, int], settings: Mapping[str, float], *, patch_size: int) -> tuple[int, int]:
    """(width, height) after `smart_resize`."""
    factor = 2 * patch_size
    limits = {key: settings[key] for key in ("min_pixels", "max_pixels") if key in settings}
    if "resized_width" in settings and "resized_height" in settings:
        size, limits = (int(settings["resized_width"]), int(settings["resized_height"])), {}
    low, high = limits.get("min_pixels", 0), limits.get("max_pixels", math.inf)
    if low > high:
        raise ValueError(f"min_pixels {low:,.0f} is above max_pixels {high:,.0f}")
    height, width = vision_process().smart_resize(size[1], size[0], factor, **limits)
    if min(width, height) < factor:
        raise ValueError(
            f"{size[0]} x {size[1]} pixels shrink to nothing at max_pixels {high:,.0f}; raise it, or crop the file"
        )
    return int(width), int(height)


def _patches(size: tuple[int, int], rows: int, patch_size: int) -> dict[str, Any]:
    grid = (rows, size[1] // patch_size, size[0] // patch_size)
    return {"grid": grid, "tokens": math.prod(grid) // 4}


@cache
def _vision_process() -> ModuleType:
    from mmrl.compat import declare_torchvision_operators

    declare_torchvision_operators()
    from qwen_vl_utils import vision_process

    # It reads MODEL_SEQ_LEN at import, and warns of every video that is sampled at more than its own frame rate.
    vision_process.MODEL_SEQ_LEN = CONTEXT_TOKENS
    vision_process.logger.setLevel(logging.ERROR)
    return vision_process


def vision_process() -> Any:
    """`qwen_vl_utils.vision_process`, imported on first use."""
    with IMPORTING:
        return _vision_process()
