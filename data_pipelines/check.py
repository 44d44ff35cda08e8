"""`mmrl data check`: every row of a dataset read as training would read it, and the table of what was found.

Memory is flat: rows pass by, and what must be remembered of all of them (ids, questions) is on disk.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from data_pipelines.opening import BATCH, Opener
from data_pipelines.reading import Problem, Row
from data_pipelines.rows import Gold, RowError, answered, doubts, faults, name_of, remarks, sample_of, texts
from data_pipelines.sources import FirstRows, Rows
from data_pipelines.targets import PLACES
from mmrl.plugins import ConfigError
from mmrl.records import Sample
from mmrl.runs.summary import clean

Measure = Callable[[Sample], int | None]
"""The tokens of a sample's prompt, None where none are counted. ValueError says why it cannot be trained on."""

WORST = 5
"""Longest prompts that are listed."""
WIDE = 1100
"""Pixels: in an image wider than this some coordinate should exceed 1000."""
MANY = 20
"""Rows with wide images before their coordinates are doubted."""


@dataclass
class Report:
    """What a check found."""

    source: str
    rows: int = 0
    bad: int = 0
    media: Counter[str] = field(default_factory=Counter)
    """Images and videos, every use counted."""
    files: int = 0
    """Different files."""
    tasks: Counter[str] = field(default_factory=Counter)
    prompts: int = 0
    """Rows with neither a target nor an assistant turn."""
    coordinates: Counter[str] = field(default_factory=Counter)
    """`meta.coordinates` of the rows with boxes or points."""
    problems: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    first_remarks: dict[str, str] = field(default_factory=dict)
    tokens: Counter[int] = field(default_factory=Counter)
    worst: list[tuple[int, int, str]] = field(default_factory=list)
    """(tokens, minus the row's number, where) of the longest prompts."""
    seconds: float = 0.0
    wide: int = 0
    farthest: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.problems


def check(
    source: str | Path,
    *,
    decode: bool = False,
    need_target: bool = False,
    roots: Sequence[str | Path] = (),
    measure: Measure | None = None,
    whole: Callable[[], Iterable[str]] = tuple,
    say: Callable[[Problem], None] = lambda problem: None,
    tick: Callable[[Rows], None] = lambda rows: None,
) -> Report:
    """Check all rows of a source; `roots` as in `media.locate`.

    `measure` is asked of every row that can be opened, `whole` at the end, for what is wrong with all rows together.
    `say` hears of every problem as it is found, `tick` after every batch.
    """
    started = time.perf_counter()
    rows = Rows(source)
    work = _Check(Report(str(source)), rows.folder, decode, need_target, roots, measure, whole, say)
    stream = iter(rows)
    while batch := work.batch(stream):
        work.media.ahead(row for _, row in batch)
        work.faulty.clear()
        opened = [sample for where, row in batch if (sample := work.row(where, row))]
        if measure is not None:
            for sample, found in zip(opened, work.media.pool.map(work.measured, opened), strict=True):
                work.tokens(sample, found)
        tick(rows)
    if not work.report.rows:
        work.problem(str(source), RowError("empty", "there are no rows"))
    work.whole()
    work.report.seconds = time.perf_counter() - started
    return work.report


