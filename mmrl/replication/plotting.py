"""A picture per experiment, from its results: curves over steps on the left, the number that decides on the right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmrl.replication.measures import HELD_OUT
from mmrl.replication.statistics import interval
from mmrl.runs.files import atomic_write
from mmrl.runs.plot import COLOURS, INK, smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def draw(results: Mapping[str, Any], out: Path) -> Path:
    """Write the PNG. An arm has one colour in both panels; bands and bars are 95 % intervals over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    colours = {arm: COLOURS[i % len(COLOURS)] for i, arm in enumerate(results["arms"])}
    _draw_curves(left, results, colours)
    _draw_measure(right, results, colours)
    for axes in (left, right):
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#999999")
        axes.tick_params(color="#999999", labelcolor=INK)
        if not axes.has_data():
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color="#888888")
    figure.suptitle(_plain(results["title"]), x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    with atomic_write(out) as path:
        figure.savefig(path, format="png", dpi=110)
    return out


def _draw_curves(axes: Axes, results: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    held_out = results["curve"] == HELD_OUT
    heights = []
    for arm, runs in results["curves"].items():
        runs = [[np.array(part, dtype=float) for part in run] for run in runs if run[0]]
        if not runs:
            continue
        steps = runs[0][0] + 1
        values: NDArray[np.float64] = np.stack([run[1] if held_out else smooth(run[1]) for run in runs])
        bounds = np.array([interval(list(at)) for at in values.T])
        axes.fill_between(steps, bounds[:, 1], bounds[:, 2], color=colours[arm], alpha=0.12, linewidth=0)
        axes.plot(steps, values.T, color=colours[arm], linewidth=0.7, alpha=0.45)
        axes.plot(steps, bounds[:, 0], color=colours[arm], linewidth=2.2, label=_plain(arm),
                  marker="o" if held_out else None)  # fmt: skip
        heights += [values.min(), values.max()]
    if not heights:
        return
    margin = 0.08 * (max(heights) - min(heights)) or 0.05
    axes.set_ylim(min(heights) - margin, max(heights) + margin)  # the band of three seeds may be much wider
    axes.set_xlabel("step", color=INK)
    title = "held-out reward" if held_out else f"{results['curve']}, smoothed"
    axes.set_title(_plain(title), loc="left", fontsize=10, color=INK)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.legend(frameon=False, loc="best")


def _draw_measure(axes: Axes, results: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """The measure of the first expectation: a point per seed, mean and interval; an arm without seeds is a line."""
    measure = results["expect"][0]["measure"]
    values = results["values"][measure]
    several = [arm for arm in results["arms"] if len(values.get(arm, ())) > 1]
    for arm in results["arms"]:
        found = values.get(arm, [])
        if len(found) == 1:
            axes.axhline(found[0], color=colours[arm], linestyle="--", linewidth=1.5)
            axes.text(
                len(several) - 0.45, found[0], _plain(arm), color=colours[arm], fontsize=8.5, ha="right", va="bottom"
            )
    for place, arm in enumerate(several):
        mean, low, high = interval(values[arm])
        axes.vlines(place, low, high, color=colours[arm], linewidth=1.6)
        axes.plot([place] * len(values[arm]), values[arm], linestyle="", marker="o", markersize=4, color=colours[arm],
                  alpha=0.5)  # fmt: skip
        axes.plot(place, mean, marker="o", markersize=9, color=colours[arm], markeredgecolor="white")
    axes.set_xticks(range(len(several)), [_plain(arm) for arm in several], rotation=15 if len(several) > 3 else 0)
    axes.set_xlim(-0.5, max(0.5, len(several) - 0.5))
    axes.set_title(_plain(measure), loc="left", fontsize=10, color=INK)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)


def _plain(text: str) -> str:
    """Dollar signs would begin a formula."""
    return text.replace("$", r"\$")
