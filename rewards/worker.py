"""The main of a worker process: loads one reward and answers calls, one JSON line each. Its parent is `workers.py`.

    in     {"name", "form", "settings", "timeout"}, then one call (`wire.py`) per line
    out    "ready" or {"error": ...} after loading; then per call "taken", and its answer

What is written besides is the stack of a process that crashes or takes too long: `faulthandler` writes it to the same
pipe, from C, so that it also works where the interpreter no longer does. (A reward that sets an alarm of its own takes
this timer away; the parent's deadline remains.) What the reward prints goes to stderr.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import inspect
import os
import select
import signal
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from mmrl.plugins import hint_of
from rewards import wire
from rewards.entry import Loaded


def main() -> None:
    requests, answers = _take_pipes()
    faulthandler.enable(file=answers)
    faulthandler.register(signal.SIGALRM, file=answers, chain=True)  # the stack, then the default: the process ends
    threading.Thread(target=_end_with_parent, args=(requests,), daemon=True).start()

    def say(message: Any) -> None:
        answers.write(wire.dumps(message) + b"\n")
        answers.flush()

    asked = wire.loads(requests.readline())
    timeout, raw = asked["timeout"], asked["settings"]
    try:
        loaded = Loaded(asked["name"], form=asked["form"], where="a worker process")
        settings = restored(loaded.plugin, raw)
        if inspect.isclass(loaded.plugin):
            loaded.bind(settings)  # a model is loaded here, not in the time of the first call
    except Exception as error:
        say({"error": wire.encode_error(error)})
        return
    say("ready")

    for line in requests:
        call = wire.decode_call(wire.loads(line))
        if call.settings != raw:
            raw, settings = call.settings, restored(loaded.plugin, call.settings)
        say("taken")
        signal.setitimer(signal.ITIMER_REAL, timeout)
        outcomes = loaded.attempt(settings, call.completions, call.samples)
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(wire.encode_outcomes(outcomes))


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """stdin and stdout moved to descriptors of their own: nothing the reward reads or prints meets the protocol."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _end_with_parent(requests: BinaryIO) -> None:
    """End this process and what it started when the parent's end of the pipe closes, however the parent ended.

    Not by Linux's parent-death signal: that one comes when the *thread* ends that started this process.
    """
    hung_up = select.poll()
    hung_up.register(requests.fileno(), 0)
    hung_up.poll()
    os.killpg(os.getpid(), signal.SIGKILL)


def restored(plugin: Callable[..., Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Settings as they were before they travelled: JSON has neither tuples nor paths, the annotations say which."""
    return {key: _restore(value, hint_of(plugin, key)) for key, value in raw.items()}


def _restore(value: Any, hint: Any) -> Any:
    if hint is Any or not isinstance(value, str | list | dict):
        return value
    from pydantic import ConfigDict, TypeAdapter

    config = None if dataclasses.is_dataclass(hint) else ConfigDict(arbitrary_types_allowed=True)
    return TypeAdapter(hint, config=config).validate_python(value)
