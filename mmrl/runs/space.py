"""Space on the disk: whether there is enough for what comes next, and what is said when there is none."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmrl.faults.endings import DiskFull

FULL = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file would be too large",
}
"""The errors of a disk that takes no more, and what they mean."""
NOTHING = 2**20
"""Bytes; with less, whatever went wrong while writing is for lack of space. Not every library says so."""
ADVICE = "Free some space there, then go on with `--resume`."


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, a disk that takes no more becomes a `DiskFull` that names the file."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        full = shutil.disk_usage(existing(path)).free < NOTHING
        reason = why_full(error) or (FULL[errno.ENOSPC] if full else None)
        if reason is None:
            raise
        raise DiskFull(
            f"{path} could not be written: {reason} ({left(path)}). Nothing half-written stands in for it.\n  {ADVICE}"
        ) from error


def why_full(error: BaseException | None) -> str | None:
    """In words, if that is what is wrong; Rust code says it in a text alone."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):
            number = int(found[1])
        if number in FULL:
            return FULL[number]
        error = error.__cause__ or error.__context__
    return None


def require(folder: Path, needed: int, *, what: str) -> None:
    """DiskFull unless so many bytes are free."""
    free = shutil.disk_usage(existing(folder)).free
    if free < needed:
        raise DiskFull(f"{what} needs about {size(needed)}, and {left(folder)}. It was not begun.\n  {ADVICE}")


def left(path: Path) -> str:
    folder = existing(path)
    return f"{size(shutil.disk_usage(folder).free)} free in {folder}"


def existing(path: Path) -> Path:
    """The path, or the closest folder above it that exists."""
    path = Path(path).absolute()
    return path if path.is_dir() else existing(path.parent)


def size(count: int) -> str:
    """`3.2 GB`"""
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
