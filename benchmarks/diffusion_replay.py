"""Replaying denoising steps in batches against one at a time: the same steps, the same gradient, in one run.

    .venv/bin/python benchmarks/diffusion_replay.py              # 2 idle CPU cores, about 3 minutes
    .venv/bin/python benchmarks/diffusion_replay.py --width 512 --layers 8

A Stable Diffusion 3 of random weights makes `--group` images in `--steps` steps; then the loss of all its (image, step)
pairs is back-propagated in micro-batches of 1, 4, 16, ... pairs, each in a process of its own. The last rows double
the group and the steps at one size of micro-batch: what grows then is the stored trajectory and not the activations.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from workload import peak_memory

SIZES = (1, 4, 16, 64)


@dataclass(frozen=True)
class Work:
    width: int
    layers: int
    group: int
    steps: int
    pairs: int
    """(image, step) pairs of a micro-batch."""
    repeats: int = 3


@dataclass(frozen=True)
class Result:
    seconds: float
    megabytes: float
    """Growth of resident memory at its peak, while learning."""
    stored: float
    """Megabytes of the trajectory."""
    gradient: float
    """Norm of the gradient: the same for every size, or the work is not."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"width": 128, "layers": 4, "group": 16, "steps": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    base = Work(given.width, given.layers, given.group, given.steps, pairs=1)
    works = [replace(base, pairs=pairs) for pairs in SIZES]
    works += [replace(works[2], group=2 * base.group), replace(works[2], group=2 * base.group, steps=2 * base.steps)]
    context = multiprocessing.get_context("spawn")
    results = []
    for work in track(works, "replaying", transient=True):
        with context.Pool(1) as pool:
            results.append(pool.apply(measure, (work,)))
    same = [result.gradient for result in results[: len(SIZES)]]
    assert max(same) - min(same) < 1e-3 * max(same), f"the gradients differ: {same}"
    Console().print(table(works, results))


def measure(work: Work) -> Result:
    """In a process of its own, so that the peak is its own."""
    import torch

    from mmrl.policies.diffusion import Denoising

    policy, sample = make_policy(work)
    rollouts = policy.generate([sample], [work.group], Denoising(steps=work.steps, batch=1), seed=0, step=0)
    budget = work.pairs * rollouts.prompts[0].conditioning.tokens
    before, seconds = peak_memory(), []
    for _ in range(work.repeats):
        policy.pipeline.denoiser.zero_grad(set_to_none=True)
        start = time.perf_counter()
        for batch in policy.micro_batches(rollouts, budget=budget):
            logp, _ = policy.logp(rollouts.part(batch))
            logp.sum().backward()
        seconds.append(time.perf_counter() - start)
    gradients = [p.grad.norm() for _, p in policy.trainable() if p.grad is not None]
    return Result(
        seconds=median(seconds),
        megabytes=(peak_memory() - before) / 1e6,
        stored=sum(t.numel() * t.element_size() for t in (rollouts.actions, *rollouts.signals.values())) / 1e6,
        gradient=float(torch.stack(gradients).norm()),
    )


def make_policy(work: Work) -> tuple[Any, Any]:
    import torch

    from mmrl.compat import declare_torchvision_operators
    from mmrl.config import ModelConfig
    from mmrl.policies.diffusion import DiffusionPolicy
    from mmrl.policies.pipelines import Pipeline
    from mmrl.policies.tiny_pipelines import tiny_flow
    from mmrl.records import Sample

    declare_torchvision_operators()
    torch.manual_seed(0)
    policy = DiffusionPolicy(
        Pipeline(tiny_flow(width=work.width, layers=work.layers), ModelConfig(path="tiny-flow", device="cpu"))
    )
    return policy, Sample(id="circle", messages=({"role": "user", "content": "a red circle"},))


def table(works: list[Work], results: list[Result]) -> Table:
    shown = Table("images", "steps", "pairs at once", "seconds", "times as fast", "peak MB", "trajectory MB", box=None)
    for work, result in zip(works, results, strict=True):
        same = (work.group, work.steps) == (works[0].group, works[0].steps)
        shown.add_row(
            str(work.group), str(work.steps), str(work.pairs), f"{result.seconds:.2f}",
            f"{results[0].seconds / result.seconds:.1f}" if same else "", f"{result.megabytes:.0f}",
            f"{result.stored:.1f}",
        )  # fmt: skip
    return shown


if __name__ == "__main__":
    main()
