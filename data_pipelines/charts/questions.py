"""Questions about a chart, their answers computed from its numbers, and how exact an answer must be.

A question is asked only if the picture answers it: where numbers are not printed, what is compared must be further
apart than an eye errs (`style.READING`), and a value must be so large that this error is within its tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import correlation
from typing import Any, Literal

from data_pipelines.charts.prompts import QUESTIONS
from data_pipelines.charts.style import READING, Style, written
from data_pipelines.charts.views import BOX, Chart, clean

AnswerType = Literal["number", "integer", "text", "yes_no", "list", "letter"]

TOLERANCE = 0.05
"""Relative error of a number that is read off an axis (ChartQA's relaxed accuracy)."""
CORRELATED = 0.6
"""Smallest absolute correlation that is asked about."""
MOST_POINTS = 10
"""Points that an eye counts without losing track."""
SMALLEST_RATIO = 1.2
"""Below, an answer of 1 is within the tolerance."""
HIGHER = ("higher", "lower")
TASKS: dict[str, str] = {
    "number": "chart_number", "integer": "chart_text", "text": "chart_text", "yes_no": "chart_text",
    "list": "chart_list", "letter": "mcq",
}  # fmt: skip
"""Type of the answer -> `meta.task`, by which rewards are told what they apply to. Counts and years ask for equality:
within 5 % of 2010 are all years of a century."""


@dataclass(frozen=True)
class Question:
    """A question with its exact answer."""

    kind: str
    """A key of `ASKERS`."""
    text: str
    answer: str
    type: AnswerType
    tolerance: float = 0.0
    """Relative."""

    @property
    def target(self) -> dict[str, Any]:
        return {"answer": self.answer, "type": self.type, "tolerance": self.tolerance}


@dataclass(frozen=True)
class Asking:
    """A chart as it can be read, and the generator."""

    rng: Random
    chart: Chart
    style: Style

    @property
    def error(self) -> float:
        """How far off a careful reading of one number is; two edges make the height of what is stacked."""
        if self.style.labels:
            return 0.0
        edges = 2 if self.chart.kind in ("stacked_bar", "area") and self.chart.by else 1
        return READING * self.chart.axis.span * edges

    def say(self, kind: str, wording: str, answer: str, type: AnswerType, **parts: Any) -> Question:
        """`wording` is a key of `QUESTIONS`; a number that is read off an axis has a tolerance, a printed one none."""
        text = self.rng.choice(QUESTIONS[wording]).format(**{"measure": self.chart.measure, **parts})
        tolerance = TOLERANCE if type == "number" and (self.error or kind == "ratio") else 0.0
        return Question(kind, text, answer, type, tolerance)

    def number(self, kind: str, wording: str, value: float, error: float, **parts: Any) -> Question | None:
        """None if the error of reading is more than the tolerance of the answer."""
        value = clean(value)
        if error > TOLERANCE * abs(value):
            return None
        return self.say(kind, wording, written(value, grouped=False), "number", **parts)

    def apart(self, a: float, b: float) -> bool:
        return abs(a - b) > 2 * self.error

    def cell(self, series: int, category: int) -> str:
        """How a question names one number."""
        chart = self.chart
        name = self.step(category)
        if not chart.by:
            return name
        who = self.who(chart.series[series])
        return f"{who} in {name}" if chart.ordered else f"{who}, {name}"

    def step(self, category: int) -> str:
        name = self.chart.categories[category]
        if self.chart.kind == "histogram":
            return f"{self.chart.category.split(' (')[0]} {name}"
        return named(self.chart.category, name)

    def who(self, series: str) -> str:
        return named(self.chart.by, series)

    def place(self) -> tuple[int, int]:
        return self.rng.randrange(len(self.chart.series)), self.rng.randrange(len(self.chart.categories))

    def two(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Two numbers to compare: of one series, or of one category."""
        chart, rng = self.chart, self.rng
        s, c = self.place()
        if len(chart.series) > 1 and rng.random() < 0.5:
            other = rng.choice([i for i in range(len(chart.series)) if i != s])
            return (s, c), (other, c)
        if len(chart.categories) < 2:
            return None
        return (s, c), (s, rng.choice([i for i in range(len(chart.categories)) if i != c]))

    def at(self, place: tuple[int, int]) -> float:
        return self.chart.values[place[0]][place[1]]


def draw_questions(rng: Random, chart: Chart, style: Style, *, count: int, kinds: Sequence[str] = ()) -> list[Question]:
    """Up to `count` different questions of different kinds, as far as the chart answers them; of `kinds` if given."""
    asking = Asking(rng, chart, style)
    possible = [kind for kind in ASKERS if (not kinds or kind in kinds) and chart.kind in CHARTS_OF.get(kind, MATRIX)]
    found: dict[tuple[str, ...], Question] = {}
    for _ in range(4):
        rng.shuffle(possible)
        for kind in possible:
            question = ASKERS[kind](asking)
            if question and len(found) < count:
                # Two wordings of one question have one kind and one answer; with yes or no that says little.
                told = (kind, question.text if question.type == "yes_no" else question.answer)
                found.setdefault(told, question)
    return list(found.values())


def named(label: str, name: str) -> str:
    """A bare number says nothing: `number of cylinders 8`; a year does."""
    return f"{label} {name}" if name.isdigit() and len(name) != 4 else name


def _value(asking: Asking) -> Question | None:
    if asking.chart.kind == "box":
        s, c = asking.place()
        value = asking.chart.values[s][c]
        return asking.number("value", "statistic", value, asking.error, name=BOX[s], cell=asking.step(c))
    place = asking.place()
    return asking.number("value", "value", asking.at(place), asking.error, cell=asking.cell(*place))


def _extreme(asking: Asking) -> Question | None:
    chart, rng = asking.chart, asking.rng
    top = rng.random() < 0.5
    end = "highest" if top else "lowest"
    if chart.kind == "scatter":
        if not chart.by:
            values = [y for _, y, _ in chart.points]
            return asking.number("extreme", "extreme_value", max(values) if top else min(values), asking.error, end=end,
                                 within="")  # fmt: skip
        places = sorted(((y, name) for _, y, name in chart.points), reverse=top)
        rest = [y for y, name in places if name != places[0][1]]
        if not rest or not asking.apart(places[0][0], rest[0]):
            return None
        return asking.say("extreme", "group_extreme", places[0][1], "text", by=chart.by, end=end)
    if chart.kind == "box":
        spread = rng.random() < 0.3
        _, first, median, third, _ = chart.values
        shown = tuple(high - low for low, high in zip(first, third, strict=True)) if spread else median
        best = _alone(asking, shown, top, edges=2 if spread else 1)
        if best is None:
            return None
        if spread:
            return asking.say("extreme", "spread", chart.categories[best], "text", category=chart.category,
                              end="longest" if top else "shortest")  # fmt: skip
        return asking.say("extreme", "extreme", chart.categories[best], "text", category=chart.category, within="",
                          end=end, measure=f"median {chart.measure}")  # fmt: skip
    if chart.by and rng.random() < 0.5:
        c = rng.randrange(len(chart.categories))
        best = _alone(asking, [row[c] for row in chart.values], top)
        within = f" in {asking.step(c)}" if chart.ordered else f" for {asking.step(c)}"
        return None if best is None else asking.say("extreme", "extreme", chart.series[best], "text", category=chart.by,
                                                    end=end, within=within)  # fmt: skip
    s = rng.randrange(len(chart.series))
    best = _alone(asking, chart.values[s], top)
    within = f" of {asking.who(chart.series[s])}" if chart.by else ""
    category = "interval" if chart.kind == "histogram" else chart.category
    return None if best is None else asking.say("extreme", "extreme", chart.categories[best], "text", category=category,
                                                end=end, within=within)  # fmt: skip


def _difference(asking: Asking) -> Question | None:
    return _pair(asking, "difference", lambda a, b: abs(a - b), lambda a, b, error: 2 * error)


def _sum(asking: Asking) -> Question | None:
    if asking.chart.kind == "stacked_bar" and not asking.style.labels and asking.rng.random() < 0.7:
        c = asking.rng.randrange(len(asking.chart.categories))
        total = sum(row[c] for row in asking.chart.values)
        return asking.number("sum", "total", total, asking.error / 2, cell=asking.step(c))
    return _pair(asking, "sum", lambda a, b: a + b, lambda a, b, error: 2 * error)


def _ratio(asking: Asking) -> Question | None:
    places = asking.two()
    if places is None:
        return None
    a, b = sorted(places, key=asking.at, reverse=True)
    low, high = asking.at(b), asking.at(a)
    if low <= 0 or asking.error * (1 / low + 1 / high) > TOLERANCE or not SMALLEST_RATIO <= high / low < 100:
        return None
    names = {"a": asking.cell(*a), "b": asking.cell(*b)}
    return asking.say("ratio", "ratio", written(round(high / low, 2), grouped=False), "number", **names)


def _trend(asking: Asking) -> Question | None:
    chart = asking.chart
    if chart.kind == "scatter":
        assert chart.across is not None
        r = correlation([x for x, _, _ in chart.points], [y for _, y, _ in chart.points])
        if abs(r) < CORRELATED:
            return None
        across = chart.category.split(" (")[0]
        return asking.say("trend", "correlation", "increase" if r > 0 else "decrease", "text", across=across)
    if not chart.ordered:
        return None
    s = asking.rng.randrange(len(chart.series))
    first, last = sorted(asking.rng.sample(range(len(chart.categories)), 2))
    a, b = chart.values[s][first], chart.values[s][last]
    if not asking.apart(a, b):
        return None
    within = f" of {asking.who(chart.series[s])}" if chart.by else ""
    return asking.say("trend", "trend", "increase" if b > a else "decrease", "text", within=within,
                      a=chart.categories[first], b=chart.categories[last])  # fmt: skip


def _count(asking: Asking) -> Question | None:
    chart, rng = asking.chart, asking.rng
    if chart.kind == "scatter":
        if chart.by and rng.random() < 0.5:
            name = rng.choice(chart.series)
            number = sum(series == name for _, _, series in chart.points)
            if number > MOST_POINTS:
                return None
            return asking.say("count", "points_of", str(number), "integer", name=asking.who(name))
        values = [y for _, y, _ in chart.points]
        bound, over = rng.choice(chart.axis.ticks), rng.random() < 0.5
        number = sum(value > bound if over else value < bound for value in values)
        if not 0 < number <= MOST_POINTS or not all(asking.apart(value, bound) for value in values):
            return None
        return asking.say("count", "points_beyond", str(number), "integer", side="above" if over else "below",
                          bound=written(bound))  # fmt: skip
    if chart.kind != "box" and rng.random() < 0.5:
        s = rng.randrange(len(chart.series))
        bound, over = rng.choice(chart.axis.ticks[1:-1] or chart.axis.ticks), rng.random() < 0.5
        values = list(chart.values[s])
        if not all(asking.apart(value, bound) and value != bound for value in values):
            return None
        within = f" of {asking.who(chart.series[s])}" if chart.by else ""
        number = sum(value > bound if over else value < bound for value in values)
        return asking.say("count", "count_above", str(number), "integer", things=_things(chart), within=within,
                          side="above" if over else "below", bound=written(bound))  # fmt: skip
    by_series = bool(chart.by) and rng.random() < 0.5
    number = len(chart.series if by_series else chart.categories)
    things = _plural(chart.by) if by_series else _things(chart)
    return asking.say("count", "count", str(number), "integer", things=things)


def _comparison(asking: Asking) -> Question | None:
    if asking.chart.kind == "box":
        return None
    places = asking.two()
    if places is None or not asking.apart(*map(asking.at, places)):
        return None
    a, b = (asking.cell(*place) for place in places)
    question = asking.say("comparison", "comparison", "", "text", a=a, b=b)
    upper = asking.at(places[0]) > asking.at(places[1])
    wins = upper if " higher " in question.text else not upper
    return Question(question.kind, question.text, a if wins else b, "text")


def _yes_no(asking: Asking) -> Question | None:
    chart = asking.chart
    if chart.kind == "box":
        a, b = asking.rng.sample(range(len(chart.categories)), 2)
        first, second = chart.values[2][a], chart.values[2][b]
        names, prefix = (asking.step(a), asking.step(b)), "median "
    else:
        places = asking.two()
        if places is None:
            return None
        first, second = map(asking.at, places)
        names, prefix = (asking.cell(*places[0]), asking.cell(*places[1])), ""
    if not asking.apart(first, second):
        return None
    wanted = asking.rng.random() < 0.5  # the answer is drawn, so that yes is as likely as no
    side = HIGHER[(first > second) != wanted]
    return asking.say("yes_no", "yes_no", "yes" if wanted else "no", "yes_no", side=side, a=names[0], b=names[1],
                      measure=prefix + chart.measure)  # fmt: skip


def _pair(asking: Asking, kind: str, compute: Callable[[float, float], float],
          error: Callable[[float, float, float], float]) -> Question | None:  # fmt: skip
    """A question about two numbers of the chart."""
    places = asking.two()
    if places is None:
        return None
    a, b = map(asking.at, places)
    names = {"a": asking.cell(*places[0]), "b": asking.cell(*places[1])}
    value = clean(compute(a, b))
    if value == 0:
        return None
    return asking.number(kind, kind, value, error(a, b, asking.error), **names)


def _alone(asking: Asking, values: Sequence[float], top: bool, *, edges: int = 1) -> int | None:
    """The place of the largest (or smallest) value; None if another one is too close to tell."""
    order = sorted(range(len(values)), key=lambda i: values[i], reverse=top)
    gap = abs(values[order[0]] - values[order[1]])
    return order[0] if len(order) > 1 and gap > 2 * edges * asking.error else None


def _things(chart: Chart) -> str:
    return "intervals" if chart.kind == "histogram" else _plural(chart.category)


def _plural(label: str) -> str:
    """Of a column's label: `sites`; `number of cylinders` stays, in quotation marks of a kind."""
    if " " in label:
        return f"different values of {label}"
    if label.endswith(("s", "weather")):
        return {"species": "species", "weather": "kinds of weather"}.get(label, label)
    return f"{label[:-1]}ies" if label.endswith("y") and label[-2:-1] not in "aeiou" else f"{label}s"


ASKERS: dict[str, Callable[[Asking], Question | None]] = {
    "value": _value, "extreme": _extreme, "difference": _difference, "sum": _sum, "ratio": _ratio, "trend": _trend,
    "count": _count, "comparison": _comparison, "yes_no": _yes_no,
}  # fmt: skip
"""Kind of question -> what draws one; None where the chart does not answer it."""
MATRIX = ("bar", "grouped_bar", "stacked_bar", "line", "area", "pie", "histogram")
CHARTS_OF: dict[str, tuple[str, ...]] = {
    "value": (*MATRIX, "box"), "extreme": (*MATRIX, "box", "scatter"), "count": (*MATRIX, "box", "scatter"),
    "yes_no": (*MATRIX, "box"), "trend": ("line", "area", "bar", "grouped_bar", "scatter"),
}  # fmt: skip
"""Kind of question -> kinds of charts it is asked about, where that is not `MATRIX`."""
