"""Preferences between two pictures or two answers, as UnifiedReward-Think (arXiv 2505.03318) has them.

    {"problem": "... which image is better?", "solution": "Image 1 is better", "images": ["a.png", "b.png"]}

A JSON list or JSON Lines. The verdict is a sentence, and the model answers with the same sentence in answer tags.
"""

from __future__ import annotations

import re
from pathlib import Path

from data_pipelines.gui.fields import media_file, text
from data_pipelines.reading import Problem, Read, json_items_or_lines

VERDICT = re.compile(r"(Image|Video|Answer) ([12]) is better")
PROMPT = (
    "{question}\nCompare them point by point inside <think> </think>, then give the verdict inside <answer> </answer>: "
    "exactly '{kind} 1 is better' or '{kind} 2 is better'."
)


def read_preferences(annotations: Path, *, media: Path, prompt: str = PROMPT, split: str = "train") -> Read:
    """Rows with `target.answer`, the verdict. Pictures stand before the question, in order; `<image>` is taken out.

    `prompt` holds `{question}` and, if it likes, `{kind}`: Image, Video or Answer.
    """
    for place, (where, _, item) in enumerate(json_items_or_lines(annotations)):
        if isinstance(item, Problem):
            yield item
            continue
        try:
            if not isinstance(item, dict):
                raise ValueError("an item is an object with `problem`, `solution` and `images`")
            verdict = VERDICT.fullmatch(text(item, "solution"))
            if verdict is None:
                raise ValueError(f"`solution` is 'Image 1 is better' or the like; found {item['solution']!r}")
            names = item.get("images")
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError(f"`images` is a list of file names; found {names!r}")
            images = [{"type": "image", "image": media_file(media, name)} for name in names]
            question = re.sub(r"\s*<image>\s*", " ", text(item, "problem")).strip()
        except ValueError as error:
            yield Problem(where, str(error))
            continue
        asked = prompt.replace("{question}", question).replace("{kind}", verdict[1])
        yield {
            "id": f"{annotations.stem}-{place:06d}",
            "messages": [{"role": "user", "content": [*images, {"type": "text", "text": asked}]}],
            "target": {"answer": verdict[0]},
            "meta": {"task": "preference", "kind": verdict[1].lower(), "split": split},
            "where": where,
        }
