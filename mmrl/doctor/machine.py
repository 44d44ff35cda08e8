"""The machine: processors, what the ranks would talk over, disks, ports, and what a launcher has set."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmrl.doctor.findings import Finding

MASTER_PORT, VIEWER_PORT = 29500, 8100
"""Where ranks meet if nobody says otherwise, and where `mmrl view` listens."""
RANKS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a process that a launcher started needs to know; LOCAL_RANK beside them on a machine with several GPUs."""
TOLD = (*RANKS, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "DS_ACCELERATOR")
ENOUGH = {"runs": 20, "cache": 20, "temporary": 2, "shared memory": 1}
"""GiB below which a folder gets a remark."""


def processors() -> Iterator[Finding]:
    import torch

    yield Finding("processor", f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads")
    if not torch.cuda.is_available():
        built = f"this torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "this torch has no CUDA"
        yield Finding("GPU", "none", f"{built}; on the processor tiny models train", "limited")
        return
    yield Finding("CUDA", f"{torch.version.cuda}, driver {driver()}")
    for index in range(torch.cuda.device_count()):
        try:
            free, total = torch.cuda.mem_get_info(index)
            (torch.ones(8, device=f"cuda:{index}") @ torch.ones(8, device=f"cuda:{index}")).item()
        except RuntimeError as error:
            yield Finding(f"GPU {index}", "does not compute", str(error).splitlines()[0], "broken")
            continue
        taken = (total - free) / 2**30
        remark = f"{taken:.0f} GiB are taken" if taken > 1 else ""
        found = f"{torch.cuda.get_device_name(index)}, {total / 2**30:.0f} GiB"
        yield Finding(f"GPU {index}", found, remark, "limited" if remark else "fine")


def driver() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return "unknown (no nvidia-smi)"
    return said[0] if said else "unknown"


def collectives() -> Iterator[Finding]:
    """NCCL carries tensors between GPUs, gloo the records of all ranks."""
    import torch
    from torch import distributed

    if not distributed.is_available():
        yield Finding("torch.distributed", "missing", "several processes cannot train", "limited")
        return
    gloo = distributed.is_gloo_available()
    remark = "" if gloo else "several processes cannot train: they exchange records over it"
    yield Finding("gloo", "available" if gloo else "missing", remark, "fine" if gloo else "limited")
    if torch.cuda.is_available():
        there = distributed.is_nccl_available()
        version = ".".join(map(str, torch.cuda.nccl.version())) if there else "missing"
        yield Finding("NCCL", version, "" if there else "GPUs cannot be used together", "fine" if there else "limited")


def disks(runs: Path) -> Iterator[Finding]:
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    folders = {
        "runs": runs,
        "cache": cache,
        "temporary": Path(tempfile.gettempdir()),
        "shared memory": Path("/dev/shm"),
    }
    for name, folder in folders.items():
        there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), None)
        if there is None:
            continue
        free = shutil.disk_usage(there).free / 2**30
        found = f"{free:,.0f} GiB free in {folder}" if free >= 10 else f"{free:,.1f} GiB free in {folder}"
        if not os.access(there, os.W_OK):
            yield Finding(f"disk, {name}", found, "it cannot be written to", "broken" if name == "runs" else "limited")
        elif free < ENOUGH[name]:
            what = "NCCL and decoded frames use it" if name == "shared memory" else "checkpoints and models take room"
            yield Finding(f"disk, {name}", found, f"less than {ENOUGH[name]} GiB; {what}", "limited")
        else:
            yield Finding(f"disk, {name}", found)


def ports() -> Iterator[Finding]:
    for name, port, instead in (
        ("the ranks' meeting", MASTER_PORT, "PORT=... of scripts/launch/nodes.sh takes another"),
        ("mmrl view", VIEWER_PORT, "`mmrl view --port 0` takes a free one"),
    ):
        free = is_free(port)
        found = f"{port} is {'free' if free else 'taken'}"
        yield Finding(f"port of {name}", found, "" if free else instead, "fine" if free else "limited")


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def launcher(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """What tells a process that it is one of several."""
    told = {name: value for name, value in environment.items() if name in TOLD or name.startswith("SLURM_")}
    for name in sorted(name for name in told if not name.startswith("SLURM_") or name in SLURM):
        yield Finding(name, told[name])
    if int(told.get("WORLD_SIZE", 1)) > 1 and (missing := [name for name in RANKS if name not in told]):
        remark = f"{', '.join(missing)} not set: the ranks would wait for each other in vain"
        yield Finding("launcher", "incomplete", remark, "broken")
    elif "SLURM_NTASKS" in told and "RANK" not in told and int(told["SLURM_NTASKS"]) > 1:
        remark = "each would train alone: start torchrun, as scripts/launch/slurm.sbatch does"
        yield Finding("launcher", f"SLURM, {told['SLURM_NTASKS']} tasks", remark, "limited")
    elif "WORLD_SIZE" not in told:
        yield Finding("launcher", "none", "one process; scripts/launch starts several")


SLURM = ("SLURM_JOB_ID", "SLURM_NNODES", "SLURM_NTASKS", "SLURM_NODEID", "SLURM_PROCID", "SLURM_RESTART_COUNT")
