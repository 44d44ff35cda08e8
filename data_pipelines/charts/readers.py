"""Readers of chart benchmarks: ChartQA, PlotQA, FigureQA, DVQA, BigCharts' training rows, MathVista.

The traps: a ChartQA label is a text even where it is a number or a list; FigureQA answers 1 and 0; a MathVista answer
is an option's text, not its letter, and none in its test split; DVQA and FigureQA are scored by equality, ChartQA and
PlotQA within 5 %, MathVista as precisely as it says. Annotated answer boxes are not read: nothing here scores them.

Everywhere `media` is the folder of the pictures and `prompt` the instruction (`prompts.py`). `meta.task` is how an
answer is scored: `chart_number`, `chart_text`, `chart_list`, `mcq`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data_pipelines.charts.prompts import LETTERS, ask
from data_pipelines.charts.questions import TASKS, TOLERANCE, AnswerType
from data_pipelines.charts.style import written
from data_pipelines.reading import (
    Read,
    Row,
    RowError,
    attempt,
    inside,
    is_number,
    json_items,
    json_items_or_lines,
    short,
)

SPLITS = re.compile(r"train|val(?:_easy|_hard|idation)?|dev|test(?:mini)?")
YES_NO = ("yes", "no")
LONGEST_INTEGER = 10**15
"""Larger whole numbers are no exact numbers in most readers of JSON."""


def read_chartqa(annotations: Path, *, media: Path, prompt: str = "short", split: str = "") -> Read:
    """ChartQA's `test_human.json`, `train_augmented.json`, ...: a list of {imgname, query, label}.

    The label stays the text it is; lists are written `[a, b]`. `meta.origin` is human or augmented, by the file's name.
    """
    annotations = Path(annotations)
    origin = next((word for word in ("human", "augmented") if word in annotations.stem), None)

    def make(place: int, item: Row) -> Row:
        label = item.get("label")
        if isinstance(label, list) and len(label) == 1:  # as the copy on the Hugging Face hub has it
            label = label[0]
        answer = _answer(label, "label")
        type = type_of(answer)
        return _row(
            f"chartqa-{annotations.stem}-{place:06d}", inside(media, _text(item, "imgname")),
            ask(_text(item, "query"), prompt), answer, type, source="chartqa", split=_split(annotations, split),
            tolerance=TOLERANCE if type == "number" else 0.0, origin=origin,
        )  # fmt: skip

    yield from _read(json_items(annotations), make)


def read_plotqa(annotations: Path, *, media: Path, prompt: str = "short", split: str = "") -> Read:
    """PlotQA's `qa_pairs_V1.json` and `qa_pairs_V2.json`: {"qa_pairs": [{image_index, question_string, answer,
    template, type, qid?}]}; the picture is `<image_index>.png`. `meta.template` and `meta.chart` are kept."""
    annotations = Path(annotations)

    def make(place: int, item: Row) -> Row:
        answer = _answer(item.get("answer"), "answer")
        type = type_of(answer)
        name = item.get("qid", f"{annotations.stem}-{place:08d}")
        return _row(
            f"plotqa-{name}", inside(media, f"{_index(item)}.png"), ask(_text(item, "question_string"), prompt), answer,
            type, source="plotqa", split=_split(annotations, split), tolerance=TOLERANCE if type == "number" else 0.0,
            template=item.get("template"), chart=item.get("type"),
        )  # fmt: skip

    yield from _read(json_items(annotations, under="qa_pairs"), make)


def read_figureqa(annotations: Path, *, media: Path, prompt: str = "short", split: str = "") -> Read:
    """FigureQA's `qa_pairs.json`: {"qa_pairs": [{image_index, question_string, question_id, answer}]}, the answer 1 for
    yes and 0 for no; the picture is `<image_index>.png`. The split is that of the file's folder."""
    annotations = Path(annotations)
    part = _split(annotations, split)

    def make(place: int, item: Row) -> Row:
        said = item.get("answer")
        if isinstance(said, bool) or said not in (0, 1):
            raise RowError("wrong type", f"`answer` is {short(said)}; 1 for yes or 0 for no is expected")
        return _row(
            f"figureqa-{part or annotations.stem}-{place:07d}", inside(media, f"{_index(item)}.png"),
            ask(_text(item, "question_string"), prompt), YES_NO[1 - int(said)], "yes_no", source="figureqa", split=part,
            template=item.get("question_id"),
        )  # fmt: skip

    yield from _read(json_items(annotations, under="qa_pairs"), make)


