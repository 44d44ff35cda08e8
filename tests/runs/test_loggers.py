"""Metrics on other screens: what they are given, that a resumed run goes on in them, and that they never stop a run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mmrl.plugins import ConfigError
from mmrl.runs.loggers import Loggers, identity, make_loggers

FAILS = """
class Fails:
    def __init__(self, run, config, first_step, *, after: int = 1):
        self.after, self.log_file = after, run / "fails.txt"

    def log(self, step, metrics):
        if step >= self.after:
            raise OSError("the network is gone")
        self.log_file.write_text(f"{step} {metrics}")

    def close(self):
        pass
"""


def started(specs, run: Path, *, first_step: int = 0):
    warnings: list[str] = []
    return Loggers(make_loggers(specs, where="r.yaml"), run, {"steps": 3}, first_step, warnings.append), warnings


def scalars(run: Path) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {event.step: event.value for event in events.Scalars("reward")}


def test_tensorboard_shows_a_resumed_run_as_one_without_what_was_made_again(tmp_path):
    first, warnings = started([{"name": "tensorboard"}], tmp_path)
    for step in range(4):  # killed after step 3; the last checkpoint is that of step 1
        first.log(step, {"reward": float(step), "kl": float("nan")})
    second, _ = started([{"name": "tensorboard"}], tmp_path, first_step=2)
    second.log(2, {"reward": 20.0})
    second.log(3, {"reward": 30.0})
    second.close()
    assert scalars(tmp_path) == {0: 0.0, 1: 1.0, 2: 20.0, 3: 30.0} and not warnings


def test_a_logger_that_fails_is_left_behind_and_the_others_go_on(tmp_path):
    (tmp_path / "mine.py").write_text(FAILS)
    loggers, warnings = started([{"name": f"{tmp_path}/mine.py:Fails"}, {"name": "tensorboard"}], tmp_path)
    for step in range(3):
        loggers.log(step, {"reward": 0.5})
    loggers.close()
    assert (tmp_path / "fails.txt").read_text() == "0 {'reward': 0.5}"
    assert len(warnings) == 1 and "OSError: the network is gone" in warnings[0]
    assert sorted(scalars(tmp_path)) == [0, 1, 2]


@pytest.mark.skipif(not importlib.util.find_spec("wandb"), reason="wandb is not installed")
def test_wandb_and_trackio_keep_one_run_for_a_run_directory(tmp_path, monkeypatch):
    specs = [{"name": "wandb", "mode": "offline"}]
    if importlib.util.find_spec("trackio"):
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
        specs.append({"name": "trackio"})
    for first_step in (0, 2):
        loggers, warnings = started(specs, tmp_path, first_step=first_step)
        loggers.log(first_step, {"reward": 0.5})
        loggers.close()
        assert not warnings
    runs = [folder.name for folder in (tmp_path / "wandb").glob("offline-run-*")]
    assert runs and all(name.endswith(identity(tmp_path, "wandb")) for name in runs)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([{"name": "tensorbord"}], "Did you mean tensorboard"),
        ([{"name": "tensorboard", "project": "x"}], "project is not a setting of `tensorboard`"),
        ([{"name": "tensorboard"}, {"name": "tensorboard"}], "names a logger twice"),
    ],
)
def test_what_could_not_start_is_refused_before_the_run(specs, message):
    with pytest.raises(ConfigError, match=message):
        make_loggers(specs, where="r.yaml")


def test_a_missing_package_is_refused_with_what_to_install(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "trackio" else there(name, *a))
    with pytest.raises(ConfigError, match=r"logging\.0: `trackio` needs the package trackio(.|\n)*pip install trackio"):
        make_loggers([{"name": "trackio"}], where="r.yaml")
