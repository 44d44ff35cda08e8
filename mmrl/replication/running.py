"""An experiment from its preparation to its results: every arm with every seed, trained and then evaluated.

OUT/prepared/*.json            records of the preparation, which experiments may share
OUT/NAME/runs/ARM-seedS/       a run directory as any other
OUT/NAME/evaluations/*.json    what `mmrl eval --json` wrote
OUT/NAME/records/              records and logs of the commands
OUT/NAME/results.json          every number per seed; the page and its pictures are made of it alone
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mmrl
from mmrl.plugins import ConfigError
from mmrl.replication.commands import Command, Runner, output_of, together
from mmrl.replication.experiment import Arm, Experiment
from mmrl.replication.experiment import slug as plain_name
from mmrl.replication.measures import Value, curve_of, of_evaluation, of_training
from mmrl.replication.progress import Progress
from mmrl.runs.files import atomic_write

RESULTS = "results.json"


@dataclass(frozen=True)
class Plan:
    """The commands of one experiment, in the folder `out`."""

    name: str
    experiment: Experiment
    out: Path
    prepare: tuple[Command, ...]
    trainings: dict[tuple[str, int], Command]
    """(arm, seed) ->"""
    evaluations: dict[tuple[str, int | None, str], Command]
    """(arm, seed, evaluation) ->; the seed is None for a model as it is."""

    @property
    def count(self) -> int:
        return len(self.prepare) + len(self.trainings) + len(self.evaluations)


def make_plan(name: str, experiment: Experiment, out: Path) -> Plan:
    """All command lines. Their keys come later: a recipe may extend what the preparation makes."""
    folder = out / name
    prepare = []
    for index, line in enumerate(experiment.prepare):
        words = shlex.split(line)
        output = output_of(words, f"{name}: prepare.{index}")
        record = out / "prepared" / f"{plain_name(str(output))}.json"
        prepare.append(Command(tuple(words), output, record, f"{name}: mmrl {' '.join(words[:3])}"))
    trainings = {}
    for arm in experiment.arms:
        for seed in experiment.all_seeds if arm.train else []:
            run = folder / "runs" / f"{plain_name(arm.name)}-seed{seed}"
            place = (f"seed={seed}", f"runs={run.parent}", f"name={run.name}")
            words = ["train", *shlex.split(arm.train or ""), *place]
            record = folder / "records" / f"train-{run.name}.json"
            trainings[arm.name, seed] = Command(tuple(words), run, record, f"{name}: train {arm.name}, seed {seed}")
    evaluations = {}
    for arm in experiment.arms:
        seeds: list[int | None] = [None] if arm.model else [*experiment.all_seeds]
        for evaluated in seeds:
            for data, flags in experiment.evaluations.items():
                command = _evaluation(name, folder, arm, evaluated, data, flags, trainings)
                evaluations[arm.name, evaluated, data] = command
    return Plan(name, experiment, folder, tuple(prepare), trainings, evaluations)


def _evaluation(
    name: str,
    folder: Path,
    arm: Arm,
    seed: int | None,
    data: str,
    flags: str,
    trainings: Mapping[tuple[str, int], Command],
) -> Command:
    target = arm.model if seed is None else str(trainings[arm.runs_of or arm.name, seed].output)
    file = f"{plain_name(arm.name)}{'' if seed is None else f'-seed{seed}'}-{plain_name(data)}.json"
    output = folder / "evaluations" / file
    config = [] if arm.config is None else ["--config", arm.config]
    words = ["eval", str(target), *shlex.split(flags), *config, *shlex.split(arm.flags), "--json", str(output)]
    label = f"{name}: evaluate {arm.name}{'' if seed is None else f', seed {seed}'} ({data})"
    return Command(tuple(words), output, folder / "records" / f"eval-{file}", label)


def check_plans(plans: Sequence[Plan]) -> None:
    """ConfigError if two experiments would make the same output by different commands."""
    made: dict[Path, tuple[str, str]] = {}
    for plan in plans:
        for command in plan.prepare:
            name, line = made.setdefault(command.output, (plan.name, command.line))
            if line != command.line:
                raise ConfigError(
                    f"{command.output} is made by two commands:\n  {name}: {line}\n  {plan.name}: {command.line}\n"
                    "  Give one of them another place."
                )


async def run_all(plans: Sequence[Plan], *, jobs: int, progress: Progress) -> None:
    """Run what is not done yet. Each experiment's results are written as soon as it is complete."""
    runner = Runner(jobs=jobs, progress=progress)
    await together(run_plan(plan, runner) for plan in plans)


