"""Thought dropout: how often, what is left, and what cannot be changed."""

from __future__ import annotations

from copy import deepcopy
from random import Random

import pytest

from data_pipelines.gui.thoughts import drop_thoughts
from data_pipelines.makers import TRANSFORMS
from data_pipelines.reading import Problem
from mmrl.plugins import ConfigError, load
from rewards.actions import aitz_action

ANSWER = (
    "<think>The icons are\nthere.</think><action>{'action': 'PRESS HOME', 'value': None, 'position': None}</action>"
)
ROW = {
    "id": "a",
    "messages": [{"role": "user", "content": "what next?"}, {"role": "assistant", "content": ANSWER}],
    "target": {"action": "PRESS HOME"},
    "meta": {"task": "aitz_action"},
}


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.8, 1])
def test_the_share_is_that_of_empty_thoughts(share):
    before = deepcopy(ROW)
    rows = [drop_thoughts(ROW, rng=Random(f"thoughts/{i}"), share=share) for i in range(1000)]
    dropped = [row for row in rows if row["meta"]["thought"] == "dropped"]
    assert len(dropped) / 1000 == pytest.approx(share, abs=0.05 * (0 < share < 1))
    assert before == ROW
    for row in rows:
        text = row["messages"][-1]["content"]
        if row["meta"]["thought"] == "dropped":
            assert text == "<think>\n\n</think><action>" + ANSWER.split("<action>")[1]
        else:
            assert text == ANSWER


def test_an_empty_thought_keeps_the_reward_for_its_form():
    from mmrl.records import Sample

    sample = Sample("s", (), target=ROW["target"])
    row = drop_thoughts(ROW, rng=Random(0), share=1.0)
    assert aitz_action(row["messages"][-1]["content"], sample, part="format").value == 1


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "user", "content": "<think>mine</think>"}],
        [{"role": "assistant", "content": "no thought"}],
        [{"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}],
    ],
)
def test_a_row_without_a_thought_is_a_problem(messages):
    assert isinstance(drop_thoughts(ROW | {"messages": messages}, rng=Random(0)), Problem)


def test_a_share_that_is_no_probability_is_refused():
    with pytest.raises(ConfigError, match="share"):
        load("drop-thoughts", TRANSFORMS, kind="transform", where="test")(ROW, rng=Random(0), share=1.5)
