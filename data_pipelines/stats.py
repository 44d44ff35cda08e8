"""What a dataset is made of: `mmrl data stats`. Only counts are kept, so memory is flat."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Group
from rich.table import Table
from rich.text import Text

from data_pipelines.check import listing, quantile
from data_pipelines.opening import samples_of
from data_pipelines.reading import Problem
from data_pipelines.rows import texts
from data_pipelines.sources import Rows
from data_pipelines.targets import golds
from mmrl.records import Sample
from mmrl.runs.summary import clean

DIFFERENT = 10_000
"""Different answers of a task that are told apart; the rest are counted together."""
ANSWERS = ("answer", "choices", "count", "action", "answers")


@dataclass
class Part:
    """The rows of one task from one source."""

    rows: int = 0
    turns: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    characters: Counter[int] = field(default_factory=Counter)
    """Of the texts that the model is given."""
    tokens: Counter[int] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)
    """Keys of `target`."""
    answers: Counter[str] = field(default_factory=Counter)
    other_answers: int = 0
    seconds: Counter[int] = field(default_factory=Counter)
    """Lengths of gold spans, rounded."""
    areas: Counter[int] = field(default_factory=Counter)
    """Gold boxes in per mille of their image."""


@dataclass
class Statistics:
    source: str
    bad: int = 0
    parts: dict[tuple[str, str], Part] = field(default_factory=lambda: defaultdict(Part))
    """By (meta.task, meta.source)."""


def statistics(
    source: str,
    *,
    measure: Callable[[Sample], int | None] | None = None,
    tick: Callable[[Rows], None] = lambda rows: None,
) -> Statistics:
    """Count the rows of a source; `measure` gives the tokens of a prompt."""
    found = Statistics(source)
    for sample in samples_of(Rows(source), tick=tick):
        if isinstance(sample, Problem):
            found.bad += 1
            continue
        try:
            _count(found, sample, None if measure is None else measure(sample))
        except ValueError:
            found.bad += 1
    return found


def _count(found: Statistics, sample: Sample, tokens: int | None) -> None:
    part = found.parts[str(sample.meta.get("task", "-"))[:80], str(sample.meta.get("source", "-"))[:80]]
    target = sample.target
    part.rows += 1
    part.turns += sum(message["role"] == "assistant" for message in sample.messages)
    part.sizes.update(media.size for media in sample.media)
    given = [message for message in sample.messages if message["role"] != "assistant"]
    part.characters[sum(map(len, texts(given)))] += 1
    if tokens is not None:
        part.tokens[tokens] += 1
    part.targets.update(str(key)[:80] for key in target)
    for key in ANSWERS:
        if key in target:
            text = target[key] if isinstance(target[key], str) else json.dumps(target[key], ensure_ascii=False)
            text = text[:80]
            if text in part.answers or len(part.answers) < DIFFERENT:
                part.answers[text] += 1
            else:
                part.other_answers += 1
            break
    for span in golds(target, "span", "spans", 2):
        part.seconds[round(span[1] - span[0])] += 1
    for x1, y1, x2, y2 in golds(target, "box", "boxes", 4) if sample.media else ():
        width, height = sample.media[0].size
        part.areas[round(1000 * (x2 - x1) * (y2 - y1) / (width * height))] += 1


def tables(found: Statistics) -> Group:
    """What the parts are, and their answers."""
    parts = sorted(found.parts.items(), key=lambda item: -item[1].rows)
    total = sum(part.rows for _, part in parts)
    title = f"{found.source}: {total:,} rows" + (f", {found.bad:,} bad" if found.bad else "")
    overview = Table(title=Text(clean(title)), title_justify="left", show_header=False, box=None)
    overview.add_column(overflow="fold")
    overview.add_column(style="dim")
    overview.add_column(overflow="fold")
    for (task, source), part in parts:
        facts = {
            "rows": f"{part.rows:,}" + (f", {part.turns:,} assistant turns" if part.turns else ""),
            "media": f"{sum(part.sizes.values()):,} of {_sizes(part.sizes)} pixels" if part.sizes else "",
            "characters": _spread(part.characters),
            "tokens": _spread(part.tokens),
            "spans": _spread(part.seconds, " s"),
            "boxes": _spread(part.areas, " thousandths of the image"),
            "target": listing(part.targets) if part.targets else "",
        }
        name = task if source == "-" else f"{task}, {source}"
        for place, (fact, value) in enumerate((fact, value) for fact, value in facts.items() if value):
            overview.add_row(*(Text(clean(cell)) for cell in ("" if place else name, fact, value)))
    answers = Table(title="answers", title_justify="left", box=None, header_style="bold")
    answers.add_column("task")
    answers.add_column("different", justify="right")
    answers.add_column("most frequent", overflow="fold")
    for (task, _), part in parts:
        if part.answers:
            different = f"{len(part.answers):,}{'+' if part.other_answers else ''}"
            shares = ", ".join(f"{text[:40]} {count / part.rows:.0%}" for text, count in part.answers.most_common(8))
            answers.add_row(*(Text(clean(cell)) for cell in (task, different, shares)))
    return Group(overview, Text(), answers) if answers.row_count else Group(overview)


def _spread(counts: Counter[int], unit: str = "") -> str:
    """`10 to 900, median 42`; nothing for nothing."""
    return f"{min(counts):,} to {max(counts):,}{unit}, median {quantile(counts, 0.5):,}" if counts else ""


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    if len(sizes) < 2:
        return "".join(f"{width}x{height}" for width, height in sizes) or "-"
    least, most = (choose(sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
    return f"{least[0]}x{least[1]} to {most[0]}x{most[1]}"
