"""`mmrl doctor --train`: the tiny model that ships trains for two steps, on the launcher and the strategy that are
asked for, in real processes. A line for each thing that can fail; the folder with the log stays if one did."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from mmrl.doctor.findings import Finding
from mmrl.doctor.machine import RANKS
from mmrl.plugins import ConfigError, nearest

STEPS, GROUP = 2, 4
STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
LIMIT = 300.0
"""Seconds; on two busy cores two processes take half a minute, most of it imports."""
TAIL = 12
"""Lines of the log that a failure shows."""


def selftest(*, processes: int | None, strategy: str) -> Iterator[Finding]:
    """`processes`: None is one for each GPU."""
    if strategy not in STRATEGIES:
        raise ConfigError(f"--strategy {strategy}: {nearest(strategy, STRATEGIES)}")
    if processes is None:
        import torch

        processes = max(1, torch.cuda.device_count())
    if processes < 1:
        raise ConfigError(f"--processes {processes}: at least 1.")
    folder = Path(tempfile.mkdtemp(prefix="mmrl-doctor-"))
    sound = True
    for finding in checks(folder, processes=processes, strategy=strategy):
        yield finding
        sound = sound and finding.state != "broken"
    if not sound:
        yield Finding("log", str(folder / "log.txt"), tail(folder / "log.txt"), "broken")
    else:
        shutil.rmtree(folder)


def checks(folder: Path, *, processes: int, strategy: str) -> Iterator[Finding]:
    """Ends with the first that fails, for the others follow from it."""
    from data_pipelines.gui.build import make_gui

    started = time.monotonic()
    make_gui(folder / "gui", count=4 * processes, test_count=1)
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(folder, processes=processes, strategy=strategy)))
    yield Finding("data", f"{4 * processes} screens drawn in {folder}")
    code = launch(recipe, folder / "log.txt", processes=processes)
    run = folder / "run"
    if code is None:
        yield Finding("launcher", f"no end within {LIMIT:.0f} s", "the processes wait for each other", "broken")
        return
    if code != 0:
        yield Finding("launcher", f"exit code {code}", "docs/distribution.md says what the codes mean", "broken")
        return
    yield Finding("launcher", f"{processes} process(es) met and ended ({strategy})")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    numbers = [value for line in lines for value in (line.get("grad_norm"), line.get("ratio_gap"))]
    if len(lines) != STEPS or not all(isinstance(value, float) and math.isfinite(value) for value in numbers):
        yield Finding("training", f"{len(lines)} of {STEPS} steps", f"of numbers {numbers}", "broken")
        return
    norms = ", ".join(f"{line['grad_norm']:.2g}" for line in lines)
    yield Finding("training", f"{STEPS} steps, gradient norms {norms}")
    yield Finding("log-probs", f"generation and training differ by {lines[0]['ratio_gap']:.1g}")
    writers = {int(path.stem.rpartition(".")[2]) for path in (run / "rollouts").glob("step-000000.*.parquet")}
    if writers != set(range(processes)):
        yield Finding("ranks", f"{sorted(writers)} wrote completions", f"of {processes}", "broken")
        return
    yield Finding("ranks", f"all {processes} made completions and recorded them")
    yield checkpoint(run)
    yield Finding("time", f"{time.monotonic() - started:.0f} s, {sum_seconds(lines):.1f} s of it in steps")


def recipe_of(folder: Path, *, processes: int, strategy: str) -> dict[str, object]:
    """Two groups for every rank."""
    return {
        "name": "run", "runs": str(folder), "steps": STEPS, "prompts_per_step": 2 * processes, "group_size": GROUP,
        "model": {"path": "tiny"}, "data": {"train": str(folder / "gui" / "train.jsonl")},
        "sampling": {"max_new_tokens": 8}, "rewards": ["point_in_box"], "optimizer": {"learning_rate": 1e-4},
        "distribution": {"strategy": strategy},
    }  # fmt: skip


def launch(recipe: Path, log: Path, *, processes: int) -> int | None:
    """The exit code, None where time ran out."""
    command = [sys.executable, "-m", "mmrl", "train", str(recipe)]
    if processes > 1:
        module = ["-m", "mmrl.torchrun", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *module, *command[1:]]
    alone = {name: value for name, value in os.environ.items() if name not in RANKS}
    with log.open("w") as file:
        started = subprocess.Popen(command, env=alone, stdout=file, stderr=subprocess.STDOUT)
        try:
            return started.wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            for _ in range(2):  # the second one kills the processes
                started.terminate()
                time.sleep(1)
            started.kill()
            return None


def checkpoint(run: Path) -> Finding:
    from safetensors.torch import load_file

    from mmrl.policies.pretrained import TINY
    from mmrl.runs.checkpoints import MODEL, latest_checkpoint

    found = latest_checkpoint(run)
    if found is None:
        return Finding("checkpoint", "none was written", "", "broken")
    before, after = load_file(TINY / "model.safetensors"), load_file(found / MODEL / "model.safetensors")
    moved = sum(not before[name].equal(after[name].to(before[name].dtype)) for name in before.keys() & after.keys())
    if not moved:
        return Finding("checkpoint", found.name, "its weights are those of the start", "broken")
    return Finding("checkpoint", f"{found.name} is there, {moved} of {len(before)} weights changed")


def sum_seconds(lines: list[dict[str, float]]) -> float:
    return sum(value for line in lines for name, value in line.items() if name.startswith("seconds/"))


def tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return "\n" + "\n".join(lines[-TAIL:])
