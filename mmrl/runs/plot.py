"""Learning curves as PNG: the reward large, and small beneath it what usually explains it.

Runs that make images or videos have no panel of lengths: their completions always take the same number of steps.

`plot_run` draws one run in detail, `plot_runs` several on common axes. Reads run directories; imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmrl.plugins import ConfigError
from mmrl.runs.files import atomic_write
from mmrl.runs.reader import read_events, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PICTURE = "learning_curve.png"
PHASES = ("plan", "rollout", "score", "credit", "learn", "record")
INK = "#333333"
# Okabe and Ito: told apart in all common forms of colour blindness; vermillion comes early, yellow not at all.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")
_POINTS: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 7, "markeredgecolor": "white"}


class Curves:
    """The metrics of a run as one float array per name, over `steps`; NaN where a step lacks the number."""

    def __init__(self, run: Path) -> None:
        self.name = run.name or run.resolve().name
        self.lines = read_metrics(run)
        if not self.lines:
            raise ConfigError(f"{run} has nothing to plot yet: no step is recorded in it.")
        self.steps: NDArray[np.float64] = np.array([line["step"] for line in self.lines], dtype=float)
        latest = {event["step"]: event for event in read_events(run) if _is_evaluation(event)}
        self.evaluations: list[dict[str, Any]] = [latest[step] for step in sorted(latest)]
        """The last evaluation of each step, so that one repeated after resuming counts once."""

    @property
    def of_tokens(self) -> bool:
        """Whether completions are tokens, and so may differ in length; denoising steps are always as many."""
        return bool(np.isfinite(self["tokens"]).any())

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        values = (line.get(name) for line in self.lines)
        return np.array([value if isinstance(value, (int, float)) else np.nan for value in values], dtype=float)


def plot_run(run: Path, out: Path | None = None) -> Path:
    """Draw one run and return the picture's path, by default `learning_curve.png` in the run directory.

    ConfigError if no step is recorded yet. Numbers a run does not have leave their panel empty.
    """
    curves = Curves(Path(run))
    figure, reward, (*lengths, zero_spread, seconds) = _panels(curves.name, [curves])
    _draw_reward(reward, curves)
    for length in lengths:
        _draw_steps(length, curves, "length")
        _draw_smoothed(length, curves.steps, curves["length"], color=COLOURS[0])
    right, wrong = curves["groups_all_right"], curves["groups_all_wrong"]
    between = np.clip(curves["groups_zero_spread"] - right - wrong, 0.0, None)
    outcomes = {"all right": right, "all wrong": wrong, "between": between}
    _draw_stack(zero_spread, curves.steps, outcomes, colours=(COLOURS[2], COLOURS[1], "#999999"))
    _draw_stack(seconds, curves.steps, {phase: curves[f"seconds/{phase}"] for phase in PHASES}, colours=COLOURS)
    return _save(figure, Path(out) if out else Path(run) / PICTURE, [curves])


def plot_runs(runs: Sequence[Path], out: Path) -> Path:
    """Draw several runs on common axes, smoothed, and return the picture's path. ConfigError if one has no step."""
    all_curves = [Curves(Path(run)) for run in runs]
    figure, reward, (*lengths, zero_spread, seconds) = _panels("", all_curves)
    for i, curves in enumerate(all_curves):
        look = {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i // len(COLOURS) % len(STYLES)]}
        _draw_smoothed(reward, curves.steps, curves["reward"], label=curves.name, **look)
        _draw_evaluations(reward, curves, look["color"])
        for length in lengths:
            _draw_smoothed(length, curves.steps, curves["length"], **look)
        _draw_smoothed(zero_spread, curves.steps, curves["groups_zero_spread"], **look)
        _draw_smoothed(seconds, curves.steps, _total_seconds(curves), **look)
    if any(curves.evaluations for curves in all_curves):
        reward.plot([], [], **_POINTS, color="#888888", label="held-out evaluation")
    if reward.has_data():
        reward.legend(frameon=False, loc="best")
    zero_spread.set_ylim(bottom=0)
    seconds.set_ylim(bottom=0)
    return _save(figure, Path(out), all_curves)


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over a bell of about a twentieth of the curve around each step, NaN left out. [S] -> [S].

    So a short gap is bridged; NaN remains where nothing is near.
    """
    width = max(1.0, len(values) / 40)
    reach = min(int(np.ceil(3 * width)), len(values) - 1)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    present = np.isfinite(values)
    # `full` and a cut, for `same` returns the longer of the two lengths.
    total = np.convolve(np.where(present, values, 0.0), bell)[reach : reach + len(values)]
    weight = np.convolve(present.astype(float), bell)[reach : reach + len(values)]
    return np.where(weight > 1e-9, total / np.maximum(weight, 1e-9), np.nan)


def _panels(title: str, drawn: Sequence[Curves]) -> tuple[Figure, Axes, list[Axes]]:
    """The empty figure: the reward's axes, and those of length (if it can differ), zero-spread groups and seconds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [("Groups without spread", "share of groups"), ("Time per step", "seconds")]
    if any(curves.of_tokens for curves in drawn):
        panels.insert(0, ("Completion length", "tokens"))
    grid = figure.add_gridspec(2, len(panels), height_ratios=(2.2, 1))
    reward = figure.add_subplot(grid[0, :])
    small = [figure.add_subplot(grid[1, column]) for column in range(len(panels))]
    reward.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK)
    reward.set_ylabel("reward, mean of the step")
    for axes, (heading, unit) in zip(small, panels, strict=True):
        axes.set_title(heading, loc="left", fontsize=10, color=INK)
        axes.set_ylabel(unit)
    small[-2].yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    for axes in (reward, *small):
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10 if axes is reward else 4, integer=True, min_n_ticks=1))
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#999999")
        axes.tick_params(color="#999999", labelcolor=INK)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
    return figure, reward, small


