"""Thoughts of supervised rows: some are emptied (TON, arXiv 2505.16854), or say how hard they find the question
(AutoVLA, arXiv 2506.13757)."""

from __future__ import annotations

import re
from random import Random

from data_pipelines.reading import Problem, Row
from mmrl.plugins import ConfigError

EMPTY = "<think>\n\n</think>"
"""What TON writes for no thought; its format rewards and its share of skipped thoughts know no other."""
THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


def drop_thoughts(row: Row, *, rng: Random, share: float = 0.5) -> Row | Problem:
    """The thought of the last assistant turn becomes empty with probability `share`; `meta.thought` says whether it
    was `kept` or `dropped`. A row without such a turn, or whose turn has no thought, cannot be changed.

    `share` is the probability of an empty thought, as in the paper; TON's code compares its draw the other way round,
    which is the same at 0.5 only.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share = {share}: a probability from 0 to 1.")
    messages = row.get("messages") or []
    last = messages[-1] if messages else {}
    answer = last.get("content")
    if last.get("role") != "assistant" or not isinstance(answer, str) or not THOUGHT.search(answer):
        return Problem(str(row.get("id", "row")), "there is no <think> in a last assistant turn", "no thought")
    dropped = rng.random() < share
    if dropped:
        answer = THOUGHT.sub(lambda _: EMPTY, answer, count=1)
    meta = (row.get("meta") or {}) | {"thought": "dropped" if dropped else "kept"}
    return row | {"messages": [*messages[:-1], last | {"content": answer}], "meta": meta}


def name_modes(
    row: Row,
    *,
    slow: str = "This is a complex scenario, which needs reasoning.",
    fast: str = "This is a straightforward scenario: a direct decision is enough.",
) -> Row | Problem:
    """AutoVLA's two modes: a thought begins with `slow`, an empty one becomes `fast`; `meta.mode` says which.

    A last assistant turn without a thought gets `fast` in front. After `drop-thoughts` its rows are of both modes, and
    the reward `slow_thinking` knows the slow ones by their phrase. The wording is ours.
    """
    messages = row.get("messages") or []
    last = messages[-1] if messages else {}
    answer = last.get("content")
    if last.get("role") != "assistant" or not isinstance(answer, str):
        return Problem(str(row.get("id", "row")), "there is no last assistant turn of text", "no answer")
    if not THOUGHT.search(answer):
        answer = f"{EMPTY}{answer}"
    thought = THOUGHT.search(answer)
    assert thought is not None
    inside = thought[0].removeprefix("<think>").removesuffix("</think>").strip()
    named = f"<think>{f'{slow} {inside}' if inside else fast}</think>"
    changed = last | {"content": answer[: thought.start()] + named + answer[thought.end() :]}
    meta = (row.get("meta") or {}) | {"mode": "slow" if inside else "fast"}
    return row | {"messages": [*messages[:-1], changed], "meta": meta}
