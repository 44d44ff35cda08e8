"""Full-size charts: what is drawn is the table's numbers, whatever the look, and answers follow from them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
import vega_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.charts.build import data_of, held_out, make_charts
from data_pipelines.charts.paint_matplotlib import figure_of
from data_pipelines.charts.paint_vega import specification
from data_pipelines.charts.questions import ASKERS, TASKS, draw_questions
from data_pipelines.charts.style import RENDERERS, THEMES, draw_style, layered, paint, written
from data_pipelines.charts.tables import VEGA_TABLES, read_csv_table, vega_table
from data_pipelines.charts.views import KINDS, draw_chart, nice_axis, quartiles, shares
from data_pipelines.dataset import check_samples, read_samples
from mmrl.plugins import ConfigError
from mmrl.records import Sample
from rewards.quantities import chart_value, relaxed_accuracy
from rewards.text import exact_match

SHIPPED = Path(vega_datasets.__file__).parent / "_data"


def drawn(kind, seed, tables=tuple(VEGA_TABLES), wanted=lambda chart: True):
    """A chart of that kind, and the generator it came from."""
    for attempt in range(2000):
        rng = Random(f"{kind}/{seed}/{attempt}")
        chart = draw_chart(rng, vega_table(rng.choice(tables)), kind)
        if chart is not None and wanted(chart):
            return rng, chart
    raise AssertionError(f"no chart of kind {kind}")


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


# -- questions -------------------------------------------------------------------------------------------------------


def lookup(chart):
    """{how a question names it: number} of a chart that has series and categories."""

    def named(label, name):
        return f"{label} {name}" if name.isdigit() and len(name) != 4 else name

    found = {}
    for s, values in zip(chart.series, chart.values, strict=True):
        for c, value in zip(chart.categories, values, strict=True):
            name = f"{chart.category.split(' (')[0]} {c}" if chart.kind == "histogram" else named(chart.category, c)
            if chart.by:
                name = f"{named(chart.by, s)} in {name}" if chart.ordered else f"{named(chart.by, s)}, {name}"
            found[name] = value
    return found


PATTERNS = {
    "value": r"(?:What|How much) is the {m} for (?P<a>.+)\?",
    "difference": r"(?:What is the difference between the {m} for (?P<a>.+) and for (?P<b>.+)|By how much do (?P<c>.+) "
    r"and (?P<d>.+) differ in {m})\?",
    "ratio": r"(?:What is the ratio of the {m} for (?P<a>.+) to that for (?P<b>.+)|"
    r"How many times the {m} for (?P<d>.+) is the {m} for (?P<c>.+))\?",
    "yes_no": r"Is the {m} for (?P<a>.+) (?P<side>higher|lower) than for (?P<b>.+)\?",
    "comparison": r"Which (?:has|one is) (?:the )?(?P<side>higher|lower) (?:in )?{m}(?:,|:) (?P<a>.+) or (?P<b>.+)\?",
}


def expected(question, chart):
    """The answer, from the words of the question and the chart's numbers; None for other kinds."""
    if question.kind not in PATTERNS or chart.kind == "box":
        return None
    match = re.fullmatch(PATTERNS[question.kind].replace("{m}", re.escape(chart.measure)), question.text)
    assert match, question.text
    found, names = match.groupdict(), lookup(chart)
    a, b = (found.get("a") or found.get("c"), found.get("b") or found.get("d"))
    if question.kind == "value":
        return names[a]
    high = names[a] > names[b]
    if question.kind == "difference":
        return abs(names[a] - names[b])
    if question.kind == "ratio":
        return names[a] / names[b]
    right = high == (found["side"] == "higher")
    if question.kind == "yes_no":
        return "yes" if right else "no"
    return a if right else b


def asked(count=360):
    for seed in range(count):
        kind = KINDS[seed % len(KINDS)]
        rng, chart = drawn(kind, f"asked {seed}")
        style = draw_style(rng, chart)
        for question in draw_questions(rng, chart, style, count=4):
            yield chart, style, question


