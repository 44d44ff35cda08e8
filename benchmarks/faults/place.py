"""Where a campaign works: its models, data and recipes, the whole runs, and runs that things happen to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from benchmarks.faults.checks import Findings, compare, leftovers, partial
from benchmarks.faults.processes import Process, apart, mmrl
from mmrl.runs import layout
from mmrl.runs.reader import read_events, read_metrics

ROOT = Path(__file__).parents[2]
PLUGINS = Path(__file__).parent / "plugins.py"
LONGEST = 180.0
"""Seconds after which a process of a few seconds' work counts as one that hangs."""
PROMPTS = ["a red circle", "two blue squares on green", "a small white star", "nothing at all"]
DIGITS = {"name": f"{PLUGINS}:digits", "as": "digits"}
COMMON = {"group_size": 4, "optimizer": {"learning_rate": 1e-3, "ema": 0.9}}


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._life: dict[str, float] = {}

    def make(self) -> None:
        """Models and data. Called once, in a process that forks nothing after it."""
        from data_pipelines.gui.build import make_gui
        from mmrl.policies.tiny import save_untrained

        save_untrained(self.folder / "model")
        make_gui(self.folder / "gui", count=18, test_count=1)
        rows = [
            json.dumps({"id": f"p{i}", "messages": [{"role": "user", "content": text}]})
            for i, text in enumerate(PROMPTS)
        ]
        (self.folder / "prompts.jsonl").write_text("\n".join(rows) + "\n")

    def settings(self, kind: str) -> dict[str, Any]:
        """`words`: a vision-language model whose memory of successes, moving average and reference model must survive
        as well; `skip`: the same, with `bad_media: skip`; `ranks`: for two of them; `adapter`: LoRA, for rollout
        servers; `pictures`: a rectified flow. The former have a checkpoint after every second step, so that up to two
        recorded steps are made again, and the last one after each."""
        words: dict[str, Any] = {
            **COMMON,
            "steps": 6,
            "checkpoint": {"every": 2, "keep": 2},
            "prompts_per_step": 3,
            "model": {"path": str(self.folder / "model"), "vision": "trained"},
            "data": {"train": str(self.folder / "gui" / "train.jsonl")},
            "sampling": {"max_new_tokens": 6},
            "rewards": [DIGITS],
            "rollout": {"name": "success_replay"},
            "loss": {"terms": [{"name": "clipped"}, {"name": "kl", "coef": 0.1}]},
        }
        kinds: dict[str, dict[str, Any]] = {
            "words": words,
            "skip": {**words, "data": {**words["data"], "bad_media": "skip"}},
            "ranks": {**words, "prompts_per_step": 4},
            "adapter": {
                **words,
                "model": {"path": str(self.folder / "model"), "adapter": {"rank": 4}},
                "rollout": {"engine": "server"},
            },
            "pictures": {
                **COMMON,
                "steps": 4,
                "checkpoint": {"every": 1, "keep": 2},
                "prompts_per_step": 2,
                "model": {"path": "tiny-flow"},
                "data": {"train": str(self.folder / "prompts.jsonl")},
                "sampling": {"steps": 4},
                "rewards": [f"{PLUGINS}:light"],
            },
        }
        return kinds[kind]

    def recipe(self, kind: str, name: str, **changes: Any) -> Path:
        config = {"name": name, "runs": str(self.folder / "runs"), **self.settings(kind), **changes}
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        return file

    def whole(self, kind: str, *, ranks: int = 1, **changes: Any) -> Path:
        """The run of a recipe that nothing happens to, by a process that is no fork; made when first asked for.
        It keeps a checkpoint of every step, for a run that is asked to stop has one of any step."""
        folder = self.folder / "runs" / f"whole-{kind}"
        if not folder.exists():
            file = self.recipe(kind, f"whole-{kind}", **{"checkpoint": {"every": 1, "keep": 99}, **changes})
            command = [sys.executable, "-m", "mmrl.cli", "train", str(file)]
            processes = [
                subprocess.Popen(command, env={**os.environ, **world}, cwd=ROOT, stdout=subprocess.DEVNULL)
                for world in worlds(ranks)
            ]
            codes = [process.wait() for process in processes]
            if any(codes):
                raise SystemExit(f"{' '.join(command)} did not come to its end; nothing can be compared with it.")
        return folder

    def life(self, kind: str, *, ranks: int = 1, **changes: Any) -> float:
        """Seconds that a run of the recipe takes in forks, from their start to their end."""
        if kind not in self._life:
            trial = self.trial(kind, f"life-{kind}", ranks=ranks, **changes)
            began = time.monotonic()
            for process in trial.start():
                trial.expect(process, [0])
            self._life[kind] = time.monotonic() - began
            if not trial.finish().clean:
                raise SystemExit(f"two runs that nothing happened to differ: {trial.found}")
        return self._life[kind]

    def trial(self, kind: str, name: str, *, ranks: int = 1, **changes: Any) -> Trial:
        """A new run of the recipe."""
        runs = Path(changes.get("runs", self.folder / "runs"))
        called = next(called for number in count(1) if not (runs / (called := f"{name}-{number}")).exists())
        return Trial(self.recipe(kind, called, **changes), runs / called, self.whole(kind), ranks)


