"""Data sets of full-size charts: several questions about every picture, rows for the rewards of `quantities`.

{"messages": [image and question], "target": {"answer": "42.5", "type": "number", "tolerance": 0.05},
 "meta": {"task": "chart_number", "chart": "bar", "question": "value", "source": "cars", "style": ..., "data": ...}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from data_pipelines.charts.prompts import ask
from data_pipelines.charts.questions import ASKERS, TASKS, draw_questions
from data_pipelines.charts.style import RENDERERS, Renderer, Style, draw_style, paint
from data_pipelines.charts.tables import VEGA_TABLES, Table, read_csv_table, vega_table
from data_pipelines.charts.views import KINDS, Chart, Kind, draw_chart
from data_pipelines.dataset import write_samples
from data_pipelines.drawing import canvases, counted
from mmrl.plugins import ConfigError, nearest

HELD_OUT = 8
"""One chart in this many, told by its numbers, is only ever drawn for testing."""
MOST_TRIES = 2000
"""Charts drawn in vain before the tables are given up."""


def make_charts(
    out: str | Path,
    *,
    count: int = 2048,
    test_count: int = 256,
    seed: int = 0,
    per_chart: int = 4,
    tables: Sequence[str] = (),
    kinds: Sequence[Kind] = KINDS,
    questions: Sequence[str] = (),
    renderers: Sequence[Renderer] = RENDERERS,
    prompt: str = "short",
) -> dict[str, Path]:
    """Draw charts and write `train.jsonl` (`count` rows) and `test.jsonl` (`test_count` rows) with their PNGs.

    `tables` are names of `VEGA_TABLES` or paths of CSV files with a header line; all of the former by default. Up to
    `per_chart` questions share a picture; `kinds` of charts and `questions` (kinds of `ASKERS`) may be fewer. `prompt`
    is the instruction (`prompts.PROMPTS`). No numbers of a chart are in both splits. Returns the path per split.
    """
    out = Path(out)
    known = {"kinds": (kinds, KINDS), "questions": (questions, tuple(ASKERS)), "renderers": (renderers, RENDERERS)}
    for what, (chosen, names) in known.items():
        for name in chosen:
            if name not in names:
                raise ConfigError(f"{what}: there is no `{name}`. {nearest(name, names)}")
    if per_chart < 1 or not kinds or not renderers:
        raise ConfigError(f"per_chart = {per_chart}, kinds = {kinds}, renderers = {renderers}: at least one of each.")
    ask("", prompt)
    used = [read_csv_table(name) if name.endswith(".csv") else vega_table(name) for name in tables or VEGA_TABLES]
    paths = {}
    for split, rows in (("train", count), ("test", test_count)):
        made = _rows(out, split, rows, seed, per_chart, used, kinds, questions, renderers, prompt)
        paths[split] = write_samples(out / f"{split}.jsonl", counted(made, split, rows))
    return paths


def _rows(
    out: Path, split: str, count: int, seed: int, per_chart: int, tables: Sequence[Table], kinds: Sequence[Kind],
    questions: Sequence[str], renderers: Sequence[Renderer], prompt: str,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    number = 0
    for _, rng, path in canvases(out / split, f"charts/{seed}/{split}"):
        if number == count:
            return
        chart, style, asked = _draw(rng, split, per_chart, tables, kinds, questions, renderers)
        paint(chart, style).save(path)
        for question in asked[: count - number]:
            yield {
                "id": f"charts-{split}-{number:06d}",
                "messages": [{"role": "user", "content": [
                    {"type": "image", "image": str(path)},
                    {"type": "text", "text": ask(question.text, prompt)},
                ]}],
                "target": question.target,
                "meta": {
                    "task": TASKS[question.type], "source": chart.table, "split": split, "chart": chart.kind,
                    "question": question.kind, "style": _look(style), "data": data_of(chart),
                },
            }  # fmt: skip
            number += 1


def _draw(
    rng: Random, split: str, per_chart: int, tables: Sequence[Table], kinds: Sequence[Kind], questions: Sequence[str],
    renderers: Sequence[Renderer],
) -> tuple[Chart, Style, list[Any]]:  # fmt: skip
    """A chart of this split that can be asked about; the kind is drawn first, so that kinds are about equally many."""
    for _ in range(20):
        kind = rng.choice(list(kinds))
        for _ in range(MOST_TRIES // 20):
            chart = draw_chart(rng, rng.choice(tables), kind)
            if chart is None or held_out(chart) != (split == "test"):
                continue
            style = draw_style(rng, chart, renderers)
            asked = draw_questions(rng, chart, style, count=per_chart, kinds=questions)
            if asked:
                return chart, style, asked
    names = ", ".join(table.name for table in tables)
    about = f" and questions {', '.join(questions)}" if questions else ""
    raise ConfigError(
        f"After {MOST_TRIES:,} tries no chart for `{split}` came out of the tables {names} with kinds "
        f"{', '.join(kinds)}{about}. Give tables with more columns or rows, or more kinds."
    )


def held_out(chart: Chart) -> bool:
    """Whether a chart is one of those for testing; depends on its numbers and names only, not on kind, look or seed."""
    names = sorted(chart.categories), sorted(chart.series)
    told = repr((chart.table, chart.measure, names, sorted(chart.values), chart.points))
    return hashlib.sha256(told.encode()).digest()[0] % HELD_OUT == 0


def data_of(chart: Chart) -> dict[str, Any]:
    """The numbers behind the picture, as they stand in `meta.data`."""
    if chart.kind == "scatter":
        return {"x": chart.category, "y": chart.value_label, "points": [list(point) for point in chart.points]}
    return {"category": chart.category, "value": chart.value_label, "categories": list(chart.categories),
            "series": list(chart.series), "values": [list(row) for row in chart.values]}  # fmt: skip


def _look(style: Style) -> dict[str, Any]:
    return {"renderer": style.renderer, "theme": style.theme, "labels": style.labels, "horizontal": style.horizontal}
