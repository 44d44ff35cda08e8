"""Rewards in worker processes with a hard time limit per call. What runs in a worker is `worker.py`.

A call that takes too long, or whose process dies, fails with the reason and the stack of the process; a fresh worker
takes its place and the other calls go on. Workers end with this process, however it ends.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import Any

from mmrl.records import Sample
from rewards import wire
from rewards.calling import Outcome, RemoteTraceback

SETUP_LIMIT = 600.0
"""Seconds to import a reward and load its model, and to transfer a call."""
GRACE = 0.5
"""Seconds between the time limit, at which a worker writes its stack and exits, and the kill if it does not."""
AHEAD = 2
"""Calls a worker has at a time: the one it works on, and the next, so that it never waits for this process."""
LOST_IN_A_ROW = 16
"""Calls that end their workers one after the other, with none answered between, before the others are given up; more,
a quarter, of many calls."""

START = "import sys; sys.path[:] = sys.argv[1:]; from rewards.worker import main; main()"
"""Not `-m rewards.worker`, which searches the working directory first: users have a `rewards.py` there."""


class Workers:
    """Up to `count` processes for one reward. A call may take `timeout` seconds, from when a worker takes it up.

    `name` and `form` are those of `rewards.entry.Loaded`. One thread at a time asks; any thread may close.
    """

    def __init__(self, name: str, *, form: str | None, count: int, timeout: float) -> None:
        self.name, self.form, self.count, self.timeout = name, form, count, timeout
        self._running: list[_Worker] = []
        self._closed = False
        weakref.finalize(self, _end_all, self._running, os.getpid())

    def attempt_all(
        self, settings: Mapping[str, Any], calls: Sequence[tuple[Sequence[Any], Sequence[Sample]]]
    ) -> list[list[Outcome]]:
        """The outcomes of every call, in order; a failure is an outcome, never an exception.

        When `LOST_IN_A_ROW` calls end their workers, the others are not tried any more.
        """
        with self._round(settings, calls) as asked:
            return asked.finish()

    def start(self, settings: Mapping[str, Any]) -> None:
        """Start all workers and wait until they have loaded; raises what loading raised."""
        with self._round(settings, []) as asked:
            asked.load()

    @contextmanager
    def _round(
        self, settings: Mapping[str, Any], calls: Sequence[tuple[Sequence[Any], Sequence[Sample]]]
    ) -> Iterator[_Round]:
        self._closed = False
        try:
            yield _Round(self, settings, calls)
        except BaseException:
            self.close()  # a worker may still be answering, which nobody would hear
            raise

    def close(self) -> None:
        """End the processes; what is being asked fails, and what is asked later starts new ones."""
        self._closed = True
        _end_all(self._running, os.getpid())


class _Round:
    """One `attempt_all`: hands out calls, listens, and replaces workers until every call has its outcomes."""

    def __init__(
        self,
        workers: Workers,
        settings: Mapping[str, Any],
        calls: Sequence[tuple[Sequence[Any], Sequence[Sample]]],
    ) -> None:
        from pydantic_core import to_jsonable_python

        self.workers, self.running, self.calls = workers, workers._running, calls
        self.results: list[list[Outcome] | None] = [None] * len(calls)
        self.waiting = deque(range(len(calls)))
        self.lost_in_a_row = 0
        self.cannot_load: Exception | None = None
        try:
            self.settings = wire.loads(wire.dumps(to_jsonable_python(dict(settings))))
        except ValueError as error:
            self.cannot_load = error
            self._give_up(error)
        for worker in list(self.running):
            worker.listen()
            if worker.gone:  # since the last round
                self._end(worker)

    def finish(self) -> list[list[Outcome]]:
        while self.waiting or any(worker.calls for worker in self.running):
            busy = sum(len(worker.calls) for worker in self.running)
            if self.cannot_load is None:
                self._hire(min(self.workers.count, len(self.waiting) + busy))
            elif not self.running:
                self._give_up(self.cannot_load)
            self._hand_out()
            self._listen()
        assert all(outcomes is not None for outcomes in self.results)
        return [outcomes or [] for outcomes in self.results]

    def load(self) -> None:
        if self.cannot_load is None:
            self._hire(self.workers.count)
        while self.cannot_load is None and not all(worker.ready for worker in self.running):
            self._listen()
        if self.cannot_load is not None:
            raise self.cannot_load

    def _hire(self, wanted: int) -> None:
        about = {"name": self.workers.name, "form": self.workers.form, "timeout": self.workers.timeout}
        while len(self.running) < wanted:
            self.running.append(_Worker(wire.dumps({**about, "settings": self.settings})))

    def _hand_out(self) -> None:
        ready = [worker for worker in self.running if worker.ready]
        while self.waiting and ready:
            worker = min(ready, key=lambda worker: len(worker.calls))
            if len(worker.calls) == AHEAD:
                return
            index = self.waiting.popleft()
            try:
                message = wire.dumps(wire.encode_call(*self.calls[index], self.settings))
            except Exception as error:
                self._fail(index, error)
            else:
                worker.hand(index, message)

    def _listen(self) -> None:
        """Wait for the next message or the next deadline."""
        poller = select.poll()
        for worker in self.running:
            poller.register(worker.answers, select.POLLIN)
            if worker.outgoing:
                poller.register(worker.requests, select.POLLOUT)
        deadline = min((worker.deadline for worker in self.running), default=0.0)
        if deadline == inf:
            return  # all are idle
        poller.poll(1000 * min(60.0, max(0.0, deadline - time.monotonic())) + 1)
        if self.workers._closed:
            raise ChildProcessError(f"the worker processes of {self.workers.name} were closed while they scored")
        for worker in list(self.running):
            worker.send()
            for line in worker.listen():
                self._hear(worker, line)
            if worker.gone or time.monotonic() > worker.deadline:
                self._lose(worker)

    def _hear(self, worker: _Worker, line: bytes) -> None:
        try:
            message = wire.loads(line)
        except ValueError:
            worker.last_words.append(line.decode("utf-8", "replace"))
            return
        if message == "ready":
            worker.ready, worker.deadline = True, inf
        elif message == "taken":
            worker.deadline = time.monotonic() + self.workers.timeout + GRACE
        elif "error" in message:
            self.cannot_load = wire.decode_error(message["error"])
        else:
            index = worker.calls.popleft()
            worker.deadline = time.monotonic() + SETUP_LIMIT if worker.calls else inf
            self.results[index] = wire.decode_outcomes(message, count=len(self.calls[index][0]))
            self.lost_in_a_row = 0

    def _lose(self, worker: _Worker) -> None:
        """A worker that is gone or has to go: the call it worked on fails, the next one waits again."""
        late = not worker.gone
        error = _reason(self.workers, worker, late=late, code=self._end(worker))
        if not worker.ready:
            self.cannot_load = self.cannot_load or error
        if worker.calls:
            self._fail(worker.calls.popleft(), error)
            self.waiting.extendleft(reversed(worker.calls))
            self.lost_in_a_row += 1
        if self.lost_in_a_row >= max(LOST_IN_A_ROW, len(self.calls) // 4):
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        while self.waiting:
            self._fail(self.waiting.popleft(), error)

    def _fail(self, index: int, error: Exception) -> None:
        self.results[index] = [error] * len(self.calls[index][0])

    def _end(self, worker: _Worker) -> int:
        self.running.remove(worker)
        return worker.end()


class _Worker:
    """A process, its two pipes, and the calls it was handed and has not answered; it works on the first."""

    def __init__(self, start: bytes) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.requests, self.answers = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.requests, False)
        os.set_blocking(self.answers, False)
        self.outgoing, self.incoming = bytearray(start + b"\n"), bytearray()
        self.calls: deque[int] = deque()
        self.ready = self.gone = False
        self.deadline = time.monotonic() + SETUP_LIMIT
        self.last_words: list[str] = []
        """Lines that are no messages: the stack of a process that crashed or took too long."""

    def hand(self, index: int, message: bytes) -> None:
        if not self.calls:
            self.deadline = time.monotonic() + SETUP_LIMIT
        self.calls.append(index)
        self.outgoing += message + b"\n"
        self.send()

    def send(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError):  # a process that is gone is noticed by `listen`
            while self.outgoing:
                del self.outgoing[: os.write(self.requests, self.outgoing)]

    def listen(self) -> list[bytes]:
        """The complete lines that have arrived, all of them with the last one when the process is gone."""
        with suppress(BlockingIOError):
            while not self.gone:
                chunk = os.read(self.answers, 2**20)
                self.incoming += chunk
                self.gone = not chunk
        *lines, rest = bytes(self.incoming).split(b"\n")
        self.incoming[:] = b"" if self.gone else rest
        return [*lines, rest] if self.gone and rest else lines

    def end(self) -> int:
        """Kill the process and all it started; its exit code, negative for a signal."""
        if self.gone:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)  # it is exiting; its own code says why
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(10.0)
        return -signal.SIGKILL


def _reason(workers: Workers, worker: _Worker, *, late: bool, code: int) -> Exception:
    stack = "\n".join(worker.last_words)
    error: Exception
    if late and not worker.ready:
        error = TimeoutError(f"loading {workers.name} took longer than {SETUP_LIMIT:g} s")
    elif late or code == -signal.SIGALRM:
        error = TimeoutError(f"{workers.name} took longer than {workers.timeout:g} s")
    else:
        how = f"exited with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
        memory = " (out of memory?)" if code == -signal.SIGKILL else ""
        error = ChildProcessError(f"the worker process of {workers.name} {how}{memory}")
    if stack:
        error.__cause__ = RemoteTraceback(stack)
    return error


def _end_all(running: list[_Worker], owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork of the process that started them
    while running:
        running.pop().end()