class Trial:
    """A run that things happen to, until it is at its end."""

    def __init__(self, recipe: Path, folder: Path, whole: Path, ranks: int) -> None:
        self.recipe, self.folder, self.whole, self.ranks = recipe, folder, whole, ranks
        self.starts = self.resumed = 0
        self.found = Findings()
        self._before: set[Path] = set()

    def start(self) -> list[Process]:
        """As operators and `scripts/launch/slurm.sbatch` do: with `--resume` where there is something to continue."""
        resume = ["--resume"] if (self.folder / layout.CONFIG).is_file() else []
        self.starts, self.resumed = self.starts + 1, self.resumed + len(resume)
        self._before = leftovers(self.folder)
        return [mmrl(["train", str(self.recipe), *resume], world) for world in worlds(self.ranks)]

    def struck(self, *, media: bool = True) -> str:
        """Look at the run after a fault: what stands there must be whole. Says what was being written by the
        temporaries that the process left: `checkpoint`, `rollouts`, `another file`, or `` for none."""
        self.found.add(apart(lambda: partial(self.folder, self.whole, media=media)))
        left = {path.parts[0] for path in leftovers(self.folder) - self._before}
        for part, said in ((layout.CHECKPOINTS, "checkpoint"), (layout.ROLLOUTS, "rollouts")):
            if part in left:
                return said
        return "another file" if left else ""

    def expect(self, process: Process, codes: Sequence[int], *, saying: str = "", seconds: float = LONGEST) -> int:
        """Wait for a process; it must end by itself, with one of these codes and these words."""
        if not process.wait(seconds):
            process.kill()
            self.problem(f"a process did not end within {seconds:g} s:\n{process.said[-1500:]}")
        elif process.code not in codes:
            self.problem(f"a process ended with {process.code}, expected {codes}:\n{process.said[-1500:]}")
        elif process.code and saying not in " ".join(process.said.split()):
            self.problem(f"a process ended with {process.code} and did not say {saying!r}:\n{process.said[-1500:]}")
        return process.code or 0

    def finish(self) -> Findings:
        """Start it until nothing is left to do, and compare it with the whole run."""
        if not self.at_its_end():
            for process in self.start():
                self.expect(process, [0])
        self.found.add(apart(compare, self.folder, self.whole))
        return self.found

    def at_its_end(self) -> bool:
        return any(event["kind"] == "finished" for event in read_events(self.folder))

    def problem(self, said: str) -> None:
        self.found.problems.append(f"{self.folder.name}: {said}")


def worlds(ranks: int) -> list[Mapping[str, str]]:
    """The variables of each process, as `srun` sets them."""
    common = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    if ranks == 1:
        return [common]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
    return [{**common, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listening(port: int, process: Process) -> None:
    """Wait until a server answers."""
    for _ in range(600):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.wait(0.05):
            break
    raise SystemExit(f"a server on port {port} did not begin:\n{process.said}")


def begins(run: Path) -> list[Any]:
    return [event for event in read_events(run) if event["kind"] in ("started", "resumed")]


def recorded(run: Path) -> int:
    """Steps."""
    return len(read_metrics(run))