def test_answers_follow_from_the_words_and_the_numbers():
    seen, said = Counter(), Counter()
    for chart, _, question in asked():
        right = expected(question, chart)
        seen[question.kind] += right is not None
        said[question.answer] += 1
        if isinstance(right, str):
            assert question.answer == right, question
        elif right is not None:
            assert float(question.answer) == pytest.approx(right, abs=0.00501 if question.kind == "ratio" else 1e-9)
    assert min(seen[kind] for kind in PATTERNS) > 20
    assert 0.4 < said["yes"] / (said["yes"] + said["no"]) < 0.6


def test_extremes_counts_and_trends_follow_from_the_numbers():
    seen = Counter()
    for chart, style, question in asked():
        words = question.text
        if question.kind == "extreme" and chart.kind in ("bar", "pie", "histogram"):
            pick = max if "highest" in words else min
            assert chart.values[0][chart.categories.index(question.answer)] == pick(chart.values[0])
        elif question.kind == "extreme" and chart.kind == "scatter" and not chart.by:
            assert float(question.answer) == (max if "highest" in words else min)(y for _, y, _ in chart.points)
        elif question.kind == "trend" and not chart.by and chart.kind != "scatter":
            first, last = sorted((words.index(f" {c}"), i) for i, c in enumerate(chart.categories) if f" {c}" in words)
            rises = chart.values[0][last[1]] > chart.values[0][first[1]]
            assert first[1] < last[1] and question.answer == ("increase" if rises else "decrease")
        elif match := re.search(r"(above|below) ([\d,.-]+)\?$", words) if not chart.by else None:
            numbers = [y for _, y, _ in chart.points] or chart.values[0]
            bound = float(match[2].replace(",", ""))
            assert int(question.answer) == sum(n > bound if match[1] == "above" else n < bound for n in numbers)
            assert style.labels or min(abs(n - bound) for n in numbers) > 0.02 * chart.axis.span
        elif words.startswith("How many") and question.kind == "count" and not chart.by and chart.kind != "scatter":
            assert int(question.answer) == len(chart.categories)
        else:
            continue
        seen[question.kind] += 1
    assert min(seen[kind] for kind in ("extreme", "trend", "count")) > 10


def test_what_is_asked_can_be_read_off_the_picture():
    for chart, style, question in asked():
        if question.type == "number" and question.kind in ("value", "difference") and chart.kind != "box":
            edges = 2 if chart.kind in ("stacked_bar", "area") and chart.by else 1
            error = 0 if style.labels else 0.01 * chart.axis.span * edges * (1 + (question.kind == "difference"))
            assert question.tolerance == (0 if style.labels else 0.05)
            assert error <= 0.05 * abs(float(question.answer)) + 1e-9
        if question.type != "number":
            assert question.tolerance == 0
        assert TASKS[question.type] in ("chart_number", "chart_text")


def test_rewards_score_the_gold_answer_and_its_tolerance():
    for _, _, question in asked(90):
        sample = Sample(id="x", messages=(), media=(), target=question.target, meta={})
        told = f"<answer>{question.answer}</answer>"
        tolerance = question.tolerance
        assert relaxed_accuracy(told, sample, tolerance=tolerance).value == 1
        assert exact_match(told, sample).value == 1
        if question.type == "number":
            value = float(question.answer)
            assert chart_value(told, sample).value == 1
            assert relaxed_accuracy(f"{value * (1 + 0.9 * tolerance)!r}", sample, tolerance=tolerance).value == 1
            assert relaxed_accuracy(f"{value * (1.01 + tolerance)!r}", sample, tolerance=tolerance).value == (
                value == 0
            )


# -- data sets and users' tables -------------------------------------------------------------------------------------


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_data_set_repeats_shares_no_numbers_between_splits_and_reads_back(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        paths = make_charts(tmp_path / name, count=12, test_count=6, seed=seed, renderers=["matplotlib"])
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")
    rows = {split: read_samples(path) for split, path in paths.items()}
    assert {split: len(samples) for split, samples in rows.items()} == {"train": 12, "test": 6}
    check_samples(rows["train"])
    data = {split: {json.dumps(s.meta["data"]) for s in samples} for split, samples in rows.items()}
    assert not data["train"] & data["test"]
    for sample in rows["train"]:
        text = sample.messages[0]["content"][1]["text"]
        assert text.endswith("\nAnswer with the value, the name, yes or no, and nothing else.")
        assert set(sample.target) == {"answer", "type", "tolerance"}
        assert sample.meta["chart"] in KINDS and sample.meta["question"] in ASKERS


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(KINDS))
def test_an_eighth_of_the_charts_is_held_out_whatever_the_kind(seed, kind):
    _, chart = drawn(kind, seed)
    assert held_out(chart) == held_out(replace(chart, kind="bar", title="another", axis=nice_axis([1, 2], zero=True)))
    assert json.loads(json.dumps(data_of(chart))) == data_of(chart)


