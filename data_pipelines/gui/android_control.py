"""AndroidControl steps as UI-R1 (arXiv 2503.21620) reads them: its training list and its test list.

    {"img_filename": "mob_12.png", "bbox": [100, 200, 180, 260], "instruction": "open settings"}
    {"img_filename": "mob_13.png", "action": "scroll", "instruction": "show more results"}
    {"image": "episode_7-screenshot_1.png", "gt": {"action_type": "click", "x": 540, "y": 1210}, "task": "Tap ..."}

Boxes are x1, y1, x2, y2 and clicks x, y, both in pixels of the stored screenshot, whatever UI-R1's Qwen2.5-VL answers
in (pixels as seen, `coordinates="seen"`). A test click is a point without a box: UI-R1 counts a click as right within
0.14 * 1080 pixels of it; `reach` draws a box.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_pipelines.gui.fields import media_file, number, numbers, proper, text
from data_pipelines.gui.prompts import UI_ACTIONS, ask_for_action
from data_pipelines.reading import Problem, Read, Row, json_items
from data_pipelines.rows import short
from mmrl.plugins import ConfigError

SCREEN = (1080, 2400)
"""The screen that UI-R1's evaluation supposes, in pixels."""
ARGUMENTS = {"open_app": "app_name", "scroll": "direction", "input_text": "text"}
"""Where the argument of an action stands in `gt`; it becomes `target.value`."""


def read_android_control(
    annotations: Path,
    *,
    media: Path,
    coordinates: str = "seen",
    think: bool = True,
    clicks_only: bool = False,
    reach: float = 0.0,
    split: str = "train",
) -> Read:
    """Rows with `target.action` and, for clicks, `target.box` (training list) or `target.point` (test list).

    `think` and `clicks_only` choose the prompt, UI-R1-E's being the one without the first and with the second (other
    actions are then left out). With `reach` the clicks of the test list have a box, `reach` pixels to each side of the
    point and cut at the edges of a screen of 1080 x 2400 (or 2400 x 1080); 151.2 makes it the square around UI-R1's
    circle. `split` goes into `meta`.
    """
    ask_for_action("", coordinates)
    if reach < 0:
        raise ConfigError(f"reach = {reach}: pixels to each side of a click, 0 for no box.")
    for where, key, item in json_items(annotations):
        try:
            if not isinstance(item, dict):
                raise ValueError("an item is an object with `img_filename` and `bbox` or `action`, or `image` and `gt`")
            image, command, target = _test(item, reach) if "gt" in item else _train(item)
            image = media_file(media, image)
        except ValueError as error:
            yield Problem(where, str(error))
            continue
        if clicks_only and target["action"] != "click":
            continue
        question = ask_for_action(command, coordinates, think=think, clicks_only=clicks_only)
        parts = [{"type": "image", "image": image}, {"type": "text", "text": question}]
        yield {
            "id": f"{annotations.stem}-{key}",
            "messages": [{"role": "user", "content": parts}],
            "target": target,
            "meta": {"task": "ui_action", "source": "android-control", "split": split, "coordinates": coordinates},
            "where": where,
        }


def _train(item: Row) -> tuple[str, str, dict[str, Any]]:
    """Image, command and target of a row of the training list: with a box it is a click."""
    image, command = text(item, "img_filename"), text(item, "instruction")
    if item.get("bbox") is None:
        action = text(item, "action")
        if action == "click":
            raise ValueError("a click needs `bbox`, and there is none")
        return image, command, {"action": _known(action)}
    if item.get("action", "click") != "click":
        raise ValueError(f"`bbox` makes it a click, and `action` is {short(item['action'])}")
    box = numbers(item, "bbox", 4)
    x1, y1, x2, y2 = box = proper(box, f"bbox {box}, read as [x1, y1, x2, y2]")
    return image, command, {"action": "click", "box": box, "point": [(x1 + x2) / 2, (y1 + y2) / 2]}


def _test(item: Row, reach: float) -> tuple[str, str, dict[str, Any]]:
    image, command, gold = text(item, "image"), text(item, "task"), item["gt"]
    if not isinstance(gold, dict):
        raise ValueError(f"`gt` is an object with `action_type`; found {short(gold)}")
    target: dict[str, Any] = {"action": _known(text(gold, "action_type"))}
    if target["action"] == "click":
        x, y = number(gold, "x"), number(gold, "y")
        if min(x, y) < 0:
            raise ValueError(f"the click ({x:g}, {y:g}) lies outside the screen")
        target["point"] = [x, y]
        if reach:
            target["box"] = _around(x, y, reach)
    elif argument := ARGUMENTS.get(target["action"]):
        target["value"] = text(gold, argument)
    return image, command, target


def _around(x: float, y: float, reach: float) -> list[float]:
    width, height = SCREEN if x <= SCREEN[0] else (SCREEN[1], SCREEN[0])
    right, bottom = max(x + 1, min(x + reach, width)), max(y + 1, min(y + reach, height))
    return [max(0.0, x - reach), max(0.0, y - reach), right, bottom]


def _known(action: str) -> str:
    if action not in UI_ACTIONS:
        raise ValueError(f"{short(action)} is none of UI-R1's actions ({', '.join(UI_ACTIONS)})")
    return action
