from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmrl.plugins import ConfigError
from mmrl.runs import layout
from mmrl.runs.files import append_line
from mmrl.runs.plot import PHASES, Curves, _panels, plot_run, plot_runs, smooth
from mmrl.runs.writer import RunWriter

FULL = {
    "reward": 0.5,
    "reward_std": 0.2,
    "length": 20.0,
    "groups_all_right": 0.1,
    "groups_all_wrong": 0.2,
    "groups_zero_spread": 0.4,
    **{f"seconds/{phase}": 0.1 for phase in PHASES},
}


@pytest.fixture
def write_run(tmp_path: Path):
    def write(name: str, lines: list[dict]) -> RunWriter:
        run = RunWriter.create(tmp_path / name, "steps: 4\n")
        for step, line in enumerate(lines):
            append_line(run.folder / layout.METRICS, layout.to_json({"step": step, **line}))
        return run

    return write


def colours(picture: Path) -> int:
    """How many colours a PNG has; decodes all of it."""
    with Image.open(picture) as image:
        assert image.format == "PNG" and image.width > 1000
        return len(image.convert("RGB").getcolors(maxcolors=1 << 20))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([FULL] * 30, id="full"),
        pytest.param([FULL], id="one step"),
        pytest.param([{"reward": 0.1}, {"reward": math.nan}, {}, {"reward": 0.2}], id="reward with gaps"),
        pytest.param([{"loss": 0.1}, {"reward": math.nan}], id="no reward"),
    ],
)
def test_a_run_makes_a_picture(write_run, lines: list[dict]):
    run = write_run("a", lines)
    run.event("evaluation", step=0, score=0.0, low=0.0, high=0.2)
    run.event("evaluation", step=len(lines), score=0.5)
    picture = plot_run(run.folder)
    assert picture == run.folder / "learning_curve.png"
    assert colours(picture) > 50


@pytest.mark.filterwarnings("error")
def test_runs_share_a_picture(write_run, tmp_path: Path):
    runs = [write_run("a", [FULL] * 3).folder, write_run("b", [{"reward": 0.1}] * 9).folder]
    assert colours(plot_runs(runs, tmp_path / "plots" / "both.png")) > 50
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["both.png"]


def test_only_completions_of_tokens_have_a_panel_of_lengths(write_run):
    pictures = write_run("pictures", [FULL] * 2).folder
    texts = write_run("texts", [{**FULL, "tokens": 80.0}] * 2).folder
    headings = [
        [axes.get_title(loc="left") for axes in _panels("", [Curves(run) for run in drawn])[2]]
        for drawn in ([pictures], [texts], [pictures, texts])
    ]
    assert headings[0] == ["Groups without spread", "Time per step"]
    assert headings[1] == headings[2] == ["Completion length", *headings[0]]
    assert colours(plot_run(pictures)) > 50 and colours(plot_runs([pictures, texts], texts / "both.png")) > 50


def test_a_run_without_steps_says_so(write_run, tmp_path: Path):
    run = write_run("empty", [])
    with pytest.raises(ConfigError, match="nothing to plot yet"):
        plot_run(run.folder)
    with pytest.raises(ConfigError, match="empty has nothing"):
        plot_runs([write_run("a", [FULL]).folder, run.folder], tmp_path / "both.png")


def test_an_evaluation_repeated_after_resuming_counts_once(write_run):
    run = write_run("a", [FULL])
    for score in (0.1, 0.9):
        run.event("evaluation", step=5, score=score)
    run.event("evaluation", step=2, score=float("nan"))
    assert [(event["step"], event["score"]) for event in Curves(run.folder).evaluations] == [(5, 0.9)]


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_smoothing_keeps_constants_and_bounds(count: int):
    values = np.random.default_rng(0).uniform(size=count)
    smoothed = smooth(values)
    assert smoothed.shape == values.shape
    assert values.min() - 1e-12 <= smoothed.min() and smoothed.max() <= values.max() + 1e-12
    values[:] = 3.0
    values[1::2] = np.nan
    np.testing.assert_allclose(smooth(values), 3.0)
    assert np.isnan(smooth(np.full(count, np.nan))).all()
