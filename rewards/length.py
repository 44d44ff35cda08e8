"""Rewards for length and repetition."""

from __future__ import annotations

from typing import Literal

from mmrl.records import Sample
from rewards.registry import reward


@reward(range=(-1, 0), source="DAPO, arXiv 2503.14476")
def length_penalty(
    completion: str,
    sample: Sample,
    *,
    limit: int,
    buffer: int,
    unit: Literal["characters", "words"] = "characters",
) -> float:
    """DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13) on the length n of the text, in [-1, 0].

    0 if n <= limit - buffer; (limit - buffer - n) / buffer up to the limit; -1 beyond. The paper counts tokens, which
    a text reward does not see. 0 <= buffer <= limit.
    """
    if not 0 <= buffer <= limit:
        raise ValueError(f"0 <= buffer <= limit does not hold: buffer {buffer}, limit {limit}")
    length = len(completion.split()) if unit == "words" else len(completion)
    excess = length - (limit - buffer)
    if excess <= 0:
        return 0.0
    return -1.0 if excess >= buffer else -excess / buffer
