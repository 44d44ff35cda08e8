"""Processes of a campaign: forks of one that has imported everything, so that a start costs what its work costs.

A fork runs `mmrl.cli.main` with its arguments, as the command does, and is killed as any process is. What forks share
beyond the imports is the seed of Python's hashes; the trainings they are compared with are started anew and have their
own.
"""

from __future__ import annotations

import fcntl
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import wait
from typing import Any

FORKING = multiprocessing.get_context("fork")
IMPORTED = (
    "mmrl.cli", "mmrl.launch", "mmrl.faults.guard", "mmrl.registry", "mmrl.policies.vlm", "mmrl.policies.diffusion",
    "mmrl.serving.policy", "mmrl.serving.collecting", "rewards.server", "data_pipelines.makers", "peft", "deepspeed",
    "av", "transformers.models.qwen3_vl.modeling_qwen3_vl", "transformers.models.qwen3_vl.processing_qwen3_vl",
)  # fmt: skip
SAID = 2**20
"""Bytes that a process may print: what its pipe holds, which is read at its end."""


def import_everything() -> None:
    import torch

    from mmrl.compat import declare_torchvision_operators

    torch.set_num_threads(1)
    declare_torchvision_operators()
    for name in IMPORTED:
        importlib.import_module(name)
    from data_pipelines.budget import Budget
    from mmrl.config import ModelConfig
    from mmrl.policies.vlm import VLMPolicy

    VLMPolicy.load(ModelConfig(), Budget())  # what transformers prepares when it loads its first model


class Process:
    """A fork at its work. Prints go to a pipe, for a file could be full."""

    def __init__(self, work: Callable[[], None], variables: Mapping[str, str] | None = None) -> None:
        self._reader, writer = os.pipe()
        fcntl.fcntl(self._reader, fcntl.F_SETPIPE_SZ, SAID)
        self.began = time.monotonic()
        self._process = FORKING.Process(target=_child, args=(work, writer, dict(variables or {})))
        self._process.start()
        os.close(writer)
        self._said: str | None = None

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def send(self, number: int) -> None:
        if self.code is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds."""
        self._process.join(seconds)
        return self.code is not None

    @property
    def said(self) -> str:
        """All that it printed, once it has ended."""
        if self._said is None:
            os.set_blocking(self._reader, False)  # its own children may still hold the other end
            parts = []
            try:
                while part := os.read(self._reader, 2**16):
                    parts.append(part)
            except BlockingIOError:
                pass
            os.close(self._reader)
            self._said = b"".join(parts).decode(errors="replace")
        return self._said


def mmrl(arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> Process:
    """`mmrl ARGUMENTS`"""

    def work() -> None:
        from mmrl.cli import main

        sys.argv = ["mmrl", *arguments]
        main()

    return Process(work, variables)


def _child(work: Callable[[], None], writer: int, variables: Mapping[str, str]) -> None:
    import torch

    for stream in (1, 2):
        os.dup2(writer, stream)
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)  # makes torch's pool of threads anew; several threads at once would not agree on it
    work()


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a fork: threads that it starts are in no later fork's way."""
    return side_by_side([partial(function, *arguments)], 1)[0]


def side_by_side(calls: Sequence[Callable[[], Any]], count: int) -> list[Any]:
    """What the calls return, in their order; each is made in a fork, so many at a time."""
    results: dict[int, Any] = {}
    running: dict[Any, tuple[int, Any]] = {}
    for index, call in enumerate(calls):
        receiver, sender = FORKING.Pipe(duplex=False)
        process = FORKING.Process(target=_send, args=(call, sender))
        process.start()
        sender.close()
        running[receiver] = (index, process)
        while len(running) >= count or (index == len(calls) - 1 and running):
            for ended in wait(list(running)):
                number, process = running.pop(ended)
                results[number] = ended.recv()  # type: ignore[union-attr]
                process.join()
    return [results[index] for index in range(len(calls))]


def _send(call: Callable[[], Any], sender: Any) -> None:
    sender.send(call())


def until(condition: Callable[[], bool], process: Process, *, seconds: float, every: float = 0.002) -> bool:
    """Wait until the condition holds; False if the process ends before, or the time does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        if process.code is not None:
            return False
        time.sleep(every)
    return False
