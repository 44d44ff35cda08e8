"""Readers of training mixtures: SEED-Bench-R1 (as DeepVideo-R1 uses it) and the rows of Video-R1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

from data_pipelines.reading import Problem, Read, Row, RowError, attempt, json_items_or_lines, json_lines
from data_pipelines.video.parts import (
    a_list,
    an_object,
    answer_letters,
    identifier,
    letters,
    media_file,
    options,
    row,
    split_of,
    tagged_answer,
    text,
    text_part,
    unlettered,
    video_part,
)
from data_pipelines.video.prompts import Kind, Style, ask_for_answer, with_options

Source = Literal["multiple choice", "numerical", "OCR", "free-form", "regression"]
TASKS: dict[str, tuple[str, Kind]] = {
    "multiple choice": ("mcq", "one"),
    "numerical": ("number", "number"),
    "regression": ("number", "number"),
    "OCR": ("ocr", "written"),
    "free-form": ("open", "text"),
}
"""Video-R1's `problem_type` -> `meta.task` and what the prompt asks for."""
NEGATIVES = 3
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def read_seed_bench_r1(
    annotations: Path, *, media: Path, seed: int = 0, style: Style = "think", split: str = ""
) -> Read:
    """SEED-Bench-R1's JSON Lines. A training row has the right answer and wrong ones, of which three are drawn and
    shuffled with it, from `seed` and its id; a row for evaluation has four options in order.

    The video, `videos/<source>/<name>`, is left out where `task_progress_metadata` is empty: nothing was done yet.
    The image, `images/<source>/<name>`, is what is seen at the moment of the question.
    """
    split = split_of(annotations, split)

    def make(item: Row) -> Row:
        id, asked, answer = identifier(item, "sample_id"), text(item, "question"), text(item, "answer")
        rng = Random(f"seed-bench-r1/{seed}/{id}")
        order = None
        if "golden_choice_idx" in item:
            listed = options([text(item, f"choice_{letter}") for letter in "abcd"])
            golden = text(item, "golden_choice_idx").upper()
            if golden not in ("A", "B", "C", "D"):
                raise RowError("wrong answer", f"`golden_choice_idx` is {golden!r}; A, B, C or D is expected")
            if listed["ABCD".index(golden)] != answer:
                raise RowError(
                    "wrong answer", f"option {golden} is {listed['ABCD'.index(golden)]!r}, but the answer is {answer!r}"
                )
        else:
            wrong = options(a_list(item, "negative_answers"))
            if answer in wrong or len(wrong) < NEGATIVES:
                raise RowError("wrong options", f"{NEGATIVES} wrong answers are expected, and {wrong} found")
            listed = [answer, *rng.sample(wrong, NEGATIVES)]
            order = seed
            rng.shuffle(listed)
        right = letters([listed.index(answer)])[0]
        source = text(item, "video_source")
        parts: list[dict[str, Any]] = []
        if a_list(item, "task_progress_metadata"):
            parts.append(video_part(media_file(media, f"videos/{source}/{text(item, 'video_basename')}")))
        seen = media_file(media, f"images/{source}/{text(item, 'current_observation_basename')}")
        parts.append({"type": "image", "image": seen})
        parts.append(text_part(ask_for_answer(with_options(asked, listed), "one", style)))
        about = {
            "task": "mcq", "source": "seed-bench-r1", "domain": item.get("domain"), "level": item.get("task_level"),
            "options_seed": order, "question": asked, "options": listed,
        }  # fmt: skip
        return row(f"seed-bench-r1-{id}", parts, target={"answer": right, "choices": [right]}, meta=about, split=split)

    for where, item in json_lines(Path(annotations)):
        yield item if isinstance(item, Problem) else attempt(where, make, item)


def read_video_r1(
    annotations: Path,
    *,
    media: Path,
    types: Sequence[Source] = ("multiple choice", "numerical", "OCR", "free-form", "regression"),
    kinds: Sequence[Literal["image", "video"]] = ("image", "video"),
    style: Style = "think",
    split: str = "",
) -> Read:
    """Video-R1's JSON list (`Video-R1-260k.json`) or JSON Lines: `problem`, `problem_type`, `options`, `solution`,
    `path`, `data_type`.

    `types` and `kinds` choose rows. The answer is a letter, a number or a text, by `problem_type`; a chain of thought
    (`process`) is kept in `meta`.
    """
    annotations, split = Path(annotations), split_of(annotations, split)

    def make(key: Any, item: Row) -> Row:
        kind, asked = text(item, "problem_type"), text(item, "problem")
        if kind not in TASKS:
            raise RowError("wrong type", f"`problem_type` is {kind!r}; {', '.join(TASKS)} are known")
        media_kind = text(item, "data_type")
        if media_kind not in ("image", "video"):
            raise RowError("wrong type", f"`data_type` is {media_kind!r}; image or video is expected")
        task, ending = TASKS[kind]
        answer = tagged_answer(text(item, "solution"))
        about = {"task": task, "source": "video-r1", "data_source": item.get("data_source"), "problem_type": kind}
        target: Row = {"answer": answer}
        if kind == "multiple choice":
            listed = options(unlettered(options(a_list(item, "options"))))
            right = answer_letters(answer)
            if ord(right[-1]) - ord("A") >= len(listed):
                raise RowError(
                    "wrong answer", f"the solution {answer!r} names no option of the {len(listed)} there are"
                )
            if len(right) > 1:
                about["task"], ending = "mcq_several", "mixed"
            target = {"answer": ",".join(right), "choices": right}
            about |= {"question": asked, "options": listed}
            asked = with_options(asked, listed)
        elif task == "number" and not _NUMBER.fullmatch(answer):
            raise RowError("wrong answer", f"the solution {answer!r} is no number")
        path = media_file(media, text(item, "path"))
        part = video_part(path) if media_kind == "video" else {"type": "image", "image": path}
        about["process"] = item.get("process") or None
        id = identifier(item, "problem_id") if "problem_id" in item else str(key)
        question = text_part(ask_for_answer(asked, ending, style))
        return row(f"video-r1-{id}", [part, question], target=target, meta=about, split=split)

    def wanted(item: Row) -> bool:
        """Not a row of another type or kind; one of an unknown type is tried, and reported."""
        kind, media_kind = item.get("problem_type"), item.get("data_type")
        other = isinstance(kind, str) and kind in TASKS and kind not in types
        return not other and (media_kind in kinds or media_kind not in ("image", "video"))

    for where, key, item in json_items_or_lines(annotations):
        if isinstance(item, Problem):
            yield item
        elif not isinstance(item, dict):
            yield attempt(where, an_object, item)
        elif wanted(item):
            yield attempt(where, make, key, item)
