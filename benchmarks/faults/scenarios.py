"""The scenarios by name, in the order of the table. What is expected of a run is what docs/failures.md says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random

from benchmarks.faults.deaths import dead_rank, kills, stops
from benchmarks.faults.files import damaged_media, full_disk, left_out_media, refused_writes
from benchmarks.faults.place import Place
from benchmarks.faults.processes import apart
from benchmarks.faults.rows import Row
from benchmarks.faults.services import bad_reward, reward_server, rollout_server

SCENARIOS: dict[str, Callable[[Place, int, Random], Row]] = {
    "kill-words": partial(kills, "words"),
    "kill-pictures": partial(kills, "pictures"),
    "stop": stops,
    "rank": dead_rank,
    "disk": full_disk,
    "writes": refused_writes,
    "media": damaged_media,
    "media-skip": left_out_media,
    "reward-crash": partial(bad_reward, "crash"),
    "reward-die": partial(bad_reward, "die"),
    "reward-hang": partial(bad_reward, "hang"),
    "reward-server": reward_server,
    "rollout-server": rollout_server,
}

ALONE = ("media", "media-skip")


def prepare(folder: Path) -> Place:
    """The place that scenarios share: models, data, and the whole run that most are compared with."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder)
    if not (folder / "model").exists():
        apart(place.make)
    place.whole("words")
    place.life("words")
    return place


def happen(name: str, shared: Place, count: int, seed: int) -> Row:
    """One scenario. Those that damage the data have data of their own."""
    began = time.monotonic()
    try:
        place = prepare(shared.folder / name) if name in ALONE else shared
        row = SCENARIOS[name](place, count, Random(f"{seed} {name}"))
    except (Exception, SystemExit) as error:
        row = Row(name)
        row.found.problems.append(f"{type(error).__name__}: {error}")
    row.seconds = time.monotonic() - began
    (shared.folder / f"{name}.json").write_text(json.dumps(asdict(row)))
    print(f"{row.scenario}: {row.times} times, {row.seconds:.0f} s", flush=True)
    for problem in row.found.problems:
        print(f"  {problem}", flush=True)
    return row


def happened(folder: Path) -> list[Row]:
    """The rows of all scenarios of a campaign's folder."""
    files = [folder / f"{name}.json" for name in SCENARIOS]
    return [Row.of(json.loads(file.read_text())) for file in files if file.is_file()]
