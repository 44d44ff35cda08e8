"""An experiment: what a paper claims, the arms that could show it, and the numbers that decide.

`configs/reproduce/NAME.yaml`, strict as recipes are. An arm is trained once per seed, or evaluates the runs of another
arm in another way, or is a model as it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from mmrl.config import check_keys, found
from mmrl.mappings import read_yaml
from mmrl.plugins import ConfigError, nearest

FOLDER = Path("configs/reproduce")
EVALUATION = "test"
"""What an evaluation is called where there is but one."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    name: str
    train: str | None = None
    """Words of `mmrl train`: a recipe, files laid over it, key=value. The seed and the run's place are added."""
    runs_of: str | None = None
    """Another arm, whose runs are evaluated with this arm's flags."""
    model: str | None = None
    """What is evaluated as it is, once; `config` names the recipe to evaluate it by."""
    config: str | None = None
    flags: str = ""
    """Added to every `mmrl eval` of this arm."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    name: str
    source: Literal["evaluation", "training", "held_out"]
    """`mmrl eval` after training; metrics.jsonl; the evaluations during training (`evaluate.every`)."""
    metric: str = "reward"
    over: Literal["all", "first_tenth", "last_tenth", "last"] | None = None
    """Which steps of the training are averaged."""
    reach: float | None = None
    """Instead: the first step with at least this value, of a smoothed curve where it is the training's."""
    data: str | None = None
    """Which evaluation, where there are several; default the first."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What the claim says of two arms: of the differences between runs of the same seed or, where neither arm has runs,
    of the evaluations of two models as they are."""

    measure: str
    arm: str
    over: str
    by: float | str | None = None
    """Least mean difference (negative: at most that); `-70 %` is relative to the mean of `over`. The interval must
    exclude 0 as well."""
    within: float | None = None
    """Instead, no loss: the lower end of the interval is above minus this."""

    @property
    def amount(self) -> tuple[float, bool]:
        """`by` as a number, and whether it is relative."""
        text = str(self.by).strip()
        relative = text.endswith("%")
        return float(text.rstrip("% ")) / (100 if relative else 1), relative


@dataclass(frozen=True, kw_only=True)
class Experiment:
    method: str
    """Its page is docs/methods/<method>.md."""
    claim: str
    prepare: list[str] = field(default_factory=list)
    """`mmrl` command lines, once for all arms and seeds."""
    arms: list[Arm]
    seeds: int | list[int] = 3
    evaluate: str | dict[str, str] = field(default_factory=dict)
    """Words of `mmrl eval` after the target: a dataset and flags; several by name."""
    curve: str = "reward"
    """What is drawn over steps: a name of metrics.jsonl, or `held_out`."""
    measures: list[Measure]
    expect: Expectation | list[Expectation]
    tried: str = ""

    @property
    def all_seeds(self) -> list[int]:
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def expectations(self) -> list[Expectation]:
        return self.expect if isinstance(self.expect, list) else [self.expect]

    @property
    def evaluations(self) -> dict[str, str]:
        return {EVALUATION: self.evaluate} if isinstance(self.evaluate, str) else self.evaluate


def find_experiments(names: Iterable[str]) -> dict[str, Path]:
    """Name -> file, of `configs/reproduce` or a path to a YAML file; all experiments without any name."""
    known = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
    chosen = {}
    for name in names or known:
        file = Path(name) if name.endswith(".yaml") else known.get(name)
        if file is None:
            raise ConfigError(f"{FOLDER} has no experiment named `{name}`.\n  {nearest(name, known)}")
        chosen[file.stem] = file
    if not chosen:
        raise ConfigError(f"{FOLDER} holds no experiments; mmrl reproduce is run from the root of the repository.")
    return chosen


def read_experiment(file: Path) -> Experiment:
    """ConfigError, naming file and key, for whatever could not be run or measured later."""
    where, raw = str(file), read_yaml(file)
    check_keys(raw, Experiment, where=where, path="")
    for key, kind in (("arms", Arm), ("measures", Measure), ("expect", Expectation)):
        entries = raw.get(key)
        for index, entry in enumerate(entries if isinstance(entries, list) else [entries]):
            check_keys(entry, kind, where=where, path=f"{key}.{index}" if isinstance(entries, list) else key)
    try:
        experiment = TypeAdapter(Experiment).validate_python(raw)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}{found(e)}" for e in error.errors()[:8]]
        raise ConfigError(f"{where} is not a valid experiment:\n" + "\n".join(lines)) from None
    if problems := [*_of_arms(experiment), *_of_measures(experiment), *_of_expectations(experiment)]:
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {problem}" for problem in problems))
    return experiment