@dataclass
class _Check:
    report: Report
    folder: Path
    decode: bool
    need_target: bool
    roots: Sequence[str | Path]
    measure: Measure | None
    by_recipe: Callable[[], Iterable[str]]
    say: Callable[[Problem], None]

    def __post_init__(self) -> None:
        self.faulty: set[str] = set()
        """Where the bad rows of this batch stand: one that the recipe refuses as well is counted once."""
        self.media = Opener(self.folder, decode=self.decode, roots=self.roots)
        self.ids, self.questions, self.files = FirstRows(), FirstRows(), FirstRows()

    def batch(self, stream: Iterator[tuple[str, Row | Problem]]) -> list[tuple[str, Row | Problem]]:
        """The next rows; a file that cannot be read any further ends with a problem."""
        found: list[tuple[str, Row | Problem]] = []
        try:
            for pair in islice(stream, BATCH):
                found.append(pair)
        except ConfigError as error:
            if not self.report.rows and not found:
                raise
            found.append((self.report.source, Problem(self.report.source, str(error), "cut short")))
        return found

    def row(self, where: str, row: Row | Problem) -> Sample | None:
        """The sample, if the row can be opened at all."""
        report = self.report
        report.rows += 1
        if isinstance(row, Problem):
            self.problem(where, RowError(row.kind, row.message))
            report.bad += 1
            return None
        name = name_of(row)
        where = f"{where} (id {name})"
        errors: list[RowError] = []
        if (other := self.ids.seen(name, report.rows)) is not None:
            errors.append(RowError("duplicate ids", f"the id is already that of row {other}; ids must differ"))
        sample = None
        try:
            gold: Gold = "target" if self.need_target else "optional"
            sample = sample_of(row, name, folder=self.folder, where=where, gold=gold, roots=self.roots)
        except RowError as error:
            errors.append(error)
        else:
            errors += [*faults(sample), *doubts(sample), *self.media.faults(sample)]
            self.opened(sample)
        for found in errors:
            self.problem(where, found)
        if errors:
            report.bad += 1
            self.faulty.add(where)
        return sample

    def opened(self, sample: Sample) -> None:
        """What is counted, and what is only remarked on."""
        report = self.report
        report.tasks[str(sample.meta.get("task", "-"))[:80]] += 1
        report.prompts += not sample.target and not answered(sample.messages)
        for media in sample.media:
            report.media[media.kind] += 1
            report.files += self.files.seen(media.path, report.rows) is None
        for remark in remarks(sample, self.folder):
            self.remark(sample.where, remark.kind, str(remark))
        asked = [message for message in sample.messages if message["role"] != "assistant"]
        question = "\n".join([*texts(asked), *(media.digest for media in sample.media)])
        if (other := self.questions.seen(question, report.rows)) is not None:
            self.remark(sample.where, "repeated questions", f"the question and media of row {other}")
        self.places(sample)

    def places(self, sample: Sample) -> None:
        """Boxes and points: the convention the rows declare, and how far right or down they reach in wide images."""
        target = sample.target
        if PLACES.isdisjoint(target):
            return
        values: list[Any] = [target[key] for key in ("box", "point") if key in target]
        for key in ("boxes", "points"):
            values += target[key] if isinstance(target.get(key), list) else []
        self.report.coordinates[str(sample.meta.get("coordinates", "(none)"))[:20]] += 1
        if sample.media and min(sample.media[0].size) > WIDE:
            self.report.wide += 1
            numbers = [n for value in values if isinstance(value, list) for n in value if isinstance(n, (int, float))]
            self.report.farthest = max([self.report.farthest, *numbers])

    def whole(self) -> None:
        """What only all rows together can tell."""
        report = self.report
        for message in self.by_recipe() if report.rows else ():
            self.problem(report.source, RowError("refused by the recipe", message))
        if report.wide >= MANY and report.farthest <= 1000:
            text = f"no coordinate of {report.wide:,} rows with images over {WIDE} pixels exceeds {report.farthest:g}"
            self.remark(report.source, "coordinates up to 1000", f"{text}: are the targets 0 to 1000 and not pixels?")

    def measured(self, sample: Sample) -> int | str | None:
        assert self.measure is not None
        try:
            return self.measure(sample)
        except ValueError as error:
            return str(error)

    def tokens(self, sample: Sample, found: int | str | None) -> None:
        report = self.report
        if found is None:
            return
        if isinstance(found, str):
            self.problem(sample.where, RowError("refused by the recipe", found))
            report.bad += sample.where not in self.faulty
            return
        report.tokens[found] += 1
        longest = (found, -sum(report.tokens.values()), sample.where)
        if len(report.worst) < WORST:
            heapq.heappush(report.worst, longest)
        else:
            heapq.heappushpop(report.worst, longest)

    def problem(self, where: str, error: RowError) -> None:
        self.report.problems[error.kind] += 1
        self.say(Problem(where, str(error), error.kind))

    def remark(self, where: str, kind: str, message: str) -> None:
        self.report.remarks[kind] += 1
        self.report.first_remarks.setdefault(kind, f"{where}: {message}")


def summary(report: Report) -> Table:
    """The table at the end."""
    table = Table(title=Text(clean(report.source)), title_justify="left", show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    rate = f"{report.rows / report.seconds:,.0f} rows/s" if report.seconds else ""
    facts = [("rows", f"{report.rows:,}, {report.rows - report.bad:,} of them without a problem; {rate}")]
    uses = ", ".join(f"{count:,} {kind}s" for kind, count in report.media.items())
    facts.append(("media", f"{uses} in {report.files:,} files" if uses else "none"))
    facts.append(("tasks", listing(report.tasks)))
    if report.prompts:
        facts.append(("prompts only", f"{report.prompts:,} rows without a target and without an assistant turn"))
    if report.coordinates:
        facts.append(("coordinates", listing(report.coordinates)))
    if report.tokens:
        middle, high, most = (quantile(report.tokens, share) for share in (0.5, 0.95, 1.0))
        facts.append(("prompt tokens", f"median {middle:,}, 95 % at most {high:,}, longest {most:,}"))
        facts += [("  longest", f"{tokens:,}  {where}") for tokens, _, where in sorted(report.worst, reverse=True)]
    facts.append(("problems", f"{sum(report.problems.values()):,}" if report.problems else "none"))
    facts += [(f"  {kind}", f"{count:,}") for kind, count in report.problems.most_common()]
    if report.remarks:
        facts.append(("remarks", f"{sum(report.remarks.values()):,}"))
    facts += [
        (f"  {kind}", f"{count:,}, first {report.first_remarks[kind]}") for kind, count in report.remarks.most_common()
    ]
    for name, value in facts:
        table.add_row(Text(clean(name)), Text(clean(value)))
    return table


def listing(counts: Counter[Any], most: int = 8) -> str:
    """`a 3, b 2, 4 more kinds`."""
    named = ", ".join(f"{value} {count:,}" for value, count in counts.most_common(most))
    return f"{named}, {len(counts) - most:,} more kinds" if len(counts) > most else named or "-"


def quantile(counts: Counter[int], share: float) -> int:
    """The smallest value that at least this share of all counted values does not exceed."""
    wanted, below = share * sum(counts.values()), 0
    for value in sorted(counts):
        below += counts[value]
        if below >= wanted:
            return value
    raise ValueError("nothing was counted")
