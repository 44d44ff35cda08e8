"""Rewards without labels: the completions of one prompt vote, and each is paid for the votes its own answer got.

A completion whose answer cannot be read casts no vote: it is worth nothing, and the shares of the others are shares of
the votes. (TTRV and TTRL count it as one more answer, so that unreadable text can win.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from typing import Literal

from mmrl.records import Sample
from rewards import parsing
from rewards.parsing.quantities import last_number, quantity
from rewards.registry import Score, reward

Answer = Literal["choice", "number", "text"]
_SILENT = "no answer that could vote"


@reward(range=(-math.inf, 1), scope="group", source="TTRV, arXiv 2510.06783")
def vote_frequency(
    completions: list[str],
    sample: Sample,
    *,
    answer: Answer = "choice",
    entropy: float = 0.0,
    normalised: bool = True,
) -> list[Score]:
    """p(a) - entropy * H: p(a) the share of the group's votes for the completion's answer a, H their entropy.

    H = -sum p ln p over the distinct answers, divided by ln(number of distinct answers) with `normalised` (the authors'
    code; H is then in [0, 1]), or as it is (the paper). The paper's weight `entropy` is 0.75; with 0, the default, the
    values are shares in [0, 1]. H is the same number for the whole group, so it cancels wherever rewards are centred
    within the group and acts only where they are compared over the batch: `advantages: [whiten]` without
    `group_relative`.

    `answer` says how a vote is read: `choice`, an option's letter (`parsing.option_letter`; the article "a" is none);
    `number`, the answer as a quantity, else its last number; `text`, the answer with case and blanks normalised. A
    completion without one has p = 0 and casts no vote.
    """
    if not 0 <= entropy < math.inf:
        raise ValueError(f"entropy is the weight of the entropy term, at least 0; found {entropy}")
    votes = [_vote(completion, answer) for completion in completions]
    counts = Counter(vote for vote in votes if vote is not None)
    shares = {vote: count / counts.total() for vote, count in counts.items()}
    spread = -sum(share * math.log(share) for share in shares.values())
    if normalised:
        spread = spread / math.log(len(shares)) if len(shares) > 1 else 0.0
    return [
        Score(shares.get(vote, 0.0) - entropy * spread, parsed=vote, why=_SILENT if vote is None else "")
        for vote in votes
    ]


@reward(range=(0, 1), scope="group", source="TTRL, arXiv 2504.16084")
def majority_vote(completions: list[str], sample: Sample, *, answer: Answer = "choice") -> list[Score]:
    """1 for the completions whose answer is the most common one in the group, else 0; the first seen wins a tie.

    `answer` says how a vote is read, as in `vote_frequency`. A completion without one casts no vote and is worth 0.
    """
    votes = [_vote(completion, answer) for completion in completions]
    counts = Counter(vote for vote in votes if vote is not None)
    winner = counts.most_common(1)[0][0] if counts else None
    return [
        Score(float(vote is not None and vote == winner), parsed=vote, why=_SILENT if vote is None else "")
        for vote in votes
    ]


def _vote(completion: str, answer: Answer) -> Hashable | None:
    """The answer in a form in which equal answers are equal, or None."""
    if answer == "choice":
        return parsing.option_letter(completion)
    text = parsing.answer_or_text(completion)
    if answer == "text":
        return parsing.normalised(text) or None
    if answer != "number":
        raise ValueError(f"answer is choice, number or text; found {answer!r}")
    found = quantity(text)
    value = found.value if found else last_number(text)
    return None if value is None else float(f"{value:.12g}")  # 12.3% is 0.123