CSV = """country,year,population (millions),area,note
"$Land_1$, the <b>first</b>",2001,1.5,100,x
Ägypten & Söhne,2001,2.25,300,y
$Land_1$ again,2001,"1,200.5",200,z
"""


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_users_table_is_told_apart_and_drawn_with_any_text(tmp_path, renderer):
    (tmp_path / "my.csv").write_text(CSV)
    table = read_csv_table(tmp_path / "my.csv")
    assert (table.name, set(table.categories), set(table.steps)) == ("my", {"country", "note"}, {"year"})
    assert table.numbers["population (millions)"].unit == "millions"
    assert [row["population (millions)"] for row in table.rows] == [1.5, 2.25, 1200.5]
    assert table.panel
    narrow = {"kinds": ["bar"], "questions": ["extreme", "count"], "renderers": [renderer]}
    (tmp_path / "big.csv").write_text(CSV.split("\n")[0] + "\n" + "".join(
        f"Land {i % 7},{2000 + i // 7},{i * i % 101},{i},\n" for i in range(70)))  # fmt: skip
    paths = make_charts(
        tmp_path / "out", tables=[str(tmp_path / "big.csv")], count=4, test_count=2, per_chart=2, **narrow
    )
    assert all(sample.meta["source"] == "big" for sample in read_samples(paths["train"]))
    for seed in range(100):
        chart = draw_chart(Random(seed), table, "bar")
        if chart and any("$" in name for name in chart.categories):
            image = paint(chart, draw_style(Random(seed), chart, (renderer,)))
            assert math.prod(image.size) > 0
            return
    raise AssertionError("no chart with the odd names")


def test_negative_numbers_stand_below_the_axis_and_are_never_stacked(tmp_path):
    (tmp_path / "n.csv").write_text("place,kind,depth\n" + "".join(
        f"p{i // 2},{'ab'[i % 2]},{(-1) ** i * (i + 1)}\n" for i in range(12)))  # fmt: skip
    table = read_csv_table(tmp_path / "n.csv")
    made = Counter()
    for seed in range(80):
        for kind in ("bar", "grouped_bar", "stacked_bar", "pie"):
            chart = draw_chart(Random(seed), table, kind)
            made[kind] += chart is not None
            if chart:
                assert chart.axis.low < 0 or min(min(row) for row in chart.values) >= 0
    assert made["bar"] and made["grouped_bar"]
    assert not made["pie"] and not made["stacked_bar"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("a,b\nx,y\n", "needs a column of numbers"),
        ("a,b\n1,2\n", "needs a column of short texts"),
        ("a,b\nx,nan\n", "needs a column of numbers"),
    ],
)
def test_a_table_that_makes_no_chart_is_named(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=rf"t\.csv: .*{said}"):
        make_charts(tmp_path / "out", tables=[str(tmp_path / "t.csv")])


def test_settings_that_make_no_sense_are_refused_before_anything_is_drawn(tmp_path):
    for wrong, said in (
        ({"kinds": ["bars"]}, "there is no `bars`. Did you mean bar"),
        ({"questions": ["values"]}, "there is no `values`"),
        ({"renderers": ["paper"]}, "renderers: there is no `paper`"),
        ({"tables": ["card"]}, "there is no table `card`"),
        ({"per_chart": 0}, "per_chart = 0"),
        ({"prompt": "loud"}, "prompt = 'loud'"),
        ({"tables": ["iris"], "kinds": ["line"]}, "no chart for `train`"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            make_charts(tmp_path / "out", count=1, **wrong)
    assert not list((tmp_path / "out").rglob("*.png"))
