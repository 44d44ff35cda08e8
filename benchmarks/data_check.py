"""Rows per second and peak memory of `mmrl data check` and `convert`.

    python benchmarks/data_check.py                           1,000,000 text rows and 2,000 rows with media
    python benchmarks/data_check.py --text 100000 --media 0

Every measurement is a process of its own: the resident memory is the peak of that process, Python and imports included;
so is CPU time, without the processes that decode videos.
The first 10,000 text rows are measured as well: flat memory is the difference to that.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

FEW = 10_000
CLIPS = 200
"""Different videos among the rows with media."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=int, default=1_000_000, help="text-only rows")
    parser.add_argument("--media", type=int, default=2000, help="rows with an image or a video")
    parser.add_argument("--measure", nargs=3, metavar=("COMMAND", "FILE", "DECODE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        command, file, decode = arguments.measure
        print(json.dumps(measure(command, Path(file), decode=decode == "yes")))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "few.jsonl", text_rows(min(FEW, arguments.text)))
        write(folder / "text.jsonl", text_rows(arguments.text))
        print("| rows | command | rows / s | rows / CPU s | peak MB |\n|---|---|---:|---:|---:|")
        for file in ("few.jsonl", "text.jsonl"):
            for command in ("check", "convert"):
                report(command, folder / file, decode=False)
        if arguments.media:
            write(folder / "media.jsonl", media_rows(folder, arguments.media))
            for command, decode in (("check", False), ("check", True), ("convert", False)):
                report(command, folder / "media.jsonl", decode=decode)


def report(command: str, file: Path, *, decode: bool) -> None:
    own = [sys.executable, __file__, "--measure", command, str(file), "yes" if decode else "no"]
    done = subprocess.run(own, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    kind = "with media" if file.stem == "media" else "text only"
    label = f"{command} --decode" if decode else command
    numbers = (f"{found[name]:,.0f}" for name in ("rate", "cpu_rate", "megabytes"))
    print(f"| {found['rows']:,} {kind} | `{label}` | {' | '.join(numbers)} |", flush=True)


def measure(command: str, file: Path, *, decode: bool) -> dict[str, float]:
    from data_pipelines.check import check
    from data_pipelines.convert import convert
    from data_pipelines.makers import READERS
    from mmrl.plugins import build

    started, began = time.perf_counter(), time.process_time()
    if command == "check":
        found = check(file, decode=decode)
        assert found.passed, found.problems
        rows = found.rows
    else:
        stage = build({"name": "rows"}, READERS, kind="format", where="benchmark")
        progress = convert(stage, [str(file)], file.parent / "out" / file.name)
        assert not progress.problems, progress.kinds
        rows = progress.rows
    seconds, cpu = time.perf_counter() - started, time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return {"rows": rows, "rate": rows / seconds, "cpu_rate": rows / cpu, "megabytes": peak}


def text_rows(count: int) -> Iterator[dict[str, Any]]:
    for index in range(count):
        rng = Random(index)
        a, b = rng.randrange(1000), rng.randrange(1000)
        question = f"Question {index}: a shop has {a} apples in each of {b} boxes. How many apples are there in all?"
        messages = [{"role": "system", "content": "Answer in digits."}, {"role": "user", "content": question}]
        yield {"id": f"t{index:07d}", "messages": messages, "target": {"answer": a * b}, "meta": {"task": "sums"}}


def media_rows(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """Half of the rows ask of an image of their own (640 x 480 JPEG), half of a clip (320 x 240, 2 s, mp4)."""
    from PIL import Image

    from mmrl.pictures import encode

    base = [Image.effect_noise((640, 480), 40 + index).convert("RGB") for index in range(4)]
    for index in range(min(CLIPS, count)):
        frames = [base[0].crop((index, at, index + 320, at + 240)) for at in range(0, 96, 6)]
        (folder / f"{index}.mp4").write_bytes(encode(frames)[0])
    for index in range(count):
        if index % 2:
            part = {"type": "video", "video": f"{index // 2 % CLIPS}.mp4"}
            target: dict[str, Any] = {"span": [0.5, 1.5]}
        else:
            image = base[index % 4].copy()
            image.paste((index % 256, index // 256, 0), (10, 10, 60, 60))
            image.save(folder / f"{index}.jpg")
            part, target = {"type": "image", "image": f"{index}.jpg"}, {"box": [10, 10, 60, 60]}
        content = [part, {"type": "text", "text": f"Where is it, number {index}?"}]
        messages = [{"role": "user", "content": content}]
        yield {"id": f"m{index}", "messages": messages, "target": target, "meta": {"coordinates": "pixel"}}


def write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
