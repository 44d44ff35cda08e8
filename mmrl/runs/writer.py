"""Writing a run directory while training. What is in it: `layout.py`; reading it back: `reader.py`.

A crash at any moment leaves complete pieces only: rollouts appear by renaming, and a step counts as recorded once its
line stands in metrics.jsonl, which is written last.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from mmrl.pictures import Picture, encode
from mmrl.plugins import ConfigError
from mmrl.records import Media, Rollouts
from mmrl.runs import layout
from mmrl.runs.changes import changed_settings
from mmrl.runs.files import append_line, atomic_write, remove_leftovers, write_bytes
from mmrl.runs.reader import read_events, read_metrics
from mmrl.runs.table import to_table


class RunWriter:
    """One process's hand on a run directory. Rank 0 owns config and metrics; every rank writes rollouts and events."""

    def __init__(self, folder: Path, *, rank: int = 0) -> None:
        self.folder = Path(folder)
        self.rank = rank
        self.changed: dict[str, list[Any]] = {}
        """Of the settings, since the run was last at work (`changed_settings`)."""
        self._without_copy: set[str] = set()

    @classmethod
    def create(cls, folder: Path, config_yaml: str, *, rank: int = 0) -> RunWriter:
        """Begin a run. ConfigError if the folder holds one already, even part of one."""
        writer = cls(folder, rank=rank)
        if rank == 0:
            if holds_run(writer.folder):
                raise ConfigError(
                    f"{folder} already holds a run.\n  Choose another `name=`, or continue this one with `--resume`."
                )
            for left in writer.folder.glob(f".{layout.CONFIG}.*.tmp"):  # by a process that was killed here
                left.unlink()
            with atomic_write(writer.folder / layout.CONFIG) as path:
                path.write_text(config_yaml, encoding="utf-8")
            writer.event("started", **_process())
        return writer

    @classmethod
    def resume(cls, folder: Path, config_yaml: str = "", *, first_step: int, rank: int = 0) -> RunWriter:
        """Continue a run at `first_step`; whatever it recorded from there on is dropped and will be made again.

        Rank 0 tidies up for all ranks, those of an earlier, larger world included. Where the config is another one than
        before, it takes the place of the run's, and the event `resumed` has the differences as `changed`.
        """
        writer = cls(folder, rank=rank)
        if not (writer.folder / layout.CONFIG).is_file():
            raise ConfigError(f"{folder} holds no run to continue.\n  Leave `--resume` out to begin one.")
        if rank == 0:
            remove_leftovers(writer.folder)
            kept = [line for line in read_metrics(writer.folder) if line["step"] < first_step]
            _rewrite(writer.folder / layout.METRICS, kept)
            _rewrite(writer.folder / layout.EVENTS, read_events(writer.folder))
            for step, _, path in layout.rollout_files(writer.folder):
                if step >= first_step:
                    path.unlink()
            config = writer.folder / layout.CONFIG
            if config_yaml:
                writer.changed = changed_settings(
                    yaml.safe_load(config.read_text("utf-8")), yaml.safe_load(config_yaml)
                )
            if writer.changed:
                with atomic_write(config) as path:
                    path.write_text(config_yaml, encoding="utf-8")
            about = {"changed": writer.changed} if writer.changed else {}
            writer.event("resumed", step=first_step, **_process(), **about)
        return writer

    def record(
        self,
        step: int,
        rollouts: Rollouts,
        metrics: Mapping[str, float],
        *,
        pieces: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Keep completions of a step and its metrics. `pieces`: `Policy.pieces`."""
        self.record_rollouts(step, rollouts, pieces=pieces)
        if self.rank == 0:
            self.record_metrics(step, metrics)

    def record_rollouts(self, step: int, rollouts: Rollouts, *, pieces: Sequence[Sequence[str]] | None = None) -> None:
        """Keep this rank's completions of a step; if there are none, rank 0 says so with an empty file."""
        if not len(rollouts) and self.rank > 0:
            return
        table = to_table(
            rollouts, step=step, rank=self.rank, media_file=self._keep, made_file=self._keep_made, pieces=pieces
        )
        file = self.folder / layout.ROLLOUTS / f"{layout.step_name(step)}.{self.rank}.parquet"
        with atomic_write(file) as path:
            pq.write_table(table, path, compression="zstd")

    def record_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """The line that says that the step is recorded, on all ranks; written by rank 0."""
        numbers = {name: float(value) for name, value in metrics.items() if name != "step"}
        append_line(self.folder / layout.METRICS, layout.to_json({"step": step, **numbers}))

    def event(self, kind: layout.EventKind, **fields: Any) -> None:
        """Note that something happened; `fields` are anything JSON can hold."""
        event = {"time": time.time(), "kind": kind, "rank": self.rank, **fields}
        append_line(self.folder / layout.EVENTS, layout.to_json(event))

    def restore_media(self, media: Iterable[Media]) -> None:
        """Keep anew what was kept of these files and is no longer what its name says: a hard link changes with its
        file. One that is linked to the file as it is now needs no look; others are read."""
        for one in media:
            file = self.folder / layout.MEDIA / f"{one.digest}{Path(one.path).suffix.lower()}"
            if file.is_file() and not file.samefile(one.path) and _digest(file) != one.digest:
                with atomic_write(file) as temporary:
                    _link_or_copy(Path(one.path), temporary)

    def _keep(self, media: Media) -> str | None:
        """Copy a media file into the run, once; its path in the run directory, None if that was not possible."""
        suffix = Path(media.path).suffix.lower()
        file = self.folder / layout.MEDIA / f"{media.digest}{suffix}"
        if suffix not in layout.MEDIA_SUFFIXES:
            self._warn_no_copy(media, f"{suffix or 'no suffix'} is not the suffix of an image or a video")
            return None
        if not file.exists():
            try:
                _link_or_copy(Path(media.path), file)
            except FileNotFoundError:
                self._warn_no_copy(media, "the file is gone")
                return None
        return f"{layout.MEDIA}/{file.name}"

    def _keep_made(self, picture: Picture) -> str:
        """Write an image or video that was made into the run, once; its path in the run directory."""
        content, suffix = encode(picture)
        file = self.folder / layout.MEDIA / f"{hashlib.sha256(content).hexdigest()}{suffix}"
        if not file.exists():
            write_bytes(file, content)
        return f"{layout.MEDIA}/{file.name}"

    def _warn_no_copy(self, media: Media, reason: str) -> None:
        if media.digest not in self._without_copy:
            self._without_copy.add(media.digest)
            self.event("warning", message=f"{media.path} is not kept with the rollouts: {reason}")


def holds_run(folder: Path) -> bool:
    """Whether there is a run in it, even part of one."""
    parts = (layout.CONFIG, layout.METRICS, layout.EVENTS, layout.ROLLOUTS, layout.CHECKPOINTS)
    return any((folder / part).exists() for part in parts)


def _process() -> dict[str, Any]:
    """Lets `reader` tell a running run from a killed one."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _rewrite(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Replace a JSONL file by these lines; one that was cut by a crash thereby ends in a whole line again."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(layout.to_json(line) + "\n" for line in lines), encoding="utf-8")


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, a copy elsewhere; complete or absent."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)  # to an inode that is on the disk; a lost entry is made again
    except FileExistsError:  # another rank was faster
        pass
    except OSError:
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
