"""TTRV (arXiv 2510.06783) and TTRL (arXiv 2504.16084): the completions of a prompt vote, and agreement is the reward.

Adds: `votes`, a rollout in which more completions vote than are trained on, and what such a run must log. The rewards
are `vote_frequency` (TTRV) and `majority_vote` (TTRL); with `data.labels: withheld` no reward sees a gold label.
`mmrl adapt` is the test-time form. Left out: dual clipping, which one update per rollout never reaches.
Differs from TTRV's code: a completion without an answer casts no vote, and the article "a" is none for option A.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmrl.plugins import ConfigError
from mmrl.records import Rollouts, Sample
from mmrl.stages import Context, Policy
from rewards.scoring import Rewards


def votes(
    policy: Policy,
    samples: Sequence[Sample],
    sizes: Sequence[int],
    context: Context,
    *,
    votes: int = 32,
    metric: str | None = None,
) -> Rollouts:
    """`votes` completions of each prompt are scored together; the first `group_size` of them are trained on.

    Signals, f32[N], the same in all rows of a prompt and of all its votes (a vote is the answer that a reward parsed):
    `vote_agreement`, the share of the most common answer, NaN without votes; `vote_entropy` in nats; `vote_cast`, the
    share of completions that cast one. With `metric`, a reward that sees gold labels and is only logged,
    `vote_right` is the share of right completions and `vote_majority_right` the value of the most common answer.
    """
    if votes < max(sizes):
        raise ConfigError(
            f"rollout.votes = {votes} is less than group_size = {max(sizes)}: all that are trained on vote.\n"
            "  Raise rollout.votes (TTRV: 32 votes, 16 trained on) or lower group_size."
        )
    rollouts = context.generate(samples, [votes] * len(samples))
    context.score(rollouts)
    right = torch.full((len(rollouts),), math.nan) if metric is None else gold_scores(rollouts, metric)
    kept: list[int] = []
    signals = {name: torch.full((len(rollouts),), math.nan) for name in ("agreement", "entropy", "cast")}
    if metric is not None:
        signals |= {name: torch.full((len(rollouts),), math.nan) for name in ("right", "majority_right")}
    for group, size in enumerate(sizes):
        rows = rollouts.rows_of(group)
        kept += rows[:size]
        answers = {row: answer for row in rows if (answer := vote_of(rollouts, row)) is not None}
        signals["cast"][rows] = len(answers) / len(rows)
        if metric is not None:
            signals["right"][rows] = right[rows].mean()
        if not answers:
            continue
        counts = Counter(answers.values())
        winner, most = counts.most_common(1)[0]  # of equals the first seen, as in the reward
        shares = [count / len(answers) for count in counts.values()]
        signals["agreement"][rows] = most / len(answers)
        signals["entropy"][rows] = -math.fsum(share * math.log(share) for share in shares)
        if metric is not None:
            signals["majority_right"][rows] = right[next(row for row in rows if answers.get(row) == winner)]
    rollouts.signals |= {f"vote_{name}": values for name, values in signals.items()}
    return rollouts.select(kept)


def vote_of(rollouts: Rollouts, row: int) -> str | None:
    """The answer that a completion voted for: what the first reward that parsed one noted."""
    parsed = (note.get("parsed") for note in rollouts.notes[row].values())
    return next((str(answer) for answer in parsed if answer is not None), None)


def gold_scores(rollouts: Rollouts, metric: str) -> Tensor:
    """f32[N], a reward's values with gold labels, for logs alone; NaN where the sample lacks what it needs."""
    judge = Rewards.from_config([{"name": metric}], where="rollout.metric", max_failed=0.0)
    values = torch.full((len(rollouts),), math.nan)
    needs = judge.entries[0].info.needs
    known = [i for i, sample in enumerate(rollouts.samples) if sample.target and set(needs) <= set(sample.target)]
    if known:
        rows = [row for group in known for row in rollouts.rows_of(group)]
        labelled = replace(rollouts.select(rows), scores={}, weights={}, notes=[])
        judge.score(labelled, step=0, total=1)
        assert labelled.reward is not None
        values[rows] = labelled.reward
    return values
