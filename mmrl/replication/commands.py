"""`mmrl` command lines as processes of one thread, several at a time; what is done is kept, what was cut off continues.

A command is known by its content: its words, the recipes and Python files they name, and the commands before it; not by
mmrl's own code, so results of before a change of that are to be removed. A record beside the results says which content
made an output, whether it came to its end, and how long it took.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmrl.config import SftConfig, load_config
from mmrl.mappings import read_yaml
from mmrl.plugins import ConfigError
from mmrl.replication.progress import Progress
from mmrl.runs import layout
from mmrl.runs.files import atomic_write, remove_folder
from mmrl.runs.unfinished import SETTINGS, unfinished

MMRL = (sys.executable, "-m", "mmrl.cli")
"""How the command is started."""
SHOWN_LINES = 20
"""Of a failed command's output."""


@dataclass(frozen=True)
class Command:
    words: tuple[str, ...]
    """After `mmrl`."""
    output: Path
    """The file or folder that it writes."""
    record: Path
    """JSON: key, words, finished, seconds. The log lies beside it."""
    label: str
    key: str = ""

    @property
    def line(self) -> str:
        return shlex.join(("mmrl", *self.words))

    @property
    def log(self) -> Path:
        return self.record.with_suffix(".log")

    @property
    def named(self) -> str:
        """Its words and its recipes as text, in which the outputs of other commands can be looked for."""
        return json.dumps([self.words, _contents(self.words)], default=str)

    def after(self, *keys: str) -> Command:
        """The same with its key, which depends on those of the commands before it."""
        return replace(self, key=_digest([self.words, _contents(self.words), keys]))

    @property
    def was_interrupted(self) -> bool:
        """Whether `--resume` goes on with what is there."""
        if self.words[0] == "train":
            return (self.output / layout.CONFIG).is_file()
        return self.words[0] == "sft" and (unfinished(self.output) / SETTINGS).is_file() and not self.output.exists()


def output_of(words: Sequence[str], where: str) -> Path:
    """What a command line of the preparation writes. ConfigError where that cannot be known."""
    if words[:1] == ["sft"] and len(words) > 1:
        return Path(load_config(words[1], words[2:], kind=SftConfig).out)
    if words[:2] == ["data", "make"] and len(words) > 3:
        return Path(words[3])
    if "--out" in words[:-1]:
        return Path(words[words.index("--out") + 1])
    raise ConfigError(
        f"{where}: {shlex.join(words)}: what does it write? Known are `sft RECIPE`, `data make NAME FOLDER` and "
        "whatever has --out."
    )


class Runner:
    """Runs commands, at most `jobs` at a time. A command that fails ends the whole."""

    def __init__(self, *, jobs: int, progress: Progress) -> None:
        self.progress = progress
        self._slots = asyncio.Semaphore(jobs)
        self._writing: dict[Path, asyncio.Lock] = {}

    async def run(self, command: Command) -> float:
        """Seconds that it took, now or when it was run. One that several experiments share is run once."""
        async with self._writing.setdefault(command.output, asyncio.Lock()):
            record = read_record(command)
            same = record is not None and record["key"] == command.key
            whole = command.words[0] == "sft" or (record is not None and record["finished"])  # its output is atomic
            if record is not None and same and whole and command.output.exists():
                self.progress.kept(command.label)
                return float(record["seconds"])
            resume = same and command.was_interrupted
            for left in (command.output, unfinished(command.output)) if not resume else ():
                if left.exists():
                    _remove(left, command, record)
            async with self._slots:
                spent = float(record["seconds"]) if record is not None and resume else 0.0
                return await self._run(command, ("--resume",) if resume else (), spent)

    async def _run(self, command: Command, more: tuple[str, ...], spent: float) -> float:
        self._write(command, finished=False, seconds=spent)
        began = time.monotonic()
        with command.log.open("wb") as log, self.progress.running(command.label, command.log):
            process = await asyncio.create_subprocess_exec(
                *MMRL, *command.words, *more,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
            try:
                status = await process.wait()
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()
                seconds = spent + time.monotonic() - began
                self._write(command, finished=process.returncode == 0, seconds=seconds)
        if status or not command.output.exists():
            raise ConfigError(_failure(command, status))
        self.progress.done(command.label, seconds)
        return seconds

    def _write(self, command: Command, *, finished: bool, seconds: float) -> None:
        content = {"key": command.key, "command": command.line, "finished": finished, "seconds": round(seconds, 2)}
        with atomic_write(command.record) as file:
            file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


async def together(work: Iterable[Awaitable[Any]]) -> list[Any]:
    """The results, in order. When one fails the others are cancelled, which ends their processes, and awaited."""
    tasks = [asyncio.ensure_future(part) for part in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def read_record(command: Command) -> dict[str, Any] | None:
    try:
        record = json.loads(command.record.read_text(encoding="utf-8"))
        return record if {"key", "finished", "seconds"} <= record.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _remove(left: Path, command: Command, record: dict[str, Any] | None) -> None:
    """Clear away what an older or unfinished command left; what no record knows is somebody else's."""
    if record is None:
        raise ConfigError(
            f"{command.label}: {left} is there, but no record ({command.record}) says that `mmrl reproduce` "
            "made it.\n  Remove it, or name another place."
        )
    if left.is_dir():
        remove_folder(left)
    else:
        left.unlink()


def _failure(command: Command, status: int) -> str:
    lines = command.log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    how = f"failed with status {status}" if status else f"ended well, but {command.output} is not there"
    last = "".join(f"\n  {line}" for line in lines[-SHOWN_LINES:]) or "\n  (nothing)"
    return f"{command.label} {how}:\n  {command.line}\nIts last output ({command.log} has all):{last}"


def _contents(words: Sequence[str]) -> list[Any]:
    """Recipes with all that they extend, and the Python files that they or the words name."""
    recipes = [read_yaml(Path(word)) for word in words if word.endswith((".yaml", ".yml")) and Path(word).is_file()]
    named = set(re.findall(r"[\w./-]+\.py(?=:)", json.dumps([words, recipes], default=str)))
    return [recipes, {name: Path(name).read_text(encoding="utf-8") for name in sorted(named) if Path(name).is_file()}]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