def slug(text: str) -> str:
    """A folder's name: letters, digits and dots, the rest dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "x"


def _of_arms(experiment: Experiment) -> Iterable[str]:
    slugs = [slug(arm.name) for arm in experiment.arms]
    trained = {arm.name for arm in experiment.arms if arm.train}
    for index, arm in enumerate(experiment.arms):
        key = f"arms.{index} ({arm.name})"
        if sum(given is not None for given in (arm.train, arm.runs_of, arm.model)) != 1:
            yield f"{key} needs exactly one of train, runs_of, model."
        if slugs.index(slugs[index]) != index:
            yield f"{key}: another arm has the same name."
        if arm.runs_of is not None and arm.runs_of not in trained:
            yield f"{key}.runs_of: no arm `{arm.runs_of}` is trained. {nearest(arm.runs_of, trained)}"
        for name in ("train", "flags"):
            yield from _words(getattr(arm, name) or "", f"{key}.{name}")
    seeds = experiment.all_seeds
    if len(set(seeds)) != len(seeds) or len(seeds) < 2:
        yield f"seeds = {experiment.seeds!r}: at least 2 that differ (a number, or a list), for intervals."
    for index, line in enumerate(experiment.prepare):
        yield from _words(line, f"prepare.{index}")
    for name, words in experiment.evaluations.items():
        yield from _words(words, f"evaluate.{name}")


def _words(line: str, key: str) -> Iterable[str]:
    try:
        shlex.split(line)
    except ValueError as error:
        yield f"{key} = {line!r}: {error}."


def _of_measures(experiment: Experiment) -> Iterable[str]:
    names = [measure.name for measure in experiment.measures]
    if not names:
        yield "measures is empty: name at least one."
    for index, measure in enumerate(experiment.measures):
        key = f"measures.{index} ({measure.name})"
        if names.index(measure.name) != index:
            yield f"{key}: another measure has the same name."
        if measure.source == "evaluation":
            if not experiment.evaluations:
                yield f"{key} reads an evaluation, and `evaluate` is not set."
            elif measure.data is not None and measure.data not in experiment.evaluations:
                yield f"{key}.data: {nearest(measure.data, experiment.evaluations)}"
            if measure.over or measure.reach is not None:
                yield f"{key}: `over` and `reach` are of steps; an evaluation after training has none."
        elif measure.data is not None:
            yield f"{key}.data names an evaluation after training; this one is of the training."
        elif (measure.over is None) == (measure.reach is None):
            yield f"{key} needs exactly one of over (all, first_tenth, last_tenth, last) and reach (a value)."


def _of_expectations(experiment: Experiment) -> Iterable[str]:
    arms = {arm.name: arm for arm in experiment.arms}
    measures = {measure.name: measure for measure in experiment.measures}
    if not experiment.expectations:
        yield "expect is empty: say which numbers decide."
    for index, expected in enumerate(experiment.expectations):
        key = f"expect.{index}"
        for name, known in (("measure", measures), ("arm", arms), ("over", arms)):
            yield from _known(getattr(expected, name), known, f"{key}.{name}")
        if expected.arm == expected.over:
            yield f"{key}: arm and over are the same; a claim compares two."
        if (expected.by is None) == (expected.within is None):
            yield f"{key} needs exactly one of by and within."
        elif expected.by is not None:
            try:
                zero = expected.amount[0] == 0
            except ValueError:
                yield f"{key}.by = {expected.by!r}: a number, or a share such as -70 %."
            else:
                if zero:
                    yield f"{key}.by = 0 says neither more nor less; `within` is for no loss."
        if expected.measure in measures and measures[expected.measure].source != "evaluation":
            for name in (expected.arm, expected.over):
                if name in arms and arms[name].model:
                    yield f"{key}: `{name}` has no training to measure `{expected.measure}` of."


def _known(name: str, known: Mapping[str, Any], key: str) -> Iterable[str]:
    if name not in known:
        yield f"{key}: there is no `{name}`. {nearest(name, known)}"
