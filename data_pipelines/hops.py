"""Chains of retrieval steps as R1-Router (arXiv 2505.22095) has them: one row per step.

    {"images": ["q.png"], "steps": [
        {"step_type": "ret", "system": "...", "problem": "...",
         "answer": {"query": "who built it", "retriever": ["text retriever"]}},
        {"step_type": "ans", "system": "...", "problem": "...", "answer": "Eiffel"}]}

JSON Lines. What earlier steps found stands in `problem`; `meta.task` is the kind of step, `ret` or `ans`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_pipelines.gui.fields import media_file, text
from data_pipelines.reading import Problem, Read, json_lines


def read_hops(annotations: Path, *, media: Path, split: str = "train") -> Read:
    """Rows with `target.query` and `target.retriever`, or `target.answer`; `meta.chain` and `meta.step` say whose."""
    for chain, (where, item) in enumerate(json_lines(annotations)):
        if isinstance(item, Problem):
            yield item
            continue
        steps = item.get("steps")
        if not isinstance(steps, list) or not steps:
            yield Problem(where, "`steps` is a list of steps", "no steps")
            continue
        for place, step in enumerate(steps):
            try:
                images = [{"type": "image", "image": media_file(media, name)} for name in item.get("images") or []]
                kind, target = target_of(step)
                asked = [*images, {"type": "text", "text": text(step, "problem")}]
                told = [{"role": "system", "content": text(step, "system")}] if step.get("system") else []
            except (ValueError, TypeError, AttributeError) as error:
                yield Problem(f"{where}, step {place}", str(error))
                continue
            yield {
                "id": f"{annotations.stem}-{chain:06d}-{place}",
                "messages": [*told, {"role": "user", "content": asked}],
                "target": target,
                "meta": {"task": kind, "chain": chain, "step": place, "split": split},
                "where": f"{where}, step {place}",
            }


def target_of(step: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    kind, answer = text(step, "step_type"), step.get("answer")
    if kind == "ans" and isinstance(answer, str | list) and answer:
        return kind, {"answer": answer} if isinstance(answer, str) else {"answer": answer[0], "answers": answer}
    if kind == "ret" and isinstance(answer, dict):
        named = answer.get("retriever")
        if not isinstance(named, list) or not named or not isinstance(named[0], str):
            raise ValueError(f"`answer.retriever` is a list of names; found {named!r}")
        return kind, {"query": text(answer, "query"), "retriever": named[0].strip().lower()}
    raise ValueError(f"a step is `ret` with query and retriever, or `ans` with an answer; found {kind!r}, {answer!r}")
