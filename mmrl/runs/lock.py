"""One training at a time in a run directory.

The lock is the operating system's (`flock`), on a file that is open as long as the process lives: it goes with the
process, however that ends, so a killed run leaves nothing to clear away. Linux carries it over NFS to other hosts. On
a file system without locks, the run's own events decide: the process that began it, or on another host a sign of
life within `reader.SILENCE`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from mmrl.plugins import ConfigError
from mmrl.runs import layout
from mmrl.runs.reader import read_events, state_of
from mmrl.runs.space import writing

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


class RunLock:
    """Held from when it is made until `release`, or the end of the process. ConfigError, which names the holder, if
    another process has it; `elsewhere` is the setting that avoids it."""

    def __init__(self, folder: Path, *, elsewhere: str = "name=") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / layout.LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = self._holder()
            if error.errno in NO_LOCKS and state_of(folder, read_events(folder)) != "running":
                pass
            elif isinstance(error, BlockingIOError) or error.errno in NO_LOCKS:
                self._file.close()
                raise ConfigError(in_use(folder, holder, elsewhere)) from None
            else:
                raise
        with writing(folder / layout.LOCK):
            self._file.truncate(0)
            self._file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}))
            self._file.flush()

    def _holder(self) -> dict[str, Any]:
        self._file.seek(0)
        try:
            return dict(json.loads(self._file.read()))
        except ValueError:
            return {}

    def release(self) -> None:
        self._file.close()


def in_use(folder: Path, holder: dict[str, Any], elsewhere: str) -> str:
    since = holder.get("since")
    when = "" if since is None else time.strftime(" since %Y-%m-%d %H:%M:%S UTC", time.gmtime(since))
    who = f"pid {holder['pid']} on host {holder['host']}" if {"pid", "host"} <= holder.keys() else "another process"
    return (
        f"{folder} is being trained by {who}{when}; two trainings would overwrite each other's files.\n"
        f"  Let it finish or end it, then use `--resume`; or choose another `{elsewhere}`."
    )
