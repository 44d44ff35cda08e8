"""Step time of mmrl and of TRL's GRPOTrainer on the same model, prompts and completion length, in one run.

    .venv/bin/pip install -e '.[bench]'
    .venv/bin/python benchmarks/step_time.py                                  # 2 idle CPU cores, about half an hour
    .venv/bin/python benchmarks/step_time.py --vision-tokens 256 --group 8    # one point, a minute
    .venv/bin/python benchmarks/step_time.py --model qwen2.5-vl-3b            # a large GPU; no step of it has run yet

Each side runs in a process of its own; they take turns, step by step, so that whatever else the machine does meets
both. Medians over the steps after the first. What is measured, and a table: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from flops import Costs, Flops, count
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from workload import Setting, Step, make_images

SIDES = ("mmrl", "trl")


@dataclasses.dataclass
class Result:
    setting: Setting
    mmrl: Step
    trl: Step
    repeated: Flops
    unique: Flops
    spread: tuple[float, float]
    """Lowest and highest ratio of the steps, paired in order."""

    @property
    def ratio(self) -> float:
        """How many steps mmrl makes while TRL makes one."""
        return self.trl.wall / self.mmrl.wall

    @property
    def cpu_ratio(self) -> float:
        """The same by CPU seconds, which other work on the machine hardly changes."""
        return self.trl.cpu / self.mmrl.cpu

    @property
    def bound(self) -> float:
        return self.repeated.step / self.unique.step


def main() -> None:
    arguments = parse_arguments()
    console = Console(width=None if sys.stdout.isatty() else 110)
    missing = [name for name in ("trl", "datasets") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not installed: .venv/bin/pip install -e '.[bench]'")
    settings = [
        Setting(
            vision_tokens=vision_tokens,
            group=group,
            new_tokens=arguments.new_tokens,
            prompts=arguments.prompts,
            steps=arguments.steps,
            model=arguments.model,
            threads=arguments.threads,
            trl_micro_batches=arguments.trl_micro_batches,
        )
        for vision_tokens in arguments.vision_tokens
        for group in arguments.group
    ]
    results = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(settings) * (arguments.steps + 1) * len(SIDES))
        for setting in settings:
            results.append(compare(setting, lambda text: progress.update(bar, advance=1, description=text)))
            progress.console.print(line(results[-1]), highlight=False)
    console.print(table(results))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps([as_json(result) for result in results], indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Step time of mmrl and TRL on the same work.")
    parser.add_argument("--vision-tokens", type=int, nargs="+", default=[64, 256, 1024], help="per prompt")
    parser.add_argument("--group", type=int, nargs="+", default=[4, 8, 16], help="completions per prompt")
    parser.add_argument("--new-tokens", type=int, default=32, help="of every completion")
    parser.add_argument("--prompts", type=int, default=4, help="per step")
    parser.add_argument("--steps", type=int, default=3, help="measured, after one that warms up")
    parser.add_argument("--model", choices=["tiny", "qwen2.5-vl-3b"], default="tiny", help="random weights either way")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of torch, on each side")
    parser.add_argument("--trl-micro-batches", type=int, default=1, help="where TRL cannot train on a step at once")
    parser.add_argument("--json", help="write the results to this file as well")
    return parser.parse_args()


def compare(setting: Setting, tick: Any) -> Result:
    """Both sides, taking turns. They must do the same work: as many tokens, and every part of the model trained."""
    steps: dict[str, list[Step]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        images = make_images(Path(folder), setting)
        with contextlib.ExitStack() as stack:
            sides = {side: stack.enter_context(running(side, setting, images, Path(folder))) for side in SIDES}
            costs: dict[str, Costs] = {side: hear(sides, side) for side in SIDES}
            assert costs["mmrl"] == costs["trl"], "the sides do not run the same model"
            for _ in range(setting.steps + 1):
                for side in SIDES:
                    tick(f"{setting.vision_tokens} vision tokens, {setting.group} completions: {side}")
                    sides[side].send("step")
                    steps[side].append(hear(sides, side))
            for side in SIDES:
                changed = hear(sides, side)
                assert changed == {"visual", "language_model"}, f"{side} trained only {changed or 'nothing'}"
    for mine, other in zip(*steps.values(), strict=True):
        for name in ("prompt_tokens", "completion_tokens", "vision_tokens"):
            assert getattr(mine, name) == getattr(other, name), (
                f"{name}: {getattr(mine, name)} and {getattr(other, name)}"
            )
    rows = setting.prompts * setting.group
    assert mine.vision_tokens == rows * setting.vision_tokens, mine
    assert mine.completion_tokens == rows * setting.new_tokens, mine
    repeated, unique = count(
        costs["mmrl"],
        prompt_tokens=mine.prompt_tokens // rows,
        prompts=setting.prompts,
        group=setting.group,
        new_tokens=setting.new_tokens,
    )
    ratios = [trl.wall / mmrl.wall for mmrl, trl in list(zip(steps["mmrl"], steps["trl"], strict=True))[1:]]
    return Result(setting, middle(steps["mmrl"]), middle(steps["trl"]), repeated, unique, (min(ratios), max(ratios)))


@contextlib.contextmanager
def running(side: str, setting: Setting, images: list[Path], folder: Path) -> Iterator[Any]:
    """A connection to a side: it sends the costs of its model when ready. Its process ends with the block."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=start, args=(side, there, setting, images, folder), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.join(timeout=5)
        process.kill()


