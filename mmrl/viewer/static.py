"""Groups as a folder that opens from disk: one HTML page without scripts, the media, and the rows as JSON Lines.

For a bug report or a colleague. Everything that was asked or answered is escaped text; shapes on images are numbers.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from mmrl.runs import layout
from mmrl.viewer.answers import Shapes
from mmrl.viewer.groups import Marks
from mmrl.viewer.predictions import gold, predicted
from mmrl.viewer.prompts import without_paths
from mmrl.viewer.subjects import Subject

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
section { border-top: 1px solid #8888; padding: 1.5rem 0; display: grid; gap: 1.5rem; grid-template-columns: 1fr 1.4fr }
@media (max-width: 50rem) { section { grid-template-columns: 1fr } }
svg, video, img { max-width: 100%; height: auto; image-rendering: auto; background: #8882 }
svg { width: 24rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; font: .9rem/1.5 ui-monospace, monospace;
  unicode-bidi: isolate }
article { border-left: 4px solid #888; padding: 0 0 .5rem 1rem; margin-bottom: 1rem }
article.up { border-color: #1f6feb } article.down { border-color: #c2560c }
.facts { font-size: .85rem; opacity: .8 }
.gold { stroke: #1a9850 } .said { stroke: #d6006e }
rect, circle { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke }
"""


def bundle(subject: Subject, rows: Sequence[dict[str, Any]], marks: Marks, *, folder: str) -> bytes:
    """The zipped folder of these rows, which come in order of step, rank and number."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        sections = []
        for _, group in groupby(rows, key=lambda row: (row["step"], row["rank"], row["group"])):
            sections.append(_section(list(group), marks))
        title = escape(subject.name)
        archive.writestr(
            f"{folder}/index.html",
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self' file:; "
            "media-src 'self' file:; style-src 'self' file:\">"
            f'<title>{title}</title><link rel="stylesheet" href="style.css"></head>'
            f"<body><h1>{title}</h1><p>{len(rows)} completions. The rows as stored are in rollouts.jsonl.</p>"
            f"{''.join(sections)}</body></html>",
        )
        archive.writestr(f"{folder}/style.css", STYLE)
        plain = ({key: value for key, value in row.items() if key != "has_tokens"} for row in rows)
        archive.writestr(
            f"{folder}/rollouts.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain)
        )
        for file in sorted({file for row in rows for file in _files(row)}):
            if (path := subject.media_path(Path(file).name)) is not None:
                archive.write(path, f"{folder}/{_place(file)}", zipfile.ZIP_STORED)
    return content.getvalue()


def _files(row: dict[str, Any]) -> list[str]:
    media = [item["file"] for item in row["media"] or [] if item["file"]]
    return [*media, row["made"]] if row["made"] else media


def _place(file: str) -> str:
    """Where the archive has a file: rollouts may come from anybody and name anything."""
    return f"{layout.MEDIA}/{Path(file).name}"


def _section(rows: list[dict[str, Any]], marks: Marks) -> str:
    first = rows[0]
    right = gold(first["target"])
    rows.sort(key=lambda row: (row["reward"] is None, -(row["reward"] or 0.0)))
    said = [predicted(row["completion"], row["notes"], right, row["media"] or [], row["coordinates"]) for row in rows]
    media = "".join(
        _medium(item, right, said if number == 0 else []) for number, item in enumerate(first["media"] or [])
    )
    texts = "".join(
        f"<pre>{escape(message['role'])}: {escape(part['text'])}</pre>"
        for message in without_paths(first["messages"])
        for part in message["content"]
        if part["type"] == "text"
    )
    target = escape(json.dumps(first["target"], ensure_ascii=False))
    return (
        f"<section><div><h2>{escape(first['sample_id'])}</h2>"
        f"<p class=facts>step {first['step']}, rank {first['rank']}, group {first['group']}</p>"
        f"{media}{texts}<p class=facts>target</p><pre>{target}</pre></div>"
        f"<div>{''.join(_article(row, marks) for row in rows)}</div></section>"
    )


def _article(row: dict[str, Any], marks: Marks) -> str:
    advantage = row["advantage"] or 0.0
    side = "up" if advantage > 0 else "down" if advantage < 0 else ""
    scores = ", ".join(f"{name} {_number(value)}" for name, value in row["scores"].items())
    mark = marks.get((row["step"], row["rank"], row["row"]))
    note = "" if mark is None else f"<p>{'★ ' if mark.star else ''}{escape(mark.note)}</p>"
    made = row["made"]
    shown = f"<pre>{escape(row['completion'])}</pre>" if made is None else _picture(made)
    notes = escape(json.dumps(row["notes"], ensure_ascii=False)) if row["notes"] else ""
    cut = ", truncated" if row["truncated"] else ""
    return (
        f'<article class="{side}"><p class=facts>row {row["row"]} · reward {_number(row["reward"])} · advantage '
        f"{_number(row['advantage'])} · {escape(scores)} · {row['tokens']} {'steps' if made else 'tokens'}{cut} · "
        f"{escape(row['origin'])}</p>{shown}{note}<pre class=facts>{notes}</pre></article>"
    )


def _picture(file: str) -> str:
    """An element for a file of the run."""
    source = escape(_place(file), quote=True)
    if Path(file).suffix in layout.VIDEO_SUFFIXES:
        return f'<video controls src="{source}"></video>'
    return f'<img alt="what was made" src="{source}">'


def _medium(item: dict[str, Any], right: Shapes, said: Sequence[Shapes]) -> str:
    """A prompt's image with the gold and all predictions on it, or a video."""
    file = item["file"]
    if not file:
        return "<p class=facts>(not kept)</p>"
    width, height = int(item["width"] or 0), int(item["height"] or 0)
    if item["kind"] == "video" or not width or not height:
        return _picture(file)
    radius = max(width, height) / 60
    marks = "".join(_shapes(shapes, "said", radius) for shapes in said) + _shapes(right, "gold", radius)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="the image, with gold and predictions">'
        f'<image href="{escape(_place(file), quote=True)}" width="{width}" height="{height}"/>{marks}</svg>'
    )


def _shapes(shapes: Shapes, kind: str, radius: float) -> str:
    boxes = "".join(
        f'<rect class="{kind}" x="{x1:.2f}" y="{y1:.2f}" width="{max(x2 - x1, 0):.2f}" height="{max(y2 - y1, 0):.2f}"/>'
        for x1, y1, x2, y2 in shapes.boxes
    )
    return boxes + "".join(
        f'<circle class="{kind}" cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"/>' for x, y in shapes.points
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
