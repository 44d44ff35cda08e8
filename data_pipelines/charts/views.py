"""From a table to what one chart shows: which columns, which rows, which numbers. How it looks is `style.py`.

The numbers of a `Chart` are what is drawn and what questions are answered from: values of the table, or counts, means
and sums of groups of its rows, rounded once, here, to about three digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from statistics import fmean
from typing import Literal, get_args

from data_pipelines.charts.tables import Cell, Number, Records, Table

Kind = Literal["bar", "grouped_bar", "stacked_bar", "line", "area", "scatter", "pie", "histogram", "box"]
KINDS: tuple[Kind, ...] = get_args(Kind)

BOX = ("minimum", "first quartile", "median", "third quartile", "maximum")
"""The series of a box chart; whiskers reach the extremes, quartiles are interpolated linearly (R-7)."""
SIZES: dict[str, tuple[int, int]] = {
    "bar": (3, 8), "grouped_bar": (2, 5), "stacked_bar": (3, 6), "line": (4, 12), "area": (5, 12), "pie": (3, 6),
    "box": (2, 5),
}  # fmt: skip
"""Fewest and most categories."""
POINTS = (8, 30)
"""Fewest and most points of a scatter chart."""
APART = 0.025
"""How far points are apart, in x or in y, as a share of what they span."""
SMALLEST_SHARE = 3.0
"""Percent of the smallest slice of a pie."""


@dataclass(frozen=True)
class Axis:
    """A linear scale with its ticks."""

    low: float
    high: float
    step: float

    @property
    def span(self) -> float:
        return self.high - self.low

    @property
    def ticks(self) -> tuple[float, ...]:
        count = round(self.span / self.step)
        return tuple(clean(self.low + i * self.step) for i in range(count + 1))


@dataclass(frozen=True)
class Chart:
    """What is shown, without its look."""

    kind: Kind
    table: str
    title: str
    measure: str
    """What the numbers are: `mean power`."""
    unit: str
    axis: Axis
    """Of the numbers (percent from 0 to 100 for a pie); the vertical one of a scatter chart."""
    category: str
    """What the categories are; the label of the horizontal axis of a scatter chart."""
    categories: tuple[str, ...] = ()
    """Intervals for a histogram."""
    series: tuple[str, ...] = ("",)
    by: str = ""
    """What the series are: `origin`; empty for a single one."""
    values: tuple[tuple[float, ...], ...] = ()
    """[series][category]"""
    ordered: bool = False
    """Categories are steps in time."""
    points: tuple[tuple[float, float, str], ...] = ()
    """Scatter: x, y, series."""
    across: Axis | None = None
    """Scatter and histogram: the horizontal axis."""

    @property
    def value_label(self) -> str:
        label = f"{self.measure} ({self.unit})" if self.unit else self.measure
        return label[:1].upper() + label[1:]

    @property
    def category_label(self) -> str:
        return self.category[:1].upper() + self.category[1:]


def draw_chart(rng: Random, table: Table, kind: Kind) -> Chart | None:
    """A chart of that kind from the table; None if what was drawn cannot be shown well (draw again, or elsewhere)."""
    if kind == "scatter":
        return _scatter(rng, table)
    if kind == "histogram":
        return _histogram(rng, table)
    return _matrix(rng, table, kind)


def clean(value: float) -> float:
    """Without the last digits, where binary numbers go astray: 0.1 + 0.2 is 0.3."""
    value = float(f"{value:.12g}")
    return 0.0 if value == 0 else value


def nice_axis(values: Sequence[float], *, zero: bool, ticks: int = 6) -> Axis:
    """The scale that holds all values with about `ticks` round ticks; with `zero`, from (or through) zero."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = (low - 1, high + 1) if not zero else (0.0, 1.0)
    rough = (high - low) / (ticks - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = clean(next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999))
    return Axis(clean(math.floor(low / step + 1e-9) * step), clean(math.ceil(high / step - 1e-9) * step), step)