def read_dvqa(annotations: Path, *, media: Path, prompt: str = "short", split: str = "") -> Read:
    """DVQA's `train_qa.json`, `val_easy_qa.json`, ...: a list of {image, question, answer, question_id, template_id}.

    Answers are compared as texts, numbers too. `meta.template` is structure, data or reasoning.
    """
    annotations = Path(annotations)

    def make(place: int, item: Row) -> Row:
        answer = _answer(item.get("answer"), "answer")
        found = type_of(answer)
        type: AnswerType = found if found == "yes_no" else "integer" if answer.isdigit() else "text"
        return _row(
            f"dvqa-{item.get('question_id', f'{annotations.stem}-{place:07d}')}", inside(media, _text(item, "image")),
            ask(_text(item, "question"), prompt), answer, type, source="dvqa", split=_split(annotations, split),
            template=item.get("template_id"),
        )  # fmt: skip

    yield from _read(json_items(annotations), make)


def read_bigcharts(annotations: Path, *, media: Path, prompt: str = "bigcharts", split: str = "") -> Read:
    """Training rows of BigCharts-R1 (arXiv 2508.09804): {problem, solution, image}, as a JSON list or JSON Lines.

    A solution inside <answer> tags is taken out of them, and `<image>` out of the problem: the picture is a part of the
    message.
    """
    annotations = Path(annotations)

    def make(place: int, item: Row) -> Row:
        solution = _answer(item.get("solution"), "solution")
        tagged = re.search(r"<answer>(.*?)</answer>", solution, re.DOTALL)
        answer = tagged[1].strip() if tagged else solution
        type = type_of(answer)
        problem = " ".join(_text(item, "problem").replace("<image>", " ").split(" ")).strip()
        if not problem or not answer:
            raise RowError("empty text", "the problem or the solution is empty")
        return _row(
            f"bigcharts-{annotations.stem}-{place:06d}", inside(media, _text(item, "image")), ask(problem, prompt),
            answer, type, source="bigcharts", split=_split(annotations, split),
            tolerance=TOLERANCE if type == "number" else 0.0,
        )  # fmt: skip

    yield from _read(json_items_or_lines(annotations), make)


