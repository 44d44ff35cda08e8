"""What row_reward promises. Run it here: python -m pytest test_row_reward.py"""

from __future__ import annotations

import pytest
from row_reward import row_reward

from mmrl.records import Sample
from rewards.authoring.hostile import texts

SAMPLE = Sample("one", (), target={"answer": "Paris"})


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("<think>The capital of France.</think><answer>Paris</answer>", 1),
        ("paris.", 1),
        ("<answer>London</answer>", 0),
        ("<answer>London or Paris</answer>", 0),
        ("", 0),
    ],
)
def test_values(completion: str, value: float) -> None:
    assert row_reward(completion, SAMPLE).value == value


def test_a_setting() -> None:
    assert row_reward("London or Paris", SAMPLE, partial=0.5).value == 0.5


def test_any_text_gets_a_value_in_the_range() -> None:
    for hostile in texts("Paris"):
        assert 0 <= row_reward(hostile.text, SAMPLE).value <= 1, hostile.label
