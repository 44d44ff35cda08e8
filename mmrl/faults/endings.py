"""How a run ends when something happens to it that is known: one message without traceback, and an exit code of its own
that a scheduler can act upon. docs/failures.md shows every message.

     0   finished
     1   an error that is explained by its traceback, or a reward that failed too often, or log-probs that are not those
          of the generation
     2   a mistake in config or data, or a run directory that another training is at work on
    68   the rollout servers are lost or of no use      start one, then `--resume`
    69   another rank is gone                           start again with `--resume`
    70   too many updates in a row without a number     look at the rows first
    71   out of memory                                  `--resume` goes on with the smaller budget, if there is one
    74   no space left                                  free some, then `--resume`
    75   stopped by a signal, with a checkpoint         `--resume`
"""

from __future__ import annotations

import os
import signal
import sys
from typing import ClassVar, NoReturn


class Ending(RuntimeError):
    """A run ends, and the message says why and what to do. `quiet`: another rank says it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, quiet: bool = False) -> None:
        super().__init__(message)
        self.quiet = quiet


class OffPolicy(Ending):
    """The first step's log-probs are not those of its generation: nothing that followed would have a meaning."""


class RankLost(Ending):
    """Another rank is gone, and no step can be finished without it."""

    exit_code = 69


class BadUpdates(Ending):
    """Too many updates in a row had no finite loss or gradient."""

    exit_code = 70


class OutOfMemory(Ending):
    """Something does not fit into memory, or cannot be tried again in smaller parts within this process."""

    exit_code = 71


class DiskFull(Ending):
    """A file could not be written for lack of space, or would not be."""

    exit_code = 74


class Stopped(Ending):
    """A signal asked for it; the step is finished and there is a checkpoint of it."""

    exit_code = 75


def leave(ending: Ending) -> NoReturn:
    """End the process by its code. Not by way of libraries that would wait for a rank that is gone, and whatever a
    launcher sends to those that end last."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ending.exit_code)
