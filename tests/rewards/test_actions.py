"""Actions on a screen: golden values, every form they are written in, and texts that are none."""

from __future__ import annotations

import json
import time
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.plugins import ConfigError, check_settings
from mmrl.records import Media, Sample
from rewards.actions import aitz_action, ui_action
from rewards.parsing import actions

TEXTS = st.lists(
    st.sampled_from([
        "<think>", "</think>", "<answer>", "</answer>", "<action>", "</action>", "[", "]", "(", ")", "{", "}", ",", ":",
        "'", '"', "\\", "'action'", '"action"', "'CLICK'", "'position'", "'coordinate'", "click", "None", "null", "-",
        "1e999", "nan", "9" * 400, "0.5", "140", "b''", "1j", "True", "...", "\ud800", "\0", "\n", " ", "f'{1}'",
        "{'action': 'CLICK', 'position': [0.5, 0.7]}", "[{'action': 'click', 'coordinate': [140, 230]}]",
    ])
    | st.text(max_size=5),
    max_size=25,
).map("".join)  # fmt: skip


def screen(coordinates="pixel", **target) -> Sample:
    media = (Media("image", "a.png", "0", (400, 300), (200, 150)),)
    return Sample("s", (), media, target, {"coordinates": coordinates})


CLICK = screen(action="click", box=[100, 200, 180, 260])
SCROLL = screen(action="scroll")