async def run_plan(plan: Plan, runner: Runner) -> None:
    seconds: dict[str, float] = {}
    keys: list[str] = []
    for command in plan.prepare:
        # Only those it reads from: a step by itself is the same step in every experiment.
        before = zip(plan.prepare, keys, strict=False)
        known = command.after(*(key for earlier, key in before if str(earlier.output) in command.named))
        seconds[command.line] = await runner.run(known)
        keys.append(known.key)

    trained: dict[tuple[str, int], asyncio.Future[str]] = {
        run: asyncio.get_running_loop().create_future() for run in plan.trainings
    }

    async def train(run: tuple[str, int]) -> None:
        command = plan.trainings[run].after(*keys)
        seconds[command.line] = await runner.run(command)
        trained[run].set_result(command.key)

    async def evaluate(of: tuple[str, int | None, str]) -> None:
        arm = next(arm for arm in plan.experiment.arms if arm.name == of[0])
        before = list(keys)
        if of[1] is not None:
            before.append(await trained[arm.runs_of or arm.name, of[1]])
        command = plan.evaluations[of].after(*before)
        seconds[command.line] = await runner.run(command)

    await together([*map(train, plan.trainings), *map(evaluate, plan.evaluations)])
    write_results(plan.out / RESULTS, results(plan, seconds))


def results(plan: Plan, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Everything the page says, by arm and seed. JSON."""
    experiment = plan.experiment
    page = Path(f"docs/methods/{experiment.method}.md")
    title = re.match(r"# ([^:\n]+)", page.read_text(encoding="utf-8")) if page.is_file() else None
    values: dict[str, dict[str, list[Value]]] = {}
    for measure in experiment.measures:
        values[measure.name] = {}
        for arm in experiment.arms:
            if measure.source == "evaluation":
                data = measure.data or next(iter(experiment.evaluations))
                files = [command.output for (name, _, at), command in plan.evaluations.items()
                         if (name, at) == (arm.name, data)]  # fmt: skip
                values[measure.name][arm.name] = [of_evaluation(file, measure) for file in files]
            elif arm.train:
                values[measure.name][arm.name] = [of_training(run, measure) for run in _runs(plan, arm)]
    curves = {
        arm.name: [[part.tolist() for part in curve_of(run, experiment.curve)] for run in _runs(plan, arm)]
        for arm in experiment.arms
        if arm.train
    }
    return {
        "name": plan.name,
        "method": experiment.method,
        "title": title[1].strip() if title else experiment.method,
        "claim": experiment.claim.strip(),
        "tried": experiment.tried.strip(),
        "seeds": experiment.all_seeds,
        "prepare": [command.line for command in plan.prepare],
        "arms": [arm.name for arm in experiment.arms],
        "commands": {arm.name: _commands(plan, arm) for arm in experiment.arms},
        "measures": [measure.name for measure in experiment.measures],
        "values": {name: {arm: [v.number for v in found] for arm, found in arms.items()}
                   for name, arms in values.items()},
        "not_reached": {name: {arm: sum(not v.reached for v in found) for arm, found in arms.items()
                               if not all(v.reached for v in found)} for name, arms in values.items()},
        "bounds": {name: {arm: found[0].bounds for arm, found in arms.items() if len(found) == 1 and found[0].bounds}
                   for name, arms in values.items()},
        "expect": [asdict(expected) for expected in experiment.expectations],
        "curve": experiment.curve,
        "curves": curves,
        "seconds": dict(seconds),
        "machine": machine(),
    }  # fmt: skip


def _runs(plan: Plan, arm: Arm) -> list[Path]:
    return [plan.trainings[arm.name, seed].output for seed in plan.experiment.all_seeds]


def _commands(plan: Plan, arm: Arm) -> list[str]:
    """Of the arm's first seed."""
    seed = None if arm.model else plan.experiment.all_seeds[0]
    train = [plan.trainings[arm.name, seed].line] if arm.train and seed is not None else []
    return train + [
        command.line for (name, at, _), command in plan.evaluations.items() if (name, at) == (arm.name, seed)
    ]


def write_results(file: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(file) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Where the seconds were measured."""
    import torch

    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text(errors="replace")) if info.is_file() else []
    return {
        "processor": names[0].strip() if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch": torch.__version__,
        "mmrl": mmrl.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
