"""Several completions of a prompt decided into one: `mmrl eval --samples K --vote NAME`.

A vote is a function `(completions, sample, *, settings) -> Vote` of the texts of one prompt; `VOTES` in
`mmrl/registry.py` names it. What it returns is scored like a completion; it never sees the target's use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mmrl.plugins import ConfigError, Stage
from mmrl.records import Rollouts, Sample
from rewards.votes import Answer, majority_vote


class Vote(NamedTuple):
    """What stands for the completions of a prompt."""

    text: str
    """In the form of a completion; empty where there is no decision."""
    parsed: Any = None
    """What the viewer draws, as `rewards.Score.parsed`."""
    why: str = ""


def majority(completions: Sequence[str], sample: Sample, *, answer: Answer = "choice") -> Vote:
    """The first completion with the most common answer, read as TTRL's `majority_vote` reads it."""
    scores = majority_vote(list(completions), sample, answer=answer)
    winners = [text for text, score in zip(completions, scores, strict=True) if score.value == 1]
    if not winners:
        return Vote("", why="no answer that could vote")
    return Vote(winners[0], why=f"{len(winners)} of {len(completions)} agree")


def decide(policy: Any, rollouts: Rollouts, vote: Stage) -> Rollouts:
    """One row per prompt, its origin `vote`. What was decided is noted at every completion of the prompt."""
    if policy.makes != "text":
        raise ConfigError(f"--vote {vote.name} compares texts; this policy makes {policy.makes}.")
    function = vote.at(0, 1)
    votes = []
    for g, sample in enumerate(rollouts.samples):
        rows = rollouts.rows_of(g)
        votes.append(function([rollouts.text[row] for row in rows], sample))
        shown = {"parsed": votes[-1].parsed, "why": votes[-1].why or None}
        for row in rows:
            rollouts.notes[row]["vote"] = {key: value for key, value in shown.items() if value is not None}
    tokens = [[policy.tokens_of(decided.text)] for decided in votes]
    decided: Rollouts = policy.assemble(rollouts.samples, rollouts.prompts, tokens, origin="vote")
    return decided
