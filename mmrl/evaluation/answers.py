"""Metrics of answers: counts, and thoughts before them. Single letters, numbers and texts are rewards: any reward that
reads one completion is a metric by its own name (`--metrics relaxed_accuracy`)."""

from __future__ import annotations

import re

from mmrl.evaluation.metrics import metric
from mmrl.records import Sample
from rewards.parsing import answer_or_text
from rewards.parsing.quantities import last_number

THOUGHT = re.compile(r"\s*<think>(.*?)</think>", re.DOTALL)


@metric(needs=("target.count",), source="mmrl")
def counting(completion: str, sample: Sample) -> dict[str, float]:
    """`accuracy`: is the answer's last number the count; `within_1`; `error`: |answer - count|; `read`: has it one.

    `error` leaves out answers without a number, so read it beside `read`.
    """
    target, found = float(sample.target["count"]), last_number(answer_or_text(completion))
    if found is None:
        return {"accuracy": 0.0, "within_1": 0.0, "read": 0.0}
    error = abs(found - target)
    return {"accuracy": float(error == 0), "within_1": float(error <= 1), "error": error, "read": 1.0}


@metric(source="TON, arXiv 2505.16854")
def thoughts(completion: str, sample: Sample) -> dict[str, float]:
    """`skipped`: is the thought empty; `characters` of it; both of completions with one, whose share is `thought`."""
    found = THOUGHT.match(completion)
    if found is None:
        return {"thought": 0.0}
    thought = found[1].strip()
    return {"skipped": float(not thought), "characters": float(len(thought)), "thought": 1.0}
