"""Time of region consistency for one group: the grid of edges (`rewards/regions.py`) against the plain grid of pixels.

    .venv/bin/python benchmarks/region_consistency.py                            # one core, some seconds
    .venv/bin/python benchmarks/region_consistency.py --boxes 16 --size 1920 1080

One run, one thread; the two take turns, so that whatever else the machine does meets both, and must give the same
rewards. `reward` is the whole reward, reading the completions included; `grid` is its arithmetic alone, from boxes in
pixels, which is what the plain form is compared with. Medians, of CPU time (which other work on the machine hardly
changes) and of wall time. What was measured: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from mmrl.records import Media, Sample
from rewards.regions import consistency, pixels, region_consistency


def main() -> None:
    arguments = parse_arguments()
    width, height = size = tuple(arguments.size)
    random = np.random.default_rng(arguments.seed)
    corners = np.sort(random.integers(0, (width, height), (arguments.boxes, 2, 2)), axis=1)
    boxes = corners.reshape(-1, 4).tolist()
    texts = [str(box) for box in boxes]
    sample = Sample("screen", (), (Media("image", "screen.png", "0", size),))

    regions = pixels(boxes, size)
    assert (consistency(regions) == plain(regions, size)).all(), "both forms give the same rewards"
    assert [score.value for score in region_consistency(texts, sample)] == consistency(regions).tolist()

    forms: dict[str, Callable[[], Any]] = {
        "reward": lambda: region_consistency(texts, sample),
        "grid": lambda: consistency(pixels(boxes, size)),
        "plain": lambda: plain(pixels(boxes, size), size),
    }
    wall: dict[str, list[float]] = {name: [] for name in forms}
    cpu: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(arguments.runs):
        for name, form in forms.items():
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            form()
            cpu[name].append(1e3 * (time.process_time() - cpu_start))
            wall[name].append(1e3 * (time.perf_counter() - wall_start))

    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    print(f"{arguments.boxes} boxes, {width} x {height}, {arguments.runs} runs, one thread, {load:.1f} tasks per core")
    print(f"{'ms':<8}{'CPU':>10}{'lowest':>10}{'highest':>10}{'wall':>10}{'lowest':>10}{'highest':>10}")
    for name in forms:
        numbers = [value for times in (cpu[name], wall[name]) for value in (median(times), min(times), max(times))]
        print(f"{name:<8}" + "".join(f"{value:10.3f}" for value in numbers))
    ratio = [median(times["plain"]) / median(times["grid"]) for times in (cpu, wall)]
    print(f"plain / grid: {ratio[0]:.0f} by CPU, {ratio[1]:.0f} by wall")


def plain(regions: np.ndarray[Any, Any], size: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The rewards by counting votes pixel by pixel."""
    grid = np.zeros(size[::-1], dtype=np.int64)
    for x1, y1, x2, y2 in regions:
        grid[y1:y2, x1:x2] += 1
    most = grid.max()
    inside = [grid[y1:y2, x1:x2] for x1, y1, x2, y2 in regions]
    return np.array([votes.sum() / (most * votes.size) if votes.size else 0.0 for votes in inside])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=64, help="completions of the group (64)")
    parser.add_argument("--size", type=int, nargs=2, default=(3840, 2160), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--runs", type=int, default=30, help="of each form (30)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
