"""Readers of video question answering with options: CLEVRER, NExT-QA, NExT-GQA, STAR.

The traps: NExT-QA's answer is the place of an option, from 0, NExT-GQA's is its text; a CLEVRER question has any number
of right options; a STAR question is about a part of its video; spans of NExT-GQA begin a little before 0.

`meta.question` and `meta.options` repeat what the prompt holds, for the transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from data_pipelines.reading import Problem, Read, Row, RowError, attempt, csv_rows, json_items
from data_pipelines.video.parts import (
    EXTENSIONS,
    a_list,
    an_object,
    answer_letters,
    duration,
    field,
    identifier,
    letters,
    media_file,
    number,
    options,
    row,
    span,
    spans,
    split_of,
    tagged_answer,
    text,
    text_part,
    unlettered,
    video_part,
)
from data_pipelines.video.prompts import Kind, Style, ask_for_answer, ask_for_evidence, with_options
from mmrl.plugins import ConfigError

ClevrerType = Literal["descriptive", "explanatory", "predictive", "counterfactual"]
SLACK = 1.0
"""Seconds by which an annotated moment may leave its video; it is cut to the video."""
SCENES = 1000
"""CLEVRER scenes per folder."""


def read_clevrer(
    annotations: Path,
    *,
    media: Path,
    types: Sequence[ClevrerType] = ("counterfactual",),
    ending: Literal["several", "mixed"] = "mixed",
    style: Style = "think",
    split: str = "",
) -> Read:
    """CLEVRER's `train.json` or `validation.json`, or the flat list of TW-GRPO (`video`, `problem`, `solution`).

    Questions with options have all right letters as their target, descriptive ones a word. Those without any right
    option are problems, as TW-GRPO leaves them out. Questions of other types than `types` are passed over.
    """
    annotations, split = Path(annotations), split_of(annotations, split)

    def make(scene: Row, question: Row) -> Row:
        kind, asked = text(question, "question_type"), text(question, "question")
        name, index = text(scene, "video_filename"), number(field(scene, "scene_index"), "`scene_index`")
        first = int(index) // SCENES * SCENES
        path = media_file(media, f"video_{first:05d}-{first + SCENES:05d}/{name}", name)
        id = f"clevrer-{Path(name).stem}-{identifier(question, 'question_id')}"
        about = {"source": "clevrer", "question_type": kind, "question_subtype": question.get("question_subtype")}
        if kind == "descriptive":
            return _open(id, path, asked, text(question, "answer"), about, style=style, split=split)
        choices = [an_object(choice) for choice in a_list(question, "choices")]
        said = [text(choice, "answer") for choice in choices]
        if not set(said) <= {"correct", "wrong"}:
            raise RowError("wrong type", f"the answers of the options are {said}; `correct` and `wrong` are expected")
        listed = options([text(choice, "choice") for choice in choices])
        right = [place for place, answer in enumerate(said) if answer == "correct"]
        return _several(id, path, asked, listed, right, about, ending=ending, style=style, split=split)

    def make_flat(place: int, item: Row) -> Row:
        asked, *listed = text(item, "problem").split("\n")
        right = answer_letters(tagged_answer(text(item, "solution")))
        found = options(unlettered([line for line in listed if line.strip()]))
        return _several(
            f"clevrer-{place}", media_file(media, text(item, "video")), asked.strip(), found, _places(right, found),
            {"source": "clevrer"}, ending=ending, style=style, split=split,
        )  # fmt: skip

    for where, key, item in json_items(annotations):
        if isinstance(item, dict) and "solution" in item:
            yield attempt(where, make_flat, key, item)
        elif not isinstance(item, dict) or not isinstance(item.get("questions"), list):
            yield Problem(where, "an object with a list of `questions` is expected", "wrong type")
        else:
            for place, question in enumerate(item["questions"]):
                if not isinstance(question, dict):
                    yield Problem(f"{where}, question {place}", "an object is expected", "wrong type")
                elif question.get("question_type") in (*types, None):
                    yield attempt(f"{where}, question {place}", make, item, question)


def read_nextqa(
    annotations: Path,
    *,
    media: Path,
    videos: Path | None = None,
    style: Style = "think",
    extensions: Sequence[str] = EXTENSIONS,
    split: str = "",
) -> Read:
    """NExT-QA's CSV: `video`, `question`, `answer` (the place of the option, 0 to 4), `qid`, `type`, `a0` to `a4`.

    `videos` is `map_vid_vidorID.json`, for videos in VidOR's folders (`1104/4882821564.mp4`).
    """
    folders, split = _folders(videos), split_of(annotations, split)

    def make(item: dict[str, str]) -> Row:
        name, asked = text(item, "video"), _sentence(text(item, "question"))
        listed = options([text(item, f"a{place}") for place in range(5)])
        answer = text(item, "answer")
        if answer not in ("0", "1", "2", "3", "4"):
            raise RowError("wrong answer", f"the answer {answer!r} is no place of an option, 0 to 4; is this NExT-GQA?")
        path = media_file(media, _mapped(folders, name), extensions=extensions)
        about = {"source": "next-qa", "question_type": text(item, "type")}
        return _one(
            f"next-qa-{name}-{identifier(item, 'qid')}", path, asked, listed, int(answer), about,
            style=style, split=split,
        )  # fmt: skip

    for where, item in csv_rows(Path(annotations)):
        yield attempt(where, make, item)


def read_nextgqa(
    annotations: Path,
    *,
    media: Path,
    spans_file: Path | None = None,
    videos: Path | None = None,
    slack: float = SLACK,
    extensions: Sequence[str] = EXTENSIONS,
    split: str = "",
) -> Read:
    """NExT-GQA: its CSV (`answer` is the text of an option) with the spans of `spans_file` (`gsub_val.json`), or the
    JSON list of VideoChat-R1 and TW-GRPO (`video`, `question`, `options`, `answer`, `glue`).

    The target is the letter and the list of all spans that show it, in seconds.
    """
    annotations, folders, split = Path(annotations), _folders(videos), split_of(annotations, split)

    def make(id: str, path: str, item: Row, listed: list[str], right: int, moments: Any, seconds: float) -> Row:
        asked = _sentence(text(item, "question"))
        about = {
            "task": "grounded_question", "source": "next-gqa", "question_type": item.get("type"), "duration": seconds,
            "question": asked, "options": listed,
        }  # fmt: skip
        target = {"answer": letters([right])[0], "spans": spans(moments, seconds, slack=slack)}
        question = text_part(ask_for_evidence(with_options(asked, listed)))
        return row(f"next-gqa-{id}", [video_part(path), question], target=target, meta=about, split=split)

    def from_json(item: Row) -> Row:
        item = an_object(item)
        listed = options(unlettered(options(a_list(item, "options"))))
        right = _places(answer_letters(text(item, "answer")), listed)
        if len(right) != 1:
            raise RowError("wrong answer", f"the answer {item['answer']!r} is not the letter of one option")
        path = media_file(media, text(item, "video"))
        return make(identifier(item, "id"), path, item, listed, right[0], field(item, "glue"), duration(item))

    def from_csv(item: Row, grounding: dict[str, Any]) -> Row:
        name, number_ = text(item, "video_id"), identifier(item, "qid")
        listed, answer = options([text(item, f"a{place}") for place in range(5)]), text(item, "answer")
        if answer not in listed:
            raise RowError("wrong answer", f"the answer {answer!r} is none of the options {listed}; is this NExT-QA?")
        about = an_object(field(grounding, name))
        moments = field(an_object(field(about, "location")), number_)
        path = media_file(media, _mapped(folders, name), extensions=extensions)
        return make(f"{name}-{number_}", path, item, listed, listed.index(answer), moments, duration(about))

    if annotations.suffix == ".json":
        for where, _, item in json_items(annotations):
            yield attempt(where, from_json, item)
        return
    if spans_file is None:
        raise ConfigError(f"{annotations}: NExT-GQA's CSV needs its spans (spans_file=gsub_val.json).")
    grounding = {key: value for _, key, value in json_items(Path(spans_file))}
    for where, line in csv_rows(annotations):
        yield attempt(where, from_csv, line, grounding)


def read_star(
    annotations: Path,
    *,
    media: Path,
    style: Style = "think",
    extensions: Sequence[str] = EXTENSIONS,
    split: str = "",
) -> Read:
    """STAR's JSON list: `question_id`, `video_id` (of Charades), `start`, `end`, `question`, `choices`, `answer`.

    The question is about the part from `start` to `end`, and the model is shown that part only.
    """
    split = split_of(annotations, split)

    def make(item: Any) -> Row:
        item = an_object(item)
        id, name, asked = text(item, "question_id"), text(item, "video_id"), text(item, "question")
        choices = sorted(
            (an_object(c) for c in a_list(item, "choices")), key=lambda c: number(field(c, "choice_id"), "`choice_id`")
        )
        listed, answer = options([text(choice, "choice") for choice in choices]), text(item, "answer")
        if answer not in listed:
            raise RowError("wrong answer", f"the answer {answer!r} is none of the options {listed}")
        within = span([field(item, "start"), field(item, "end")], None, slack=0.0)
        path = media_file(media, name, extensions=extensions)
        about = {"source": "star", "question_type": id.split("_")[0], "clip": within}
        return _one(
            f"star-{id}", path, asked, listed, listed.index(answer), about, style=style, split=split, within=within
        )

    for where, _, item in json_items(Path(annotations)):
        yield attempt(where, make, item)


def _one(
    id: str, path: str, question: str, listed: list[str], right: int, about: dict[str, Any],
    *, style: Style, split: str, within: Sequence[float] | None = None,
) -> Row:  # fmt: skip
    answer = letters([right])[0]
    target = {"answer": answer, "choices": [answer]}
    meta = {"task": "mcq", **about, "question": question, "options": listed}
    return _row(id, path, with_options(question, listed), "one", target, meta, style=style, split=split, within=within)


def _several(
    id: str, path: str, question: str, listed: list[str], right: Sequence[int], about: dict[str, Any],
    *, ending: Kind, style: Style, split: str,
) -> Row:  # fmt: skip
    if not right:
        raise RowError("no right option", f"none of the {len(listed)} options is right")
    chosen = letters(right)
    target = {"answer": ",".join(chosen), "choices": chosen}
    meta = {"task": "mcq_several", **about, "question": question, "options": listed}
    return _row(id, path, with_options(question, listed), ending, target, meta, style=style, split=split)


def _open(id: str, path: str, question: str, answer: str, about: dict[str, Any], *, style: Style, split: str) -> Row:
    meta = {"task": "open", **about, "question": question}
    return _row(id, path, question, "text", {"answer": answer}, meta, style=style, split=split)


def _row(
    id: str, path: str, question: str, kind: Kind, target: Row, meta: Row,
    *, style: Style, split: str, within: Sequence[float] | None = None,
) -> Row:  # fmt: skip
    parts = [video_part(path, within=within), text_part(ask_for_answer(question, kind, style))]
    return row(id, parts, target=target, meta=meta, split=split)


def _places(chosen: Sequence[str], listed: Sequence[str]) -> list[int]:
    """Letters as places of options."""
    places = [ord(letter) - ord("A") for letter in chosen]
    if places and max(places) >= len(listed):
        raise RowError(
            "wrong answer", f"the answer {','.join(chosen)} names an option beyond the {len(listed)} there are"
        )
    return places


def _sentence(question: str) -> str:
    """NExT-QA's questions have no question mark."""
    return question if question.endswith(("?", ".", "!")) else f"{question}?"


def _folders(videos: Path | None) -> dict[str, Any] | None:
    return None if videos is None else {str(key): value for _, key, value in json_items(Path(videos))}


def _mapped(folders: dict[str, Any] | None, name: str) -> str:
    return name if folders is None else text(folders, name)
