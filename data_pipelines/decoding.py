"""Video is read in processes of its own, under a time limit: decoders hang, leak and crash on some files.

`Decoders` keeps a few such processes and replaces those that are lost. What runs in them is `decode_worker.py`, the
readers themselves are `video_frames.py`.
"""

from __future__ import annotations

import logging
import mmap
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from data_pipelines.decode_worker import FREE, receive, send
from data_pipelines.video_frames import Stored

if TYPE_CHECKING:
    from numpy import ndarray

START_LIMIT = 120.0
"""Seconds for a process to start."""
GRACE = 5.0
"""Seconds after the time limit, at which the process is ended by its own alarm, until it is killed from here."""
CHUNK_BYTES = 32 << 20
"""Of decoded frames that travel at a time; one frame may have more."""
START = "import sys; sys.path[:] = sys.argv[1:]; from data_pipelines.decode_worker import main; main()"

logger = logging.getLogger("mmrl.media")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How media files are opened: `data.decode` of a config."""

    timeout: float = 60.0
    """Seconds that a video may take until its next frames (32 MB of them) are there, or, while its frames are counted,
    its next packet; then its process is ended and the next installed reader tries."""
    workers: int = 2
    """Processes that read video."""
    cache_bytes: int = 1 << 30
    """Of decoded and resized images and frames kept in memory."""
    max_image_pixels: int = 89_478_485
    """Width x height of one image or video frame, by its header; larger files are refused. The default is PIL's."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name != "cache_bytes"):
                raise ValueError(f"decode.{name} = {value}; it must be positive.")


class BadMedia(ValueError):
    """An image or video that cannot be used; the message begins with its path."""


class Lost(Exception):
    """A process that ended, or had to be ended, while it read; says how."""


class Decoders:
    """Up to `settings.workers` processes. Any number of threads may ask."""

    def __init__(self, settings: Decoding) -> None:
        self.settings = settings
        self.used: Counter[str] = Counter()
        """Videos read, by reader."""
        self._failed: dict[tuple[str, int], dict[str, str]] = {}
        """Why a reader cannot read a file, by path and time of change: a file that makes it hang does so once."""
        self._running: set[_Worker] = set()
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(settings.workers):
            self._idle.put(None)
        self.close = weakref.finalize(self, _end_all, self._running, os.getpid())
        """End all processes."""

    def describe(self, path: str) -> Stored:
        """What a video holds. BadMedia names what is wrong with it."""
        with self._worker() as worker:
            try:
                answer = worker.ask(self._message(path), self.settings.timeout)
            except Lost as error:
                raise BadMedia(f"{path} is not a readable video: its reader {error}") from None
        if "error" in answer:
            reason = str(answer["error"])
            raise BadMedia(reason if reason.startswith(path) else f"{path} is not a readable video: {reason}")
        return Stored(**{**answer, "size": tuple(answer["size"]), "readers": tuple(answer["readers"])})

    def read(self, path: str, indices: Sequence[int], stored: Stored, take: Callable[[int, ndarray], None]) -> str:
        """The name of the reader that gave the frames `indices`, which ascend.

        `take(n, frames)` receives frames n, n + 1, ... of those asked for, uint8[k, height, width, 3]; it must not
        keep them, and frame 0 comes again when another reader starts over. BadMedia if no reader can.
        """
        known = self._failed.setdefault((path, os.stat(path).st_mtime_ns), {})
        already = len(known)
        for reader in stored.readers:
            if reader in known:
                continue
            reason = self._try(reader, path, indices, stored, take)
            if reason is None:
                self.used[reader] += 1
                if len(known) > already:
                    logger.warning("%s is read with %s, as others cannot: %s", path, reader, _listed(known))
                return reader
            known[reader] = reason
        raise BadMedia(f"{path} cannot be decoded: {_listed(known)}")

    def _try(self, reader: str, path: str, indices: Sequence[int], stored: Stored, take: Any) -> str | None:
        with self._worker() as worker:
            message = self._message(path) | {"reader": reader, "indices": list(indices), "stored": asdict(stored)}
            try:
                return worker.read(message, stored.size, self.settings.timeout, take)
            except Lost as error:
                return f"it {error}"

    def _message(self, path: str) -> dict[str, Any]:
        return {"path": path, "seconds": self.settings.timeout, "max_pixels": self.settings.max_image_pixels}

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        """An idle process, or a new one; it goes back to the idle ones if it is still well."""
        worker = self._idle.get()
        try:
            if worker is None or worker.process.poll() is not None:
                if worker is not None:
                    self._end(worker)
                worker = _Worker()
                self._running.add(worker)
                worker.wait_until_ready()
            yield worker
        except BaseException:
            if worker is not None:
                self._end(worker)
            worker = None
            raise
        finally:
            if worker is not None and worker.lost:
                self._end(worker)
                worker = None
            self._idle.put(worker)

    def _end(self, worker: _Worker) -> None:
        self._running.discard(worker)
        worker.end()


