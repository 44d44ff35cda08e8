"""Rollouts for tests of rewards: groups of texts, and what came of scoring them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mmrl.records import Rollouts, Sample
from rewards.scoring import Rewards

ASKED = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]})
LONGEST = 4
"""Tokens, at most, of a completion."""


def rollouts(
    texts: Sequence[Sequence[str]],
    samples: Sequence[Sample] | None = None,
    *,
    lengths: Sequence[int] | None = None,
    images: list[Any] | None = None,
) -> Rollouts:
    """The texts of every group, one token each unless `lengths` says otherwise. Token ids count from 0 up."""
    flat = [text for group in texts for text in group]
    group = torch.tensor([index for index, group in enumerate(texts) for _ in group])
    made = [Sample(f"s{index}", (), where=f"d.jsonl, row {index}") for index in range(len(texts))]
    return Rollouts(
        samples=list(samples or made),
        prompts=[None] * len(texts),
        group=group,
        prompt=group,
        actions=torch.arange(len(flat) * LONGEST).view(len(flat), LONGEST),
        length=torch.tensor(lengths or [1] * len(flat)),
        mask=torch.ones(len(flat), LONGEST, dtype=torch.bool),
        text=flat,
        images=images,
        origin=["policy"] * len(flat),
    )


def grouped(*groups: tuple[Sample, list[str]], lengths: Sequence[int] | None = None) -> Rollouts:
    """`rollouts` from pairs of a sample and its completions."""
    return rollouts([texts for _, texts in groups], [sample for sample, _ in groups], lengths=lengths)


def question(
    identity: str = "s", *, media: Sequence[Any] = (), messages: Any = ASKED, target: Any = None, **meta: Any
) -> Sample:
    """A sample whose answer is 4, unless `target` says otherwise."""
    return Sample(identity, messages, tuple(media), {"answer": "4"} if target is None else target, meta)


def parsed(rolled: Rollouts) -> list[Any]:
    """What the reward `x` read in every row."""
    return [notes.get("x", {}).get("parsed") for notes in rolled.notes]


def run(rewards: Rewards, rolled: Rollouts) -> dict[str, float]:
    """The metrics of scoring at step 0 of 10; worker processes are ended."""
    try:
        rewards.score(rolled, step=0, total=10)
    finally:
        rewards.close()
    return rewards.metrics(rolled)


def same(values: torch.Tensor, expected: list[float]) -> bool:
    """Whether they are equal, NaN equal to NaN."""
    return torch.equal(values.nan_to_num(nan=-99.0), torch.tensor(expected).nan_to_num(nan=-99.0))
