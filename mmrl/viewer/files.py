"""Which files may be given out: media of a run, by their hash, and nothing else."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from mmrl.runs import layout

NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,5}")
TYPES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
    ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff", ".mp4": "video/mp4", ".m4v": "video/mp4",
    ".webm": "video/webm", ".mov": "video/quicktime", ".mkv": "video/x-matroska", ".avi": "video/x-msvideo",
    ".mpg": "video/mpeg", ".mpeg": "video/mpeg",
}  # fmt: skip
"""What a browser may take a file for. Nothing that can hold a script is among them."""


def own_file(folder: Path, name: str) -> Path | None:
    """The file of a run's media by its name: a regular file that lies in the run's own media folder."""
    if not NAME.fullmatch(name) or Path(name).suffix not in TYPES:
        return None
    path = folder / layout.MEDIA / name
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # a link could lead anywhere
            return None
        inside = path.resolve().is_relative_to(folder.resolve())
    except OSError:
        return None
    return path if inside else None
