"""The processes of a run. One process is the common case, and every function here is then free.

All ranks hold the whole step's record (samples, tokens, rewards, advantages), and each holds the prompts and pictures
of its own share of the groups. So whoever looks at the step (samplers, advantages, metrics) sees all of it and knows
of no ranks. What costs time (generation, rewards, log-probs, gradients) is done by the rank that holds the group; its
results are put together here, by `gather` or, for tensors that are 0 where a rank has nothing, by `add_up`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others in one collective; the slowest reward of a step must be faster."""

TOLD = ("RANK", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher says besides WORLD_SIZE."""

_records: list[Any] = []
"""The process group that records travel over: gloo, also beside NCCL, for they are on the CPU."""

_first: list[Callable[[], None]] = []
"""What a rank does before it speaks to the others (`preceded_by`)."""
_here = threading.local()
"""`group`: the process group of a thread that has one of its own."""


def launched() -> bool:
    """Whether a launcher (torchrun, deepspeed, srun with its variables) started several processes."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def start() -> None:
    """Meet the other ranks, if there are any. Called once, before anything else is done."""
    if not launched() or _records:
        return
    if missing := [name for name in TOLD if name not in os.environ]:
        from mmrl.plugins import ConfigError

        raise ConfigError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} makes this one of several processes, but of what a launcher says "
            f"besides, {', '.join(missing)} is not set.\n  Start them with scripts/launch or torchrun; or leave "
            "WORLD_SIZE unset for one process."
        )
    import torch
    import torch.distributed as torch_distributed

    cuda = torch.cuda.is_available()
    if cuda:
        place, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if place >= there:
            from mmrl.plugins import ConfigError

            raise ConfigError(
                f"{os.environ.get('LOCAL_WORLD_SIZE', place + 1)} processes were started on a machine with {there} "
                f"GPU(s); every process has one of its own.\n  Start {there} (--nproc-per-node={there}, GPUS={there})."
            )
        torch.cuda.set_device(place)
    if not torch_distributed.is_initialized():
        torch_distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    _records.append(torch_distributed.new_group(backend="gloo", timeout=TIMEOUT))


def stop() -> None:
    """Part from the other ranks."""
    if _records:
        import torch.distributed as torch_distributed

        _records.clear()
        torch_distributed.destroy_process_group()


def first_to_say(message: str) -> bool:
    """Whether no other rank has asked this about the same message: what fails on all ranks is then said once. True
    where the ranks cannot be asked any more."""
    if not _records:
        return True
    from torch.distributed.distributed_c10d import _get_default_store

    try:
        asked: int = _get_default_store().add(f"said {hashlib.sha256(message.encode()).hexdigest()}", 1)
    except RuntimeError:  # whoever holds the store is gone
        return True
    return asked == 1


def rank() -> int:
    return int(os.environ.get("RANK", 0)) if _records else 0


def size() -> int:
    return int(os.environ["WORLD_SIZE"]) if _records else 1


def gather(value: T) -> list[T]:
    """The values of all ranks, by rank; on every rank. They travel as pickles, from this program to itself."""
    if not _records:
        return [value]
    import torch.distributed as torch_distributed

    _do_first()
    values: list[T] = [value] * size()
    torch_distributed.all_gather_object(values, value, group=_group())
    return values


def by_rank_0(call: Callable[[], T]) -> T | None:
    """What rank 0's call returns, None elsewhere. If it fails all ranks end, and rank 0 says why."""
    found = problem = None
    if rank() == 0:
        try:
            found = call()
        except Exception as error:
            problem = error
    code = gather(0 if problem is None else getattr(problem, "exit_code", 2))[0]
    if code:
        raise problem or SystemExit(code)
    return found


def add_up(values: Tensor) -> Tensor:
    """The sum over all ranks, in place; on every rank, in the same bits."""
    if _records:
        import torch.distributed as torch_distributed

        _do_first()
        torch_distributed.all_reduce(values, group=None if values.is_cuda else _group())
    return values


def wait() -> None:
    """Until all ranks are here."""
    if _records:
        import torch.distributed as torch_distributed

        _do_first()
        torch_distributed.barrier(group=_group())


def another_group() -> Any:
    """A process group for a thread whose collectives go beside those of the main one; made on all ranks."""
    if not _records:
        return None
    import torch.distributed as torch_distributed

    return torch_distributed.new_group(backend="gloo", timeout=TIMEOUT)


@contextmanager
def within(group: Any) -> Iterator[None]:
    """Inside, the collectives of this thread are those of the group."""
    _here.group = group
    try:
        yield
    finally:
        _here.group = None


def _group() -> Any:
    return getattr(_here, "group", None) or _records[0]


def smallest(number: int) -> int:
    """The smallest of all ranks' numbers, at once, whatever `preceded_by` says."""
    if not _records:
        return number
    import torch
    import torch.distributed as torch_distributed

    found = torch.tensor([number])
    torch_distributed.all_reduce(found, torch_distributed.ReduceOp.MIN, group=_records[0])
    return int(found)


@contextmanager
def preceded_by(call: Callable[[], None]) -> Iterator[None]:
    """Inside, a rank makes this call each time before it speaks to the others."""
    _first.append(call)
    try:
        yield
    finally:
        _first.pop()


def _do_first() -> None:
    for call in _first if getattr(_here, "group", None) is None else ():  # a thread apart runs no model
        call()


def shares(sizes: Sequence[int], keys: Sequence[Hashable], ranks: int) -> list[list[int]]:
    """Which groups each rank makes: neighbours, rows as even as whole groups allow; those of one key stay together.

    `sizes[i]` rows and a key for each group. A prompt that is drawn twice has one key: a second drawing is completed
    otherwise than the first, so whoever makes it has to know of both. The first of n updates learns from groups 0, n,
    2n and so on (`trainer.learn`), to which all ranks contribute, as each has neighbours.
    """
    together: dict[Hashable, list[int]] = {}
    for group, key in enumerate(keys):
        together.setdefault(key, []).append(group)
    found: list[list[int]] = [[] for _ in range(ranks)]
    rank, load, left = 0, 0, sum(sizes)
    for groups in together.values():
        rows = sum(sizes[group] for group in groups)
        even = left / (ranks - rank)
        if load and rank + 1 < ranks and load + rows - even > even - load:  # without them this rank is nearer to even
            rank, load, left = rank + 1, 0, left - load
        found[rank] += groups
        load += rows
    return [sorted(share) for share in found]
