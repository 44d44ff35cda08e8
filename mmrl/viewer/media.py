"""Images and videos as a group shows them, and the frames that a model saw. Which files those may be is `files.py`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from data_pipelines.cache import ByteCache
from data_pipelines.decoding import BadMedia, Decoders, Decoding
from mmrl.viewer.answers import MediaView
from mmrl.viewer.queries import media_url
from mmrl.viewer.subjects import Gone, Subject

SMALL = 256
"""Pixels of a frame's longer side up to which it is sent without loss."""
FRAMES_BYTES = 64 << 20
"""Of encoded frames kept in memory."""


def view(run: Subject, item: dict[str, Any], place: tuple[int, int, int], index: int) -> MediaView:
    """One image or video of a prompt, as stored in the rollouts."""
    if item["kind"] not in ("image", "video"):
        raise Gone(f"The prompt has media of kind {item['kind']!r}; the viewer knows images and videos.")
    file, times = item["file"], list(item["times"] or [])
    path = run.media_path(Path(file).name) if file else None
    step, rank, group = place
    frames = f"/api/runs/{quote(run.name, safe='')}/frames/{step}/{rank}/{group}/{index}"
    return MediaView(
        kind=item["kind"],
        file=file,
        url=media_url(run.name, file) if file and path else None,
        width=item["width"] or 0,
        height=item["height"] or 0,
        seen_width=item["seen_width"],
        seen_height=item["seen_height"],
        times=times,
        frame_urls=[f"{frames}?time={time:.6f}" for time in times] if path else [],
        missing=path is None,
    )


def video(subject: Subject, step: int, rank: int, group: int, index: int) -> tuple[Path, dict[str, Any]]:
    """The file of a prompt's video, and what was recorded of it. `Gone` if there is none."""
    media = subject.group(step, rank, group)[0]["media"] or []
    item = media[index] if 0 <= index < len(media) else None
    path = subject.media_path(Path(item["file"]).name) if item and item["kind"] == "video" and item["file"] else None
    if item is None or path is None:
        raise Gone(f"Medium {index} of this group is no video, or its file is missing.")
    return path, item


class Frames:
    """Frames of videos at the times that the model saw, in the size that it saw, encoded for a browser."""

    def __init__(self) -> None:
        self._cache: ByteCache[tuple[list[bytes], str]] = ByteCache(FRAMES_BYTES)
        self._decoders = Decoders(Decoding(workers=1))  # a process of its own: some files hang or crash their reader

    def __call__(self, path: Path, item: dict[str, Any], time: float | None) -> tuple[bytes, str]:
        """The frame of `item` nearest to `time` (of its times; None is the first) and its media type. `Gone` says why
        there is none."""
        times = list(item["times"] or [0.0])
        size = (item["seen_width"] or item["width"], item["seen_height"] or item["height"])
        nearest = 0 if time is None else min(range(len(times)), key=lambda i: abs(times[i] - time))
        key = (str(path), path.stat().st_mtime_ns, tuple(times), size)
        found = self._cache.get(key)
        if found is None:
            try:
                found = _frames(self._decoders, path, times, size)
            except (BadMedia, OSError) as error:
                raise Gone(f"No frames of {path.name}: {str(error).replace(str(path), path.name)}.") from None
            self._cache.put(key, found, sum(map(len, found[0])))
        return found[0][nearest], found[1]


def _frames(decoders: Decoders, path: Path, times: Sequence[float], size: tuple[int, int]) -> tuple[list[bytes], str]:
    """All of a video's frames at once: decoders read forwards."""
    from PIL import Image

    stored = decoders.describe(str(path))
    indices = [min(round(time * (stored.fps or 1)), stored.frames - 1) for time in times]
    small = max(size) <= SMALL
    encoded: dict[int, bytes] = {}
    ascending = sorted(set(indices))

    def take(start: int, read: Any) -> None:
        for offset, pixels in enumerate(read):
            image, file = Image.fromarray(pixels), io.BytesIO()
            if min(size) > 0 and image.size != size:
                image = image.resize(size, Image.Resampling.BICUBIC)
            image.save(file, "PNG" if small else "JPEG", quality=90)
            encoded[ascending[start + offset]] = file.getvalue()

    decoders.read(str(path), ascending, stored, take)
    return [encoded[index] for index in indices], "image/png" if small else "image/jpeg"
