"""Schedules: golden anchors, ends that are met exactly, and mistakes that are named."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.plugins import ConfigError
from mmrl.schedules import SHAPES, Schedule, as_schedule, shape

CUSTOM = """
def square(step, total, metrics):
    return (step / total) ** 2 + metrics.get("kl", 0)
"""


@given(
    name=st.sampled_from(sorted(SHAPES)),
    start=st.floats(1e-6, 10),
    end=st.floats(1e-6, 10),
    until=st.floats(0.01, 1),
    total=st.integers(1, 1000),
    steps=st.lists(st.integers(0, 1000), min_size=2, max_size=5),
)
def test_a_shape_runs_from_start_to_end_without_turning_back(name, start, end, until, total, steps):
    curve = shape(name, start=start, end=end, until=until)
    values = [curve(step, total, {}) for step in sorted(steps)]
    rising = values if end >= start else values[::-1]
    assert all(a <= b * (1 + 1e-9) for a, b in itertools.pairwise(rising))
    assert curve(0, total, {}) == pytest.approx(start)
    assert curve(math.ceil(max(1, until * total)), total, {}) == pytest.approx(end)
    assert curve(10**6, total, {}) == pytest.approx(end)


def test_shapes_at_their_middle():
    middle = {name: shape(name, start=1.0, end=4.0)(50, 100, {}) for name in SHAPES}
    assert middle == pytest.approx({"linear": 2.5, "cosine": 2.5, "exponential": 2.0})


@given(shares=st.lists(st.floats(0, 1), min_size=2, max_size=5, unique=True), total=st.integers(1, 50))
def test_piecewise_meets_its_points_and_stays_between_its_neighbours(shares, total):
    points = [[share, float(i % 2)] for i, share in enumerate(sorted(shares))]
    curve = as_schedule({"schedule": "piecewise", "points": points}, where="x")
    assert all(0 <= curve(step, total, {}) <= 1 for step in range(2 * total))
    assert curve(0, total, {}) == 0 and curve(9 * total, total, {}) == points[-1][1]


def test_adaptive_is_held_between_two_changes_per_step_and_starts_where_it_is_told():
    curve = as_schedule({"schedule": "adaptive", "start": 0.1, "target": 2.0, "gain": 0.5, "term": "my_kl"}, where="x")
    assert curve(0, 9, {}) == 0.1
    later = [curve(3, 9, {"coef/my_kl": 1.0, "loss/my_kl": loss}) for loss in (0.0, 1.8, 2.0, 2.2, 50.0)]
    assert later == pytest.approx([0.9, 0.95, 1.0, 1.05, 1.1])


def test_a_run_of_one_step_is_defined():
    assert [shape("linear", start=1, end=0, until=0.1)(step, 1, {}) for step in (0, 1)] == [1.0, 0.0]


@pytest.mark.parametrize("value", [0.1, "linear", None, {"start": 1, "end": 0}, [1]])
def test_what_is_not_written_as_a_schedule_is_none(value):
    assert as_schedule(value, where="x") is None


def test_a_mapping_with_a_schedule_is_one():
    curve = as_schedule({"schedule": "linear", "start": 0.1, "end": 0.04, "until": 0.3}, where="x")
    assert isinstance(curve, Schedule)
    assert [curve(step, 100, {}) for step in (0, 15, 30, 99)] == pytest.approx([0.1, 0.07, 0.04, 0.04])


def test_numbers_that_yaml_reads_as_text_are_numbers():
    """YAML takes 1e-3 for a string; people write it."""
    curve = as_schedule({"schedule": "exponential", "start": "1e-1", "end": "1e-3"}, where="x")
    assert curve(5, 10, {}) == pytest.approx(1e-2)


def test_a_schedule_of_your_own_sees_step_total_and_metrics(tmp_path):
    file = tmp_path / "curves.py"
    file.write_text(CUSTOM)
    curve = as_schedule({"schedule": f"{file}:square"}, where="x")
    assert curve(5, 10, {"kl": 1.0}) == 1.25
    with pytest.raises(ConfigError, match="takes no settings"):
        as_schedule({"schedule": f"{file}:square", "start": 1}, where="x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"schedule": "linaer", "start": 1, "end": 0}, "Did you mean linear"),
        ({"schedule": "linear", "start": 1}, "`linear` needs end"),
        ({"schedule": "linear", "start": 1, "end": 0, "unitl": 0.5}, "Did you mean until"),
        ({"schedule": "linear", "start": 1, "end": "soon"}, "valid number"),
        ({"schedule": "linear", "start": 1, "end": None}, "valid number"),
        ({"schedule": "piecewise", "points": [[0, 1]]}, "two or more"),
        ({"schedule": "piecewise", "points": [[0.3, 1], [0, 2]]}, "rising"),
        ({"schedule": "piecewise", "points": [[0, 1], [1.5, 2]]}, "within 0 to 1"),
        ({"schedule": "piecewise", "points": [[0, "a"], [1, 2]]}, "points"),
        ({"schedule": "adaptive", "start": 0, "target": 1}, "positive"),
        ({"schedule": "cosine", "start": 1, "end": 0, "until": 1.5}, "share of the run"),
        ({"schedule": "cosine", "start": 1, "end": 0, "until": 0}, "share of the run"),
        ({"schedule": "exponential", "start": 1, "end": 0}, "positive start and end"),
        ({"schedule": "nowhere.py:curve"}, "does not exist"),
    ],
)
def test_mistakes_are_named(value, message):
    with pytest.raises(ConfigError, match=message) as error:
        as_schedule(value, where="recipe.yaml: loss.terms.0.coef")
    assert "loss.terms.0.coef" in str(error.value)
