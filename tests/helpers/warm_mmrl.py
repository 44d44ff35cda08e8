"""Processes of mmrl for many tests in a row: one process imports everything, and each of them is a fork of it.

    start(["train", "x.yaml"])                              a process, handled as one of `subprocess`
    subprocess.run(["bash", "x.sh"], env=environment())     in which `mmrl` is a small program that starts one

It does what a process of its own would do, without the many seconds of imports: arguments, folder, variables and
streams are the caller's, signals reach it under its own pid, and its exit status comes back. Where starting is the
point (launchers, the doctor), tests start real ones.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy
from rich.console import Console

ROOT = Path(__file__).parents[2]
LONGEST = 2**20
"""Bytes of a call: its arguments and variables."""
IMPORTED = (
    "mmrl.cli", "mmrl.launch", "mmrl.sft", "mmrl.registry", "mmrl.policies.vlm", "mmrl.policies.tiny",
    "mmrl.policies.diffusion", "mmrl.policies.shared", "mmrl.zero", "mmrl.evaluation", "mmrl.samplers", "mmrl.rollouts",
    "peft", "deepspeed.runtime.zero.muon.muon_optimizer", "deepspeed.runtime.zero.stage3", "qwen_vl_utils", "pandas",
    "torch.utils.cpp_extension",
    "data_pipelines.convert", "data_pipelines.transform", "data_pipelines.makers", "transformers.models.qwen3_vl",
    "transformers.models.qwen3_vl.modeling_qwen3_vl", "transformers.models.qwen3_vl.processing_qwen3_vl", "av", "scipy",
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
)  # fmt: skip
CLIENT = """#!{python} -SE
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), ""]).encode()
socket.send_fds(server, [b"%8d" % len(call)], [0, 1, 2])
server.sendall(call)
status = int(server.makefile().readlines()[1])
sys.exit(status if status >= 0 else 128 - status)
"""


# -- of a test -------------------------------------------------------------------------------------------------------


class Process:
    """What `subprocess.Popen` has, of a fork. Its output is kept in files."""

    def __init__(self, arguments: Sequence[str], variables: Mapping[str, str], folder: Path, program: str) -> None:
        self.args = [program or "mmrl", *arguments]
        self.returncode: int | None = None
        self._said = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(folder_of_the_server() / "socket"))
        call = json.dumps([list(arguments), str(folder), dict(variables), program]).encode()
        with open(os.devnull) as nothing:
            streams = [nothing.fileno(), *(file.fileno() for file in self._said)]
            socket.send_fds(self._socket, [b"%8d" % len(call)], streams)
        self._socket.sendall(call)
        self._lines = self._socket.makefile()
        self.pid = int(self._lines.readline())

    def poll(self) -> int | None:
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        for file in self._said:
            file.seek(0)
        output, errors = (file.read().decode(errors="replace") for file in self._said)
        return output, errors

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._socket], [], [], timeout)[0]:
            self.returncode = int(self._lines.readline())
            self._lines.close()
            self._socket.close()
        return self.returncode


def start(
    arguments: Sequence[str],
    *,
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
    program: str = "",
) -> Process:
    """`mmrl ARGUMENTS`, or another `program`, a Python file, in this folder, or another, with these variables, or
    others."""
    return Process(arguments, os.environ if variables is None else variables, folder or Path.cwd(), program)


def on_ranks(count: int, arguments: Sequence[str], *, program: str = "", folder: Path | None = None) -> list[Process]:
    """The same in so many processes that meet, as `srun` starts them: nobody ends the others when one dies."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        start(
            arguments,
            variables={
                **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            },
            folder=folder,
            program=program,
        )
        for rank in range(count)
    ]  # fmt: skip


def in_turn(count: int, commands: Sequence[Sequence[str]], *, within: float = 300.0) -> str:
    """`mmrl COMMAND` on so many ranks, one command after another; what they printed. Each ends well, in seconds."""
    said = ""
    for command in commands:
        processes = on_ranks(count, command)
        deadline = time.monotonic() + within
        try:
            for process in processes:
                process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            for process in processes:
                process.kill()
        found = [process.communicate(20) for process in processes]
        assert not any(process.returncode for process in processes), f"{command}\n" + "".join(map("".join, found))
        said += "".join(output for output, _ in found)
    return said


def environment() -> dict[str, str]:
    """Variables with which `mmrl` is the forking one."""
    folder = folder_of_the_server()
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TOKENIZERS_PARALLELISM": "false",
        "VIRTUAL_ENV": str(folder),
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def program() -> str:
    """The path of that `mmrl`."""
    return str(folder_of_the_server() / "bin/mmrl")


@functools.cache
def folder_of_the_server() -> Path:
    """Starts it, once for all tests of this process, with which it ends."""
    folder = Path(tempfile.mkdtemp())
    address, client = folder / "socket", folder / "bin/mmrl"
    client.parent.mkdir()
    client.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    client.chmod(0o755)
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cpu"}
    server = subprocess.Popen(
        [sys.executable, __file__, str(address)], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.kill)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    return folder


# -- the server ------------------------------------------------------------------------------------------------------


def serve(address: str) -> None:
    """Forks for one call after the other, until whoever started it is gone (its input ends)."""
    import importlib

    from mmrl.compat import declare_torchvision_operators

    declare_torchvision_operators()
    for name in IMPORTED:
        importlib.import_module(name)
    from data_pipelines.budget import Budget
    from mmrl.config import ModelConfig
    from mmrl.policies.vlm import VLMPolicy

    VLMPolicy.load(ModelConfig(), Budget())  # what transformers prepares when it loads its first model
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    while True:
        ready = select.select([listener, sys.stdin], [], [])[0]
        if sys.stdin in ready:
            return
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(client)
            os._exit(0)
        client.close()


def answer(client: socket.socket) -> None:
    """Run one call in a process with the client's streams, and tell it that process's pid and its exit status."""
    head, streams, _, _ = socket.recv_fds(client, 8, 3)
    size, received = int(head), b""
    while len(received) < size:
        if not (part := client.recv(LONGEST)):
            return
        received += part
    pid = os.fork()
    if pid == 0:
        client.close()
        run(*json.loads(received), streams)
    client.sendall(b"%d\n" % pid)
    ended = os.pidfd_open(pid)
    if ended not in select.select([client, ended], [], [])[0]:  # who asked for it is gone, and says no more
        os.kill(pid, signal.SIGTERM)
        if not select.select([ended], [], [], 10.0)[0]:
            os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        client.sendall(b"%d\n" % status)


def run(arguments: list[str], folder: str, variables: dict[str, str], program: str, streams: list[int]) -> None:
    """As the interpreter would; ends the process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = [program or "mmrl", *arguments]
    random.seed()
    numpy.random.seed()
    for module in list(sys.modules.values()):  # which read their width when they were made
        if isinstance(console := vars(module).get("console"), Console) and "COLUMNS" in variables:
            console.width = int(variables["COLUMNS"])
    status = 0
    try:
        if program:
            runpy.run_path(program, run_name="__main__")
        else:
            from mmrl.cli import main

            main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
