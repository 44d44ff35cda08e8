"""Full-size charts: what is drawn is the table's numbers, whatever the look."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import vega_datasets
from drawn_charts import drawn
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.charts.ink import contrast
from data_pipelines.charts.paint_matplotlib import figure_of
from data_pipelines.charts.paint_vega import specification
from data_pipelines.charts.style import PALETTES, RENDERERS, THEMES, can_label, draw_style, layered, paint, written
from data_pipelines.charts.views import KINDS, nice_axis, quartiles, shares

SHIPPED = Path(vega_datasets.__file__).parent / "_data"


# -- the numbers -----------------------------------------------------------------------------------------------------


@cache
def records(file):
    return json.loads((SHIPPED / file).read_text())


def test_charts_of_cars_hold_counts_and_means_of_the_file_itself():
    cars = records("cars.json")
    counts = Counter(car["Origin"] for car in cars)
    checked = Counter()
    for seed in range(60):
        _, chart = drawn("bar", seed, ("cars",), lambda chart: chart.category in ("origin", "year"))
        for name, value in zip(chart.categories, chart.values[0], strict=True):
            group = [car for car in cars if name in (car["Origin"], car["Year"][:4])]
            if chart.measure == "number of cars":
                assert value == len(group)
            elif chart.measure == "mean power":
                powers = [car["Horsepower"] for car in group if car["Horsepower"] is not None]
                assert value == pytest.approx(sum(powers) / len(powers), abs=0.5)  # no decimals from 100 on
            checked[chart.measure] += 1
    assert counts == {"USA": 254, "Japan": 79, "Europe": 73}
    assert checked["number of cars"] and checked["mean power"]


def test_statistics_by_year_are_the_rows_of_the_file():
    rows = [line.split(",") for line in (SHIPPED / "iowa-electricity.csv").read_text().split()[1:]]
    table = {(row[0][:4], " ".join(row[1:-1])): float(row[-1]) for row in (re.split(",", ",".join(r)) for r in rows)
             if len(row) == 3}  # fmt: skip
    for seed in range(20):
        _, chart = drawn("line", seed, ("iowa-electricity",), lambda chart: bool(chart.by))
        for series, values in zip(chart.series, chart.values, strict=True):
            for year, value in zip(chart.categories, values, strict=True):
                assert table.get((year, series), value) == value
        years = [int(year) for year in chart.categories]
        assert len({b - a for a, b in pairwise(years)}) == 1  # no step is left out


def test_boxes_and_histograms_hold_all_of_their_rows():
    flowers = records("iris.json")
    fields = {"sepal length": "sepalLength", "sepal width": "sepalWidth", "petal length": "petalLength",
              "petal width": "petalWidth"}  # fmt: skip
    for seed in range(12):
        _, chart = drawn("box", seed, ("iris",))
        for c, species in enumerate(chart.categories):
            values = [flower[fields[chart.measure]] for flower in flowers if flower["species"] == species]
            expected = np.percentile(values, [0, 25, 50, 75, 100])
            assert [row[c] for row in chart.values] == pytest.approx(expected, abs=0.0051)
        _, chart = drawn("histogram", seed, ("iris",))
        species = chart.title.split(", ")[1:]
        number = chart.title.removeprefix("Distribution of ").split(",")[0]
        values = [f[fields[number]] for f in flowers if not species or f["species"] == species[0]]
        assert list(chart.values[0]) == np.histogram(values, chart.across.ticks)[0].tolist()
        assert sum(chart.values[0]) == len(values)


@given(st.lists(st.floats(0.01, 1e6), min_size=2, max_size=8))
def test_shares_of_a_pie_have_one_decimal_and_add_up_to_100(values):
    found = shares(values)
    assert round(sum(round(share * 10) for share in found)) == 1000
    for share, value in zip(found, values, strict=True):
        assert abs(share - 100 * value / sum(values)) <= 0.1 + 1e-9
        assert round(share, 1) == share


@given(st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=9), st.booleans())
def test_an_axis_holds_its_values_between_round_ticks(values, zero):
    values = [0.0 if abs(value) < 1e-6 else value for value in values]
    axis = nice_axis(values, zero=zero)
    slack = 1e-6 * max(axis.span, 1)
    assert axis.low - slack <= min(values) and max(values) <= axis.high + slack
    assert 2 <= len(axis.ticks) <= 12
    assert not zero or axis.low <= 0 <= axis.high
    digits = written(axis.step, grouped=False).replace(".", "").strip("0")
    assert digits in ("1", "2", "25", "5")


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_quartiles_are_those_of_numpy(values):
    assert quartiles(values) == pytest.approx(np.percentile(values, [0, 25, 50, 75, 100]), abs=1e-6)


@pytest.mark.parametrize(
    ("value", "text"),
    [(12500, "12,500"), (0.25, "0.25"), (-3.0, "-3"), (1e13, "10,000,000,000,000"), (1e-5, "0.00001")],
)
def test_numbers_are_written_in_full(value, text):
    assert written(value) == text
    assert float(written(value, grouped=False)) == value


# -- the picture -----------------------------------------------------------------------------------------------------


def plain(chart, rng, renderer, **changes):
    """A look whose colours can be found again."""
    look = {"theme": "default", "size": (640, 480), "labels": False, "many_colours": False, "grid": False,
            "marker": "none", "horizontal": False, "legend": "bottom", "bar_width": 0.8}  # fmt: skip
    return replace(draw_style(rng, chart, (renderer,)), **(look | changes))


def painted(image, colour):
    """bool[height, width] where the picture has exactly this colour."""
    return (np.asarray(image) == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1)


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("kind", ["bar", "histogram"])
def test_bars_measured_in_the_picture_are_in_the_ratios_of_the_numbers(renderer, kind):
    for seed in range(2):
        rng, chart = drawn(kind, seed, wanted=lambda chart: min(chart.values[0]) > 0)
        style = plain(chart, rng, renderer)
        columns = painted(paint(chart, style), style.palette[0])
        heights = [height for height in columns.sum(0) if height]
        heights = [h for h, after in pairwise(heights) if h == after]  # edges are blurred
        tallest = max(heights)
        found = sorted(set(heights))
        for value in chart.values[0]:
            expected = value / max(chart.values[0]) * tallest
            assert min(abs(height - expected) for height in found) <= 4, (chart, value)


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("kind", ["pie", "stacked_bar", "grouped_bar"])
def test_painted_areas_are_in_the_ratios_of_the_numbers(renderer, kind):
    rng, chart = drawn(kind, 3, wanted=lambda chart: min(min(row) for row in chart.values) > 0.05 * chart.axis.span)
    style = plain(chart, rng, renderer, legend="right")
    image = paint(chart, style)
    sums = chart.values[0] if kind == "pie" else [sum(row) for row in chart.values]
    areas = [painted(image, colour).sum() for colour in style.palette[: len(sums)]]  # the legend's are all alike
    for area, value in zip(areas, sums, strict=True):
        assert area / sum(areas) == pytest.approx(value / sum(sums), abs=0.02)


LOOKS = [(renderer, theme) for renderer in RENDERERS for theme in THEMES[renderer]]


@pytest.mark.parametrize("number", range(len(LOOKS)))
def test_a_number_printed_on_a_mark_can_be_read(number):
    """In every theme, and with every palette: the pixels that the labels change stand out from the mark's colour."""
    renderer, theme = LOOKS[number]
    for kind in ("pie", "stacked_bar") if number % 4 == 0 else ("pie",):
        rng, chart = drawn(kind, 3, wanted=can_label)
        palette = PALETTES[number % len(PALETTES)]
        style = plain(chart, rng, renderer, legend="right", theme=theme, palette=palette[::-1])
        bare, labelled = (np.asarray(paint(chart, replace(style, labels=shown))) for shown in (False, True))
        marks = len(chart.categories) if kind == "pie" else len(chart.series)
        for colour in style.palette[:marks]:
            changed = labelled[painted(bare, colour) & (bare != labelled).any(-1)]
            assert len(changed) > 10
            ratios = [contrast("#{:02x}{:02x}{:02x}".format(*pixel), colour) for pixel in np.unique(changed, axis=0)]
            assert max(ratios) > 4, (kind, theme, colour)  # text is anti-aliased