def said(answer: str) -> str:
    return f"<think>t</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("completion", "kind", "coordinate", "form"),
    [
        (said("[{'action': 'click', 'coordinate': [140, 230]}]"), 1, 1, 1),
        (said("[{'action': 'click', 'coordinate': [180, 260]}]"), 1, 1, 1),
        (said("[{'action': 'click', 'coordinate': [181, 230]}]"), 1, 0, 1),
        (said("[{'action': click, 'coordinate': [140, 230]}]"), 1, 1, 1),
        (said('[{"action": "click", "coordinate": [140.5, 230]}]'), 1, 1, 1),
        (said("[{'action': 'click'}]"), 1, 0, 1),
        (said("[{'action': 'scroll', 'coordinate': [140, 230]}]"), 0, 0, 1),
        (said("[{'action': 'clicks', 'coordinate': [140, 230]}]"), 0, 0, 1),
        (said("[{'action': 'scroll'}, {'action': 'click', 'coordinate': [140, 230]}]"), 1, 1, 1),
        (said("click [140, 230]"), 0, 0, 1),
        ("<answer>[{'action': 'click', 'coordinate': [140, 230]}]</answer>", 1, 1, 0),
        (said("[{'action': 'click', 'coordinate': [140, 230]}]") + " ok", 1, 1, 0),
        ("<think>[{'action': 'click', 'coordinate': [140, 230]}]</think>", 0, 0, 0),
        ("[{'action': 'click', 'coordinate': [140, 230]}]", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_ui_action(completion, kind, coordinate, form):
    for part, value in {"type": kind, "coordinate": coordinate, "format": form}.items():
        assert ui_action(completion, CLICK, part=part).value == value
    assert ui_action(completion, CLICK).value == kind + coordinate + form


def test_another_action_has_its_point_for_nothing_or_none():
    right, wrong = said("[{'action': 'scroll', 'coordinate': [0, 0]}]"), said("[{'action': 'press_back'}]")
    assert [ui_action(text, SCROLL).value for text in (right, wrong)] == [3, 1]
    assert [ui_action(text, SCROLL, free_point=False).value for text in (right, wrong)] == [2, 1]
    assert ui_action(right, SCROLL, part="coordinate").value == 1
    assert ui_action(right, SCROLL, part="coordinate", free_point=False) is None
    click = said("[{'action': 'click', 'coordinate': [140, 230]}]")
    assert ui_action(click, CLICK, free_point=False) == ui_action(click, CLICK)
    assert ui_action(click, CLICK, free_point=False, part="coordinate").value == 1


def test_ui_action_moves_coordinates_to_stored_pixels_and_shows_them():
    text = said("[{'action': 'click', 'coordinate': [70, 115]}]")
    score = ui_action(text, screen("seen", **CLICK.target))
    assert score.value == 3
    assert score.parsed == {"action": "click", "point": [140, 230]}
    assert score.why == "type 1, coordinate 1, format 1"
    assert ui_action(text, CLICK).value == 2


# Vector gui_rewards: target CLICK at [0.5, 0.7], 0.14 apart at most.
@pytest.mark.parametrize(
    ("completion", "kind", "click", "form"),
    [
        ("<think>go</think><action>{'action': 'CLICK', 'value': None, 'position': [0.5, 0.7]}</action>", 1, 1, 1),
        ("<think>\n\n</think><action>{'action': 'CLICK', 'value': None, 'position': [0.6, 0.79]}</action>", 1, 1, 1),
        ("<think>\n\n</think><action>{'action': 'click', 'value': None, 'position': [0.5, 0.85]}</action>", 1, 0, 1),
        ("<action>{'action': 'CLICK', 'value': None, 'position': '[0.5, 0.71]'}</action>", 1, 1, 0),
        ("<think>x</think><action>{'action': 'TYPE', 'value': 'a', 'position': None}</action>", 0, 0, 1),
        ("<think>x</think><answer>{'action': 'CLICK', 'value': None, 'position': [0.5, 0.7]}</answer>", 0, 0, 0),
        ("<think>x</think><action>CLICK 0.5 0.7</action>", 0, 0, 1),
        ("<think>x</think><action>{'action': 'CLICK', 'value': None, 'position': [0.5, 0.7]}</action> done", 1, 1, 0),
        # Not of the vector:
        ('<think>x</think><action>{"action": "CLICK", "value": null, "position": [0.5, 0.7]}</action>', 1, 1, 1),
        ("<think>x</think><action>{'action': 'CLICK', 'position': [0.5, 0.84]}</action>", 1, 1, 1),
        ("<think>x</think><action>{'action': 'CLICK', 'position': [0.5, 0.8401]}</action>", 1, 0, 1),
        ("<think>x</think><action>{'action': 'CLICK', 'position': [0.5]}</action>", 1, 0, 1),
        ("<think>x</think><action>{'action': 'CLICK', 'position': [1e999, 0.7]}</action>", 1, 0, 1),
        ("<think>x</think><action>{'action': 'CLICK', 'position': [0.5, 0.7]</action>", 0, 0, 1),
        ("<think>x</think><action>[{'action': 'CLICK', 'position': [0.5, 0.7]}]</action>", 0, 0, 1),
        ("<think>x</think><action>{'action': b'CLICK', 'position': [0.5, 0.7]}</action>", 0, 0, 1),
        ("", 0, 0, 0),
    ],
)
def test_aitz_action(completion, kind, click, form):
    gold = Sample("s", (), (), {"action": "CLICK", "position": [0.5, 0.7]})
    for part, value in {"type": kind, "click": click, "format": form}.items():
        assert aitz_action(completion, gold, part=part).value == value
    assert aitz_action(completion, gold).value == kind + click + form


def test_every_distance_of_exactly_fourteen_hundredths_is_near_enough():
    for start in range(87):
        gold = Sample("s", (), (), {"action": "CLICK", "position": [start / 100, 0.5]})
        for gap, value in ((14, 1), (15, 0)):
            text = f"<action>{{'action': 'CLICK', 'position': [{(start + gap) / 100}, 0.5]}}</action>"
            assert aitz_action(text, gold, part="click").value == value


def test_actions_without_a_place_earn_their_type_only():
    gold = Sample("s", (), (), {"action": "STATUS_TASK_COMPLETE"})
    for name in ("STATUS_TASK_COMPLETE", "status task complete"):
        text = f"<think>\n\n</think><action>{{'action': '{name}', 'value': None, 'position': None}}</action>"
        score = aitz_action(text, gold)
        assert score.value == 2
        assert score.parsed == {"action": name, "position": None}
    typed = "<think></think><action>{'action': 'TYPE', 'value': 'wrong', 'position': [0.1, 0.1]}</action>"
    assert aitz_action(typed, Sample("s", (), (), {"action": "TYPE", "position": [0.1, 0.1]})).value == 2
    assert aitz_action("<action>{'action': None}</action>", Sample("s", (), (), {"action": "None"})).value == 0


def test_the_order_of_the_axes_does_not_matter_as_long_as_both_agree():
    text = "<action>{'action': 'CLICK', 'position': [0.2, 0.9]}</action>"
    for place, value in (([0.2, 0.9], 1), ([0.9, 0.2], 0), ("[0.2, 0.9]", 1)):
        gold = Sample("s", (), (), {"action": "CLICK", "position": place})
        assert aitz_action(text, gold, part="click").value == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'action': 'PRESS HOME'}", "PRESS HOME"),
        ('{"action" : "click"}', "click"),
        ("'action': scroll_up, 'action': ' tap '", "tap"),
        ("{'action': ''}", ""),
        ("action: click", None),
        ("{'action': [click]}", None),
        ("{'action': 'click", None),
    ],
)
def test_action_name(text, expected):
    assert actions.action_name(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'a': (1, None)}", {"a": (1, None)}),
        ('{"a": [1.5, null, true]}', {"a": [1.5, None, True]}),
        ("__import__('os').getcwd()", None),
        ("{'a': open('/etc/passwd')}", None),
        ("f'{1}'", None),
        ("{[]: 1}", None),
        ("{**{}}", None),
        ("'\\d'", "\\d"),
        ("1if 1else 2", None),
        ("\0", None),
        ("\ud800", None),
        ("", None),
        *[
            (piece * (2000 // len(piece)), None)
            for piece in ("(", "[", "{", "-", "not ", "1+", "lambda:", "{'a':", "f'{")
        ],
        ("[" * 90 + "'" * 3, None),
        (f"'{'a' * 3000}'", None),
    ],
)
def test_a_literal_is_read_and_nothing_else(text, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert actions.literal(text) == expected


@pytest.mark.parametrize(
    "value", [None, 3, "x", [1], [1, 2, 3], ["1", "2"], {"a": 1}, [1, float("nan")], [1, 10**400], [1, 2j]]
)
def test_what_is_no_position(value):
    assert actions.position(value) is None


@pytest.mark.parametrize(
    ("function", "target", "named"),
    [
        (ui_action, {"action": "click"}, "box"),
        (ui_action, {"action": "click", "box": [5, 5, 1, 1]}, "box"),
        (ui_action, {"action": 4}, "action"),
        (aitz_action, {"action": ["CLICK"]}, "action"),
        (aitz_action, {"action": "CLICK"}, "position"),
        (aitz_action, {"action": "click", "position": [0.1]}, "position"),
    ],
)
def test_a_wrong_target_is_an_error_that_names_it(function, target, named):
    with pytest.raises((ValueError, TypeError), match=rf"target\.{named}"):
        function("", screen(**target))


@pytest.mark.parametrize("function", [ui_action, aitz_action])
def test_a_part_is_one_that_exists(function):
    with pytest.raises(ConfigError, match="part"):
        check_settings(function, {"part": "value"}, name="x", where="rewards.0")


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_any_text_is_read_and_every_value_is_in_range(text):
    check_any(text)


def check_any(text: str) -> None:
    actions.action_name(text)
    actions.position(actions.literal(text))
    answer, action = (f"<think></think><{tag}>{text}</{tag}>" for tag in ("answer", "action"))
    for function, gold, written in ((ui_action, CLICK, answer), (ui_action, SCROLL, text), (aitz_action, AITZ, action)):
        score = function(written, gold)
        assert 0 <= score.value <= 3
        json.dumps(score.parsed, allow_nan=False)


AITZ = screen(action="CLICK", position=[0.5, 0.7])


@pytest.mark.parametrize(
    "piece",
    ["[", "(", "{", "-", "1", "1, ", "'", '"', "'action'", "'action':'", "\"action\":'", "'action' : ", " ", "<answer>",
     "<action>", "</action>", "{'action': 'CLICK', "],
)  # fmt: skip
@pytest.mark.parametrize("tag", ["answer", "action"])
def test_time_is_linear_in_length(piece, tag):
    text = f"<think></think><{tag}>{piece * (200_000 // len(piece))}</{tag}>"
    start = time.process_time()
    for function, gold in ((ui_action, CLICK), (aitz_action, AITZ)):
        function(text, gold)
    actions.action_name(text)
    assert time.process_time() - start < 5
