"""Charts through matplotlib. No pyplot and no window; what is drawn where is fixed by the chart, not by defaults."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from data_pipelines.charts.ink import ink_on
from data_pipelines.charts.style import Style, below, layered, tilted, title_lines, written
from data_pipelines.charts.views import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

DPI = 100
MARKERS = {"circle": "o", "square": "s", "triangle": "^", "none": ""}
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1)))


def paint_matplotlib(chart: Chart, style: Style) -> Image:
    """The picture, RGB."""
    import matplotlib.style
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    look: Any = {
        "text.parse_math": False, "text.usetex": False, "font.family": style.font, "font.size": style.text_size * 0.72,
        "axes.labelsize": style.text_size * 0.75, "xtick.labelsize": style.text_size * 0.7,
        "ytick.labelsize": style.text_size * 0.7, "legend.fontsize": style.text_size * 0.7, "lines.markersize": 5,
        "axes.unicode_minus": False, "savefig.facecolor": "auto", "path.sketch": None,
    }  # fmt: skip
    with matplotlib.style.context(style.theme), rc_context(look):
        figure = figure_of(chart, style)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = bytes(canvas.buffer_rgba())
        return Image.frombuffer("RGBA", canvas.get_width_height(), pixels, "raw", "RGBA", 0, 1).convert("RGB")


def figure_of(chart: Chart, style: Style) -> Figure:
    """The figure with one pair of axes, not yet drawn; rc parameters are the caller's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.size[0] / DPI, style.size[1] / DPI), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    figure.suptitle("\n".join(title_lines(chart, style)), fontsize=(style.text_size + 1) * 0.75)
    paint = {"pie": _pie, "scatter": _scatter, "box": _boxes, "histogram": _histogram, "line": _lines, "area": _areas}
    paint.get(chart.kind, _bars)(axes, chart, style)
    if chart.by or chart.kind == "pie":
        _legend(axes, chart, style)
    return figure


def _bars(axes: Axes, chart: Chart, style: Style) -> None:
    beside = len(chart.series) if chart.kind == "grouped_bar" else 1
    width = style.bar_width / beside
    draw = axes.barh if style.horizontal else axes.bar
    for s, (name, spans) in enumerate(zip(chart.series, layered(chart), strict=True)):
        shift = (s - (beside - 1) / 2) * width if beside > 1 else 0.0
        places = [i + shift for i in range(len(spans))]
        colours: Any = style.palette[s]
        if style.many_colours and not chart.by:
            colours = [style.palette[i % len(style.palette)] for i in range(len(spans))]
        lows = [low for low, _ in spans]
        sizes = [high - low for low, high in spans]
        base: Any = {"left": lows} if style.horizontal else {"bottom": lows}
        bars = draw(places, sizes, width, color=colours, label=name, linewidth=0.0, **base)
        if style.labels:
            inside = chart.kind == "stacked_bar"
            texts = [written(value) for value in chart.values[s]]
            ink = ink_on(style.palette[s]) if inside else style.ink
            axes.bar_label(bars, texts, label_type="center" if inside else "edge", padding=0 if inside else 2,
                           fontsize=style.text_size * 0.65, color=ink)  # fmt: skip
    _scale(axes, chart, style)
    _categories(axes, chart, style, list(range(len(chart.categories))))
    if style.horizontal:
        axes.invert_yaxis()


def _lines(axes: Axes, chart: Chart, style: Style) -> None:
    places = list(range(len(chart.categories)))
    for s, (name, values) in enumerate(zip(chart.series, chart.values, strict=True)):
        dash = DASHES[s % len(DASHES)] if style.dashed else "-"
        axes.plot(places, values, color=style.palette[s], label=name, marker=MARKERS[style.marker], linestyle=dash,
                  linewidth=1.8)  # fmt: skip
        if style.labels:
            for place, value in zip(places, values, strict=True):
                under = below(values, place)
                axes.annotate(written(value), (place, value), (0, -5 if under else 5), textcoords="offset points",
                              ha="center", va="top" if under else "bottom", fontsize=style.text_size * 0.65,
                              color=style.ink)  # fmt: skip
    _scale(axes, chart, style)
    _categories(axes, chart, style, places)


def _areas(axes: Axes, chart: Chart, style: Style) -> None:
    places = list(range(len(chart.categories)))
    for s, (name, spans) in enumerate(zip(chart.series, layered(chart), strict=True)):
        lows, highs = zip(*spans, strict=True)
        axes.fill_between(places, lows, highs, color=style.palette[s], label=name, linewidth=0.0)
    _scale(axes, chart, style)
    _categories(axes, chart, style, places)
    axes.set_xlim(0, len(places) - 1)


