"""The command `mmrl` for many calls in a row: one process imports everything, and each call is a fork of it.

    with warm_mmrl(folder) as environment: subprocess.run(["bash", "x.sh"], env=environment)

In that environment `mmrl` is a small program that hands its arguments, folder, variables and streams to the process;
the fork runs `mmrl.cli.main` with them, as the real command does, and its exit status comes back. A call then takes
what its work takes, without seconds of imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST = 2**20
"""Bytes of a call: its arguments and variables."""
IMPORTED = (
    "mmrl.cli", "mmrl.launch", "mmrl.sft", "mmrl.registry", "mmrl.policies.vlm", "mmrl.policies.tiny",
    "data_pipelines.convert", "data_pipelines.transform", "data_pipelines.makers", "transformers.models.qwen3_vl",
    "transformers.models.qwen3_vl.modeling_qwen3_vl", "transformers.models.qwen3_vl.processing_qwen3_vl", "av", "scipy",
)  # fmt: skip
CLIENT = """#!{python} -SE
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [b"%8d" % len(call)], [0, 1, 2])
server.sendall(call)
sys.exit(int(server.recv(16) or b"1"))
"""


@contextlib.contextmanager
def warm_mmrl(folder: Path) -> Iterator[dict[str, str]]:
    """Variables with which `mmrl` is the forking one; `folder` holds the program and its socket."""
    address, program = str(folder / "socket"), folder / "bin/mmrl"
    program.parent.mkdir(parents=True)
    program.write_text(CLIENT.format(python=sys.executable, address=address))
    program.chmod(0o755)
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    server = subprocess.Popen([sys.executable, __file__, address], env=variables, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None and server.stdout.readline() == b"ready\n"
        yield variables | {
            "VIRTUAL_ENV": str(folder),
            "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
    finally:
        server.kill()
        server.wait()


def serve(address: str) -> None:
    """Forks for one call after the other, each in a child of its own."""
    import importlib

    from mmrl.compat import declare_torchvision_operators

    declare_torchvision_operators()
    for name in IMPORTED:
        importlib.import_module(name)
    from data_pipelines.budget import Budget
    from mmrl.config import ModelConfig
    from mmrl.policies.vlm import VLMPolicy

    VLMPolicy.load(ModelConfig(), Budget())  # what transformers prepares when it loads its first model
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            status = 1
            try:
                status = answer(client)
            finally:
                client.sendall(b"%d" % status)
                os._exit(0)
        client.close()


def answer(client: socket.socket) -> int:
    """Run one call with the client's streams; its exit status."""
    from mmrl.cli import main

    head, streams, _, _ = socket.recv_fds(client, 8, 3)
    size, received = int(head), b""
    while len(received) < size:
        received += client.recv(LONGEST)
    arguments, folder, variables = json.loads(received)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["mmrl", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
