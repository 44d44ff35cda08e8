"""Whether anything is lost: a run that things happened to, compared with the whole run that nothing happened to.

    partial()  at any moment, also right after a kill: everything that stands under its name is whole
    compare()  at the end: weights, optimizer, samplers, and every step's rollouts and metrics exactly once

The whole run keeps a checkpoint of every step, so that each one that is ever seen has its counterpart there. Trainings
are repeatable bit for bit: files are compared by their bytes, rollouts by all of their columns.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmrl.plugins import ConfigError
from mmrl.runs import layout
from mmrl.runs.checkpoints import latest_checkpoint, list_checkpoints, read_state
from mmrl.runs.reader import read_events, read_metrics, state_of

STATE_COMPARED = ("step", "bad_updates", "sampler", "memory", "average_updates", "optimizer")
"""Of state.json; its `metrics` hold seconds as well, and its `score` is compared with `expected_score`."""
OF_THE_PROCESS = ("seconds", "mb", "memory", "failed_tries")
"""Words in names of metrics that say what a step took, which is not the same twice."""


@dataclass
class Findings:
    """Of one run or of several added up. `problems` says in words whatever is not as it should be."""

    runs: int = 0
    equal: int = 0
    """Runs whose last checkpoint is the whole run's, bit for bit."""
    rollouts: int = 0
    """Completions that there should be."""
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    """Completions that the whole run does not have."""
    partial: int = 0
    """Files that are not whole and stand under the name of one that is."""
    problems: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.problems and self.equal == self.runs and not (self.lost or self.doubled or self.changed)

    def add(self, other: Findings) -> None:
        for name in ("runs", "equal", "rollouts", "lost", "doubled", "changed", "partial"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems += other.problems


def partial(run: Path, whole: Path, *, media: bool = True) -> Findings:
    """Every file of a checkpoint, rollouts and media that can be seen is read and compared; of the lines of JSON, all
    but a last one that was cut. There may be less than in the whole run, and temporaries. `media`: what the run keeps
    of them has not been damaged from outside."""
    found, kept = Findings(), keeps_media(run)
    for checkpoint in list_checkpoints(run):
        theirs = whole / layout.CHECKPOINTS / checkpoint.name
        if different := different_parts(checkpoint, theirs):
            found.partial += len(different)
            found.problems.append(f"{checkpoint} is not that of the whole run: {', '.join(different)}")
    best = run / layout.CHECKPOINTS / "best"
    if best.is_symlink() and not (best / "state.json").is_file():
        found.partial += 1
        found.problems.append(f"{best} leads nowhere")
    for step, _, file in layout.rollout_files(run):
        try:
            rows = rows_of(file, media=kept)
        except Exception as error:  # whatever pyarrow says of half a file
            found.partial += 1
            found.problems.append(f"{file} cannot be read: {error}")
            continue
        if unknown := rows - step_rows(whole, step, media=kept):
            found.problems.append(f"{file} has {unknown.total()} rows that the whole run has not")
    for file in (run / layout.MEDIA).glob("[!.]*") if media else []:
        if hashlib.sha256(file.read_bytes()).hexdigest() != file.stem:
            found.partial += 1
            found.problems.append(f"{file} is not what its name says")
    for name in (layout.METRICS, layout.EVENTS):
        lines = (run / name).read_bytes().split(b"\n")[:-1] if (run / name).is_file() else []
        if broken := [line for line in lines if not is_json(line)]:
            found.partial += len(broken)
            found.problems.append(f"{run / name} has {len(broken)} lines that are cut")
    config = run / layout.CONFIG
    if config.is_file() and same_but_place(config) != same_but_place(whole / layout.CONFIG):
        found.partial += 1
        found.problems.append(f"{config} is not the config")
    return found


def compare(run: Path, whole: Path, *, cleared: bool = True) -> Findings:
    """A run that says it is finished. `cleared`: no temporaries may be left, because it was resumed."""
    found = partial(run, whole)
    found.runs, kept = 1, keeps_media(run)
    problems = found.problems
    if (state := state_of(run, read_events(run))) != "finished":
        problems.append(f"{run} is {state}, not finished")
    mine, theirs = latest_checkpoint(run), latest_checkpoint(whole)
    if mine is None or theirs is None or mine.name != theirs.name:
        problems.append(f"{run} ends with {mine and mine.name}, the whole run with {theirs and theirs.name}")
    elif not different_parts(mine, theirs):
        found.equal = 1
    for step, _, _ in layout.rollout_files(whole):
        should, are = (step_rows(folder, step, media=kept) for folder in (whole, run))
        found.rollouts += should.total()
        found.lost += (should - are).total()
        found.doubled += sum(count for row, count in (are - should).items() if row in should)
        found.changed += sum(count for row, count in (are - should).items() if row not in should)
    if extra := {step for step, _, _ in layout.rollout_files(run)} - {s for s, _, _ in layout.rollout_files(whole)}:
        problems.append(f"{run} has rollouts of the steps {sorted(extra)}, which there are not")
    lines, expected = (read_metrics(folder) for folder in (run, whole))
    if [line["step"] for line in lines] != [line["step"] for line in expected]:
        problems.append(f"{run}/{layout.METRICS} has the steps {[line['step'] for line in lines]}")
    elif differing := [
        line["step"] for line, its in zip(lines, expected, strict=True) if timeless(line) != timeless(its)
    ]:
        problems.append(f"{run}/{layout.METRICS} has other numbers at the steps {differing}")
    if cleared and (left := leftovers(run)):
        problems.append(f"{run} still has temporaries: {', '.join(map(str, left))}")
    return found


def leftovers(run: Path) -> set[Path]:
    """Temporaries, relative to the run; folders that vanish while they are listed have none."""
    try:
        return {path.relative_to(run) for pattern in (".*.tmp", "*/.*.tmp") for path in run.glob(pattern)}
    except FileNotFoundError:
        return set()


def different_parts(checkpoint: Path, whole: Path) -> list[str]:
    """The files of a checkpoint that are not those of the whole run's."""
    mine, theirs = ({path.relative_to(f) for f in (folder,) for path in f.rglob("*") if path.is_file()}
                    for folder in (checkpoint, whole))  # fmt: skip
    files = [name for name in mine & theirs if name.name != "state.json"]
    different = [name for name in files if digest(checkpoint / name) != digest(whole / name)]
    try:
        states = [read_state(folder) for folder in (checkpoint, whole)]
        parts = [part for part in STATE_COMPARED if states[0].get(part) != states[1].get(part)]
        if states[0]["score"] != expected_score(checkpoint, whole):
            parts.append("score")
    except (ConfigError, ValueError, KeyError, yaml.YAMLError):
        parts = ["all of it"]
    return sorted(map(str, [*different, *(mine ^ theirs)])) + [f"state.json: {part}" for part in parts]


def expected_score(checkpoint: Path, whole: Path) -> float:
    """Of a run without evaluations: the mean reward of the whole run over as many steps as lie between two of the run's
    checkpoints, the checkpoint's own step the last of them."""
    run, whole_run = checkpoint.parents[1], whole.parents[1]
    steps = yaml.safe_load((run / layout.CONFIG).read_text())["checkpoint"]["every"]
    last = int(checkpoint.name.removeprefix("step-"))
    rewards = [line["reward"] for line in read_metrics(whole_run) if line["step"] <= last][-steps:]
    return sum(rewards) / len(rewards)


def digest(file: Path) -> str:
    """Of a file's bytes; of JSON without the order of names in a list, which peft writes as its set has it."""
    content = file.read_bytes()
    if file.suffix == ".json" and is_json(content):
        content = json.dumps(unordered(json.loads(content))).encode()
    return hashlib.sha256(content).hexdigest()


def unordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: unordered(part) for key, part in value.items()}
    return sorted(value) if isinstance(value, list) and all(isinstance(part, str) for part in value) else value


