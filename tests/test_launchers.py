"""The launchers of scripts/launch: the commands they give, and real processes behind them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from data_pipelines.gui.build import make_gui
from mmrl.distributed import first_to_say
from mmrl.policies.tiny import save_untrained
from mmrl.runs.reader import read_metrics

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "scripts/launch"
SSH = '#!/bin/bash\nshift\nexec bash -c "$*"\n'
"""A login that stays on this machine."""
WORKER = """
import os, signal, sys, time
asked = []
for name in ("SIGTERM", "SIGUSR1"):
    signal.signal(getattr(signal, name), lambda number, frame: asked.append(number))
open(f"{sys.argv[1]}/up{os.environ['RANK']}", "w").close()
while not asked:
    time.sleep(0.02)
time.sleep(0.5)  # a step ends, a checkpoint is written
open(f"{sys.argv[1]}/saved{os.environ['RANK']}", "w").close()
sys.exit(75)
"""


def start(*command, cwd=ROOT, **variables):
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        [str(word) for word in command], cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(*command, cwd=ROOT, **variables):
    process = start(*command, cwd=cwd, **variables)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launch")
    save_untrained(folder / "model")
    make_gui(folder / "gui", count=4, test_count=1)
    settings = {
        "name": "run", "runs": str(folder / "runs"), "steps": 1, "prompts_per_step": 2, "group_size": 2,
        "model": {"path": str(folder / "model")}, "data": {"train": str(folder / "gui/train.jsonl")},
        "sampling": {"max_new_tokens": 4}, "rewards": ["point_in_box"], "logging": ["tensorboard"],
    }  # fmt: skip
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def test_a_dry_run_prints_the_commands_and_starts_nothing(tmp_path):
    assert run(LAUNCH / "one_gpu.sh", "--dry-run", "train", "a.yaml", GPU="3")[1].startswith("CUDA_VISIBLE_DEVICES=3 ")
    code, out, _ = run(LAUNCH / "node.sh", "--dry-run", "train", "a.yaml", GPUS="4")
    assert code == 0 and out.endswith("-m mmrl.torchrun --standalone --nproc-per-node=4 -m mmrl train a.yaml\n")
    hosts = tmp_path / "hosts"
    hosts.write_text("# ours\nnode-a slots=4 max_slots=8\n\nnode-b\n")
    code, out, _ = run(LAUNCH / "nodes.sh", "--dry-run", "train", "a b.yaml", HOSTS=str(hosts), GPUS="8")
    first, second = out.splitlines()
    assert code == 0 and " node-a " in first and "--nproc-per-node=4" in first and "--node-rank=0" in first
    assert " node-b " in second and "--nproc-per-node=8" in second and "--master-addr=node-a" in second
    assert r"a\ b.yaml" in second


def test_a_hostfile_of_another_editor(tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"me@a slots=2\r\nb")
    code, out, err = run(LAUNCH / "nodes.sh", "--dry-run", "train", "r.yaml", HOSTS=str(hosts), GPUS="8")
    assert code == 0 and len(out.splitlines()) == 2 and "\r" not in out, err
    assert out.count("--nnodes=2") == out.count("--master-addr=a ") == 2 and " me@a " in out and " b " in out


@pytest.mark.parametrize("slots", ["0", "x"])
def test_a_number_of_processes_that_is_none_is_refused(tmp_path, slots):
    (tmp_path / "hosts").write_text(f"a slots={slots}\n")
    code, _, err = run(LAUNCH / "nodes.sh", "--dry-run", "train", "r.yaml", HOSTS=str(tmp_path / "hosts"))
    assert code == 2 and "a has" in err
    code, _, err = run(LAUNCH / "node.sh", "--dry-run", "train", "r.yaml", GPUS=slots)
    assert code == 2 and ("GPUS=x is no number" in err or "no GPU was found" in err)


def test_half_a_launcher_is_refused():
    code, _, err = run(sys.executable, "-m", "mmrl", "train", "configs/demo/gui.yaml", WORLD_SIZE="2")
    assert code == 2 and "RANK" in err and "not set" in err and "Traceback" not in err


@pytest.mark.parametrize("name", ["one_gpu.sh", "node.sh", "nodes.sh", "slurm.sbatch"])
def test_a_launcher_without_a_command_says_what_it_wants(name):
    code, _, err = run(LAUNCH / name)
    assert code == 2 and "RECIPE.yaml" in err


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGUSR1])
def test_processes_save_in_their_own_time_and_their_exit_code_comes_through(tmp_path, asked):
    (tmp_path / "worker.py").write_text(WORKER)
    process = start(sys.executable, "-m", "mmrl.torchrun", "--nproc-per-node=2", tmp_path / "worker.py", tmp_path)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("up*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(asked)
    process.communicate(timeout=60)
    assert process.returncode == 75 and len(list(tmp_path.glob("saved*"))) == 2


@pytest.mark.slow
def test_two_machines_of_a_hostfile_train_one_run(recipe, tmp_path):
    """Both are this one. The second time the run is there: it is refused once, and the exit code says so."""
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "hosts").write_text("localhost\nlocalhost\n")
    settings = {"HOSTS": str(tmp_path / "hosts"), "GPUS": "1", "SSH": str(tmp_path / "ssh"), "PORT": "29731"}
    code, out, err = run(LAUNCH / "nodes.sh", "train", recipe, "name=hosts", **settings)
    assert code == 0, out + err
    assert "2 ranks (ddp): 1 group each" in out and out.count("1/1 ━") == 1, "one rank speaks"
    runs = recipe.parent / "runs"
    assert len(read_metrics(runs / "hosts")) == 1 and len(list((runs / "hosts/rollouts").iterdir())) == 2
    assert len(list((runs / "hosts/tensorboard").iterdir())) == 1, "one rank logs"
    code, out, err = run(LAUNCH / "nodes.sh", "train", recipe, "name=hosts", **settings)
    assert code == 2 and err.count("already holds a run") == 1, err


def test_slurm_continues_a_run_that_is_there_and_asks_for_another_turn_on_75(tmp_path):
    """With the two programs of SLURM that the script calls, written down as they behave."""
    for name, text in {"srun": 'echo "$@"; exit ${ENDS:-0}', "scontrol": 'echo "scontrol $*" >&2'}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2"}
    script = ["bash", LAUNCH / "slurm.sbatch", "demo", "r.yaml"]
    code, out, err = run(*script, cwd=tmp_path, **variables)
    assert code == 0 and "requeue" not in err
    assert "--nnodes=2" in out and out.endswith("train r.yaml name=demo\n")
    (tmp_path / "runs/demo").mkdir(parents=True)
    (tmp_path / "runs/demo/config.yaml").touch()
    code, out, err = run(*script, cwd=tmp_path, ENDS="75", **variables)
    assert code == 75 and "name=demo --resume" in out and "scontrol requeue 7" in err
    code, out, err = run(*script, cwd=tmp_path, ENDS="2", **variables)
    assert code == 2 and "requeue" not in err


def test_alone_everything_is_said():
    assert first_to_say("x") and first_to_say("x")
