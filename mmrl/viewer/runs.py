"""The runs of a folder as the viewer knows them: what their config, metrics and events say, and their indexes."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb
import yaml

from mmrl.plain import plain
from mmrl.plugins import nearest
from mmrl.runs import layout
from mmrl.runs.reader import is_event, is_metrics, name_of, rollout_steps, state_of
from mmrl.viewer.annotations import FILE as ANNOTATIONS
from mmrl.viewer.answers import Columns, Live, Metrics, Place, RunDetail, RunSummary, Tokens, Weighted
from mmrl.viewer.files import own_file
from mmrl.viewer.groups import group_rows, neighbours, row_tokens
from mmrl.viewer.ingest import RunReader, files
from mmrl.viewer.lines import Follower, finite
from mmrl.viewer.queries import columns, indexing
from mmrl.viewer.store import Index, Store
from mmrl.viewer.subjects import Gone

SPARK = 60
"""Points of a sparkline."""
USUAL = {"shuffled", "on_policy", "group_relative", "clipped", "kl"}
"""Stages of plain GRPO; what a recipe has beside them is its method."""
SHOWN = 20
"""Files with problems that are spelled out."""


PARTS = (layout.CONFIG, layout.METRICS, layout.EVENTS, layout.ROLLOUTS, ANNOTATIONS)
"""Of a run, which must not be links; media are looked at one by one."""


class RunFolder:
    """One run directory, followed while it grows."""

    kind: Literal["run"] = "run"

    def __init__(self, path: Path, store: Store) -> None:
        self.path, self.store = path, store
        self.name = name_of(path)
        self._metrics = Follower(path / layout.METRICS, is_metrics)
        self._events = Follower(path / layout.EVENTS, is_event)
        self._reader = RunReader(path)
        self._config: tuple[float, str, dict[str, Any], str] | None = None
        self._signals: tuple[str, list[str]] = ("", [])

    def index(self, *, wait: float | None = None, steps: Sequence[int] = ()) -> Index:
        """Its index, up to date as far as that took little time; `steps` are read before others."""
        self.check()
        index = self.store.index(self.path, self._reader)
        index.wanted.update(steps)
        index.refresh(**({} if wait is None else {"wait": wait}))
        return index

    def media_path(self, name: str) -> Path | None:
        """The file of a medium by its name, None if it is not there."""
        return own_file(self.path, name)

    def group(self, step: int, rank: int, group: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What was asked, and the rows, as `table.SCHEMA` says."""
        self.check()
        rows = group_rows(self.path, step, rank, group)
        return rows[0], rows

    def neighbours(self, step: int, rank: int, group: int) -> tuple[Place | None, Place | None]:
        return neighbours(self.path, step, rank, group)

    def tokens(self, step: int, rank: int, row: int) -> Tokens:
        self.check()
        return row_tokens(self.path, step, rank, row)

    def check(self) -> None:
        if not is_run(self.path):
            raise Gone(f"The run {self.name} is no longer there: {layout.CONFIG} is gone from its folder.")

    def summary(self) -> RunSummary:
        _, config, problem = self.config()
        metrics, events = self._metrics.read(), self._events.read()
        rewards = [finite(line.get("reward")) for line in metrics]
        steps = config.get("steps")
        problems = [problem] if problem else []
        for follower in (self._metrics, self._events):
            if follower.broken:
                problems.append(f"{follower.broken} lines of {follower.path.name} are no records and are left out.")
        changed = [time for time in (self._metrics.changed, self._events.changed) if time is not None]
        return RunSummary(
            id=self.name,
            name=self.name,
            kind="run",
            method=method(config),
            model=text(config, "model", "path"),
            data=text(config, "data", "train"),
            step=metrics[-1]["step"] if metrics else None,
            steps=steps if isinstance(steps, int) else None,
            state=state_of(self.path, events),
            reward=rewards[-1] if rewards else None,
            spark=drawn(rewards, SPARK),
            updated=max(changed, default=None),
            problems=problems,
        )

    def detail(self) -> RunDetail:
        index = self.index()
        config_text, config, _ = self.config()
        summary = self.summary()
        listed = list(index.problems.values())
        if len(listed) > SHOWN:
            listed = [*listed[:SHOWN], f"{len(listed) - SHOWN} more files cannot be read."]
        return RunDetail(
            **{**summary.model_dump(), "problems": [*summary.problems, *listed]},
            config_text=config_text,
            config=config,
            rewards=self.weights(),
            events=self._events.read(),
            step_list=rollout_steps(self.path),
            columns=self.columns(index),
            indexing=indexing(index),
        )

    def columns(self, index: Index) -> Columns:
        return columns(index, self._token_signals(index))

    def metrics(self, after: int | None) -> Metrics:
        self.check()
        lines = [line for line in self._metrics.read() if after is None or line["step"] > after]
        names = dict.fromkeys(name for line in lines for name in line if name != "step")
        return Metrics(
            steps=[line["step"] for line in lines],
            series={name: [finite(line.get(name)) for line in lines] for name in names},
        )

    def live(self) -> Live:
        index = self.index(wait=0)
        metrics, events = self._metrics.read(), self._events.read()
        state = state_of(self.path, events)
        return Live(
            version=f"{index.version}.{len(metrics)}.{len(events)}.{state}",
            state=state,
            step=metrics[-1]["step"] if metrics else None,
            rollout_steps=len(rollout_steps(self.path)),
            indexing=indexing(index),
        )

    def weights(self) -> list[Weighted]:
        """The rewards of the recipe."""
        listed = self.config()[1].get("rewards")
        found = []
        for spec in listed if isinstance(listed, list) else []:
            named = spec if isinstance(spec, dict) else {"name": spec}
            weight = named.get("weight", 1.0)
            found.append(
                Weighted(name=str(named.get("name")), weight=weight if isinstance(weight, int | float) else None)
            )
        return found

    def config(self) -> tuple[str, dict[str, Any], str]:
        """Its text, its value, and what is wrong with it."""
        self.check()
        path = self.path / layout.CONFIG
        try:
            changed = path.stat().st_mtime
            if self._config is None or self._config[0] != changed:
                self._config = (changed, *_read_config(path))
        except OSError:
            self.check()
            raise
        return self._config[1:]

    def _token_signals(self, index: Index) -> list[str]:
        """Names of the values per token in the newest file; that of a schema before they were kept has none."""
        newest = max(files(self.path), key=lambda file: (file.step, file.rank), default=None)
        if newest is not None and self._signals[0] != str(newest.path):
            con = index.cursor()
            try:
                found = con.execute(
                    "SELECT DISTINCT unnest(map_keys(token_values)) AS name FROM read_parquet(?) ORDER BY name",
                    [str(newest.path)],
                ).fetchall()
                self._signals = (str(newest.path), [name for (name,) in found])
            except duckdb.Error:
                self._signals = (str(newest.path), [])
        return self._signals[1]


