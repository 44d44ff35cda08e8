"""Who else works on this run, and whether they still do.

Every rank sets a counter in the launcher's key-value store once a second, from a thread of its own. Rank 0 watches all
of them, the others watch rank 0, so a second costs the store one call per rank. A rank whose counter stands still for
`PATIENCE`, or that left word of its failure, is lost, and all others end with one message that names it:

- where a collective fails because a connection is gone (gloo, often NCCL), the error is explained by who is silent;
- where it does not fail (NCCL waits), the thread ends the process, for the main thread never comes back.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any

from mmrl import distributed
from mmrl.faults.endings import BadUpdates, Ending, OffPolicy, RankLost, Stopped

INTERVAL = 1.0
"""Seconds between two signs of life."""
PATIENCE = 60.0
"""Seconds without one after which a rank counts as lost."""
LOOK = 3.0
"""Seconds in which a rank must show a sign of life once a collective has failed."""
GRACE = 5.0
"""Seconds that the main thread has to end by itself, and that rank 0, who may keep the store, waits for the others."""
COLLECTIVE = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|socket|barrier|allreduce|store", re.I)
"""What errors of a collective say whose peer is gone."""

_runs = [0]


class Peers:
    """Entered around a training by all ranks, in the same order. Alone it does nothing.

    `step` is asked for the step that goes into the message, `then` says what to do; `tell` is given the message, on one
    rank, if it is this class that ends the process.
    """

    def __init__(
        self,
        *,
        step: Callable[[], int],
        tell: Callable[[str], None] = lambda message: None,
        then: str = "Start the run again with `--resume`.",
    ) -> None:
        self.rank, self.size = distributed.rank(), distributed.size()
        self._step, self._tell, self._then = step, tell, then
        self._done = threading.Event()

    def __enter__(self) -> Peers:
        if self.size == 1:
            return self
        self._prefix = f"mmrl/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{_runs[0] + 1}"
        self._store = connect()
        self._set("about", f"rank {self.rank} (host {socket.gethostname()}, pid {os.getpid()})")
        self._set("beat", "0")
        distributed.wait()  # until all have, for asking for a key that is not there would wait
        _runs[0] += 1
        self._about = {rank: self._get(rank, "about") for rank in range(self.size)}
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        everywhere = error is None or isinstance(error, (Stopped, BadUpdates, OffPolicy, RankLost))
        self.leave("" if everywhere else f"{type(error).__name__}: {error}".splitlines()[0])

    # -- the main thread -----------------------------------------------------------------------------------------

    def explain(self, error: BaseException) -> RankLost | None:
        """The loss of a rank, if that is why a collective failed; it takes some seconds to find out."""
        if self.size == 1 or isinstance(error, Ending) or not COLLECTIVE.search(f"{type(error).__name__} {error}"):
            return None
        try:
            return self._lost(*self._who())
        except Exception:  # the store is gone, and rank 0 kept it or its launcher did
            return self._lost(0, "") if self.rank else None

    def _who(self) -> tuple[int, str]:
        others = [rank for rank in range(self.size) if rank != self.rank]
        before = {rank: self._get(rank, "beat") for rank in others}
        deadline = time.monotonic() + LOOK
        while time.monotonic() < deadline:
            time.sleep(INTERVAL / 4)
            if (verdict := self._verdict()) is not None:
                return verdict
            if failed := [rank for rank in others if self._left(rank)]:
                return self._agree(failed[0], self._left(failed[0]) or "")
        silent = [rank for rank in others if self._left(rank) is None and self._get(rank, "beat") == before[rank]]
        if not silent:
            raise LookupError("every rank is there")
        return self._agree(silent[0], "")

    def leave(self, reason: str) -> None:
        """No sign of life comes any more, and nobody is to miss it; a reason is why the others cannot go on."""
        if self.size == 1 or self._done.is_set():
            return
        self._done.set()
        try:
            lost = self._verdict()
            self._set("left", "" if lost is not None else reason)
            deadline = time.monotonic() + (GRACE if self.rank == 0 and (reason or lost) else 0.0)
            while time.monotonic() < deadline and any(self._left(rank) is None for rank in self._staying(lost)):
                time.sleep(INTERVAL / 10)
        except Exception:
            pass  # the store is gone: there is nobody to be told

    def _staying(self, lost: tuple[int, str] | None) -> list[int]:
        return [rank for rank in range(self.size) if rank not in (self.rank, lost[0] if lost else None)]

    # -- the thread ----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        count, silence = 0, 0
        seen = {rank: ("0", time.monotonic()) for rank in (range(1, self.size) if self.rank == 0 else [0])}
        while not self._done.wait(INTERVAL):
            count += 1
            try:
                self._set("beat", str(count))
                verdict = self._verdict() or self._look(seen)
                silence = 0
            except Exception:
                silence += 1
                verdict = (0, "") if silence >= LOOK / INTERVAL and self.rank else None
            if verdict is not None and not self._done.wait(GRACE):
                lost = self._lost(*verdict)
                if not lost.quiet:
                    self._tell(str(lost))
                    print(f"error: {lost}", file=sys.stderr, flush=True)
                self.leave("")
                os._exit(RankLost.exit_code)

    def _look(self, seen: dict[int, tuple[str, float]]) -> tuple[int, str] | None:
        now = time.monotonic()
        for rank, (count, since) in list(seen.items()):
            current, reason = self._get(rank, "beat"), self._left(rank)
            if reason:
                return self._agree(rank, reason)
            if current != count or reason is not None:
                seen[rank] = (current, now)
            elif now - since > PATIENCE:
                return self._agree(rank, "")
        return None

    # -- the store -----------------------------------------------------------------------------------------------

    def _agree(self, rank: int, reason: str) -> tuple[int, str]:
        """The first verdict holds for all."""
        found = self._store.compare_set(f"{self._prefix}/lost", "", json.dumps([rank, reason]))
        return tuple(json.loads(found))

    def _verdict(self) -> tuple[int, str] | None:
        key = f"{self._prefix}/lost"
        return tuple(json.loads(self._store.get(key))) if self._store.check([key]) else None

    def _lost(self, rank: int, reason: str) -> RankLost:
        """One rank says it; without a store to decide which, the first one left."""
        try:
            me = str(self.rank)
            quiet = self._store.compare_set(f"{self._prefix}/told", "", me).decode() != me
        except Exception:
            quiet = self.rank != (1 if rank == 0 else 0)
        why = f"it failed ({reason})" if reason else "it was killed, or its host or the network to it is down"
        return RankLost(
            f"{self._about[rank]} is gone at step {self._step()}: {why}.\n"
            "  No step can be finished without it. What it printed last, or its host's kernel log, says more. "
            f"{self._then}",
            quiet=quiet,
        )

    def _set(self, name: str, value: str) -> None:
        self._store.set(f"{self._prefix}/{self.rank}/{name}", value)

    def _get(self, rank: int, name: str) -> str:
        return str(self._store.get(f"{self._prefix}/{rank}/{name}").decode())

    def _left(self, rank: int) -> str | None:
        """Why it left, "" for no reason of its own; None if it has not."""
        return self._get(rank, "left") if self._store.check([f"{self._prefix}/{rank}/left"]) else None


def before_the_run(error: BaseException) -> RankLost | None:
    """A collective that failed where nobody watches: while models are loaded, data is checked, in `mmrl eval`."""
    if distributed.size() == 1 or _runs[0] or not COLLECTIVE.search(f"{type(error).__name__} {error}"):
        return None
    return RankLost(
        f"rank {distributed.rank()} cannot go on: another rank has ended, and said why itself.\n"
        f"  ({str(error).splitlines()[0][:160]})"
    )


def connect() -> Any:
    """A connection of our own to the store at which the ranks met; whoever waits on the other blocks it."""
    from torch.distributed import TCPStore

    return TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=10)
    )
