"""How a chart looks: renderer, theme, colours, fonts, where the legend stands, whether numbers are printed.

A look is drawn from a specification and never changes the numbers (the replotting idea of BigCharts, arXiv 2508.09804).
`paint` draws it; `READING` says how exactly a chart without printed numbers can be read.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Literal, get_args

from data_pipelines.charts.views import Chart, Kind

if TYPE_CHECKING:
    from PIL.Image import Image

Renderer = Literal["matplotlib", "vega"]
RENDERERS: tuple[Renderer, ...] = get_args(Renderer)

READING = 0.01
"""Error of a careful eye, as a share of the axis: what a question without printed numbers must allow for."""

SIZES = ((640, 480), (560, 420), (720, 480), (800, 500), (600, 600), (480, 480))
"""Width and height in pixels."""
THEMES: dict[Renderer, tuple[str, ...]] = {
    "matplotlib": ("default", "ggplot", "bmh", "fivethirtyeight", "seaborn-v0_8-whitegrid", "seaborn-v0_8-darkgrid",
                   "Solarize_Light2", "dark_background", "classic"),
    "vega": ("default", "ggplot2", "fivethirtyeight", "quartz", "latimes", "vox", "dark", "googlecharts"),
}  # fmt: skip
DARK = ("dark_background", "dark")
PALETTES: tuple[tuple[str, ...], ...] = (
    ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2", "#9d755d"),
    ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02"),
    ("#e41a1c", "#377eb8", "#4daf4a", "#984ea3", "#ff7f00", "#a65628"),
    ("#66c2a5", "#fc8d62", "#8da0cb", "#e78ac3", "#a6d854", "#e5c494"),
    ("#003f5c", "#bc5090", "#ffa600", "#58508d", "#ff6361", "#8a9aa5"),
    ("#2a9d8f", "#e76f51", "#e9c46a", "#457b9d", "#9b5de5", "#8d99ae"),
)
LONGEST_LABEL = 6
"""Characters of a number that is printed at a narrow bar."""
MOST_LABELS = 10
"""Numbers printed in one chart."""


@dataclass(frozen=True)
class Style:
    """A look; what a renderer or a kind of chart has no use for is not drawn."""

    renderer: Renderer
    theme: str
    size: tuple[int, int]
    palette: tuple[str, ...]
    labels: bool
    """Numbers are printed at their marks."""
    horizontal: bool
    """Bars lie."""
    grid: bool
    legend: Literal["right", "bottom"]
    font: Literal["sans-serif", "serif", "monospace"]
    text_size: int
    bar_width: float
    """Share of the room of a category."""
    marker: Literal["circle", "square", "triangle", "none"]
    dashed: bool
    """Lines of different series have different dashes."""
    many_colours: bool
    """Bars of a single series have a colour each."""

    @property
    def ink(self) -> str:
        return "#f0f0f0" if self.theme in DARK else "#303030"


def draw_style(rng: Random, chart: Chart, renderers: Sequence[Renderer] = RENDERERS) -> Style:
    """A look in which everything asked about this chart can be told apart."""
    renderer = rng.choice(list(renderers))
    palette = list(rng.choice(PALETTES))
    rng.shuffle(palette)
    longest = max(map(len, (*chart.categories, "")))
    return Style(
        renderer=renderer,
        theme=rng.choice(THEMES[renderer]),
        size=rng.choice(SIZES),
        palette=tuple(palette),
        labels=can_label(chart) and rng.random() < (0.7 if chart.kind == "pie" else 0.35),
        horizontal=chart.kind in ("bar", "grouped_bar", "stacked_bar") and not chart.ordered
        and (longest > 12 or rng.random() < 0.3),
        grid=rng.random() < 0.7,
        legend="bottom" if rng.random() < 0.4 and sum(map(len, chart.series)) < 40 else "right",
        font=rng.choice(("sans-serif", "sans-serif", "serif", "monospace")),
        text_size=rng.randint(10, 12),
        bar_width=rng.choice((0.5, 0.6, 0.7, 0.8)),
        marker=rng.choice(("circle", "square", "triangle", *(() if chart.kind == "scatter" else ("none",)))),
        dashed=rng.random() < 0.3,
        many_colours=rng.random() < 0.3 and len(chart.categories) <= 6,
    )  # fmt: skip


def can_label(chart: Chart) -> bool:
    """Whether there is room to print every number at its mark."""
    numbers = [value for row in chart.values for value in row]
    if len(numbers) > MOST_LABELS or max((len(written(value)) for value in numbers), default=0) > LONGEST_LABEL:
        return False
    if chart.kind == "stacked_bar":
        return min(numbers) >= 0.07 * chart.axis.span
    if chart.kind == "pie":
        return min(numbers) >= 5
    single: tuple[Kind, ...] = ("bar", "histogram", "line")
    return chart.kind == "grouped_bar" or (chart.kind in single and len(chart.series) == 1)


def paint(chart: Chart, style: Style) -> Image:
    """RGB, of the style's size; the same chart and style make the same pixels."""
    if style.renderer == "matplotlib":
        from data_pipelines.charts.paint_matplotlib import paint_matplotlib

        return paint_matplotlib(chart, style)
    from data_pipelines.charts.paint_vega import paint_vega

    return paint_vega(chart, style)


def tilted(chart: Chart, style: Style) -> bool:
    """Whether the names under a horizontal axis need more room than lies between them."""
    width = style.size[0] * (0.6 if chart.by and style.legend == "right" else 0.8)
    return max(map(len, chart.categories)) + 1 > width / len(chart.categories) / (0.62 * style.text_size)


def below(values: Sequence[float], place: int) -> bool:
    """Whether the number at a point of a line is printed under it: in a valley."""
    around = [*values[max(place - 1, 0) : place], *values[place + 1 : place + 2]]
    return values[place] < sum(around) / len(around)


def written(value: float, *, grouped: bool = True) -> str:
    """A number as people write it: `12,500`, `0.25`; without separators for answers."""
    number = Decimal(repr(float(value)))
    number = number.to_integral_value() if number == number.to_integral_value() else number.normalize()
    return f"{number:,f}" if grouped else f"{number:f}"


def title_lines(chart: Chart, style: Style) -> list[str]:
    """The title, broken where the picture ends."""
    return textwrap.wrap(chart.title, max(20, int(style.size[0] / (0.68 * (style.text_size + 2)))))


def layered(chart: Chart) -> tuple[tuple[tuple[float, float], ...], ...]:
    """[series][category] from where to where a mark reaches: series upon series in a stack, else from zero."""
    stacked = chart.kind in ("stacked_bar", "area")
    rows = []
    floor = [0.0] * len(chart.categories)
    for values in chart.values:
        rows.append(tuple((low, low + value) for low, value in zip(floor, values, strict=True)))
        if stacked:
            floor = [high for _, high in rows[-1]]
    return tuple(rows)
