"""Android in the Zoo (AITZ) as TON (arXiv 2505.16854) reads it: one row per step of an episode.

An episode is a JSON list of steps; the traps are in the step:

- `result_touch_yx`, `result_lift_yx`: texts of [y, x], y first, as shares of height and width; -1 where nothing was
  touched. The label of a click is where the finger was lifted, rounded to two decimals, and stays [y, x].
- Action type 4 is a click, or a scroll if `coat_action_desc` begins with "scroll".
- TON's prompt says [x, y] while its labels are [y, x]. Here prompt, history, label and answer share one order
  (`order`), and `aitz_action` compares positions in it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.gui.fields import items_of, media_file, text
from data_pipelines.gui.prompts import Order, Style, ask_for_aitz_action
from data_pipelines.reading import Problem, Read, Row
from data_pipelines.rows import short
from mmrl.plugins import ConfigError

ACTIONS = {
    0: "SCROLL DOWN", 1: "SCROLL UP", 3: "TYPE", 4: "CLICK", 5: "PRESS BACK", 6: "PRESS HOME", 7: "PRESS ENTER",
    8: "SCROLL LEFT", 9: "SCROLL RIGHT", 10: "STATUS_TASK_COMPLETE", 11: "STATUS_TASK_IMPOSSIBLE",
}  # fmt: skip
"""`result_action_type` -> the action's name in labels and answers."""
SCROLLS = {"up": 1, "down": 0, "left": 8, "right": 9}
UNKNOWN = "(not recorded)"
"""Stands in the history for a step that could not be read."""

Action = dict[str, Any]


def read_aitz(
    annotations: Path,
    *,
    media: Path,
    style: Style = "think",
    order: Order = "yx",
    history: int = 4,
    answers: bool = False,
    split: str = "train",
) -> Read:
    """Rows of one episode file, of a file with a list of episodes, or of every `*.json` under a folder, by name.

    `media` is the folder that `image_path` starts from (AITZ's `train` or `test`). `style` is TON's choice of prompt;
    `order` that of every position; `history` how many of the last actions the prompt tells. With `answers` rows end in
    an assistant turn, AITZ's thought and the label: what TON's first stage learns (`drop-thoughts` then empties half
    of the thoughts). The target is `action`, `position` for clicks and `value` for typed texts.
    """
    if history < 0:
        raise ConfigError(f"history = {history}: a number of past actions, 0 for none.")
    past: list[str] = []
    for where, step, place in _steps(annotations):
        if place == 0:
            past = []
        if isinstance(step, Problem):
            yield step
            continue
        try:
            row, action = _row(step, media, past, style=style, order=order, history=history, answers=answers)
        except ValueError as error:
            past.append(UNKNOWN)
            yield Problem(where, str(error))
            continue
        past.append(str(action))
        common = {"task": "aitz_action", "source": "aitz", "split": split, "coordinates": "norm1", "order": order}
        row["meta"] = common | row["meta"]
        yield row | {"where": where}


def _steps(annotations: Path) -> Iterator[tuple[str, Any, int]]:
    """(where, step, its place in its episode): a file is one episode, or a list of episodes."""
    for _, where, number, item in items_of(annotations, "**/*.json"):
        if isinstance(item, list):
            for place, step in enumerate(item):
                yield f"{where}, step {place}", step, place
        else:
            yield where, item, number


def _row(
    step: Any, media: Path, past: list[str], *, style: Style, order: Order, history: int, answers: bool
) -> tuple[Row, Action]:
    if not isinstance(step, dict):
        raise ValueError(f"a step is an object; found {short(step)}")
    image, task = media_file(media, text(step, "image_path")), text(step, "instruction")
    action = _action(step, order)
    last = past[-history:] if history else []
    before, after = ask_for_aitz_action(task, last, first=len(past) - len(last), style=style, order=order)
    parts = [{"type": "text", "text": before}, {"type": "image", "image": image}, {"type": "text", "text": after}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": parts}]
    if answers:
        thought = f"<think>{text(step, 'coat_action_think')}</think>" if style != "action" else ""
        messages.append({"role": "assistant", "content": f"{thought}<action>{action}</action>"})
    meta = {key: step[key] for key in ("episode_id", "step_id", "episode_length") if key in step}
    meta["subset"] = step["image_path"].strip().split("/")[0]
    target = {key: value for key, value in action.items() if value is not None}
    name = "-".join(str(step.get(key, "")) for key in ("episode_id", "step_id"))
    return {"id": f"aitz-{meta['subset']}-{name}", "messages": messages, "target": target, "meta": meta}, action


def _action(step: Row, order: Order) -> Action:
    """`{"action": ..., "value": ..., "position": ...}`, as labels and answers have it."""
    try:
        kind = int(step.get("result_action_type"))  # type: ignore[arg-type]
        name = ACTIONS[kind]
    except (TypeError, ValueError, KeyError):
        found = short(step.get("result_action_type"))
        raise ValueError(f"`result_action_type` is one of {', '.join(map(str, ACTIONS))}; found {found}") from None
    value, position = None, None
    if kind == 3:
        value = text(step, "result_action_text")
    elif kind == 4:
        words = str(step.get("coat_action_desc", "")).lower().split()
        if words and words[0].startswith("scroll"):
            direction = words[1].strip(".,;:") if len(words) > 1 else ""
            if direction not in SCROLLS:
                raise ValueError(f"a scroll goes {', '.join(SCROLLS)}; found {short(step['coat_action_desc'])}")
            name = ACTIONS[SCROLLS[direction]]
        else:
            y, x = _pair(step, "result_lift_yx")
            position = [round(y, 2), round(x, 2)] if order == "yx" else [round(x, 2), round(y, 2)]
    return {"action": name, "value": value, "position": position}


def _pair(step: Row, key: str) -> tuple[float, float]:
    """Shares of height and width."""
    written = step.get(key)
    try:
        y, x = ast.literal_eval(written) if isinstance(written, str) and len(written) < 200 else written  # type: ignore[misc]
        if not all(type(one) in (int, float) and 0 <= one <= 1 for one in (y, x)):
            raise ValueError
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"`{key}` of a click is [y, x] with shares from 0 to 1; found {short(written)}") from None
    return y, x