def _pie(axes: Axes, chart: Chart, style: Style) -> None:
    values = chart.values[0]
    axes.pie(values, colors=style.palette[: len(values)], startangle=90, counterclock=False,
             wedgeprops={"linewidth": 1, "edgecolor": axes.figure.get_facecolor()})  # fmt: skip
    if style.labels:
        angle = 90.0
        for value, colour in zip(values, style.palette, strict=False):
            middle = math.radians(angle - value * 1.8)
            axes.text(0.72 * math.cos(middle), 0.72 * math.sin(middle), f"{written(value)}%", ha="center", va="center",
                      fontsize=style.text_size * 0.68, color=ink_on(colour))  # fmt: skip
            angle -= value * 3.6


def _histogram(axes: Axes, chart: Chart, style: Style) -> None:
    assert chart.across is not None
    edges, counts = chart.across.ticks, chart.values[0]
    bars = axes.bar(edges[:-1], counts, chart.across.step, align="edge", color=style.palette[0], edgecolor="white",
                    linewidth=0.8)  # fmt: skip
    if style.labels:
        axes.bar_label(bars, [written(count) for count in counts], padding=2, fontsize=style.text_size * 0.65,
                       color=style.ink)  # fmt: skip
    _scale(axes, chart, style)
    axes.set_xticks(edges, [written(edge) for edge in edges])
    axes.set_xlabel(chart.category_label)


def _boxes(axes: Axes, chart: Chart, style: Style) -> None:
    names = ("whislo", "q1", "med", "q3", "whishi")
    boxes = [dict(zip(names, column, strict=True)) for column in zip(*chart.values, strict=True)]
    places = list(range(len(boxes)))
    lines = {"color": style.ink, "linewidth": 1.2}
    drawn = axes.bxp(boxes, places, widths=style.bar_width * 0.7, showfliers=False, patch_artist=True,
                     boxprops={"edgecolor": style.ink, "linewidth": 1.0}, medianprops=lines | {"linewidth": 2.0},
                     whiskerprops=lines, capprops=lines, manage_ticks=False)  # fmt: skip
    for i, box in enumerate(drawn["boxes"]):
        box.set_facecolor(style.palette[i % len(style.palette) if style.many_colours else 0])
    _scale(axes, chart, style)
    _categories(axes, chart, style, places)
    axes.set_xlim(-0.6, len(places) - 0.4)


def _scatter(axes: Axes, chart: Chart, style: Style) -> None:
    assert chart.across is not None
    for s, name in enumerate(chart.series):
        xs = [x for x, _, series in chart.points if series == name]
        ys = [y for _, y, series in chart.points if series == name]
        axes.scatter(xs, ys, color=style.palette[s], label=name, marker=MARKERS[style.marker], s=28)
    _scale(axes, chart, style)
    margin = 0.03 * chart.across.span
    axes.set_xlim(chart.across.low - margin, chart.across.high + margin)
    axes.set_xticks(chart.across.ticks, [written(tick) for tick in chart.across.ticks])
    axes.set_xlabel(chart.category_label)


def _scale(axes: Axes, chart: Chart, style: Style) -> None:
    """The axis of numbers: its limits, ticks and grid; a little room above where numbers are printed."""
    axis, lying = chart.axis, style.horizontal
    room = axis.span * (0.06 if style.labels or chart.kind in ("scatter", "line", "box") else 0.02)
    bottom = axis.low - (room if axis.low != 0 else 0.0 if chart.kind != "scatter" else room)
    limits, ticks = (bottom, axis.high + room), [written(tick) for tick in axis.ticks]
    (axes.set_xlim if lying else axes.set_ylim)(*limits)
    (axes.set_xticks if lying else axes.set_yticks)(axis.ticks, ticks)
    (axes.set_xlabel if lying else axes.set_ylabel)(chart.value_label)
    axes.grid(False)
    axes.set_axisbelow(True)
    if style.grid:
        axes.grid(True, axis="x" if lying else "y")


def _categories(axes: Axes, chart: Chart, style: Style, places: list[int]) -> None:
    if style.horizontal:
        axes.set_yticks(places, chart.categories)
        axes.set_ylabel(chart.category_label)
        return
    slanted = tilted(chart, style)
    axes.set_xticks(places, chart.categories, rotation=40 if slanted else 0, ha="right" if slanted else "center",
                    rotation_mode="anchor" if slanted else "default")  # fmt: skip
    axes.set_xlabel(chart.category_label)


def _legend(axes: Axes, chart: Chart, style: Style) -> None:
    from matplotlib.patches import Patch

    if chart.kind == "pie":
        handles: Any = [Patch(color=colour) for colour in style.palette[: len(chart.categories)]]
        names: tuple[str, ...] = chart.categories
        by = chart.category
    else:
        handles, by = axes.get_legend_handles_labels()[0], chart.by
        names = chart.series
    columns = min(len(names), 3) if style.legend == "bottom" else 1
    place: Any = "outside lower center" if style.legend == "bottom" else "outside right center"
    axes.figure.legend(handles, list(names), loc=place, title=by, ncols=columns)
