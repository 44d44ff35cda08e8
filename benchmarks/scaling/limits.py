"""What breaks first at 1,000 GPUs and at 10^9 rollouts. Sizes and speeds that this machine can tell are measured with
mmrl's own functions (records, shares, Parquet); the rest is arithmetic on stated numbers.
"""

from __future__ import annotations

import json
import math
import pickle
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.scaling.machines import DISK, TEXT

RANKS = 1000
PROMPTS_PER_RANK = 8
ROLLOUTS = 10**9
GPU_HOURS_PER_FAILURE = 54 * 24 * 16_384 / 419
"""Llama 3 405B (arXiv 2407.21783, Table 5): 419 unexpected interruptions in 54 days on 16,384 H100."""
RESTART_SECONDS = 600.0
"""To notice, replace and load again."""
WAIT_SECONDS = 30 * 60.0
"""`distributed.TIMEOUT`: how long ranks wait for one that is gone, where nothing tells them."""


@dataclass(frozen=True)
class Record:
    """What mmrl itself costs, measured here on one core."""

    row_bytes: float
    """A completion in the record that ranks send each other, pickled."""
    unpickle: float
    """Seconds per completion to read it."""
    order: float
    """Seconds for `select_groups` on `ordered` groups; grows with their square."""
    ordered: int
    share: float
    """Seconds for `distributed.shares` per group."""
    parquet_row: float
    """Bytes of a completion on disk, tokens included."""
    parquet_file: float
    """Bytes of a file beside its rows."""
    sample: float
    """Bytes of a prompt in memory as every rank holds it."""
    state: float
    """Bytes of a prompt in the state of a sampler that remembers prompts."""


def seconds_of(call: Callable[[], Any], repeats: int = 3) -> float:
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return statistics.median(found)


def sample(number: int) -> Any:
    from mmrl.records import Media, Sample

    path = f"/data/gui/screens/{number:08d}.png"
    question = f"Click on the element number {number} that opens the settings of the account, then answer in pixels."
    content = [{"type": "image", "image": path}, {"type": "text", "text": question}]
    return Sample(
        id=f"gui-{number:08d}",
        messages=({"role": "user", "content": content},),
        media=(Media("image", path, f"{number:064x}", (1280, 800)),),
        target={"box": [number % 1000, 20, 300, 40]},
        meta={"task": "gui", "coordinates": "pixel"},
        where=f"train.jsonl, row {number}",
    )


def rollouts(groups: int, first: int = 0, tokens: int = TEXT.new_tokens) -> Any:
    """A step's record as a rank hands it to the others: completions of `tokens` tokens, prompts left out."""
    from mmrl.records import Rollouts

    rows = groups * TEXT.group
    group = torch.arange(groups).repeat_interleave(TEXT.group)
    made = Rollouts(
        samples=[sample(first + number) for number in range(groups)],
        prompts=[None] * groups,
        group=group,
        prompt=group.clone(),
        actions=torch.randint(0, 150_000, (rows, tokens)),
        length=torch.full((rows,), tokens),
        mask=torch.ones(rows, tokens, dtype=torch.bool),
        text=[" ".join(f"word{(row * 7 + n) % 997}" for n in range(tokens // 2)) for row in range(rows)],
        origin=["policy"] * rows,
        logp_rollout=-torch.rand(rows, tokens),
    )
    made.signals["truncated"] = torch.zeros(rows, dtype=torch.bool)
    return made


def measure() -> Record:
    """Some ten seconds of one core."""
    from mmrl.distributed import shares

    torch.manual_seed(0)
    part = rollouts(PROMPTS_PER_RANK)
    packed, ordered = pickle.dumps(part), 1000
    many, order = rollouts(ordered, tokens=8), list(reversed(range(ordered)))
    groups, ranks = 2000, 250
    tracemalloc.start()
    held = [sample(number) for number in range(2000)]
    memory = tracemalloc.get_traced_memory()[0] / len(held)
    tracemalloc.stop()
    small, large = parquet_bytes(1), parquet_bytes(PROMPTS_PER_RANK)
    row = (large - small) / ((PROMPTS_PER_RANK - 1) * TEXT.group)
    return Record(
        row_bytes=len(packed) / len(part),
        unpickle=seconds_of(lambda: pickle.loads(packed)) / len(part),
        order=seconds_of(lambda: many.select_groups(order)),
        ordered=ordered,
        share=seconds_of(lambda: shares([TEXT.group] * groups, list(range(groups)), ranks)) / groups,
        parquet_row=row,
        parquet_file=small - row * TEXT.group,
        sample=memory,
        state=len(json.dumps({f"gui-{n:08d}": 1 / (n + 3) for n in range(1000)})) / 1000,
    )


def parquet_bytes(groups: int) -> int:
    """Of a file with a rank's share of a step, as the writer makes it."""
    import pyarrow.parquet as pq

    from mmrl.runs.table import to_table

    made = rollouts(groups)
    made.reward = torch.rand(len(made))
    made.scores = {"hit": made.reward, "form": torch.rand(len(made))}
    made.advantage = torch.randn(len(made), 1).expand(made.mask.shape).clone()
    made.logp_old = made.logp_rollout
    pieces = [[f"tok{int(token) % 5000}" for token in row] for row in made.actions]
    table = to_table(made, step=0, rank=0, media_file=lambda _: None, made_file=str, pieces=pieces)
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder) / "part.parquet", compression="zstd")
        return (Path(folder) / "part.parquet").stat().st_size


def order_seconds(record: Record, groups: int) -> float:
    return record.order * (groups / record.ordered) ** 2


def failure_hours(gpus: int) -> float:
    """Mean time between failures of a job."""
    return GPU_HOURS_PER_FAILURE / gpus


def interval(write: float, gpus: int) -> float:
    """Seconds between checkpoints that waste least (Young 1974, Daly 2006): sqrt(2 x write x time between failures)."""
    return math.sqrt(2 * write * 3600 * failure_hours(gpus))


def waste(write: float, every: float, gpus: int, *, wait: float = 0.0) -> float:
    """The share of all time that goes to writing checkpoints, redoing half an interval and starting again."""
    return write / every + (every / 2 + RESTART_SECONDS + wait) / (3600 * failure_hours(gpus))


def write_seconds(size: float, writers: int = 1, limit: float = 50e9) -> float:
    return size / min(writers * DISK, limit)


def straggling(rows: int, spread: float = 0.6) -> float:
    """Longest of `rows` completions over their mean, lengths lognormal with this sigma (by quantile)."""
    quantile = statistics.NormalDist().inv_cdf(1 - 1 / (rows + 1))
    return math.exp(spread * quantile - spread**2 / 2)
