"""Charts through Vega-Altair, made into pictures by vl-convert without a browser and without the network."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from data_pipelines.charts.ink import ink_on
from data_pipelines.charts.style import Style, below, layered, tilted, title_lines, written
from data_pipelines.charts.views import BOX, Chart
from mmrl.plugins import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4])
FORMAT = ",.9~f"
"""d3's format of ticks: separators, no trailing zeros."""


def paint_vega(chart: Chart, style: Style) -> Image:
    """The picture, RGB, of the style's size."""
    from PIL import Image

    converter = _altair()[1]
    png = converter.vegalite_to_png(
        specification(chart, style), theme=None if style.theme == "default" else style.theme, scale=1,
        allowed_base_urls=[],
    )  # fmt: skip
    drawn = Image.open(io.BytesIO(png)).convert("RGBA")
    image = Image.new("RGB", drawn.size, "white")  # where a theme has no background
    image.paste(drawn, (0, 0), drawn)
    if image.size == style.size:
        return image
    # Where text needs more room than the chart leaves, the picture comes out larger: shrink it as a whole.
    image.thumbnail(style.size, Image.Resampling.LANCZOS)
    framed = Image.new("RGB", style.size, image.getpixel((0, 0)))
    framed.paste(image, ((style.size[0] - image.width) // 2, (style.size[1] - image.height) // 2))
    return framed


def specification(chart: Chart, style: Style) -> dict[str, Any]:
    """The Vega-Lite specification; the chart's numbers stand in its data as they are."""
    alt = _altair()[0]
    paint = {"pie": _pie, "scatter": _scatter, "box": _boxes, "histogram": _histogram, "line": _lines, "area": _areas}
    layers = paint.get(chart.kind, _bars)(chart, style)
    font = {"sans-serif": "DejaVu Sans", "serif": "DejaVu Serif", "monospace": "DejaVu Sans Mono"}[style.font]
    size = style.text_size
    title = alt.TitleParams(title_lines(chart, style), fontSize=size + 2)
    drawn = (
        alt.layer(*layers)
        .properties(
            width=style.size[0], height=style.size[1], title=title,
            autosize=alt.AutoSizeParams(type="fit", contains="padding"), padding=8,
        )
        .configure_axis(labelLimit=0, titleLimit=0, labelFontSize=size, titleFontSize=size, grid=style.grid,
                        labelFont=font, titleFont=font, labelOverlap=False, labels=True, labelColor=style.ink,
                        titleColor=style.ink)
        .configure_axisX(grid=style.grid and style.horizontal)
        .configure_axisY(grid=style.grid and not style.horizontal)
        .configure_title(font=font, limit=0)
        .configure_legend(orient=style.legend, labelLimit=0, titleLimit=0, labelFontSize=size, titleFontSize=size,
                          labelFont=font, titleFont=font, columns=3 if style.legend == "bottom" else 1)
        .configure_text(font=font)
    )  # fmt: skip
    return drawn.to_dict()


def _altair() -> tuple[Any, Any]:
    try:
        import altair
        import vl_convert
    except ImportError as error:
        raise ConfigError(
            f"renderers: `vega` needs the package {error.name}: pip install 'mmrl-vision[charts]', "
            "or renderers=[matplotlib]."
        ) from None
    return altair, vl_convert


def _rows(chart: Chart, style: Style) -> list[dict[str, Any]]:
    """One row per number: `low` and `high` are where its mark begins and ends, `ink` is for text that stands on it."""
    return [
        {"category": c, "series": name, "value": value, "low": low, "high": high, "middle": (low + high) / 2,
         "text": written(value) + ("%" if chart.kind == "pie" else ""), "place": i,
         "ink": ink_on(style.palette[(i if chart.kind == "pie" else s) % len(style.palette)])}
        for s, (name, values, spans) in enumerate(zip(chart.series, chart.values, layered(chart), strict=True))
        for i, (c, value, (low, high)) in enumerate(zip(chart.categories, values, spans, strict=True))
    ]  # fmt: skip


def _data(rows: list[dict[str, Any]]) -> Any:
    return _altair()[0].Data(values=rows)


def _number(chart: Chart, field: str, channel: str) -> Any:
    alt = _altair()[0]
    scale = alt.Scale(domain=[chart.axis.low, chart.axis.high], nice=False, zero=False)
    axis = alt.Axis(values=list(chart.axis.ticks), format=FORMAT, title=chart.value_label)
    return {"x": alt.X, "y": alt.Y}[channel](f"{field}:Q", scale=scale, axis=axis, stack=None)


def _category(chart: Chart, style: Style, channel: str, *, band: bool) -> Any:
    alt = _altair()[0]
    slanted = channel == "x" and tilted(chart, style)
    axis = alt.Axis(title=chart.category_label, labelAngle=-40 if slanted else 0)
    gap = 1 - style.bar_width
    scale = alt.Scale(paddingInner=gap, paddingOuter=gap / 2) if band else alt.Undefined
    return {"x": alt.X, "y": alt.Y}[channel]("category:N", sort=list(chart.categories), axis=axis, scale=scale)


def _colour(names: tuple[str, ...], field: str, title: str | None, style: Style) -> Any:
    alt = _altair()[0]
    colours = [style.palette[i % len(style.palette)] for i in range(len(names))]
    legend = alt.Legend(title=title) if title else None
    return alt.Color(f"{field}:N", scale=alt.Scale(domain=list(names), range=colours), legend=legend, sort=list(names))


def _bars(chart: Chart, style: Style) -> list[Any]:
    alt = _altair()[0]
    along, across = ("y", "x") if style.horizontal else ("x", "y")
    encoding: dict[str, Any] = {
        along: _category(chart, style, along, band=True),
        across: _number(chart, "low", across),
        f"{across}2": {"x": alt.X2, "y": alt.Y2}[across]("high"),
    }
    if chart.by:
        encoding["color"] = _colour(chart.series, "series", chart.by, style)
    elif style.many_colours:
        encoding["color"] = _colour(chart.categories, "category", None, style)
    if chart.kind == "grouped_bar":
        offset = {"x": alt.XOffset, "y": alt.YOffset}[along]
        encoding[f"{along}Offset"] = offset("series:N", sort=list(chart.series))
    base = alt.Chart(_data(_rows(chart, style)))
    plain = {} if "color" in encoding else {"color": style.palette[0]}
    layers = [base.mark_bar(**plain).encode(**encoding)]
    if style.labels:
        inside = chart.kind == "stacked_bar"
        place: dict[str, Any] = {key: encoding[key] for key in (along, f"{along}Offset") if key in encoding}
        place[across] = _number(chart, "middle" if inside else "high", across)
        look: dict[str, Any]
        if inside:
            look = {"align": "center", "baseline": "middle"}
            place["color"] = alt.Color("ink:N", scale=None, legend=None)
        elif style.horizontal:
            look = {"align": "left", "baseline": "middle", "dx": 3, "color": style.ink}
        else:
            look = {"align": "center", "baseline": "bottom", "dy": -2, "color": style.ink}
        layers.append(base.mark_text(fontSize=style.text_size - 1, **look).encode(text="text:N", **place))
    return layers


def _lines(chart: Chart, style: Style) -> list[Any]:
    alt = _altair()[0]
    base = alt.Chart(_data(_rows(chart, style)))
    encoding: dict[str, Any] = {"x": _category(chart, style, "x", band=False), "y": _number(chart, "value", "y")}
    points: dict[str, Any] = {}
    plain = {"color": style.palette[0]}
    if chart.by:
        encoding["color"] = _colour(chart.series, "series", chart.by, style)
        plain = {}
        if style.dashed:
            dashes = alt.Scale(domain=list(chart.series), range=list(DASHES[: len(chart.series)]))
            points["strokeDash"] = alt.StrokeDash("series:N", scale=dashes, legend=None)
    layers = [base.mark_line(strokeWidth=2.2, **plain).encode(order="place:Q", **encoding, **points)]
    if style.marker != "none":
        shape = {"triangle": "triangle-up"}.get(style.marker, style.marker)
        layers.append(base.mark_point(shape=shape, filled=True, size=45, opacity=1, **plain).encode(**encoding))
    for under in (False, True) if style.labels else ():
        rows = [row for row in _rows(chart, style) if below(chart.values[0], row["place"]) == under]
        text = alt.Chart(_data(rows)).mark_text(dy=10 if under else -9, fontSize=style.text_size - 1, color=style.ink)
        layers.append(text.encode(x=encoding["x"], y=encoding["y"], text="text:N"))
    return layers


def _areas(chart: Chart, style: Style) -> list[Any]:
    alt = _altair()[0]
    encoding: dict[str, Any] = {
        "x": _category(chart, style, "x", band=False), "y": _number(chart, "low", "y"), "y2": alt.Y2("high"),
    }  # fmt: skip
    if chart.by:
        encoding["color"] = _colour(chart.series, "series", chart.by, style)
    plain = {} if chart.by else {"color": style.palette[0]}
    return [alt.Chart(_data(_rows(chart, style))).mark_area(opacity=1, **plain).encode(**encoding)]


def _pie(chart: Chart, style: Style) -> list[Any]:
    alt = _altair()[0]
    base = alt.Chart(_data(_rows(chart, style))).encode(
        theta=alt.Theta("value:Q", stack=True, scale=alt.Scale(domain=[0, 100])), order=alt.Order("place:Q"),
        color=_colour(chart.categories, "category", chart.category, style),
    )  # fmt: skip
    radius = min(style.size) * 0.33
    layers = [base.mark_arc(outerRadius=radius)]
    if style.labels:
        text = base.mark_text(radius=radius * 0.72, fontSize=style.text_size)
        layers.append(text.encode(text="text:N", color=alt.Color("ink:N", scale=None, legend=None)))
    return layers


def _histogram(chart: Chart, style: Style) -> list[Any]:
    alt = _altair()[0]
    assert chart.across is not None
    edges = chart.across.ticks
    rows = [row | {"from": a, "to": b, "centre": (a + b) / 2}
            for row, a, b in zip(_rows(chart, style), edges, edges[1:], strict=False)]  # fmt: skip
    scale = alt.Scale(domain=[edges[0], edges[-1]], nice=False, zero=False)
    axis = alt.Axis(values=list(edges), format=FORMAT, title=chart.category_label)
    base = alt.Chart(_data(rows))
    layers = [base.mark_bar(color=style.palette[0], stroke="white").encode(
        x=alt.X("from:Q", scale=scale, axis=axis), x2="to", y=_number(chart, "low", "y"), y2="high")]  # fmt: skip
    if style.labels:
        layers.append(base.mark_text(dy=-6, fontSize=style.text_size - 1, color=style.ink).encode(
            x=alt.X("centre:Q", scale=scale, axis=axis), y=_number(chart, "high", "y"), text="text:N"))  # fmt: skip
    return layers


def _boxes(chart: Chart, style: Style) -> list[Any]:
    alt = _altair()[0]
    fields = [name.split()[0] for name in BOX]  # minimum, first, median, third, maximum
    rows = [
        {"category": c} | dict(zip(fields, column, strict=True))
        for c, column in zip(chart.categories, zip(*chart.values, strict=True), strict=True)
    ]
    base = alt.Chart(_data(rows)).encode(x=_category(chart, style, "x", band=True))
    width = max(14, int(style.bar_width * style.size[0] * 0.45 / len(rows)))
    coloured = {"color": _colour(chart.categories, "category", None, style)} if style.many_colours else {}
    plain = {} if coloured else {"color": style.palette[0]}
    ticks = [base.mark_tick(color=style.ink, size=width * share, thickness=thick).encode(y=_number(chart, field, "y"))
             for field, share, thick in (("minimum", 0.4, 1.5), ("maximum", 0.4, 1.5), ("median", 1, 2.5))]  # fmt: skip
    box = base.mark_bar(size=width, stroke=style.ink, **plain)
    return [
        base.mark_rule(color=style.ink).encode(y=_number(chart, "minimum", "y"), y2="maximum"),
        box.encode(y=_number(chart, "first", "y"), y2="third", **coloured),
        *ticks,
    ]


def _scatter(chart: Chart, style: Style) -> list[Any]:
    alt = _altair()[0]
    assert chart.across is not None
    rows = [{"x": x, "y": y, "series": series} for x, y, series in chart.points]
    x = alt.X("x:Q", scale=alt.Scale(domain=[chart.across.low, chart.across.high], nice=False, zero=False),
              axis=alt.Axis(values=list(chart.across.ticks), format=FORMAT, title=chart.category_label))  # fmt: skip
    encoding: dict[str, Any] = {"x": x, "y": _number(chart, "y", "y")}
    if chart.by:
        encoding["color"] = _colour(chart.series, "series", chart.by, style)
    plain = {} if chart.by else {"color": style.palette[0]}
    shape = {"triangle": "triangle-up"}.get(style.marker, style.marker)
    return [alt.Chart(_data(rows)).mark_point(shape=shape, filled=True, size=50, opacity=1, **plain).encode(**encoding)]
