"""ScreenSpot, ScreenSpot-v2 and ScreenSpot-Pro annotation files.

The trap: boxes are [x, y, width, height] in v1 and v2, but [x1, y1, x2, y2] in Pro; all in pixels of the image. Pro is
told by its fields. A box that does not fit its image, as one read in the wrong form, is found when the image is
(`mmrl data convert`); Pro stores the size, so there it is found here. Scoring is `mmrl/evaluation/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from data_pipelines.coordinates import Form, corners
from data_pipelines.gui.fields import items_of, media_file, numbers, proper, text
from data_pipelines.gui.prompts import PROMPT, ask_for_click
from data_pipelines.reading import Problem, Read, Row

Variant = Literal["auto", "v1", "v2", "pro"]

SOURCES = {"v1": "screenspot", "v2": "screenspot-v2", "pro": "screenspot-pro"}
FORMS: dict[str, Form] = {"v1": "xywh", "v2": "xywh", "pro": "xyxy"}
KEPT = ("data_source", "platform", "application", "group", "ui_type", "instruction_style")
"""Fields copied into `meta`, where present; metrics are broken down by them."""


def read_screenspot(
    annotations: Path,
    *,
    media: Path,
    variant: Variant = "auto",
    coordinates: str = "pixel",
    prompt: str = PROMPT,
) -> Read:
    """Rows of an annotation file, or of every `*.json` in a folder, with `target.box` and its centre `target.point`.

    `media` is the folder of the images; `variant` is told by the fields (`img_size`: Pro) and the name of the file
    (`..._v2.json`) unless it is given; `coordinates` is the convention of the model's answers (`seen` for Qwen2.5-VL,
    `norm1000` for Qwen3-VL); `prompt` holds `{instruction}` and, if it likes, `{unit}`.
    """
    ask_for_click("", coordinates, prompt=prompt)
    for file, where, key, item in items_of(annotations, "*.json"):
        if isinstance(item, Problem):
            yield item
            continue
        try:
            if not isinstance(item, dict):
                raise ValueError("an item is an object with `img_filename`, `bbox` and `instruction`")
            row = _row(item, media, _variant(file, item) if variant == "auto" else variant)
            question = ask_for_click(text(item, "instruction"), coordinates, prompt=prompt)
        except ValueError as error:
            yield Problem(where, str(error))
            continue
        row["id"] = str(item.get("id") or f"{file.stem}-{key}")
        row["where"] = where
        row["meta"]["coordinates"] = coordinates
        row["messages"][0]["content"].append({"type": "text", "text": question})
        yield row


def _variant(file: Path, item: dict[str, Any]) -> str:
    if "img_size" in item or "ui_type" in item:
        return "pro"
    return "v2" if file.stem.endswith("_v2") else "v1"


def _row(item: dict[str, Any], media: Path, variant: str) -> Row:
    image = media_file(media, text(item, "img_filename"))
    written = numbers(item, "bbox", 4)
    form = "[x1, y1, x2, y2]" if variant == "pro" else "[x, y, width, height]"
    how = f"bbox {written}, read as {form} ({variant})"
    if variant == "pro" and "img_size" not in item:
        raise ValueError("there is no `img_size`; is this ScreenSpot-Pro? Otherwise variant=v1 or variant=v2")
    x1, y1, x2, y2 = box = proper(corners(written, FORMS[variant]), how)
    if variant == "pro":
        width, height = numbers(item, "img_size", 2)
        if x2 > width or y2 > height:
            raise ValueError(f"{how}, leaves the image of {width:g} x {height:g}")
    kind = "ui_type" if variant == "pro" else "data_type"
    meta = {"task": "gui", "source": SOURCES[variant], "split": "test", "data_type": text(item, kind)}
    return {
        "messages": [{"role": "user", "content": [{"type": "image", "image": image}]}],
        "target": {"box": box, "point": [(x1 + x2) / 2, (y1 + y2) / 2]},
        "meta": meta | {key: item[key] for key in KEPT if isinstance(item.get(key), str)},
    }
