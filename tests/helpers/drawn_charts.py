"""Full-size charts of vega's tables, drawn at random."""

from __future__ import annotations

from random import Random

from data_pipelines.charts.tables import VEGA_TABLES, vega_table
from data_pipelines.charts.views import draw_chart


def drawn(kind, seed, tables=tuple(VEGA_TABLES), wanted=lambda chart: True):
    """A chart of that kind, and the generator it came from."""
    for attempt in range(2000):
        rng = Random(f"{kind}/{seed}/{attempt}")
        chart = draw_chart(rng, vega_table(rng.choice(tables)), kind)
        if chart is not None and wanted(chart):
            return rng, chart
    raise AssertionError(f"no chart of kind {kind}")
