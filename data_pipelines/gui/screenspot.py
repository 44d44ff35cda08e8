"""ScreenSpot, ScreenSpot-v2 and ScreenSpot-Pro: annotation files to rows of our format.

The trap: boxes are [x, y, width, height] in v1 and v2, but [x1, y1, x2, y2] in Pro; all in pixels of the image. Every
box is checked against its image after conversion, so a wrong variant stops at the first row it does not fit.
Scoring is `mmrl/evaluation/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from data_pipelines.dataset import write_samples
from data_pipelines.gui.prompts import PROMPT, ask_for_click
from data_pipelines.media import probe
from mmrl.plugins import ConfigError

Variant = Literal["v1", "v2", "pro"]

NAMES: dict[Variant, str] = {"v1": "screenspot", "v2": "screenspot-v2", "pro": "screenspot-pro"}
KEPT = ("data_source", "platform", "application", "group", "ui_type")
"""Fields copied into `meta`, where present; metrics are broken down by them."""


def make_screenspot(
    out: str | Path,
    *,
    annotations: str,
    images: str,
    variant: Variant | Literal["auto"] = "auto",
    coordinates: str = "pixel",
) -> dict[str, Path]:
    """Write `test.jsonl` from an annotation file, or a folder of them; images stay where they are.

    `coordinates` is the convention of the model's answers: `seen` for Qwen2.5-VL, `norm1000` for Qwen3-VL.
    """
    rows = read_screenspot(annotations, images, variant=variant, coordinates=coordinates)
    return {"test": write_samples(Path(out) / "test.jsonl", rows)}


def read_screenspot(
    annotations: str | Path,
    images: str | Path,
    *,
    variant: Variant | Literal["auto"] = "auto",
    prompt: str = PROMPT,
    coordinates: str = "pixel",
) -> list[dict[str, Any]]:
    """Rows of an annotation file, or of every `*.json` in a folder, for `write_samples`.

    `prompt` holds `{instruction}` and, if it likes, `{unit}`; `coordinates` is the convention it asks for (see
    `mmrl.records.Sample`). The target keeps pixels of the stored image: `box` (x1, y1, x2, y2) and its centre `point`.
    ConfigError names file and row, counted from 1.
    """
    annotations = Path(annotations)
    files = sorted(annotations.glob("*.json")) if annotations.is_dir() else [annotations]
    if not files:
        raise ConfigError(f"{annotations}: there is no *.json annotation file in this folder.")
    rows = []
    for file in files:
        entries = _entries(file)
        kind = variant if variant != "auto" else _variant(file, entries[0])
        for number, entry in enumerate(entries, 1):
            try:
                row = _row(entry, Path(images), kind)
                question = ask_for_click(entry["instruction"], coordinates, prompt=prompt)
            except KeyError as error:
                raise ConfigError(f"{file}, row {number}: there is no {error}; is this {NAMES[kind]}?") from None
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{file}, row {number}: {error}.") from None
            row["id"] = str(entry.get("id") or f"{file.stem}-{number:05d}")
            row["meta"]["coordinates"] = coordinates
            row["messages"][0]["content"].append({"type": "text", "text": question})
            rows.append(row)
    return rows


def _entries(file: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as JSON ({error}).") from None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{file}: a ScreenSpot annotation file is a non-empty list of objects.")
    return entries


def _variant(file: Path, entry: dict[str, Any]) -> Variant:
    """Pro is told by its fields, v2 by its file name."""
    if "img_size" in entry:
        return "pro"
    return "v2" if file.stem.endswith("_v2") else "v1"


def _row(entry: dict[str, Any], images: Path, variant: Variant) -> dict[str, Any]:
    """KeyError on a missing field, ValueError or TypeError on one that makes no sense."""
    media = probe(images / entry["img_filename"], "image")
    width, height = media.size
    if variant == "pro" and tuple(entry["img_size"]) != media.size:
        raise ValueError(f"img_size is {entry['img_size']}, but the image is {width}x{height}")
    x1, y1, x2, y2 = entry["bbox"]
    if variant != "pro":
        x2, y2 = x1 + x2, y1 + y2
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        convention = "[x1, y1, x2, y2]" if variant == "pro" else "[x, y, width, height]"
        raise ValueError(
            f"bbox {entry['bbox']}, read as {convention} ({variant}), does not lie in the image of {width}x{height}; "
            f"v1 and v2 hold [x, y, width, height], pro holds [x1, y1, x2, y2]"
        )
    meta = {"task": "gui", "source": NAMES[variant], "data_type": entry["ui_type" if variant == "pro" else "data_type"]}
    return {
        "messages": [{"role": "user", "content": [{"type": "image", "image": media.path}]}],
        "target": {"box": [x1, y1, x2, y2], "point": [(x1 + x2) / 2, (y1 + y2) / 2]},
        "meta": meta | {key: entry[key] for key in KEPT if key in entry},
    }