def shown_by_matplotlib(chart, style):
    """The numbers that the artists of a figure stand for, as `data_of` has them."""
    axes = figure_of(chart, style).axes[0]
    if chart.kind in ("bar", "grouped_bar", "stacked_bar", "histogram"):
        sizes = [
            p.get_width() if style.horizontal and chart.kind != "histogram" else p.get_height() for p in axes.patches
        ]
        count = len(chart.categories)
        return [sizes[i : i + count] for i in range(0, len(sizes), count)]
    if chart.kind == "line":
        return [line.get_ydata() for line in axes.lines]
    if chart.kind == "area":
        paths = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
        count = len(chart.categories)
        return [path[count + 2 : 2 * count + 2][::-1] - path[1 : count + 1] for path in paths]
    if chart.kind == "pie":
        return [[(wedge.theta2 - wedge.theta1) / 3.6 for wedge in axes.patches]]
    if chart.kind == "scatter":
        return [point for points in axes.collections for point in points.get_offsets()]
    medians = [line.get_ydata()[0] for line in axes.lines if line.get_linewidth() == 2.0]
    boxes = [patch.get_path().vertices[:, 1] for patch in axes.patches]
    whiskers = [line.get_ydata() for line in axes.lines if line.get_linewidth() == 1.2]
    low, high = ([data[1] for data in whiskers if data[0] != data[1]][i::2] for i in (0, 1))
    return [low, [min(box) for box in boxes], medians, [max(box) for box in boxes], high]


