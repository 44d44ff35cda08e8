"""How quickly `mmrl view` answers over a run of a million completions: pages, filters, sorting, text search, memory.

    python benchmarks/view_million.py make /tmp/million          # a run directory, about 5 minutes on one core
    python benchmarks/view_million.py ask /tmp/million           # starts the server on it and measures, 2 cores

`make` writes Parquet files as trainings do (one per step: 128 prompts x 8 completions = 1,024 rows, 977 files; with
`--rows 128`, 7,813 files), two scores, completions of 60 words, prompts of a data set of 20,000. `ask` measures at the
socket, the browser's side: the median and the slowest of five requests after a first one, and the processor time of
one, which does not depend on what else the machine does. Results: docs/viewer.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmrl.runs import layout
from mmrl.runs.table import SCHEMA

TEXT = (
    "the button is at top left right of screen click on box red green blue circle because it shows menu first then "
    "we look for icon with text search and point to its centre so answer must be near edge"
)
WORDS = TEXT.split()
PROMPTS = 20_000
GROUP = 8
ASKED = {
    "first page": "/groups?limit=50",
    "last step": "/groups?limit=50&step={last}",
    "filter: reward": "/groups?limit=50&reward_min=0.9",
    "filter: score, truncated": "/groups?limit=50&score=form:0.5:&truncated=true",
    "filter: no spread": "/groups?limit=50&zero_spread=true",
    "sort: spread": "/groups?limit=50&sort=spread&descending=true",
    "sort: conflict": "/groups?limit=50&sort=conflict&descending=true",
    "sort rows: reward": "/rows?limit=50&sort=reward&descending=true",
    "sort rows: a score": "/rows?limit=50&sort=score:form",
    "filter and sort rows": "/rows?limit=50&reward_min=0.5&sort=advantage&descending=true&offset=1000",
    "search: one row": "/rows?limit=50&q=needle-777777",
    "search: half of all rows": "/rows?limit=50&q=circle%20red",
    "search: groups": "/groups?limit=50&q=menu%20first%20then",
    "one group": "/groups/{last}/0/3",
    "tokens of a row": "/tokens/{last}/0/3",
    "history": "/history?sample=sample-77",
    "metrics": "/metrics",
    "the run": "",
}


def make(folder: Path, rows: int, total: int) -> None:
    """A finished run with `total` completions, `rows` per step."""
    chance = random.Random(0)
    (folder / layout.ROLLOUTS).mkdir(parents=True)
    (folder / layout.CONFIG).write_text("steps: 1\nmodel: {path: tiny}\nrewards: [{name: hit}, {name: form}]\n")
    metrics = []
    for step in range(-(-total // rows)):
        count = min(rows, total - step * rows)
        columns = _columns(step, count, total, chance)
        table = pa.Table.from_pydict(columns, schema=SCHEMA)
        pq.write_table(table, folder / layout.ROLLOUTS / f"{layout.step_name(step)}.0.parquet", compression="zstd")
        reward = statistics.fmean(columns["reward"])
        metrics.append({"step": step, "reward": reward, **{f"metric/{i}": chance.random() for i in range(20)}})
    (folder / layout.METRICS).write_text("".join(json.dumps(line) + "\n" for line in metrics))
    events = [{"time": 1.0, "kind": "started", "rank": 0}, {"time": 2.0, "kind": "finished", "rank": 0}]
    (folder / layout.EVENTS).write_text("".join(json.dumps(line) + "\n" for line in events))


def _columns(step: int, count: int, total: int, chance: random.Random) -> dict[str, list[Any]]:
    groups = [row // GROUP for row in range(count)]
    asked = [(step * 1009 + group) % PROMPTS for group in range(groups[-1] + 1)]
    chats = [_chat(n) for n in asked]
    texts = [" ".join(chance.choices(WORDS, k=60)) for _ in range(count)]
    if step * count <= 777_777 < (step + 1) * count:
        texts[777_777 - step * count] += " needle-777777"
    hits = [round(chance.random() * 4) / 4 for _ in range(count)]
    pieces = [text.split(" ") for text in texts]
    media = [{"kind": "image", "file": f"media/{n:064x}.png", "width": 64, "height": 64, "seen_width": 64,
              "seen_height": 64, "times": []} for n in asked]  # fmt: skip
    return {
        "step": [step] * count,
        "rank": [0] * count,
        "group": groups,
        "row": list(range(count)),
        "sample_id": [f"sample-{asked[group]}" for group in groups],
        "origin": ["policy"] * count,
        "messages": [chats[group] for group in groups],
        "media": [[media[group]] for group in groups],
        "target": ['{"box": [1, 2, 3, 4]}'] * count,
        "meta": ['{"task": "gui"}'] * count,
        "coordinates": ["pixel"] * count,
        "completion": texts,
        "made": [None] * count,
        "tokens": [chance.randrange(20, 200) for _ in range(count)],
        "truncated": [chance.random() < 0.05 for _ in range(count)],
        "reward": hits,
        "scores": [json.dumps({"hit": hit, "form": round(chance.random(), 3)}) for hit in hits],
        "advantage": [hit - 0.5 for hit in hits],
        "logp_old": [-0.5] * count,
        "notes": [json.dumps({"hit": {"parsed": {"point": [1, row]}}}) for row in range(count)],
        "pieces": pieces,
        "token_values": [[("advantage", [0.5] * len(row)), ("logp_old", [-0.5] * len(row))] for row in pieces],
    }


def _chat(n: int) -> str:
    text = f"Prompt {n}: {' '.join(WORDS[n % 20 :])}"
    return json.dumps(
        [{"role": "user", "content": [{"type": "image", "image": f"{n}.png"}, {"type": "text", "text": text}]}]
    )


def ask(folder: Path, repeats: int) -> None:
    """Start the server with an empty cache, wait until all is read, measure; then start it again with the cache."""
    last = max(step for step, _, _ in layout.rollout_files(folder))
    with tempfile.TemporaryDirectory() as cache:
        for turn in ("empty", "kept"):
            began = time.perf_counter()
            server, address = _start(folder, cache)
            base = f"{address}api/runs/{folder.name}"
            try:
                _get(f"{address}api/runs")
                print(f"cache {turn}: the list of runs after {time.perf_counter() - began:.2f} s of starting, "
                      f"{_used(server.pid):.2f} s of them processor time")  # fmt: skip
                first = _wait(base, began)
                print(f"cache {turn}: a first page after {first:.2f} s, everything read after "
                      f"{time.perf_counter() - began:.1f} s ({_used(server.pid):.1f} s of processor time); "
                      f"{_memory(server.pid):.0f} MB", flush=True)  # fmt: skip
                if turn == "kept":
                    _measure(base, last, repeats, server.pid)
                    print(
                        f"memory at the end: {_memory(server.pid):.0f} MB, at most {_memory(server.pid, 'VmHWM'):.0f}"
                    )
                    print(f"index on disk: {sum(f.stat().st_size for f in Path(cache).rglob('*.duckdb')) / 1e6:.0f} MB")
            finally:
                server.terminate()
                server.wait()


def _start(folder: Path, cache: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "mmrl.cli", "view", str(folder), "--port", "0", "--no-browser"]
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    found = re.search(r"http://\S+", server.stdout.readline())
    assert found
    return server, found[0]


def _wait(base: str, began: float) -> float:
    """Until every file is read; seconds from the start to the first page that has something."""
    first = 0.0
    while True:
        page = json.loads(_get(f"{base}/groups?limit=50"))
        first = first or (time.perf_counter() - began if page["groups"] else 0.0)
        if page["indexing"]["done"] == page["indexing"]["total"] > 0:
            return first
        time.sleep(0.2)


def _measure(base: str, last: int, repeats: int, pid: int) -> None:
    print(f"{'':28} median s   slowest s   CPU s")
    for name, path in ASKED.items():
        _get(base + path.format(last=last))
        seconds, used = [], _used(pid)
        for _ in range(repeats):
            start = time.perf_counter()
            body = _get(base + path.format(last=last))
            seconds.append(time.perf_counter() - start)
        used = (_used(pid) - used) / repeats
        found = json.loads(body)
        total = f"{found['total']:>9,} found" if "total" in found else ""
        print(f"{name:28} {statistics.median(seconds):8.3f} {max(seconds):11.3f} {used:7.2f}   {total}", flush=True)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=600) as answer:
        body: bytes = answer.read()
        return body


def _used(pid: int) -> float:
    """Seconds of processor time, all threads, so far: what an idle machine would need at least, over its cores."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int, what: str = "VmRSS") -> float:
    """Megabytes of the process, now or (`VmHWM`) at most so far."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "ask"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1024, help="completions per step")
    parser.add_argument("--total", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.what == "make":
        make(arguments.folder, arguments.rows, arguments.total)
    else:
        ask(arguments.folder, arguments.repeats)
