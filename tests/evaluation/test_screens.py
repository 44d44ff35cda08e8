"""ScreenSpot by platform and type, AITZ's steps, counts and thoughts."""

from __future__ import annotations

import pytest

from mmrl.evaluation.answers import counting, thoughts
from mmrl.evaluation.screens import aitz, screenspot
from mmrl.records import Media, Sample

MEDIA = (Media("image", "a.png", "0", (100, 100)),)


def screen(**meta):
    return Sample("s", (), MEDIA, {"box": [10, 10, 20, 20]}, meta)


@pytest.mark.parametrize(
    ("meta", "cells"),
    [
        ({"data_source": "ios", "data_type": "icon"}, {"mobile", "mobile/icon"}),
        ({"data_source": "windows", "data_type": "text"}, {"desktop", "desktop/text"}),
        ({"data_source": "gitlab", "data_type": "text"}, {"web", "web/text"}),
        ({"data_source": "web", "data_type": "icon"}, {"web", "web/icon"}),
        ({"group": "CAD", "platform": "windows", "data_type": "icon"}, {"CAD", "CAD/icon"}),
        ({"data_type": "icon"}, set()),
    ],
)
def test_a_click_counts_in_all_and_in_its_cell(meta, cells):
    assert screenspot("(20, 10)", screen(**meta)) == dict.fromkeys({"accuracy"} | cells, 1.0)
    assert set(screenspot("(21, 10)", screen(**meta)).values()) == {0.0}
    assert set(screenspot("somewhere", screen(**meta)).values()) == {0.0}


def step(text, **target):
    return aitz(f"<think>\n\n</think><action>{text}</action>", Sample("s", (), MEDIA, target))


CLICK = {"action": "CLICK", "position": [0.5, 0.7]}


@pytest.mark.parametrize(
    ("text", "target", "type_right", "exact", "kind"),
    [
        ("{'action': 'CLICK', 'value': None, 'position': [0.5, 0.9]}", CLICK, 1, 1, "CLICK"),  # 0.2, inclusive
        ("{'action': 'CLICK', 'value': None, 'position': [0.5, 0.91]}", CLICK, 1, 0, "CLICK"),
        ("{'action': 'click', 'value': None, 'position': '[0.5, 0.7]'}", CLICK, 1, 1, "CLICK"),
        ("{'action': 'CLICK', 'value': None, 'position': None}", CLICK, 1, 0, "CLICK"),
        ("{'action': 'TYPE', 'value': 'x', 'position': None}", CLICK, 0, 0, "CLICK"),
        ("{'action': 'TYPE', 'value': 'New Shoes'}", {"action": "TYPE", "value": "shoes"}, 1, 1, "TYPE"),
        ("{'action': 'TYPE', 'value': 'boots'}", {"action": "TYPE", "value": "shoes"}, 1, 0, "TYPE"),
        ("{'action': 'TYPE', 'value': ''}", {"action": "TYPE", "value": "shoes"}, 1, 0, "TYPE"),
        ("{'action': 'SCROLL UP'}", {"action": "SCROLL UP"}, 1, 1, "SCROLL"),
        ("{'action': 'SCROLL DOWN'}", {"action": "SCROLL UP"}, 0, 0, "SCROLL"),
        ("{'action': 'PRESS HOME'}", {"action": "PRESS HOME"}, 1, 1, "PRESS"),
        ("{'action': 'STATUS TASK COMPLETE'}", {"action": "STATUS_TASK_COMPLETE"}, 1, 1, "STATUS TASK COMPLETE"),
    ],
)
def test_steps_of_aitz(text, target, type_right, exact, kind):
    found = step(text, **target)
    assert found == {"exact": exact, "type": type_right, f"exact/{kind}": exact, f"type/{kind}": type_right, "read": 1}


@pytest.mark.parametrize("text", ["CLICK 0.5 0.7", "[1, 2]", "{'position': [0.5, 0.7]}", ""])
def test_an_unreadable_step_is_wrong_and_in_no_cell(text):
    assert step(text, **CLICK) == {"exact": 0, "type": 0, "read": 0}


def test_counts():
    asked = Sample("s", (), (), {"count": 5})
    assert counting("<answer>5</answer>", asked) == {"accuracy": 1, "within_1": 1, "error": 0, "read": 1}
    assert counting("I see 6", asked) == {"accuracy": 0, "within_1": 1, "error": 1, "read": 1}
    assert counting("12", asked) == {"accuracy": 0, "within_1": 0, "error": 7, "read": 1}
    assert counting("many", asked) == {"accuracy": 0, "within_1": 0, "read": 0}


def test_thoughts():
    asked = Sample("s", ())
    assert thoughts("<think>\n\n</think><answer>3</answer>", asked) == {"skipped": 1, "characters": 0, "thought": 1}
    assert thoughts("<think> ab\nc </think>3", asked) == {"skipped": 0, "characters": 4, "thought": 1}
    assert thoughts("3", asked) == {"thought": 0}