class _Worker:
    """A process, the socket to it, and the memory in which frames arrive."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, *sys.path],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.lost = False
        self.file = _unnamed_file()
        self.memory: mmap.mmap | None = None

    def wait_until_ready(self) -> None:
        try:
            self._answer(START_LIMIT)
        except Lost as error:
            raise RuntimeError(f"a process to read video could not start: it {error}") from None

    def ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        self._send(message)
        return self._answer(seconds)

    def read(self, message: dict[str, Any], size: tuple[int, int], seconds: float, take: Any) -> str | None:
        """None when all frames were taken, or why they could not be read."""
        import numpy as np

        total, shape = len(message["indices"]), (size[1], size[0], 3)
        frame_bytes = size[0] * size[1] * 3
        count = max(1, min(total, CHUNK_BYTES // frame_bytes))
        halves = np.frombuffer(self._memory(2 * count * frame_bytes), np.uint8, 2 * count * frame_bytes)
        halves = halves.reshape(2, count, *shape)
        self._send(message | {"chunk": count}, self.file)
        done = chunks = 0
        while "frames" in (answer := self._answer(seconds)):
            take(done, halves[chunks % 2, : answer["frames"]])
            done, chunks = done + answer["frames"], chunks + 1
            if done < total:
                self._give(FREE)
        if "error" in answer:
            self.lost = chunks > 0  # it may have been told of a free half that it never asked for
            return str(answer["error"])
        return None

    def _memory(self, size: int) -> mmap.mmap:
        if self.memory is None or len(self.memory) < size:
            os.ftruncate(self.file, size)
            self.memory = mmap.mmap(self.file, size)
        return self.memory

    def _send(self, message: dict[str, Any], *memory: int) -> None:
        try:
            send(self.channel, message, *memory)
        except OSError:
            raise self._how_it_ended(0.0) from None

    def _give(self, sign: bytes) -> None:
        try:
            self.channel.sendall(sign)
        except OSError:
            raise self._how_it_ended(0.0) from None

    def _answer(self, seconds: float) -> dict[str, Any]:
        """The next message but signs of life, between any two of which `seconds` may pass."""
        self.channel.settimeout(seconds + GRACE)
        while True:
            try:
                received = receive(self.channel)
            except TimeoutError:
                self.lost = True
                raise Lost(f"took longer than {seconds:g} s") from None
            except OSError:
                received = None
            if received is None:
                raise self._how_it_ended(seconds)
            if "alive" not in received[0]:
                return received[0]

    def _how_it_ended(self, seconds: float) -> Lost:
        self.lost = True
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(GRACE)
            if code == -signal.SIGALRM:
                return Lost(f"took longer than {seconds:g} s")
            memory = " (out of memory?)" if code == -signal.SIGKILL else ""
            return Lost(
                f"crashed with {signal.Signals(-code).name}{memory}" if code < 0 else f"exited with code {code}"
            )
        return Lost("closed its connection")

    def end(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.channel.close()
        os.close(self.file)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10.0)


def _unnamed_file() -> int:
    """A descriptor of memory where the system has such; never below /dev/shm, which containers keep small."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("frames")
    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor


def _listed(reasons: dict[str, str]) -> str:
    return "; ".join(f"{reader}: {_short(reason)}" for reader, reason in reasons.items())


def _short(reason: str) -> str:
    line = reason.strip().split("\n")[0].rpartition("Error: ")[2]
    return line if len(line) <= 200 else line[:197] + "..."


def _end_all(running: set[_Worker], owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork of the process that started them
    while running:
        running.pop().end()
