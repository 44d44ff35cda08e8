from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmrl.plugins import ConfigError
from mmrl.runs.reader import SILENCE, list_runs, read_metrics, read_rollouts, run_info, run_path
from mmrl.runs.writer import RunWriter


def write_run(root: Path, name: str, *, metrics: str = "", events: str = "", config: str = "steps: 4\n") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for file, content in (("config.yaml", config), ("metrics.jsonl", metrics), ("events.jsonl", events)):
        (folder / file).write_text(content)
    return folder


def test_runs_are_listed_latest_first(tmp_path: Path):
    started = '{{"kind": "started", "time": {}, "host": "elsewhere", "pid": 1}}\n'
    write_run(tmp_path, "a", events=started.format(10) + '{"kind": "finished", "time": 20}\n', metrics='{"step": 0}\n')
    write_run(tmp_path, "b", events=started.format(30) + '{"kind": "failed", "time": 40}\n', config="[broken")
    write_run(tmp_path, "c", metrics='{"step": 0, "reward": 0.1}\n{"step": 1, "reward": 0.25}\n')
    (tmp_path / "notes").mkdir()
    infos = {info.name: info for info in list_runs(tmp_path)}
    assert list(infos) == ["b", "a", "c"]
    assert (infos["a"].state, infos["a"].steps, infos["a"].planned, infos["a"].reward) == ("finished", 1, 4, None)
    assert (infos["b"].state, infos["b"].planned, infos["b"].started) == ("failed", None, 30)
    assert (infos["c"].state, infos["c"].steps, infos["c"].reward) == ("stopped", 2, 0.25)
    assert list_runs(tmp_path / "nowhere") == []


def test_a_killed_run_is_stopped_and_a_live_one_running(tmp_path: Path):
    run = RunWriter.create(tmp_path / "a", "steps: 4\n")
    assert run_info(run.folder).state == "running"
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    events = run.folder / "events.jsonl"
    events.write_text(events.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {child.pid}'))
    assert run_info(run.folder).state == "stopped"


@pytest.mark.parametrize(("silent", "state"), [(0, "running"), (2 * SILENCE, "stopped")])
def test_a_run_of_another_host_is_judged_by_its_last_sign_of_life(tmp_path: Path, silent: float, state: str):
    run = write_run(tmp_path, "a", events='{"kind": "resumed", "time": 1, "host": "elsewhere", "pid": 1}\n')
    for name in ("metrics.jsonl", "events.jsonl"):
        os.utime(run / name, (time.time() - silent,) * 2)
    assert run_info(run).state == state


def test_broken_lines_are_skipped_and_counted(tmp_path: Path):
    lines = ['{"step": 0}', "", "not json", "[1]", '{"reward": 1}', '{"step": 1, "reward": null}', '{"step": 2, "rew']
    metrics = read_metrics(write_run(tmp_path, "a", metrics="\n".join(lines)))
    assert metrics == [{"step": 0}, {"step": 1, "reward": None}]
    assert metrics.broken == 4


@pytest.mark.parametrize("name", ["..", ".", "", "../other", "/etc", "a/b", "a\\b", "a\0"])
def test_names_do_not_leave_the_root(tmp_path: Path, name: str):
    write_run(tmp_path, "other")
    (tmp_path / "root").mkdir()
    with pytest.raises(ConfigError, match="not the name of a run"):
        run_path(tmp_path / "root", name)


def test_an_unknown_run_or_step_names_what_there_is(tmp_path: Path, make_rollouts):
    run = RunWriter.create(tmp_path / "charts", "steps: 4\n")
    with pytest.raises(ConfigError, match="Did you mean charts"):
        run_path(tmp_path, "chart")
    with pytest.raises(ConfigError, match="None are recorded"):
        read_rollouts(run.folder, 0)
    run.record(3, make_rollouts(), {})
    with pytest.raises(ConfigError, match="1 steps from 3 to 3"):
        read_rollouts(run.folder, 0)
    assert run_path(tmp_path, "charts") == run.folder
    with pytest.raises(ConfigError, match="holds no run"):
        run_info(tmp_path)


def test_reading_needs_no_torch(tmp_path: Path, make_rollouts):
    run = RunWriter.create(tmp_path / "a", "steps: 4\n")
    run.record(0, make_rollouts(), {"reward": 0.5})
    script = f"""
import sys
from pathlib import Path
from mmrl.runs import plot, summary
from mmrl.runs.checkpoints import latest_checkpoint
from mmrl.runs.reader import list_runs, read_rollouts
[info] = list_runs(Path({str(tmp_path)!r}))
assert read_rollouts(info.path, 0)
latest_checkpoint(info.path), plot.plot_run(info.path), summary.summary(info.path), summary.show_run(info.path)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
