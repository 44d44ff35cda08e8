"""Rewards of the campaign's recipes. A file named in a recipe can tell them what happens to the calls from now on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from rewards import reward


def damage(file: Path, how: str) -> None:
    """`cut`, `changed` by one bit, or `deleted`."""
    content = file.read_bytes()
    middle = len(content) // 2
    if how == "cut":
        file.write_bytes(content[:100])
    elif how == "changed":
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        file.unlink()


@reward(range=(0, 1))
def digits(completion, sample, *, trouble: str = ""):
    """Random weights write anything; some completions hold more digits than others."""
    what = Path(trouble).read_text() if trouble and Path(trouble).is_file() else ""
    if what == "crash":
        raise ZeroDivisionError("made up")
    if what == "die":
        os._exit(9)
    if what == "hang":
        time.sleep(600)
    if what.startswith("cut "):
        damage(Path(what[4:]), "cut")
    return min(1.0, sum(letter.isdigit() for letter in completion) / 4)


@reward(range=(0, 1), reads="image")
def light(completion, sample):
    return float(np.asarray(completion, dtype=float).mean() / 255)
