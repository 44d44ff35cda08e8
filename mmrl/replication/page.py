"""The page of all experiments, and the table that ends `mmrl reproduce`. Written from results alone.

Results and pictures lie beside the page, in a folder of its name (docs/reproduce.md, docs/reproduce/NAME.json and
.png): an experiment that is not run again keeps its section.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from mmrl.plugins import ConfigError
from mmrl.replication.experiment import Expectation
from mmrl.replication.plotting import draw
from mmrl.replication.statistics import Verdict, interval, judge
from mmrl.runs.files import atomic_write

INTRODUCTION = """\
# What the methods do, measured in miniature

<!-- Written by `mmrl reproduce`; change configs/reproduce/ and run it. -->

The claim of each paper on a task that two CPU cores can train, with plain GRPO beside it: the same model, data, steps,
prompts, group size and seeds. A task was chosen so that the claim *can* show, and settings were tuned on other seeds
than those reported. What is said here is about these tasks and not about the papers' models.

```bash
mmrl reproduce                 # all
mmrl reproduce {example}
mmrl reproduce --page-only     # this page from the results, without running anything
```

Numbers are means over seeds with 95 % intervals by Student's t, in brackets. All arms of an experiment are measured on
the same prompts, so the intervals are of the training, not of the prompts; a model as it is has no seeds, so its
interval, and that of the difference of two such, is over prompts (bootstrap). A claim is **shown** if every
difference, taken between runs of the same seed, is as large as asked and its interval excludes 0 (or, where no loss is
claimed, ends above the loss allowed), **not shown** if none is, and in part otherwise. The command
computes this from the numbers.
"""


def publish(new: Iterable[Path], page: Path) -> list[dict[str, Any]]:
    """Put results beside the page, draw what is new, and write the page of all that lie there; returns these."""
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for file in new:
        name = read_results(file)["name"]
        shutil.copyfile(file, folder / f"{name}.json")
    every = [read_results(file) for file in sorted(folder.glob("*.json"))]
    if not every:
        raise ConfigError(f"{folder} holds no results; run `mmrl reproduce` first.")
    for results in every:
        draw(results, folder / f"{results['name']}.png")
    with atomic_write(page) as file:
        file.write_text(page_text(every, folder.name), encoding="utf-8")
    return every


def read_results(file: Path) -> dict[str, Any]:
    try:
        results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        verdicts(results)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file} is no results of `mmrl reproduce` ({type(error).__name__}: {error}); "
                          "remove it.") from None  # fmt: skip
    return results


def verdicts(results: Mapping[str, Any]) -> list[tuple[Expectation, Verdict]]:
    """Computed anew from the numbers."""
    found = []
    for entry in results["expect"]:
        expected = Expectation(**entry)
        values, bounds = results["values"][expected.measure], results["bounds"].get(expected.measure, {})
        prompts = (bounds.get(expected.arm), bounds.get(expected.over))
        verdict = judge(expected, values[expected.arm], values[expected.over], prompts=prompts)
        never = results["not_reached"].get(expected.measure, {}).get(expected.arm)
        if never and expected.by is not None and expected.amount[0] < 0:
            verdict = verdict._replace(holds=False)  # how late it would have been is not known
        found.append((expected, verdict))
    return found


def outcome(results: Mapping[str, Any]) -> str:
    """Of a claim: shown, not shown, or how much of it."""
    held = [verdict.holds for _, verdict in verdicts(results)]
    return said(all(held)) if len(set(held)) == 1 else f"{sum(held)} of {len(held)} shown"


def page_text(every: Iterable[Mapping[str, Any]], pictures: str) -> str:
    every = list(every)
    rows = [
        f"| [{escaped(r['title'])}](#{anchor(heading(r))}) | {escaped(r['claim'])} | **{outcome(r)}** | "
        f"{sum(r['seconds'].values()) / 60:.0f} |"
        for r in every
    ]
    summary = "\n".join(["| | claim | | core-minutes |", "|---|---|---|---|", *rows])
    introduction = INTRODUCTION.format(example=every[0]["name"])
    return "\n".join([introduction, summary, "", *(section(results, pictures) for results in every)])


def section(results: Mapping[str, Any], pictures: str) -> str:
    """One experiment: claim, verdict, numbers, picture, what was tried, commands, seconds."""
    name, machine = results["name"], results["machine"]
    seconds = results["seconds"]
    total, prepared = sum(seconds.values()), sum(seconds[line] for line in results["prepare"])
    lines = [
        f"## {heading(results)}",
        "",
        f"{escaped(results['claim'])} **{outcome(results).capitalize()}.** "
        f"([The method](methods/{results['method']}.md), `configs/reproduce/{name}.yaml`)",
        "",
        *_expected(results),
        "",
        *_numbers(results),
        "",
        f"![Curves and the deciding number of {escaped(results['title'])}]({pictures}/{name}.png)",
        "",
        *([results["tried"], ""] if results["tried"] else []),
        f"The commands, with the first seed (all: {', '.join(map(str, results['seeds']))}):",
        "",
        *_commands(results),
        "",
        f"{total / 60:.1f} minutes of one core, {prepared / 60:.1f} of them preparation "
        f"({escaped(machine['processor'])}, {machine['cores']} cores, torch {escaped(machine['torch'])}, "
        f"mmrl {escaped(machine['mmrl'])}, {machine['date']}).",
        "",
    ]
    return "\n".join(lines)


def heading(results: Mapping[str, Any]) -> str:
    return f"{escaped(results['title'])} ({escaped(results['name'])})"


def _expected(results: Mapping[str, Any]) -> list[str]:
    rows = ["| expected | measured | |", "|---|---|---|"]
    for expected, verdict in verdicts(results):
        rows.append(f"| {escaped(_asked(expected))} | {escaped(_measured(expected, verdict))} | "
                    f"{'holds' if verdict.holds else 'does not hold'} |")  # fmt: skip
    return rows


def _asked(expected: Expectation) -> str:
    what = f"{expected.measure}: {expected.arm} against {expected.over}"
    if expected.within is not None:
        return f"{what}, no more than {number(expected.within)} lower"
    if isinstance(expected.by, str):
        return f"{what}, {expected.by} or {'more' if expected.amount[0] > 0 else 'less'}"
    return f"{what}, {expected.amount[0]:+.4g} or {'more' if expected.amount[0] > 0 else 'less'}"


def _measured(expected: Expectation, verdict: Verdict) -> str:
    mean, low, high = verdict.difference
    relative = f", {verdict.relative:+.0%}" if expected.within is None and expected.amount[1] else ""
    return f"{signed(mean)} ({signed(low)} to {signed(high)}){relative}"


def _numbers(results: Mapping[str, Any]) -> list[str]:
    rows = [
        "| | " + " | ".join(escaped(measure) for measure in results["measures"]) + " |",
        "|---|" + "---|" * len(results["measures"]),
    ]
    for arm in results["arms"]:
        cells = [_cell(results, measure, arm) for measure in results["measures"]]
        rows.append(f"| {escaped(arm)} | " + " | ".join(cells) + " |")
    return rows


def _cell(results: Mapping[str, Any], measure: str, arm: str) -> str:
    values = results["values"][measure].get(arm)
    if not values:
        return ""
    missed = results["not_reached"].get(measure, {}).get(arm, 0)
    note = f"; {missed} of {len(values)} never" if missed else ""
    mean, low, high = interval(values)
    bounds = (low, high) if len(values) > 1 else results["bounds"].get(measure, {}).get(arm)
    return number(mean) + (f" ({number(bounds[0])} to {number(bounds[1])})" if bounds else "") + note


def _commands(results: Mapping[str, Any]) -> list[str]:
    lines = list(results["prepare"])
    for arm in results["arms"]:
        lines += [f"# {' '.join(arm.split())}", *results["commands"][arm]]
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}bash", *lines, fence]


def escaped(text: str) -> str:
    """Text as it is, also in a cell of a table: nothing in it is markup, and it is one line."""
    return re.sub(r"([\\`*_|<>\[\]#~$])", r"\\\1", " ".join(str(text).split()))


def anchor(heading: str) -> str:
    """Of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("\\", "").lower()).replace(" ", "-")


def said(holds: bool) -> str:
    return "shown" if holds else "not shown"


def number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def signed(value: float) -> str:
    return f"{value:+.3f}" if abs(value) < 10 else f"{value:+.1f}"


def summary(every: Iterable[Mapping[str, Any]]) -> Table:
    """A row per expectation."""
    table = Table(title="Differences with 95 % intervals over seeds", title_justify="left")
    for column in ("experiment", "expected", "measured", "", "core-minutes"):
        table.add_column(column, overflow="fold")
    for results in every:
        for index, (expected, verdict) in enumerate(verdicts(results)):
            total = f"{sum(results['seconds'].values()) / 60:.1f}"
            table.add_row(
                Text(results["name"] if index == 0 else ""), Text(_asked(expected)), Text(_measured(expected, verdict)),
                Text(said(verdict.holds), style="green" if verdict.holds else "red"), total if index == 0 else "",
            )  # fmt: skip
    return table