def keeps_media(run: Path) -> bool:
    """Whether the run kept every picture that it showed; it warns of one that was deleted before it could."""
    return not any("is not kept with the rollouts" in event.get("message", "") for event in read_events(run))


def step_rows(run: Path, step: int, *, media: bool = True) -> Counter[str]:
    """The completions of a step, over all ranks; none where files cannot be read, which `partial` counts."""
    found: Counter[str] = Counter()
    for recorded, _, file in layout.rollout_files(run):
        if recorded == step:
            try:
                found += rows_of(file, media=media)
            except Exception:
                continue
    return found


def rows_of(file: Path, *, media: bool = True) -> Counter[str]:
    """Every row as text with all its columns; without `media`, where its pictures are kept does not matter."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        rows = opened.read(use_threads=False).to_pylist()
    for row in rows if not media else []:
        row["media"] = [{**one, "file": None} for one in row["media"]]
    return Counter(json.dumps(row, sort_keys=True) for row in rows)


def timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if not any(word in name for word in OF_THE_PROCESS)}


def same_but_place(config: Path) -> dict[str, Any] | str:
    """The settings without those that say where the run is and how much of it is kept."""
    try:
        settings = yaml.safe_load(config.read_text())
        return {key: value for key, value in settings.items() if key in ("steps", "model", "optimizer", "sampling")}
    except (yaml.YAMLError, AttributeError):
        return "unreadable"


def is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
