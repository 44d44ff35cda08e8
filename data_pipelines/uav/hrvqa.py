"""HRVQA (arXiv 2301.09460), whose questions UAV-VL-R1 (arXiv 2508.11196) trains on.

`train_question.json` and `train_answer.json`, in the style of VQA v2:

    {"questions": [{"question_id": 10, "image_id": 1, "question": "how many cars?", "question_type": "numbers"}]}
    {"annotations": [{"question_id": 10, "image_id": 1, "multiple_choice_answer": "3"}]}

Areas such as `57m2` become the four ranges that HRVQA is scored on. Its own evaluator compares them wrongly (every area
up to 1000 m2 passes as `0m2`), so published area scores cannot be reached or compared; `exact_match` with
`normalise=vqa` compares them as they are meant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from data_pipelines.reading import Problem, Read, Row, json_items
from data_pipelines.uav.prompts import HINTS, listed, prompt
from data_pipelines.uav.questions import BIN_NAMES, NO_AREA, area_bin
from mmrl.plugins import ConfigError, nearest

TASKS = {
    "numbers": "count",
    "yes no": "presence",
    "areas": "area",
    "size": "size",
    "location": "place",
    "color": "colour",
    "shape": "shape",
    "sports": "sports",
    "transportation": "transport",
    "scene": "function",
}
"""HRVQA's `question_type` -> `meta.task`, the name that other sources of pictures from above use."""
FUSED = {
    "fitnessorsoccer": "fitness or soccer",
    "fitnessorbasketball": "fitness or basketball",
    "tennisorsoccer": "tennis or soccer",
    "basketballorsoccer": "basketball or soccer",
}
"""Sports whose answers were stored without blanks."""
_AREA = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?m(?:2|²|\^2)")
_WHOLE = re.compile(r"[0-9]{1,6}")


def read_hrvqa(
    annotations: Path,
    *,
    images: Path | None = None,
    answers: Path | None = None,
    split: str = "train",
    suffix: str = ".png",
    types: Sequence[str] | None = None,
    areas: Literal["ranges", "exact"] = "ranges",
    think: bool = True,
) -> Read:
    """One row per question, in the order of the question file; pictures are `images`/<image_id><suffix>.

    `annotations` is the question file, or the folder with `<split>_question.json` and `<split>_answer.json`; `answers`
    is the answer file, if it is not beside it under that name, and `images` a folder `images` beside it. `types` keeps
    some of the ten question types only (UAV-VL-R1 has eight tasks; which ten it left out is not published). Both files
    are read once, side by side; answers are held in memory only as far as their order differs from the questions'.
    """
    annotations = Path(annotations)
    questions, answers = _files(annotations, answers, split)
    folder = (Path(images) if images else questions.parent / "images").absolute()
    if answers == questions or not answers.is_file():
        raise ConfigError(f"{questions}: there is no {answers.name} beside it. The answers of the test split are not "
                          "published with it; give the file of another split as answers=FILE.")  # fmt: skip
    for name in types or ():
        if name not in TASKS:
            raise ConfigError(f"types: {name} is not a question type of HRVQA. {nearest(name, list(TASKS))}")
    known = _Answers(answers)
    seen: set[int] = set()
    for where, _, item in json_items(questions, under="questions"):
        yield from known.problems()
        try:
            number, image = _identity(item, "question_id"), _identity(item, "image_id")
            if number in seen:
                raise ValueError(f"question_id {number} occurs twice")
            seen.add(number)
            answer = known.of(number, image)
            question, kind = item.get("question"), item.get("question_type")
            if not isinstance(question, str) or not question.strip():
                raise ValueError(f"question is empty or no text: {question!r}")
            if kind not in TASKS:
                raise ValueError(f"question_type {kind!r} is none of {', '.join(TASKS)}")
            if types is not None and kind not in types:
                continue
            target = _gold(kind, answer, areas)
        except ConfigError:  # the answer file ends here
            raise
        except ValueError as error:
            yield Problem(where, str(error))
            continue
        hint = HINTS.get(TASKS[kind], "") if kind != "areas" or areas == "ranges" else ""
        asked = f"{question.strip()} {hint.format(bins=listed([*BIN_NAMES, NO_AREA]))}".strip()
        row = _row(number, folder / f"{image}{suffix}", prompt(asked, think=think), kind, target, split)
        yield row | {"where": where}
    yield from known.rest()


