"""Rewards for one action on a screen: its type, where it happens, and the form it is written in.

Each is a sum of parts. To weigh them, a recipe lists the reward once for each part:
`{name: ui_action, part: coordinate, as: where, weight: 2}`. Clicks without a type: `boxes.py`.
"""

from __future__ import annotations

import math
from typing import Literal

from mmrl.records import Sample
from rewards.boxes import point_in_box
from rewards.parsing import last_answer, think_answer
from rewards.parsing.actions import action_name, literal, position
from rewards.parsing.tags import last_tag, only_tags
from rewards.parts import score_of
from rewards.registry import Score, reward

CLICK_DISTANCE = 0.14
"""Of AITZ's clicks, in shares of the image's sides. TON's evaluation allows 0.2."""


@reward(range=(0, 3), needs=("action",), source="UI-R1, arXiv 2503.21620")
def ui_action(
    completion: str,
    sample: Sample,
    *,
    part: Literal["sum", "type", "coordinate", "format"] = "sum",
    free_point: bool = True,
) -> Score | None:
    """Type + coordinate + format of `<answer>[{'action': 'click', 'coordinate': [x, y]}]</answer>`, each 0 or 1.

    `type` is 1 if the action in the answer tag is `target.action`. `coordinate` needs that; for a click it is 1 if the
    point lies in `target.box` (`point_in_box`), and any other action gets it for nothing, as in UI-R1's code (the
    paper's equation covers clicks only). With `free_point: false` other actions have no coordinate: it adds 0 to the
    sum and alone does not apply. `format` is 1 for one think tag, then one answer tag, and nothing else. Texts,
    directions and names of apps are not compared.

    The original reads Python's single quotes and whole numbers in stored pixels only, from the first answer tag; this
    one reads JSON too, and decimals, in the sample's convention, from the last.
    """
    gold = sample.target["action"]
    if not isinstance(gold, str):
        raise TypeError(f"target.action is an action's name; found {gold!r}")
    clicks = gold == "click"
    if clicks and sample.target.get("box") is None:
        raise ValueError("target.box is missing: a click needs one")
    if part == "coordinate" and not clicks and not free_point:
        return None
    name = action_name(last_answer(completion) or "")
    point = point_in_box(completion, sample) if clicks else Score(float(free_point))
    parts = {
        "type": float(name == gold),
        "coordinate": point.value if name == gold else 0.0,
        "format": float(think_answer(completion) is not None),
    }
    return score_of(part, parts, parsed={"action": name, **(point.parsed or {})})


@reward(range=(0, 3), needs=("action",), source="AITZ actions in TON, arXiv 2505.16854")
def aitz_action(completion: str, sample: Sample, *, part: Literal["sum", "type", "click", "format"] = "sum") -> Score:
    """Type + click + format of `<action>{'action': 'CLICK', 'value': None, 'position': [y, x]}</action>`, each 0 or 1.

    `type` is 1 if the action is `target.action`, whatever the case and with `_` as a blank. `click` is 1 if both are
    CLICK and the positions are at most 0.14 apart, in shares of the image's sides; other actions have 0, so they reach
    2 at most, and a typed text is not compared. `format` is 1 for one think tag, which may be empty, then one action
    tag, and nothing else.

    `target.position` is in the order the completions are in. AITZ labels and TON's models write [y, x] though TON's
    prompt says [x, y]; the distance is the same as long as both agree. TON evaluates the text as Python code; here it
    is a JSON object or a Python literal of at most 2,000 characters, and the last action tag counts, not the first.
    """
    gold = sample.target["action"]
    if not isinstance(gold, str):
        raise TypeError(f"target.action is an action's name; found {gold!r}")
    target = position(sample.target.get("position"))
    if _same(gold, "click") and target is None:
        raise ValueError(f"target.position is two shares of the image's sides; found {sample.target.get('position')!r}")
    written = literal(last_tag(completion, "action") or "")
    action = written if isinstance(written, dict) else {}
    name, place = action.get("action"), position(action.get("position"))
    name = name if isinstance(name, str) else ""
    correct = _same(name, gold)
    near = False
    if correct and _same(gold, "click") and place and target:
        # The labels have two decimals, so distances of exactly 0.14 are common, and floats put some of them above.
        near = math.dist(place, target) <= CLICK_DISTANCE + 1e-9
    parts = {
        "type": float(correct),
        "click": float(near),
        "format": float(only_tags(completion, "think", "action") is not None),
    }
    return score_of(part, parts, parsed={"action": name, "position": place} if action else None)


def _same(a: str, b: str) -> bool:
    return a.replace("_", " ").casefold().split() == b.replace("_", " ").casefold().split()
