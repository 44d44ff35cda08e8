"""The process that reads video for `decoding.py`: one request at a time over a socket, frames through shared memory.

A request is JSON: `{"path", "seconds", "max_pixels"}` asks what a file holds, with `reader`, `indices`, `stored` and
`chunk` for frames, which come `chunk` at a time in the two halves of the memory whose descriptor travels with the
request: the other side reads one half while this one fills the other. Every message is its length, then JSON.

A native decoder may hang where no Python code runs any more, so the kernel's alarm ends the process: `seconds` after a
request, or after the chunk before. Looking through a long film puts the alarm off as long as packets arrive; the other
side, which waits no longer than that either, is told so by `{"alive": true}`, before the answer.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

LENGTH = struct.Struct("!I")
FREE = b"."
"""Sent by the other side when it has read a half of the memory."""


def main() -> None:
    """Answer requests on standard input, a socket, until the other side closes it."""
    channel = socket.socket(fileno=0)
    import_readers()
    # What native libraries print about damaged files; the reasons travel in the answers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    send(channel, {"ready": os.getpid()})
    while (request := receive(channel)) is not None:
        message, memory = request
        try:
            answer = read_frames(channel, message, memory) if "reader" in message else about(channel, message)
        except Exception as error:  # whatever the file led a decoder to
            answer = {"error": f"{error or type(error).__name__}"}
        signal.setitimer(signal.ITIMER_REAL, 0)
        for descriptor in memory:
            os.close(descriptor)
        send(channel, answer)


def import_readers() -> None:
    """Before the first request, so that no time limit counts it."""
    from importlib import import_module

    from data_pipelines.video_frames import MODULES, installed

    for name in installed():
        try:
            import_module(MODULES[name])
        except Exception:  # installed and broken: the request that needs it says so
            continue


def about(channel: socket.socket, message: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import asdict

    from data_pipelines.images import limit_pixels
    from data_pipelines.video_frames import describe

    signal.setitimer(signal.ITIMER_REAL, message["seconds"])
    limit_pixels(message["max_pixels"])
    return asdict(describe(message["path"], sign_of_life(channel, message["seconds"])))


def sign_of_life(channel: socket.socket, seconds: float) -> Callable[[], None]:
    """What to call while work goes on: puts the alarm off by `seconds` and says so, a few times within `seconds`."""
    last = time.monotonic()

    def alive() -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= min(1.0, seconds / 4):
            last = now
            signal.setitimer(signal.ITIMER_REAL, seconds)
            send(channel, {"alive": True})

    return alive


def read_frames(channel: socket.socket, message: dict[str, Any], memory: list[int]) -> dict[str, Any]:
    """Fill the halves in turn, saying how many frames each holds; the last answer is empty."""
    import numpy as np

    from data_pipelines.images import limit_pixels
    from data_pipelines.video_frames import READERS, Stored

    signal.setitimer(signal.ITIMER_REAL, message["seconds"])
    limit_pixels(message["max_pixels"])
    stored = Stored(**message["stored"])
    width, height = stored.size
    halves = np.frombuffer(mmap.mmap(memory[0], 0), np.uint8)
    count = message["chunk"]
    used = 2 * count * height * width * 3
    halves = halves[:used].reshape(2, count, height, width, 3)
    filled = there = 0
    given = 0
    for frames in READERS[message["reader"]](message["path"], message["indices"], stored):
        given += len(frames)
        if frames.shape[1:] != (height, width, 3):
            raise ValueError(f"a frame has {frames.shape[2]} x {frames.shape[1]} pixels, the first {width} x {height}")
        while len(frames):
            room = min(count - there, len(frames))
            halves[filled % 2, there : there + room] = frames[:room]
            there, frames = there + room, frames[room:]
            if there == count:
                hand_over(channel, there, filled, message["seconds"])
                filled, there = filled + 1, 0
    if given != len(message["indices"]):
        raise ValueError(f"{given} frames of {len(message['indices'])} came out")
    if there:
        hand_over(channel, there, filled, message["seconds"])
    return {}


def hand_over(channel: socket.socket, frames: int, filled: int, seconds: float) -> None:
    """Say that a half is full, and wait until the other one, filled before, is free."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    send(channel, {"frames": frames})
    if filled and channel.recv(1) != FREE:
        sys.exit(0)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def send(channel: socket.socket, message: dict[str, Any], *memory: int) -> None:
    body = json.dumps(message).encode()
    if memory:
        socket.send_fds(channel, [LENGTH.pack(len(body))], list(memory))
        channel.sendall(body)
    else:
        channel.sendall(LENGTH.pack(len(body)) + body)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """A message and the file descriptors sent with it; None if the other side is gone."""
    head, memory, _, _ = socket.recv_fds(channel, LENGTH.size, 1)
    if len(head) < LENGTH.size:
        return None
    (length,), body = LENGTH.unpack(head), bytearray()
    while len(body) < length:
        if not (piece := channel.recv(length - len(body))):
            return None
        body += piece
    return json.loads(body), memory
