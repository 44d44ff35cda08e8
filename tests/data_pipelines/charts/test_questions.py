"""Full-size charts as data sets: answers follow from the numbers, and users' tables are told apart."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from drawn_charts import drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.charts.build import data_of, held_out, make_charts
from data_pipelines.charts.questions import ASKERS, TASKS, draw_questions
from data_pipelines.charts.style import RENDERERS, draw_style, paint
from data_pipelines.charts.tables import read_csv_table
from data_pipelines.charts.views import KINDS, draw_chart, nice_axis
from data_pipelines.dataset import check_samples, read_samples
from mmrl.plugins import ConfigError
from mmrl.records import Sample
from rewards.quantities import chart_value, relaxed_accuracy
from rewards.text import exact_match

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