def _files(annotations: Path, answers: Path | None, split: str) -> tuple[Path, Path]:
    """Of the questions and of the answers."""
    questions = annotations / f"{split}_question.json" if annotations.is_dir() else annotations
    return questions, Path(answers or questions.with_name(questions.name.replace("question", "answer")))


def _reads(annotations: Path, *, answers: Path | None = None, split: str = "train", **settings: Any) -> Sequence[Path]:
    return _files(annotations, answers, split)


read_hrvqa.reads = _reads  # type: ignore[attr-defined]  # what `convert.digest` asks for


class _Answers:
    """Answers by question, read as far as needed."""

    def __init__(self, path: Path) -> None:
        self.items = json_items(path, under="annotations")
        self.pending: dict[int, tuple[str, int, str]] = {}
        self.bad: list[Problem] = []

    def of(self, number: int, image: int) -> str:
        while number not in self.pending and self.more():
            pass
        if number not in self.pending:
            raise ValueError(f"no answer has question_id {number}")
        where, its_image, answer = self.pending.pop(number)
        if its_image != image:
            raise ValueError(f"image_id is {image}, but {where} has {its_image} for the same question")
        return answer

    def more(self) -> bool:
        """Read one answer; False at the end."""
        for where, _, item in self.items:
            try:
                number, image = _identity(item, "question_id"), _identity(item, "image_id")
                answer = item.get("multiple_choice_answer")
                if not isinstance(answer, str) or not answer.strip():
                    raise ValueError(f"multiple_choice_answer is empty or no text: {answer!r}")
                self.pending[number] = (where, image, answer.strip())
            except ValueError as error:
                self.bad.append(Problem(where, str(error)))
            return True
        return False

    def problems(self) -> Iterator[Problem]:
        while self.bad:
            yield self.bad.pop(0)

    def rest(self) -> Iterator[Problem]:
        """What is left when all questions are read."""
        while self.more():
            pass
        yield from self.problems()
        for number, (where, _, _) in self.pending.items():
            yield Problem(where, f"no question has question_id {number}")


def _identity(item: Any, key: str) -> int:
    value = item.get(key) if isinstance(item, dict) else None
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} is a whole number; found {value!r}")
    return value


def _gold(kind: str, answer: str, areas: str) -> dict[str, Any]:
    """The target. ValueError for an answer that makes no sense."""
    if kind == "numbers" and _WHOLE.fullmatch(answer):
        return {"answer": answer, "count": int(answer)}
    if kind == "areas":
        match = _AREA.fullmatch(answer)
        if match is None:
            if areas == "ranges" and answer in (*BIN_NAMES, NO_AREA):
                return {"answer": answer}
            raise ValueError(f"an area is written as 57m2; found {answer!r}")
        size = float(match[1])
        if not math.isfinite(size):
            raise ValueError(f"the area {answer[:40]!r} is too large")
        return {"answer": area_bin(size) if areas == "ranges" else answer, "area": size}
    return {"answer": FUSED.get(answer, answer) if kind == "sports" else answer}


def _row(number: int, image: Path, text: str, kind: str, target: dict[str, Any], split: str) -> Row:
    return {
        "id": f"hrvqa-{number}",
        "messages": [{"role": "user", "content": [
            {"type": "image", "image": str(image)},
            {"type": "text", "text": text},
        ]}],
        "target": target,
        "meta": {
            "task": TASKS[kind], "question_type": kind, "source": "hrvqa", "split": split, "coordinates": "pixel",
        },
    }  # fmt: skip