def hear(sides: dict[str, Any], side: str) -> Any:
    try:
        return sides[side].recv()
    except EOFError:
        sys.exit(f"the process of {side} ended early; its error is above (none if it ran out of memory)")


def start(side: str, connection: Any, *arguments: Any) -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    if side == "mmrl":
        import mmrl_side

        mmrl_side.work(connection, *arguments)
    else:
        import trl_side

        trl_side.work(connection, *arguments)


def middle(steps: list[Step]) -> Step:
    """Field by field the median of the steps after the first; of memory the highest."""
    measured = steps[1:]
    values = {field.name: median(getattr(step, field.name) for step in measured) for field in dataclasses.fields(Step)}
    tokens = {name: int(values[name]) for name in ("prompt_tokens", "completion_tokens", "vision_tokens")}
    return Step(**{**values, **tokens, "memory": max(step.memory for step in steps)})


def line(result: Result) -> str:
    setting = result.setting
    return (
        f"{setting.vision_tokens} vision tokens, {setting.group} completions: mmrl {result.mmrl.wall:.2f} s, "
        f"TRL {result.trl.wall:.2f} s a step: {result.ratio:.1f} times as fast"
    )


def table(results: list[Result]) -> Table:
    view = Table(title="Seconds of a step, by phase; how many times as fast mmrl is")
    for name in ("tokens", "G", ""):
        view.add_column(name)
    for name in ("step", "gen.", "train", "other", "CPU", "GFLOP/s", "GB", "ratio", "by CPU", "bound"):
        view.add_column(name, justify="right")
    for result in results:
        setting, (low, high) = result.setting, result.spread
        ratios = [f"{result.ratio:.1f} ({low:.1f}-{high:.1f})", f"{result.cpu_ratio:.1f}", f"{result.bound:.1f}"]
        work = [str(setting.vision_tokens), str(setting.group)]
        view.add_row(*work, "mmrl", *cells(result.mmrl, result.unique), *ratios)
        view.add_row("", "", "TRL", *cells(result.trl, result.repeated), end_section=True)
    return view


def cells(step: Step, flops: Flops) -> list[str]:
    seconds = [f"{value:.2f}" for value in (step.wall, step.generation, step.training, step.other, step.cpu)]
    return [*seconds, f"{flops.step / step.wall / 1e9:.0f}", f"{step.memory / 1e9:.2f}"]


def as_json(result: Result) -> dict[str, Any]:
    return dataclasses.asdict(result) | {"ratio": result.ratio, "cpu_ratio": result.cpu_ratio, "bound": result.bound}


if __name__ == "__main__":
    main()
