"""A signal asks a run to stop: it finishes its step, writes a checkpoint and ends with code 75 (`endings.Stopped`).

Schedulers send SIGTERM some time before they kill, SLURM another signal on request (`--signal=USR1@300`), a person
Ctrl-C. A second signal ends the process at once; one that follows within `TOGETHER` is the same request, for launchers
pass signals on that a scheduler has already sent to everybody.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any

from mmrl import distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
TOGETHER = 3.0
"""Seconds."""


class StopRequest:
    """Listens while it is entered, in the main thread (signals go to no other); elsewhere nothing changes.

    Python runs a handler only between two of its own instructions, which a process that waits for another rank never
    reaches. So a thread reads the signals as they arrive.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        """Name of the first one."""
        self._first = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before = {number: signal.signal(number, ignore) for number in SIGNALS}
        self._woken_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(self._reader,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            signal.set_wakeup_fd(self._woken_before)
            for number, handler in self._before.items():
                # Launchers send SIGTERM to those that end a moment later than the first.
                if self.signal is None or number == signal.SIGINT:
                    signal.signal(number, handler)
            self._before = {}
            self._writer.close()  # ends the thread

    def agreed(self) -> str | None:
        """The signal that any rank was sent, the same answer on every rank; asked by all of them once a step."""
        return next((name for name in distributed.gather(self.signal) if name), None)

    def _listen(self, reader: socket.socket) -> None:
        with reader:
            while received := reader.recv(16):
                for number in received:
                    if number in SIGNALS:
                        self._received(number)

    def _received(self, number: int) -> None:
        if self.signal is None:
            self.signal, self._first = signal.Signals(number).name, time.monotonic()
            if distributed.rank() == 0:
                print(
                    f"{self.signal}: the step is finished first, then saved; a second signal ends the run at once",
                    file=sys.stderr,
                    flush=True,
                )
        elif time.monotonic() - self._first > TOGETHER:
            os._exit(128 + number)


def ignore(number: int, frame: FrameType | None) -> None:
    """The thread has it; a handler must be there all the same, or the process would end."""
