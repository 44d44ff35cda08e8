"""Rewards for the form of a completion."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.records import Sample
from rewards.form import answer_format, json_format, point_format, think_format
from rewards.parsing.structured import json_value

ANY = Sample("s", ())
ACTION = {
    "type": "object",
    "properties": {"action": {"enum": ["click", "scroll"]}, "coordinate": {"$ref": "#/$defs/point"}},
    "required": ["action"],
    "additionalProperties": False,
    "$defs": {"point": {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 2, "maxItems": 2}},
}
NESTED = {"$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}, "$ref": "#/$defs/list"}


# The first six are the vector `mmr1_format`; the sixth earns 1 in the reference code, by accident.
@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("<think>a</think><answer>b</answer>", 1),
        ("<think>a</think>\n<answer>b</answer>\n", 1),
        ("<think>a</think> x <answer>b</answer> tail", 0),
        ("a<think>a</think><answer>b</answer>", 0),
        ("<think>a<answer>b</answer>", 0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0),
        ("<think>\n\n</think>\n<answer>b</answer>", 1),
        ("<think></think><answer></answer>", 1),
        ("<think>a</think><think>a</think><answer>b</answer>", 0),
        ("<think><answer>b</answer></think>", 0),
        ("<answer>b</answer><think>a</think>", 0),
        ("<thinking>a</thinking><answer>b</answer>", 0),
        ("<think>a</think>", 0),
        ("", 0),
    ],
)
def test_think_format(completion, value):
    assert think_format(completion, ANY) == value


def test_think_format_with_other_tags():
    assert think_format("<thinking>a</thinking> <answer>b</answer>", ANY, think_tag="thinking") == 1
    assert think_format("<think>a</think> <action>b</action>", ANY, answer_tag="action") == 1
    assert think_format("<think>a</think> <answer>b</answer>", ANY, think_tag="thinking") == 0
    assert think_format("<a.c>a</a.c><abc>b</abc>", ANY, think_tag="a.c", answer_tag="a.c") == 0


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("<answer>b</answer>", 1),
        (" \n<answer>\nb\n</answer>\n", 1),
        ("<answer></answer>", 1),
        ("<think></think><answer>b</answer>", 0),
        ("so <answer>b</answer>", 0),
        ("<answer>b</answer>.", 0),
        ("<answer>b</answer><answer>b</answer>", 0),
        ("<answer><answer>b</answer></answer>", 0),
        ("</answer>b<answer>", 0),
        ("<answer>b", 0),
        ("", 0),
    ],
)
def test_answer_format(completion, value):
    assert answer_format(completion, ANY) == value
    assert answer_format(completion.replace("answer", "action"), ANY, answer_tag="action") == value


@pytest.mark.parametrize(
    ("completion", "value"),
    [("(1, 2)", 1), (" (1.5,-2)\n", 1), ("(1, 2).", 0), ("[1, 2]", 0), ("(1, 2) (1, 2)", 0), ("(1, 2, 3)", 0), ("", 0)],
)
def test_point_format(completion, value):
    assert point_format(completion, ANY) == value


@pytest.mark.parametrize(
    ("completion", "value", "why"),
    [
        ('{"action": "click", "coordinate": [3, 4.5]}', 1, ""),
        ('<think>{"action": "none"}</think><answer> {"action": "scroll"} </answer>', 1, ""),
        ('```json\n{"action": "scroll"}\n```', 1, ""),
        ('```\n{"action": "scroll"}\n```', 1, ""),
        ('```json\n{"action": "scroll"}\n``` done', 0, "not JSON"),
        ('{"action": "click", "coordinate": [3, -4]}', 0, r"$.coordinate[1]: -4 is less than"),
        ('{"action": "click", "coordinate": [3]}', 0, "$.coordinate: [3] is too short"),
        ('{"action": "type"}', 0, "$.action: 'type' is not one of"),
        ('{"action": "click", "x": 1}', 0, "Additional properties"),
        ('{"action": "click"} {"action": "click"}', 0, "not JSON: Extra data"),
        ("{'action': 'click'}", 0, "not JSON"),
        ('{"coordinate": [1, NaN]}', 0, "NaN is no number"),
        ('{"coordinate": [1, -Infinity]}', 0, "-Infinity is no number"),
        ('{"coordinate": [1, 1e999]}', 0, "no number that a float holds"),
        ('{"coordinate": [1, ' + "9" * 10_000 + "]}", 0, "10000 digits"),
        ("null", 0, "None is not of type 'object'"),
        ("[" * 100_000, 0, "nested too deeply"),
        ('{"action":' * 100_000, 0, "nested too deeply"),
        ("\ud800\x00", 0, "not JSON"),
        ("", 0, "not JSON"),
    ],
)
def test_json_format(completion, value, why):
    score = json_format(completion, ANY, schema=ACTION)
    assert score.value == value
    assert why in score.why and bool(score.why) == (value == 0)


def test_the_schema_may_be_a_file(tmp_path):
    (tmp_path / "action.json").write_text(json.dumps(ACTION))
    assert json_format('{"action": "click"}', ANY, schema=str(tmp_path / "action.json")).value == 1
    assert json_format("{}", ANY, schema=str(tmp_path / "action.json")).value == 0


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "'objekt' is not valid"),
        ({"pattern": "["}, "is not a 'regex'"),
        ({"$ref": "#"}, "refers to itself"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"$ref": "http://127.0.0.1:9/schema"}, "127.0.0.1"),
        ({"items": {"$ref": "#/nowhere"}}, "nowhere"),
        ("no/such.json", "no/such.json"),
        ("{broken", "is a JSON Schema or the path of one"),
    ],
)
def test_a_wrong_schema_is_an_error_not_a_zero(schema, message):
    with pytest.raises(ValueError, match="schema") as failure:
        json_format("[1]", ANY, schema=schema)
    assert message in str(failure.value)


def test_a_schema_is_never_fetched(monkeypatch):
    asked = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *request, **options: asked.append(request))
    with pytest.raises(ValueError, match="does not contain"):
        json_format("[1]", ANY, schema={"$ref": "https://example.com/schema.json"})
    assert not asked


def test_an_answer_too_deep_for_the_validator_is_worth_nothing():
    assert json_format("[[[]]]", ANY, schema=NESTED).value == 1
    deep = json_format("[" * 500 + "]" * 500, ANY, schema=NESTED)
    assert deep.value == 0 and "too deep" in deep.why


@pytest.mark.parametrize(
    "text", ['{"a":"' + "x" * 10**6 + '"}', "[" * 10**6, "1" * 10**6, "```json\n" * 10**5], ids=len
)
def test_long_texts_are_read_in_time(text):
    start = time.process_time()
    json_format(text, ANY, schema=ACTION)
    assert time.process_time() - start < 1


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(values)
def test_what_is_written_as_json_is_read(value):
    assert json_value(json.dumps(value)) == (value, "")
    assert json_value(f"```json\n{json.dumps(value)}\n```") == (value, "")
    assert json_format(json.dumps({"action": value}), ANY, schema=ACTION).value == (value in ("click", "scroll"))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='{}[]":,0123456789.eE+-aN tfn\n`<>/', max_size=40) | st.text(max_size=40))
def test_no_text_makes_a_form_fail(text):
    assert json_format(text, ANY, schema=NESTED).value in (0, 1)
    for form in (think_format, answer_format, point_format):
        assert form(text, ANY) in (0, 1)
