"""Completions per second of every built-in reward, on one core, as the table of docs/rewards.md.

    python benchmarks/reward_speed.py            prints the table
    python benchmarks/reward_speed.py --write    puts it into docs/rewards.md

A group of 16 completions: right answers of the authoring tools' samples and sentences around them. Image rewards score
16 images of 64 x 64 pixels. What needs weights that do not ship, or a server, has no speed here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

GROUP, SECONDS = 16, 0.5
ELSEWHERE = {"remote", "hps", "pickscore", "image_reward", "aesthetic"}
DOCUMENT = Path(__file__).parent.parent / "docs" / "rewards.md"
MARK = "<!-- table: python benchmarks/reward_speed.py --write -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into docs/rewards.md")
    write = parser.parse_args().write
    import torch

    from rewards.authoring.show import markdown

    torch.set_num_threads(1)
    head, line, *rows = markdown().split("\n")
    table = [f"{head} completions / s |", f"{line} ---: |"]
    for row in rows:
        name = row.split("`")[1]
        table.append(f"{row} {'' if name in ELSEWHERE else speed(name)} |")
        print(table[-1])
    if write:
        text = DOCUMENT.read_text()
        DOCUMENT.write_text(text[: text.index(MARK)] + MARK + "\n\n" + "\n".join(table) + "\n")


def speed(name: str) -> str:
    """Completions per second, to two figures."""
    from PIL import Image

    from rewards.authoring.battery import make_rollouts
    from rewards.authoring.samples import SETTINGS, TARGETS, own_samples, right_answers
    from rewards.entry import Entry

    entry = Entry.from_config({"name": name, **SETTINGS.get(name, {})}, where=name)
    info = entry.info
    with tempfile.TemporaryDirectory() as folder:
        target = {key: forms[0] for key, forms in TARGETS.items()} | {"answer": "B", "text": "open"}
        sample = replace(own_samples(info.needs, Path(folder))[0], target=target)
        right = right_answers(sample, info.needs) or ["<think>It is there.</think><answer>(260, 160)</answer>"]
        texts = [f"Let me see, {index}. {right[index % len(right)]}" for index in range(GROUP)]
        frames = [Image.effect_noise((64, 64), 40 + index).convert("RGB") for index in range(GROUP)]
        images = {"image": frames, "video": [frames] * GROUP}.get(info.reads)
        rollouts = make_rollouts(texts, sample, entry.stage.settings, images=images)
        failed = [error for error in entry.outcomes(rollouts, step=0, total=1).values() if isinstance(error, Exception)]
        if failed:
            raise RuntimeError(f"{name} cannot be timed") from failed[0]
        rounds, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            entry.outcomes(rollouts, step=0, total=1)
            rounds += 1
        rate = rounds * GROUP / (time.perf_counter() - start)
        entry.close()
    return f"{float(f'{rate:.2g}'):,.0f}"


if __name__ == "__main__":
    main()