def rounded(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """All to as many decimals as the largest needs for three digits; whole numbers stay whole."""
    largest = max(abs(value) for row in rows for value in row)
    decimals = 0 if largest >= 100 else 2 - math.floor(math.log10(largest)) if largest > 0 else 0
    return tuple(tuple(clean(round(value, decimals)) for value in row) for row in rows)


def shares(values: Sequence[float]) -> tuple[float, ...]:
    """Percentages with one decimal that add up to exactly 100: those with the largest remainders are rounded up."""
    tenths = [value / sum(values) * 1000 for value in values]
    floors = [math.floor(tenth) for tenth in tenths]
    up = sorted(range(len(values)), key=lambda i: floors[i] - tenths[i])[: 1000 - sum(floors)]
    return tuple((floor + (i in up)) / 10 for i, floor in enumerate(floors))


def quartiles(values: Sequence[float]) -> tuple[float, ...]:
    """Minimum, first quartile, median, third quartile, maximum."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return tuple(at(share) for share in (0, 0.25, 0.5, 0.75, 1))


def _matrix(rng: Random, table: Table, kind: Kind) -> Chart | None:
    """Charts of numbers per category and, in some kinds, series."""
    keys = [*table.categories, *table.steps]
    timed = kind in ("line", "area")
    category = _pick(rng, list(table.steps) if timed else list(table.categories) if kind in ("pie", "box") else keys)
    if category is None:
        return None
    others = [key for key in keys if key != category and (key in table.categories or kind == "grouped_bar")]
    needs_series = kind in ("grouped_bar", "stacked_bar")
    series = _pick(rng, others) if needs_series or (timed and rng.random() < 0.6) else None
    if needs_series and series is None:
        return None
    parts = kind in ("stacked_bar", "pie") or (kind == "area" and series is not None)
    usable = [name for name, number in table.numbers.items() if number.additive or not parts]
    if not table.panel and kind != "box" and (not usable or rng.random() < 0.4):
        number = None
    elif usable:
        number = rng.choice(usable)
    else:
        return None
    shown_keys = [key for key in (category, series) if key]
    rows, fixed = (table.rows, "") if kind == "box" or not table.panel else _fixed(rng, table, keys, shown_keys)
    cells: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        value = 1.0 if number is None else row[number]
        if value is None or row[category] is None or (series is not None and row[series] is None):
            continue
        cells.setdefault((str(row[series]) if series else "", str(row[category])), []).append(_float(value))
    names = [""]
    if series:
        present = {s for s, _ in cells}
        names = _some(rng, [name for name in table.kinds(series) if name in present], (2, 4), keep=False)
    if not names:
        return None
    fewest = 5 if kind == "box" else 1
    shown = [c for c in table.kinds(category) if all(len(cells.get((s, c), ())) >= fewest for s in names)]
    if category in table.steps:
        shown = _longest_run(table.kinds(category), set(shown))
    shown = _some(rng, shown, SIZES[kind], keep=category in table.steps)
    if not shown:
        return None
    how = table.numbers[number] if number else Number(f"number of {table.counted}")
    total = number is None or (how.additive and not table.panel)
    if kind == "box":
        columns = [quartiles(cells["", c]) for c in shown]
        names, values = list(BOX), rounded(list(zip(*columns, strict=True)))
    else:
        values = rounded([[(sum if total else fmean)(cells[s, c]) for c in shown] for s in names])
    flat = [value for row in values for value in row]
    sums = [sum(column) for column in zip(*values, strict=True)]
    if parts and (min(flat) < 0 or min(sums) <= 0):
        return None
    if len(set(flat)) == 1 or (kind == "line" and len(set(values)) < len(values)):
        return None  # nothing to ask about; a line hidden behind another
    if kind == "pie":
        values = (shares(values[0]),)
        if min(values[0]) < SMALLEST_SHARE:
            return None
        axis = Axis(0, 100, 10)
    elif kind == "box" or (kind == "line" and rng.random() < 0.5):
        axis = nice_axis(flat, zero=False)
    else:
        axis = nice_axis(sums if parts else flat, zero=True)
    grouped = not (number is None or table.panel or kind == "box")
    label = f"{'total' if total else 'mean'} {how.label}" if grouped else how.label
    label_of = {**table.categories, **table.steps}[category]
    by = {**table.categories, **table.steps}[series] if series else ""
    title = f"{label} by {label_of}{f' and {by}' if by else ''}{fixed}"
    return Chart(
        kind, table.name, title[:1].upper() + title[1:],
        measure=f"share of {how.label.removeprefix('number of ')}" if kind == "pie" else label,
        unit="%" if kind == "pie" else how.unit, axis=axis,
        category=label_of, categories=tuple(shown), series=tuple(names), by=by, values=values,
        ordered=category in table.steps,
    )  # fmt: skip


def _scatter(rng: Random, table: Table) -> Chart | None:
    if len(table.numbers) < 2 or (table.panel and len(table.categories) + len(table.steps) > 1):
        return None
    x, y = rng.sample(list(table.numbers), 2)
    groups = [key for key in table.categories if 2 <= len(table.kinds(key)) <= 5]
    series = rng.choice(groups) if groups and rng.random() < 0.6 else None
    rows = [row for row in table.rows if row[x] is not None and row[y] is not None and (not series or row[series])]
    if len(rows) < POINTS[0]:
        return None
    rows = rng.sample(rows, min(len(rows), rng.randint(*POINTS)))
    points = _apart([(_float(row[x]), _float(row[y]), str(row[series]) if series else "") for row in rows])
    if len(points) < POINTS[0] or len({point[0] for point in points}) < 3 or len({point[1] for point in points}) < 3:
        return None
    names = [name for name in table.kinds(series) if any(point[2] == name for point in points)] if series else [""]
    down, up = table.numbers[x], table.numbers[y]
    what = f" of {len(points)} {table.counted}" if table.counted else ""
    title = f"{up.label} and {down.label}{what}"
    label = down.titled
    return Chart(
        "scatter", table.name, title[:1].upper() + title[1:], measure=up.label, unit=up.unit,
        axis=nice_axis([point[1] for point in points], zero=False), category=label,
        series=tuple(names), by=table.categories[series] if series else "", points=points,
        across=nice_axis([point[0] for point in points], zero=False),
    )  # fmt: skip


def _apart(points: list[tuple[float, float, str]]) -> tuple[tuple[float, float, str], ...]:
    """Without those that would lie upon an earlier one: points are counted."""
    near = tuple(APART * (max(axis) - min(axis)) for axis in ([p[0] for p in points], [p[1] for p in points]))
    kept: list[tuple[float, float, str]] = []
    for point in points:
        if not any(abs(point[0] - x) < near[0] and abs(point[1] - y) < near[1] for x, y, _ in kept):
            kept.append(point)
    return tuple(kept)


def _float(cell: Cell) -> float:
    assert isinstance(cell, (int, float)), cell
    return float(cell)


def _histogram(rng: Random, table: Table) -> Chart | None:
    if table.panel and len(table.categories) + len(table.steps) > 1:
        return None
    number = rng.choice(list(table.numbers))
    rows, fixed = table.rows, ""
    if table.categories and rng.random() < 0.5:
        rows, fixed = _fixed(rng, table, [rng.choice(list(table.categories))], [])
    values = [_float(row[number]) for row in rows if row[number] is not None]
    if len(values) < 15 or len(set(values)) < 5:
        return None
    bins = nice_axis(values, zero=False, ticks=rng.randint(5, 9))
    if max(values) >= bins.high:  # bins are closed at the left only
        bins = Axis(bins.low, clean(bins.high + bins.step), bins.step)
    edges = bins.ticks
    counts = tuple(float(sum(a <= value < b for value in values)) for a, b in pairwise(edges))
    what = table.numbers[number]
    counted = table.counted or "".join(f"{key}s" for key in {**table.categories, **table.steps}.values())
    title = f"distribution of {what.label}{fixed}"
    label = what.titled
    return Chart(
        "histogram", table.name, title[:1].upper() + title[1:], measure=f"number of {counted}", unit="",
        axis=nice_axis(counts, zero=True), category=label,
        categories=tuple(f"{a:.10g} to {b:.10g}" for a, b in pairwise(edges)), values=(counts,),
        across=bins,
    )  # fmt: skip


def _fixed(rng: Random, table: Table, keys: list[str], shown: list[str]) -> tuple[Records, str]:
    """Rows with one value each of the keys that are not shown, as many as it takes to leave one row for what is; and
    how the title says so."""
    rows, said = table.rows, ""
    for key in keys:
        if key in shown or len({tuple(row[name] for name in shown) for row in rows}) == len(rows):
            continue
        kinds = list(dict.fromkeys(str(row[key]) for row in rows if row[key] is not None))
        if not kinds:
            return [], ""
        value = rng.choice(kinds)
        rows = [row for row in rows if str(row[key]) == value]
        bare = value.isdigit() and len(value) != 4  # `8` of what
        said += f", {({**table.categories, **table.steps})[key]} {value}" if bare else f", {value}"
    return rows, said


def _longest_run(order: list[str], there: set[str]) -> list[str]:
    """The longest stretch of neighbours: a line must not jump over what is missing."""
    runs: list[list[str]] = [[]]
    for name in order:
        if name in there:
            runs[-1].append(name)
        else:
            runs.append([])
    return max(runs, key=len)


def _pick(rng: Random, keys: list[str]) -> str | None:
    return rng.choice(keys) if keys else None


def _some(rng: Random, found: list[str], size: tuple[int, int], *, keep: bool) -> list[str]:
    """Some of them in their order, neighbours (or every second one, ...) with `keep`; none if there are too few."""
    if len(found) < size[0]:
        return []
    count = rng.randint(size[0], min(size[1], len(found)))
    if not keep:
        return [found[i] for i in sorted(rng.sample(range(len(found)), count))]
    stride = rng.choice([s for s in (1, 1, 2, 5) if (count - 1) * s < len(found)])
    first = rng.randrange(len(found) - (count - 1) * stride)
    return found[first : first + count * stride : stride][:count]
