"""Processes that end before their run does: killed, asked to stop, one rank of two.

Moments are drawn over the whole life of a process, its start included, or over its work alone. Which write a kill falls
into is read from the temporaries that it leaves.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from random import Random

from benchmarks.faults.place import Place, begins
from benchmarks.faults.processes import Process, until
from benchmarks.faults.rows import Row

AIMS = ["any"] * 2 + ["work"] * 2 + ["checkpoints"] * 4 + ["rollouts"] * 2 + ["lines"]
"""What a kill waits for: any moment, any once the run has begun, or that a temporary appears among checkpoints,
rollouts, or beside metrics.jsonl."""
SOON = 20.0
"""Seconds within which the other ranks must have ended; some with nothing else on the machine."""
WITHIN = {"checkpoints": 0.06, "rollouts": 0.004, "lines": 0.004}
"""Seconds after that in which it comes: about as many as the write takes."""


def kills(kind: str, place: Place, count: int, chance: Random) -> Row:
    """SIGKILL, again and again, until the run is at its end; then the next run, until there were enough."""
    row = Row(f"kill -9, {kind}")
    life = place.life(kind)
    while row.wants(count):
        trial = place.trial(kind, f"killed-{kind}")
        while row.wants(count, trial):
            begun = len(begins(trial.folder))
            [process] = trial.start()
            if at_some_moment(process, trial.folder, begun, life, chance):
                process.kill()
                row.strike(trial, -signal.SIGKILL)
            else:
                trial.expect(process, [0])
        row.done(trial)
    return row


def at_some_moment(process: Process, run: Path, begun: int, life: float, chance: Random) -> bool:
    """Wait for it; False if the process has ended before. The run had `begun` so many times before this process."""
    aim = chance.choice(AIMS)
    if aim == "any":
        return not process.wait(chance.uniform(0, life))
    if aim == "work":
        at_work = until(lambda: len(begins(run)) > begun, process, seconds=60)
        left = max(0.0, life - (time.monotonic() - process.began))
        return at_work and not process.wait(chance.uniform(0, left))
    folder = run if aim == "lines" else run / aim
    seen: set[str] = set()
    skipped = chance.randrange(1 if aim == "lines" else 4)

    def appeared() -> bool:
        seen.update(temporaries(folder))
        return len(seen) > skipped

    seen.update(temporaries(folder))  # those of an earlier kill
    skipped += len(seen)
    return until(appeared, process, seconds=life, every=0.0005) and not process.wait(chance.uniform(0, WITHIN[aim]))


def temporaries(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.startswith(".") and name.endswith(".tmp")]
    except FileNotFoundError:
        return []


def stops(place: Place, count: int, chance: Random) -> Row:
    """SIGTERM: the step is finished and saved; before the first step the process just ends. One of three comes at any
    moment, the others while steps are made."""
    row = Row("SIGTERM")
    life = place.life("words")
    while row.wants(count):
        trial = place.trial("words", "stopped")
        while row.wants(count, trial):
            begun = len(begins(trial.folder))
            [process] = trial.start()
            if row.times % 3:
                until(lambda: len(begins(trial.folder)) > begun, process, seconds=60)  # noqa: B023
            if not process.wait(chance.uniform(0, 0.3 * life if row.times % 3 else life)):
                process.send(signal.SIGTERM)
                code = trial.expect(process, [75, -signal.SIGTERM, 0])
                if code:
                    row.strike(trial, code)
        row.done(trial)
    return row


def dead_rank(place: Place, count: int, chance: Random) -> Row:
    """Two ranks of DDP; one is killed once both are at work, and the other must end by itself and say who is gone."""
    row = Row("rank killed, of 2")
    place.whole("ranks", ranks=2)
    life = place.life("ranks", ranks=2)
    while row.wants(count):
        trial = place.trial("ranks", "rank", ranks=2)
        while row.wants(count, trial):
            processes = trial.start()
            before = len(begins(trial.folder))
            at_work = partial(lambda run, before: len(begins(run)) > before, trial.folder, before)
            if not until(at_work, processes[0], seconds=60):
                for process in processes:
                    trial.expect(process, [0])
                continue
            dead = chance.randrange(2)
            if processes[dead].wait(chance.uniform(0, 0.6) * life):
                for process in processes:
                    trial.expect(process, [0])
                continue
            processes[dead].kill()
            killed = time.monotonic()
            code = trial.expect(processes[1 - dead], [69, 0], saying=f"pid {processes[dead].pid}) is gone")
            if (took := time.monotonic() - killed) > SOON:
                trial.problem(f"the other rank ended {took:.0f} s later")
            row.strike(trial, code or None)
        row.done(trial)
    return row
