"""Files and folders that are complete or absent. The one place in mmrl that writes atomically.

Everything is made under a temporary name in the same folder (`.<name>.<random>.tmp`), flushed to the disk and renamed.
An exception leaves nothing behind; a killed process may leave a temporary, which no reader takes for the real thing
and `remove_leftovers` clears away. A full disk is a `DiskFull` that names the file.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmrl.runs.space import writing


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write the file to; it becomes `path` when the block ends without an exception."""
    temporary = _temporary(path)
    try:
        with writing(path):
            make_folder(path.parent)
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; it becomes `path`, in place of an older one, when the block ends."""
    temporary = _temporary(path)
    try:
        with writing(path):
            make_folder(temporary)
            yield temporary
            for part in [*temporary.rglob("*"), temporary]:
                _sync(part)
            remove_folder(path)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder, if it is there, without ever showing half of it: it loses its name first."""
    doomed = _temporary(path)
    try:
        os.replace(path, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporaries that killed processes left in `folder` and its direct sub-folders."""
    for path in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def append_line(path: Path, line: str) -> None:
    """Append one line and flush it to the disk; a crash can only cut this line, never an earlier one. What a full disk
    took of it is taken back."""
    with writing(path):
        make_folder(path.parent)
        new = not path.exists()
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            content = f"{line}\n".encode()
            try:
                while content:
                    content = content[file.write(content) :]
                os.fsync(file.fileno())
            except OSError:
                if file.tell() > before:
                    file.truncate(before)
                raise
        if new:
            _sync(path.parent)


def point_to(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target`, in place of an older one, in one go. (Copying made a folder of it where
    links were followed: that goes.)"""
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    temporary = _temporary(path)
    os.symlink(target, temporary)
    os.replace(temporary, path)
    _sync(path.parent)


def make_folder(path: Path) -> None:
    """With its parents; each is flushed to the disk as an entry of the folder above it."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _sync(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