def _draw_reward(axes: Axes, curves: Curves) -> None:
    steps, reward = curves.steps, curves["reward"]
    middle, spread = smooth(reward), smooth(curves["reward_std"])
    if np.isfinite(spread).any():
        low, high, label = middle - spread, middle + spread, "± 1 std over completions"
        axes.fill_between(steps, low, high, label=label, color=COLOURS[0], alpha=0.12, linewidth=0)
    _draw_steps(axes, curves, "reward", label="each step")
    _draw_smoothed(axes, steps, reward, color=COLOURS[0], label="smoothed")
    _draw_evaluations(axes, curves, COLOURS[1], label="held-out evaluation")
    _draw_intervals(axes, curves, COLOURS[1])
    if axes.has_data():
        axes.legend(frameon=False, loc="best", ncols=2)


def _draw_steps(axes: Axes, curves: Curves, name: str, *, label: str | None = None) -> None:
    """A thin line. Nothing if there are no values."""
    if np.isfinite(curves[name]).any():
        axes.plot(curves.steps, curves[name], color=COLOURS[0], alpha=0.4, linewidth=0.9, label=label)


def _draw_smoothed(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], **look: Any) -> None:
    """A thick line; a point where a line would need a second one. Nothing if there are no values."""
    smoothed = smooth(values)
    drawn = np.isfinite(smoothed)
    if drawn.any():
        axes.plot(steps[drawn], smoothed[drawn], linewidth=2.2, marker="o" if drawn.sum() == 1 else None, **look)


def _draw_evaluations(axes: Axes, curves: Curves, colour: str, *, label: str | None = None) -> None:
    steps, scores = ([event[key] for event in curves.evaluations] for key in ("step", "score"))
    if steps:
        axes.plot(steps, scores, **_POINTS, color=colour, zorder=4, label=label)


def _draw_intervals(axes: Axes, curves: Curves, colour: str) -> None:
    bounded = [event for event in curves.evaluations if event.get("low") is not None and event.get("high") is not None]
    steps, low, high = ([event[key] for event in bounded] for key in ("step", "low", "high"))
    if bounded:
        axes.vlines(steps, low, high, color=colour, linewidth=1.6, zorder=3)


def _draw_stack(
    axes: Axes,
    steps: NDArray[np.float64],
    parts: dict[str, NDArray[np.float64]],
    *,
    colours: Sequence[str],
) -> None:
    """Areas on top of each other, smoothed; parts without a number are left out."""
    drawn = {name: i for i, name in enumerate(parts) if np.isfinite(parts[name]).any()}
    if not drawn:
        return
    heights = [np.nan_to_num(smooth(parts[name])) for name in drawn]
    shades = [colours[i % len(colours)] for i in drawn.values()]
    if len(steps) == 1:  # an area needs two
        steps, heights = steps[0] + np.array([-0.5, 0.5]), [np.repeat(height, 2) for height in heights]
    axes.stackplot(steps, heights, labels=list(drawn), colors=shades, alpha=0.85, linewidth=0)
    axes.set_ylim(0, max(1e-9, 1.45 * float(np.max(np.sum(heights, axis=0)))))
    axes.legend(frameon=False, loc="upper left", ncols=3, fontsize=7.5, handlelength=1.0,
                columnspacing=0.8)  # fmt: skip


def _total_seconds(curves: Curves) -> NDArray[np.float64]:
    """Seconds of all phases of each step, NaN for a step without any. [S]."""
    phases = np.stack([curves[f"seconds/{phase}"] for phase in PHASES])
    return np.where(np.isfinite(phases).any(0), np.nansum(phases, axis=0), np.nan)


def _is_evaluation(event: dict[str, Any]) -> bool:
    return event["kind"] == "evaluation" and all(isinstance(event.get(key), (int, float)) for key in ("step", "score"))


def _save(figure: Figure, out: Path, drawn: Sequence[Curves]) -> Path:
    """Give all panels the same steps, say which stayed empty, and write the picture."""
    steps = [line["step"] for curves in drawn for line in (*curves.lines, *curves.evaluations)]
    first, last = min(steps), max(steps)
    margin = max(0.5, 0.01 * (last - first))
    for axes in figure.axes:
        axes.set_xlim(first - margin, last + margin)
        if not axes.has_data():
            axes.set_yticks([])
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color="#888888")
    with atomic_write(out) as path:
        figure.savefig(path, format="png", dpi=150)
    return out
