"""`mmrl reproduce`: read and check everything, run what is not done, then write the page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mmrl.plugins import ConfigError
from mmrl.replication.experiment import find_experiments, read_experiment
from mmrl.replication.page import publish, summary
from mmrl.replication.progress import Progress
from mmrl.replication.running import RESULTS, Plan, check_plans, make_plan, run_all


def reproduce(names: Sequence[str], *, jobs: int, out: Path, page: Path, page_only: bool, console: Console) -> None:
    """All experiments without `names`. `page_only` runs nothing, and takes results that `out` has by now."""
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: at least 1 process at a time.")
    found = find_experiments(names)
    files = [out / name / RESULTS for name in found]
    if not page_only:
        plans: list[Plan] = [make_plan(name, read_experiment(file), out) for name, file in found.items()]
        check_plans(plans)
        with Progress(console, total=sum(plan.count for plan in plans)) as progress:
            asyncio.run(run_all(plans, jobs=jobs, progress=progress))
    every = publish([file for file in files if file.is_file()], page)
    console.print(summary(results for results in every if results["name"] in found))
    console.print(f"{page}", highlight=False, markup=False, soft_wrap=True)