def read_mathvista(annotations: Path, *, media: Path, prompt: str = "short", split: str = "") -> Read:
    """MathVista's `testmini.json` (an object by pid), or a list or JSON Lines of its rows.

    Of a question with choices the target is the letter, and `meta.options` are the choices in order; else the answer's
    type is MathVista's, and a float may be off by half a unit of the last digit of its `precision`. Unit and precision
    are told after the question. Rows without an answer (the test split) are problems. `meta.mathvista` is its metadata.
    """
    annotations = Path(annotations)

    def make(place: Any, item: Row) -> Row:
        answer = item.get("answer")
        if answer is None or answer == "":
            raise RowError("no answer", "there is no answer (MathVista publishes none of its test split)")
        answer, question = _answer(answer, "answer"), _text(item, "question")
        metadata = item.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise RowError("wrong type", f"`metadata` is {short(metadata)}; an object is expected")
        part = split or str(metadata.get("split") or "") or _split(annotations, "")
        unit, choices = item.get("unit"), item.get("choices")
        if unit:
            question += f" (Unit: {unit})"
        common: dict[str, Any] = {"source": "mathvista", "split": part, "mathvista": metadata}
        name, path = f"mathvista-{item.get('pid', place)}", inside(media, _text(item, "image"))
        if item.get("question_type") == "multi_choice":
            if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
                raise RowError("wrong type", f"`choices` is {short(choices)}; a list of 2 to 26 options is expected")
            options = [_answer(choice, "choices") for choice in choices]
            if answer not in options:
                raise RowError(
                    "answer not listed", f"the answer {short(answer)} is none of the choices {short(options)}"
                )
            letter = LETTERS[options.index(answer)]
            return _row(name, path, ask(question, prompt, options=options), letter, "letter", options=options, **common)
        kind = item.get("answer_type")
        types: dict[Any, AnswerType] = {"text": "text", "integer": "integer", "float": "number", "list": "list"}
        if kind not in types:
            raise RowError("wrong type", f"`answer_type` is {short(kind)}; one of {', '.join(types)} is expected")
        tolerance = 0.0
        if kind == "float":
            digits = _precision(item.get("precision"))
            value = _number(answer)
            if value is None:
                raise RowError("wrong type", f"`answer` is {short(answer)}, and `answer_type` float")
            tolerance = 0.5 * 10.0**-digits / abs(value) if value else 0.0
            question += f" (Digits after the decimal point: {digits})"
        elif kind == "integer" and _number(answer) is None:
            raise RowError("wrong type", f"`answer` is {short(answer)}, and `answer_type` integer")
        return _row(name, path, ask(question, prompt), answer, types[kind], tolerance=tolerance, **common)

    yield from _read(json_items_or_lines(annotations), make)


def type_of(answer: str) -> AnswerType:
    """What a benchmark's text is: yes or no, a list in brackets, a number (with $, %, separators) or any text."""
    if answer.lower() in YES_NO:
        return "yes_no"
    if answer.startswith("[") and answer.endswith("]"):
        return "list"
    return "text" if _number(answer.rstrip("%").lstrip("$").replace(",", "")) is None else "number"


def _read(items: Iterator[tuple[str, Any, Any]], make: Callable[[Any, Row], Row]) -> Read:
    def of_an_object(key: Any, item: Any) -> Row:
        if not isinstance(item, dict):
            raise RowError("wrong type", f"an object is expected, and this is {short(item)}")
        return make(key, item)

    for where, key, item in items:
        yield attempt(where, of_an_object, key, item)


def _row(id: str, image: str, question: str, answer: str, type: AnswerType, *, tolerance: float = 0.0,
         **meta: Any) -> Row:  # fmt: skip
    return {
        "id": id,
        "messages": [{"role": "user", "content": [
            {"type": "image", "image": image}, {"type": "text", "text": question},
        ]}],
        "target": {"answer": answer, "type": type, "tolerance": tolerance},
        "meta": {"task": TASKS[type]} | {key: value for key, value in meta.items() if value not in (None, "")},
    }  # fmt: skip


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if value is None:
        raise RowError("missing key", f"there is no `{key}`")
    if not isinstance(value, str):
        raise RowError("wrong type", f"`{key}` is {short(value)}; a text is expected")
    if not value.strip():
        raise RowError("empty text", f"`{key}` is empty")
    return value.strip()


def _answer(value: Any, key: str) -> str:
    """A text or a finite number, as a text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not is_number(value):
            raise RowError("wrong type", f"`{key}` is {str(value)[:60]}; a finite number is expected")
        return str(value) if isinstance(value, int) and abs(value) < LONGEST_INTEGER else written(value, grouped=False)
    return _text({key: value}, key)


def _index(item: Mapping[str, Any]) -> int:
    value = item.get("image_index")
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RowError("wrong type", f"`image_index` is {short(value)}; a whole number is expected")
    return value


def _precision(value: Any) -> int:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value or not 0 <= value <= 12:
        raise RowError("wrong type", f"`precision` is {short(value)}; a number of decimals, 0 to 12, is expected")
    return int(value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _split(annotations: Path, split: str) -> str:
    """As given, else what the file's name says, else its folder's."""
    found = SPLITS.search(annotations.stem.lower()) or SPLITS.match(annotations.absolute().parent.name.lower())
    return split or (found[0] if found else "")
