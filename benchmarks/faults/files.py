"""Disks that take no more, and media that change while a run goes on."""

from __future__ import annotations

import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults.place import DIGITS, Place, begins, recorded
from benchmarks.faults.plugins import damage
from benchmarks.faults.processes import Process, apart, until
from benchmarks.faults.rows import Row

DISK = 100
"""MB: four checkpoints of the small model."""


def full_disk(place: Place, count: int, chance: Random) -> Row:
    """Something else takes all that is left of a small disk, until the run has ended."""
    row = Row("disk full")
    with small_disk(place.folder / "disk") as disk:
        if disk is None:
            row.skipped = "no permission to mount a small file system"
            return row

        def fill(process: Process) -> Callable[[], None]:
            filler, over = disk / "filler", threading.Event()

            def work() -> None:
                with filler.open("wb", buffering=0) as file:
                    while not over.is_set():
                        try:
                            file.write(bytes(2**16))
                        except OSError:
                            time.sleep(0.002)

            thread = threading.Thread(target=work)
            thread.start()

            def free() -> None:
                over.set()
                thread.join()
                filler.unlink()

            return free

        return no_room(place, row, fill, count, chance, runs=str(disk))


def refused_writes(place: Place, count: int, chance: Random) -> Row:
    """A limit on the size of files (`ulimit -f`): as a quota, it fails some writes and not others."""

    def limit(process: Process) -> Callable[[], None]:
        size = chance.choice([0, 2_000, 100_000])
        if process.code is None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return lambda: None

    return no_room(place, Row("writes refused"), limit, count, chance)


def no_room(
    place: Place,
    row: Row,
    take: Callable[[Process], Callable[[], None]],
    count: int,
    chance: Random,
    **changes: Any,
) -> Row:
    """`take` leaves no room from some moment on; what it returns gives it back."""
    life = place.life("words")
    while row.wants(count):
        trial = place.trial("words", row.scenario.replace(" ", "-"), **changes)
        while row.wants(count, trial):
            [process] = trial.start()
            if process.wait(chance.uniform(0.1, 1) * life):
                trial.expect(process, [0])
                continue
            give_back = take(process)
            code = trial.expect(process, [74, 0], saying="go on with `--resume`")
            give_back()
            if code:
                row.strike(trial, code)
        row.done(trial)
        if changes:
            shutil.rmtree(trial.folder)
    return row


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# -- media -----------------------------------------------------------------------------------------------------------


def damaged_media(place: Place, count: int, chance: Random) -> Row:
    """All pictures are damaged while the run goes on, which stops it; put back under their names, it goes on. What the
    run keeps of them is linked to them, and right again once it was resumed, be it at its end."""
    row = Row("media damaged, stop")
    life = place.life("words")
    pictures = sorted((place.folder / "gui").rglob("*.png"))
    while row.wants(count):
        trial = place.trial("words", "damaged")
        while row.wants(count, trial):
            [process] = trial.start()
            if process.wait(chance.uniform(0, life)):
                trial.expect(process, [0])
                continue
            how = chance.choice(["cut", "changed", "deleted"])
            with restored(pictures):
                for picture in pictures:
                    damage(picture, how)
                code = trial.expect(process, [2, 0], saying="train.jsonl")
            if code:
                row.strike(trial, code, media=False)
            elif trial.at_its_end():
                [process] = trial.start()
                trial.expect(process, [0])
        row.done(trial)
    return row


def left_out_media(place: Place, count: int, chance: Random) -> Row:
    """With `bad_media: skip` the run goes on without the row. The picture is one that is drawn in the last step alone;
    in the run that this one is compared with, the reward of the first step cuts it."""
    row = Row("media damaged, skip")
    picture = apart(last_picture, place.whole("words"), place.folder / "gui" / "train.jsonl")
    trouble = place.folder / "trouble-cut"
    trouble.write_text(f"cut {picture}")
    with restored([picture]):
        place.whole("skip", rewards=[{**DIGITS, "trouble": str(trouble)}])
    while row.wants(count):
        trial = place.trial("skip", "left-out")
        [process] = trial.start()
        steps = chance.randrange(2)
        begun = partial(lambda run, steps: recorded(run) == steps and bool(begins(run)), trial.folder, steps)
        with restored([picture]):
            if until(begun, process, seconds=60):
                damage(picture, chance.choice(["cut", "changed", "deleted"]))
                row.strike(trial)
            trial.expect(process, [0])
        row.done(trial)
    return row


def last_picture(run: Path, data: Path) -> Path:
    """The first that the last step of a run shows."""
    from data_pipelines.dataset import read_samples
    from mmrl.runs.reader import read_rollouts

    shown = read_rollouts(run, recorded(run) - 1)[0]["sample_id"]
    [sample] = [sample for sample in read_samples(data) if sample.id == shown]
    return Path(sample.media[0].path)


@contextmanager
def restored(pictures: Sequence[Path]) -> Iterator[None]:
    """Afterwards they are there again, as new files."""
    contents = {picture: picture.read_bytes() for picture in pictures}
    try:
        yield
    finally:
        for picture, content in contents.items():
            new = picture.with_suffix(".new")
            new.write_bytes(content)
            new.replace(picture)