class Runs:
    """All runs under `root`, or `root` itself if it is one; found anew at every look."""

    def __init__(self, root: Path, store: Store) -> None:
        self.root, self.store = root, store
        self.name = str(root)
        self._known: dict[str, RunFolder] = {}
        self._lock = threading.Lock()

    def all(self) -> list[RunFolder]:
        """The latest first."""
        root = self.root
        if is_run(root):
            paths = [root]
        else:
            paths = [path for path in root.iterdir() if is_run(path)] if root.is_dir() else []
        with self._lock:
            there = {name_of(path): path for path in paths}
            self._known = {
                name: self._known.get(name) or RunFolder(path, self.store) for name, path in sorted(there.items())
            }
            return list(self._known.values())

    def __getitem__(self, name: str) -> RunFolder:
        """By name, never by path. `Gone` if there is none."""
        run = self._known.get(name)
        if run is None or not is_run(run.path):
            run = next((run for run in self.all() if run.name == name), None)
        if run is None:
            raise Gone(f"There is no run named {name!r} in {self.root.name or self.root}. {nearest(name, self._known)}")
        return run

    def summaries(self) -> list[RunSummary]:
        found = []
        for run in self.all():
            try:
                found.append(run.summary())
            except (OSError, Gone):  # deleted while it was looked at
                continue
        return sorted(found, key=lambda summary: (summary.updated or 0.0, summary.id), reverse=True)


def is_run(path: Path) -> bool:
    """A folder with a config, of which no part is a link, which could lead anywhere. Of a folder that this user may not
    enter, os.path says False where Path would raise."""
    return os.path.isfile(path / layout.CONFIG) and not any(os.path.islink(path / part) for part in PARTS)


def _read_config(path: Path) -> tuple[str, dict[str, Any], str]:
    written = path.read_text(encoding="utf-8", errors="replace")
    try:
        value = yaml.load(written, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        return written, {}, f"{layout.CONFIG} cannot be read: {str(error).splitlines()[0]}"
    if not isinstance(value, dict):
        return written, {}, "" if value is None else f"{layout.CONFIG} holds no settings."
    settings: dict[str, Any] = plain(value, deepest=layout.DEEPEST)
    return written, settings, ""


def method(config: Mapping[str, Any]) -> str:
    """The stages that are not plain GRPO's, or `grpo`."""
    stages: list[Any] = [config.get("sampler"), config.get("rollout")]
    advantages, loss = config.get("advantages"), config.get("loss")
    stages += advantages if isinstance(advantages, list) else []
    terms = loss.get("terms") if isinstance(loss, dict) else None
    stages += terms if isinstance(terms, list) else []
    names = [str(stage.get("name")) for stage in stages if isinstance(stage, dict)]
    news = [name.rpartition("/")[2] for name in names if name not in USUAL]
    return " + ".join(dict.fromkeys(news)) or ("grpo" if names else "")


def text(config: Mapping[str, Any], *keys: str) -> str:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def drawn(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many values, evenly spread over all, the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
