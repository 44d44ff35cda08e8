"""What group_reward promises. Run it here: python -m pytest test_group_reward.py"""

from __future__ import annotations

import pytest
from group_reward import group_reward

from mmrl.records import Sample
from rewards.authoring.hostile import texts

SAMPLE = Sample("one", (), target={"answer": "Paris"})


def values(*completions: str) -> list[float]:
    return [score.value for score in group_reward(list(completions), SAMPLE)]


@pytest.mark.parametrize(
    ("completions", "expected"),
    [
        (["Paris", "London", "Rome"], [1, 0, 0]),
        (["Paris", "London", "<answer>paris</answer>"], [0.75, 0, 0.75]),
        (["Paris", "Paris"], [0.5, 0.5]),
        (["Paris"], [1]),
        (["", ""], [0, 0]),
    ],
)
def test_values(completions: list[str], expected: list[float]) -> None:
    assert values(*completions) == expected


def test_the_order_does_not_matter() -> None:
    assert values("Rome", "Paris", "Paris") == values("Paris", "Paris", "Rome")[::-1]


def test_any_text_gets_a_value_in_the_range() -> None:
    assert all(0 <= value <= 1 for value in values(*(hostile.text for hostile in texts("Paris"))))
