"""Rewards for the form of a completion: tags, points, JSON."""

from __future__ import annotations

from mmrl.records import Sample
from rewards import parsing
from rewards.registry import reward


@reward(range=(0, 1), source="DeepSeek-R1, arXiv 2501.12948")
def think_format(completion: str, sample: Sample) -> float:
    """1 if the completion is one `<think>...</think>`, then one `<answer>...</answer>`, and nothing else, else 0.

    Stricter than the usual regular expression, which lets a second answer block through (MMR1, EasyR1).
    """
    return float(parsing.think_answer(completion) is not None)


@reward(range=(0, 1), source="mmrl")
def point_format(completion: str, sample: Sample) -> float:
    """1 if the completion is one point `(x, y)` and nothing else, else 0."""
    return float(parsing.is_point(completion))