@pytest.mark.parametrize("kind", KINDS)
def test_matplotlib_draws_the_numbers_as_they_are(kind):
    for seed in range(4):
        rng, chart = drawn(kind, seed, wanted=lambda chart: chart.kind != "box" or _five_different(chart))
        style = draw_style(rng, chart, ("matplotlib",))
        found = shown_by_matplotlib(chart, style)
        if kind == "scatter":
            points = [(x, y) for name in chart.series for x, y, series in chart.points if series == name]
            assert np.allclose(found, points)
        else:
            assert np.abs(np.abs(np.array(found)) - np.abs(chart.values)).max() < 1e-4 * chart.axis.span, chart.kind


def _five_different(chart):
    return all(len(set(column)) == 5 for column in zip(*chart.values, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_vega_is_given_the_numbers_as_they_are(kind):
    for seed in range(4):
        rng, chart = drawn(kind, seed)
        style = draw_style(rng, chart, ("vega",))
        spec = specification(chart, style)
        rows = [row for data in spec["datasets"].values() for row in data] if "datasets" in spec else \
            max((layer["data"]["values"] for layer in [spec, *spec["layer"]] if "data" in layer), key=len)  # fmt: skip
        if kind == "scatter":
            assert {(row["x"], row["y"]) for row in rows} == {point[:2] for point in chart.points}
            continue
        if kind == "box":
            assert [tuple(row[f] for row in rows) for f in ("minimum", "first", "median", "third", "maximum")] == [
                *chart.values
            ]
            continue
        places = {(row["series"], row["category"]): row for row in rows}
        for s, values, spans in zip(chart.series, chart.values, layered(chart), strict=True):
            for c, value, span in zip(chart.categories, values, spans, strict=True):
                assert places[s, c]["value"] == value
                assert (places[s, c]["low"], places[s, c]["high"]) == span
        if kind != "pie":
            text = json.dumps(spec)
            assert f'"domain": {json.dumps([chart.axis.low, chart.axis.high])}' in text


@pytest.mark.parametrize(("renderer", "theme"), [(r, theme) for r in RENDERERS for theme in THEMES[r][::3]])
def test_the_same_chart_and_look_make_the_same_pixels(renderer, theme):
    kind = KINDS[len(theme) % len(KINDS)]
    rng, chart = drawn(kind, 1)
    style = replace(draw_style(rng, chart, (renderer,)), theme=theme)
    first, second = paint(chart, style), paint(chart, style)
    assert first.size == style.size and first.mode == "RGB"
    assert first.tobytes() == second.tobytes()
    assert len(first.getcolors(10**6)) > 10
