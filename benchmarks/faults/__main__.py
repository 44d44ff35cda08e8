"""The fault campaign: things happen to real trainings at random moments, and nothing may be lost. About 10 minutes.

    python -m benchmarks.faults                              all scenarios, 60 kills
    python -m benchmarks.faults --only kill-words --kills 20 --seed 7
    python -m benchmarks.faults --jobs 3 --write             and puts the table into docs/failures.md

Every run is compared, bit for bit, with one that nothing happened to. The exit code is 1 if anything was lost, and the
folder of the runs is then kept.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "failures.md"
TIMES = 3
"""How often each fault other than a kill happens."""
SHARE = {"kill-words": 2 / 3, "kill-pictures": 1 / 3}
"""Of the kills."""


def main() -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    from benchmarks.faults.processes import import_everything, side_by_side
    from benchmarks.faults.scenarios import SCENARIOS, happen, happened, prepare
    from benchmarks.faults.table import markdown, printed

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="with kill -9, over all runs (60)")
    parser.add_argument("--times", type=int, default=TIMES, help=f"that each other fault happens ({TIMES})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="a scenario; repeat for more")
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at a time (2)")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where to work; rows of earlier calls stay in the table (default: a temporary folder)",
    )
    parser.add_argument("--write", action="store_true", help="the table into docs/failures.md")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="mmrl-faults-"))
    began = time.monotonic()
    import_everything()
    place = prepare(folder)
    chosen = arguments.only or list(SCENARIOS)
    whole = sum(SHARE.get(name, 0) for name in chosen)
    counts = {
        name: round(arguments.kills * SHARE[name] / whole) if name in SHARE else arguments.times for name in chosen
    }
    jobs = [partial(happen, name, place, counts[name], arguments.seed) for name in chosen]
    side_by_side(jobs, arguments.jobs)
    rows = happened(folder)
    printed(rows)
    print(f"{time.monotonic() - began:.0f} s")
    if arguments.write:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), markdown(rows)), encoding="utf-8")
    if not all(row.found.clean for row in rows):
        print(f"something was lost; the runs are in {folder}", file=sys.stderr)
        sys.exit(1)
    if arguments.folder is None:
        shutil.rmtree(folder)


def with_table(page: str, table: str) -> str:
    """The page with what is between `<!-- table: faults -->` and `<!-- end -->` filled anew."""
    pattern = re.compile(r"(<!-- table: faults -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE} has no place for the table: <!-- table: faults --> and <!-- end -->.")
    return pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", page)


if __name__ == "__main__":
    main()
