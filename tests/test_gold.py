"""The text of a target earns its reward in full: the law that `mmrl/gold.py` is for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.coordinates import CONVENTIONS
from mmrl.gold import WRITERS, gold_kind, gold_text
from mmrl.plugins import ConfigError
from mmrl.records import Media, Sample
from rewards.boxes import point_in_box
from rewards.choices import letter_choice, soft_choices
from rewards.form import answer_format
from rewards.temporal import highlight, temporal_json, tiou

ASKED = ({"role": "user", "content": "?"},)
PICTURE = Media(kind="image", path="x.png", digest="", size=(640, 480), seen=(308, 224))
cents = st.integers(0, 100_000).map(lambda n: n / 100)
saliencies = st.dictionaries(st.integers(0, 75), st.integers(100, 500).map(lambda n: n / 100), min_size=1)
places = st.tuples(st.integers(0, 600), st.integers(0, 440))
extents = st.tuples(st.integers(6, 39), st.integers(6, 39))


def sample(meta=None, **target):
    return Sample("s", ASKED, (PICTURE,), target=target, meta=meta or {}, where="data.jsonl, row 3")


def value(score):
    return getattr(score, "value", score)


@given(start=cents, length=st.integers(1, 10_000))
def test_a_span(start, length):
    asked = sample(span=[start, start + length / 100])
    for style, decimals in (("answer", 2), ("plain", 2), ("json", 3)):
        assert value(tiou(gold_text(asked, style=style, decimals=decimals), asked)) > 1 - 1e-6
    assert value(answer_format(gold_text(asked), asked)) == 1
    assert value(temporal_json("<think>a</think>" + gold_text(asked, style="json"), asked)) > 1 - 1e-6


def test_a_span_of_whole_seconds_is_as_short_as_the_tiny_clips_ask():
    assert gold_text(sample(span=[2.0, 5.0]), style="plain", decimals=0) == "2 to 5"
    assert gold_text(sample(span=[2.0, 5.0])) == "<answer>2.00 to 5.00</answer>"


@given(saliencies)
def test_highlights(clips):
    asked = sample(highlights=[[2 * clip, saliency] for clip, saliency in clips.items()])
    assert value(highlight(gold_text(asked), asked)) == pytest.approx(1, abs=1e-4)


def test_options():
    several = sample(choices=["C", "A"], answer="A,C")
    assert gold_text(several) == "<answer>A,C</answer>"
    assert value(soft_choices(gold_text(several), several)) == 1
    one = sample(answer="B")
    assert value(letter_choice(gold_text(one), one)) == 1


@pytest.mark.parametrize("convention", CONVENTIONS)
@given(corner=places, size=extents)
def test_a_box_in_the_convention_that_was_asked_for(convention, corner, size):
    box = [*corner, corner[0] + size[0], corner[1] + size[1]]
    asked = sample({"coordinates": convention}, box=box)
    assert value(point_in_box(gold_text(asked), asked)) == 1


def test_targets_that_are_more_than_one_key_says_have_no_text():
    for target in ({}, {"action": "click", "box": [0, 0, 9, 9]}, {"answer": "C", "spans": [[1, 2]]}, {"caption": "x"}):
        assert gold_kind(sample(**target)) is None
        with pytest.raises(ConfigError, match="row 3: no text"):
            gold_text(sample(**target))
    assert gold_kind(sample(spans=[[1, 2]], span=[1, 2])) == "span"
    assert gold_kind(sample(count=0)) == "count"
    assert gold_text(sample(count=0), style="plain") == "0"


@pytest.mark.parametrize("target", [{"span": [1]}, {"box": [1, 2]}, {"highlights": []}, {"count": "many"}])
def test_a_malformed_target_is_named_by_its_row(target):
    (kind,) = target
    assert kind in WRITERS
    with pytest.raises(ConfigError, match=rf"row 3: target.{kind} = .* cannot be written"):
        gold_text(sample(**target))
