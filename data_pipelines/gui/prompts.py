"""How a model is asked about screens. Real screenshots, captured pages and full-size drawn screens share the wording.

Three families: a click alone (`ask_for_click`), one action in UI-R1's form (`ask_for_action`; scored by `ui_action`),
one action in AITZ's form as TON asks for it (`ask_for_aitz_action`; scored by `aitz_action`). Tags, keys and action
names are those of the papers, the wording is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from data_pipelines.coordinates import CONVENTIONS
from mmrl.plugins import ConfigError

PROMPT = "In this screenshot, where do you click for: {instruction}? Answer with the point (x, y){unit}."
UNITS = {
    "pixel": " in pixels",
    "seen": " in pixels",
    "norm1": ", as shares of width and height from 0 to 1",
    "norm1000": ", on a scale from 0 to 1000",
}
"""Convention of the answer (`mmrl.records.Sample.coordinates`) -> how the prompt asks for it."""

Order = Literal["yx", "xy"]
"""Of the two numbers of an AITZ position: [y, x] as its labels and TON's training have it, or [x, y]."""
Style = Literal["think", "hybrid", "action"]
"""Thinking asked for, left to the model (TON: skip it if the step is simple), or not asked for."""


def ask_for_click(instruction: str, coordinates: str, *, prompt: str = PROMPT) -> str:
    """The question; ConfigError for an unknown convention, or a prompt with other fields than these two."""
    try:
        return prompt.format(instruction=instruction, unit=unit(coordinates))
    except (KeyError, IndexError, AttributeError) as error:
        raise ConfigError(f"prompt = {prompt}: holds {{instruction}} and {{unit}}, not {error}.") from None


def unit(coordinates: str) -> str:
    if coordinates not in UNITS:
        raise ConfigError(f"coordinates = {coordinates}: one of {', '.join(CONVENTIONS)}.")
    return UNITS[coordinates]


UI_ACTIONS = ("click", "open_app", "scroll", "navigate_back", "input_text")
"""UI-R1's five."""


def ask_for_action(
    command: str, coordinates: str, *, think: bool = True, clicks_only: bool = False, history: Sequence[str] = ()
) -> str:
    """UI-R1's question: which action, and for a click where. `clicks_only` without `think` is that of UI-R1-E.

    `history` are the actions of a task so far, as the model writes them.
    """
    kinds = "click" if clicks_only else f"one of {', '.join(UI_ACTIONS)}"
    where = unit(coordinates).lstrip(", ")
    lines = [
        f"In this UI screenshot, I want to perform the command '{command}'.",
        *([f"Actions so far:\n{_steps(history, 0)}"] if history else []),
        f"Give the next action ({kinds})" + ("" if clicks_only else "; a coordinate is needed for click only")
        + f". The coordinate [x, y] is the point to click, {where}.",
    ]  # fmt: skip
    kind = "'click'" if clicks_only else "enum"
    answer = f"<answer>[{{'action': {kind}, 'coordinate': [x, y]}}]</answer>"
    if think:
        lines.append("First think about it in <think> </think> tags, then give the answer in <answer> </answer> tags:")
        lines.append(f"<think> ... </think> {answer}")
    else:
        lines.append(f"Give only the answer, in <answer> </answer> tags: {answer}")
    return "\n".join(lines)


AITZ_ACTIONS = """\
1. `CLICK`: tap an element; position {order} is needed, value is None.
2. `TYPE`: type a text; value is the text, position is None.
3. `SCROLL UP`  4. `SCROLL DOWN`  5. `SCROLL LEFT`  6. `SCROLL RIGHT`
7. `PRESS BACK`: go back.  8. `PRESS HOME`: go to the home screen.  9. `PRESS ENTER`: submit what was typed.
10. `STATUS_TASK_COMPLETE`: the task is done."""
"""The ten that TON asks for; the last is spelled as the labels spell it, or a right answer would be scored as wrong."""
STYLES: dict[Style, str] = {
    "think": "First think in <think> </think> tags, then give the action in <action> </action> tags.",
    "hybrid": "First think in <think> </think> tags, then give the action in <action> </action> tags. "
    "Where the step is simple, leave the thought empty.",
    "action": "Give only the action, in <action> </action> tags.",
}


def ask_for_aitz_action(
    task: str, history: Sequence[str], *, first: int, style: Style = "think", order: Order = "yx"
) -> tuple[str, str]:
    """TON's question about one step of an Android task: the texts before and after the image.

    `history` are the last actions as dictionaries in text, the first of them that of step `first` of the task.
    """
    pair = "[y, x]" if order == "yx" else "[x, y]"
    before = (
        f"You operate an Android phone. Choose the next action out of these:\n{AITZ_ACTIONS.format(order=pair)}\n"
        f"Write it as a dictionary {{'action': 'ACTION', 'value': text or None, 'position': {pair} or None}}. "
        f"The position {pair} is given as shares of height and width from 0 to 1; "
        f"{'y, from the top, comes first' if order == 'yx' else 'x, from the left, comes first'}.\n"
        f"{STYLES[style]}\nTask: {task}"
    )
    return before, f"Action history:\n{_steps(history, first) or 'none'}\nNext action:"


def _steps(history: Sequence[str], first: int) -> str:
    return "\n".join(f"Step{number}: {action}" for number, action in enumerate(history, first))
