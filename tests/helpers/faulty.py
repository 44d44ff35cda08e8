"""Plugins that make something happen to a run at a step, and the start of a run as one process or several.

As a script it is `mmrl` with less patience and, on one rank, less memory: faulty.py PATIENCE RANK:TOKENS train ...
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import warm_mmrl
from torch import Tensor

from mmrl import distributed
from rewards import reward


@reward(range=(0, 1))
def digits_in(completion, sample):
    return min(1.0, sum(c.isdigit() for c in completion) / 4)


def trouble(advantage: Tensor, rollouts: Any, context: Any, *, what: str, at: int = 2, rank: int = 0) -> Tensor:
    """An advantage stage: at one step, on one rank, `what` happens; `inf once` on all."""
    if what == "inf once":
        return advantage.masked_fill((rollouts.group == 1)[:, None], float("inf")) if context.step == at else advantage
    if context.step != at or distributed.rank() != rank:
        return advantage
    word, _, argument = what.partition(" ")
    if word == "signal":
        os.kill(os.getpid(), getattr(signal, argument))
    elif word == "wait":  # for good; whoever started it knows by the file that it does
        Path(argument).touch()
        time.sleep(600)
    elif word == "fill":
        with Path(argument).open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(2**16))
            except OSError:
                pass
    elif word == "cut":
        path = Path(argument)
        path.write_bytes(path.read_bytes()[:100])
    else:
        raise AssertionError(what)
    return advantage


def poisoned(logp: Tensor, rows: Any) -> Tensor:
    """A loss that has no value for the rows of `inf once`."""
    return logp * torch.where(rows.advantage > 1e30, float("nan"), 0.0)


def brittle(logp: Tensor, rows: Any) -> Tensor:
    """A loss that is 0 and has no gradient."""
    return (logp - logp.detach()).abs().sqrt()


def advantages(what: str, **settings: Any) -> list[Any]:
    return ["group_relative", {"name": f"{__file__}:trouble", "what": what, **settings}]


def limited(logp: Any, *, tokens: int, refused: list[int]) -> Any:
    """`VLMPolicy.logp` on a device with room for so many packed tokens."""

    def call(policy: Any, rows: Any, *, signals: Any = ()) -> Any:
        found = logp(policy, rows, signals=signals)
        asked = sum(map(len, rows.prompts)) + int(rows.length.sum())
        if asked > tokens:
            refused.append(asked)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return found

    return call


def start(
    arguments: list[str], *, ranks: int = 1, patience: float = 60.0, memory: str = "0:1000000"
) -> list[warm_mmrl.Process]:
    """`mmrl ARGUMENTS` in so many processes, as `srun` starts them: nobody ends the others when one dies."""
    words = [str(patience), memory, *arguments]
    if ranks == 1:
        return [warm_mmrl.start(words, program=__file__)]
    return warm_mmrl.on_ranks(ranks, words, program=__file__)


def ends(processes: list[warm_mmrl.Process], *, within: float = 120.0) -> list[tuple[int, str]]:
    """Exit code and errors of each."""
    deadline = time.monotonic() + within
    try:
        said = [process.communicate(timeout=max(0.1, deadline - time.monotonic()))[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.wait(), text) for process, text in zip(processes, said, strict=True)]


if __name__ == "__main__":
    from mmrl.cli import main
    from mmrl.faults import peers
    from mmrl.policies.vlm import VLMPolicy

    torch.set_num_threads(1)
    peers.PATIENCE = float(sys.argv.pop(1))
    poor, _, tokens = sys.argv.pop(1).partition(":")
    if poor == os.environ.get("RANK", "0"):
        VLMPolicy.logp = limited(VLMPolicy.logp, tokens=int(tokens), refused=[])  # type: ignore[method-assign]
    main()
