"""Readers of temporal grounding and highlight data: Charades-STA, ActivityNet Captions, QVHighlights.

All times are seconds of the video file. The traps: a moment is a pair of seconds, never a share of the video;
QVHighlights counts 2-second clips from 0 and stores saliencies from 0 to 4, while TempSamp-R1 asks for 1 to 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from data_pipelines.reading import Problem, Read, Row, RowError, attempt, csv_rows, json_items, json_lines, lines
from data_pipelines.video.parts import (
    EXTENSIONS,
    a_list,
    an_object,
    duration,
    identifier,
    media_file,
    number,
    row,
    span,
    spans,
    split_of,
    text,
    text_part,
    video_part,
)
from data_pipelines.video.prompts import GroundingStyle, Style, ask_for_highlights, ask_for_span
from mmrl.plugins import ConfigError

SLACK = 1.0
"""Seconds by which an annotated moment may leave its video; it is cut to the video."""
CLIP = 2
"""Seconds of a QVHighlights clip."""
SALIENCIES = range(5)
"""What an annotator of QVHighlights could give a clip."""
_STA = re.compile(r"(\S+)\s+(\S+)\s+(\S+?)##(.*)")


def read_charades_sta(
    annotations: Path,
    *,
    media: Path,
    style: GroundingStyle = "answer",
    durations: Path | None = None,
    slack: float = SLACK,
    extensions: Sequence[str] = EXTENSIONS,
    split: str = "",
) -> Read:
    """The published text file, `3MSZA 24.3 30.4##person turn a light on.`, or TimeZero's JSON (see ActivityNet).

    `durations` is a Charades CSV with the columns `id` and `length`; without it, the text file says nothing about the
    length of a video, and a moment after its end goes unnoticed.
    """
    annotations, split = Path(annotations), split_of(annotations, split)
    if annotations.suffix == ".json":
        yield from _captions(annotations, "charades-sta", media, style, slack, extensions, split)
        return
    length = _lengths(durations)

    def make(where: str, line: str) -> Row:
        match = _STA.fullmatch(line.strip())
        if not match:
            raise RowError("wrong form", f"`video start end##sentence` is expected, and {line[:60]!r} found")
        name, start, end, sentence = match.groups()
        if length is not None and name not in length:
            raise RowError("missing key", f"the durations have no `{name}`")
        seconds = length[name] if length else None
        moment = span((start, end), seconds, slack=slack)
        line_number = where.rpartition(" ")[2]
        return _moment(
            f"charades-sta-{name}-{line_number}", "charades-sta", media, name, sentence, moment, seconds,
            style=style, extensions=extensions, split=split,
        )  # fmt: skip

    for where, line in lines(annotations):
        yield attempt(where, make, where, line)


def read_activitynet_captions(
    annotations: Path,
    *,
    media: Path,
    style: GroundingStyle = "answer",
    slack: float = SLACK,
    extensions: Sequence[str] = EXTENSIONS,
    split: str = "",
) -> Read:
    """`{"v_abc": {"duration": 82.7, "timestamps": [[0.8, 19.8], ...], "sentences": ["...", ...]}}`: one row per
    sentence."""
    split = split_of(annotations, split)
    yield from _captions(Path(annotations), "activitynet-captions", media, style, slack, extensions, split)


def read_qvhighlights(
    annotations: Path,
    *,
    media: Path,
    task: Literal["highlight", "grounding"] = "highlight",
    style: Style = "answer",
    lowest: int = 1,
    slack: float = SLACK,
    extensions: Sequence[str] = EXTENSIONS,
    split: str = "",
) -> Read:
    """QVHighlights' JSON Lines, as highlights (`target.highlights`) or as moments (`target.spans`).

    A highlight is [first second of a 2-second clip, mean saliency of the three annotators], whose scores 0 to 4 begin
    at `lowest`. The scores as stored stay in `meta`, for mAP and HIT@1. Rows without labels (the test set) are
    problems.
    """
    split = split_of(annotations, split)

    def make(item: Row) -> Row:
        name, query, seconds = text(item, "vid"), _query(text(item, "query")), duration(item)
        if "relevant_windows" not in item:
            raise RowError(
                "no labels", "there are no labels (`relevant_windows`, `saliency_scores`); is this the test set?"
            )
        clips, scores = _saliencies(item, seconds)
        windows = spans(a_list(item, "relevant_windows"), seconds, slack=slack)
        about = {
            "task": task, "source": "qvhighlights", "duration": seconds, "query": query,
            "relevant_clip_ids": clips, "saliency_scores": scores,
        }  # fmt: skip
        video = video_part(media_file(media, name, extensions=extensions))
        if task == "highlight":
            pairs = zip(clips, scores, strict=True)
            target: Row = {"highlights": [[CLIP * clip, round(lowest + sum(s) / len(s), 2)] for clip, s in pairs]}
            question = ask_for_highlights(query, style)
        else:
            target = {"spans": windows} | ({"span": windows[0]} if len(windows) == 1 else {})
            question = ask_for_span(query, style)
        return row(
            f"qvhighlights-{identifier(item, 'qid')}", [text_part(question), video],
            target=target, meta=about, split=split,
        )  # fmt: skip

    for where, item in json_lines(Path(annotations)):
        yield item if isinstance(item, Problem) else attempt(where, make, item)


def _saliencies(item: Row, seconds: float) -> tuple[list[int], list[list[int]]]:
    """Ids of the relevant clips and, for each, the scores of its annotators."""
    clips, scores = a_list(item, "relevant_clip_ids"), a_list(item, "saliency_scores")
    if not clips or len(clips) != len(scores):
        raise RowError("wrong saliencies", f"there are {len(clips)} relevant clips and {len(scores)} saliency scores")
    last = int(-(-seconds // CLIP)) - 1
    for clip in clips:
        if not isinstance(clip, int) or isinstance(clip, bool) or not 0 <= clip <= last:
            raise RowError("span outside", f"the clip {clip!r} is none of 0 to {last}, of {seconds:g} seconds")
    for score in scores:
        if not isinstance(score, list) or not score or not all(type(s) is int and s in SALIENCIES for s in score):
            raise RowError("wrong saliencies", f"the saliency {score!r} is not a list of scores from 0 to 4")
    return clips, scores


def _captions(
    path: Path, source: str, media: Path, style: GroundingStyle, slack: float, extensions: Sequence[str], split: str
) -> Iterator[Row | Problem]:
    def make(name: str, seconds: float, place: int, moment: Any, sentence: Any) -> Row:
        return _moment(
            f"{source}-{name}-{place}", source, media, name, text({"sentence": sentence}, "sentence"),
            span(moment, seconds, slack=slack), seconds, style=style, extensions=extensions, split=split,
        )  # fmt: skip

    for where, name, value in json_items(path):
        try:
            item = an_object(value)
            if not isinstance(name, str):
                raise RowError("wrong type", "an object of videos is expected, and this is a list")
            seconds, moments, sentences = duration(item), a_list(item, "timestamps"), a_list(item, "sentences")
            if len(moments) != len(sentences):
                raise RowError("wrong type", f"there are {len(moments)} timestamps and {len(sentences)} sentences")
        except RowError as error:
            yield error.at(where)
            continue
        for place, (moment, sentence) in enumerate(zip(moments, sentences, strict=True)):
            yield attempt(f"{where}, moment {place}", make, name, seconds, place, moment, sentence)


def _moment(
    id: str, source: str, media: Path, name: str, sentence: str, moment: list[float], seconds: float | None,
    *, style: GroundingStyle, extensions: Sequence[str], split: str,
) -> Row:  # fmt: skip
    query = _query(sentence)
    if not query:
        raise RowError("empty text", "the sentence is empty")
    # TimeZero puts the question before the video.
    parts = [text_part(ask_for_span(query, style)), video_part(media_file(media, name, extensions=extensions))]
    about = {"task": "grounding", "source": source, "duration": seconds, "query": query}
    return row(id, parts, target={"span": moment}, meta=about, split=split)


def _query(sentence: str) -> str:
    """As TimeZero and TempSamp-R1 write it: lower case, without the full stop."""
    return sentence.strip().lower().removesuffix(".").strip()


def _lengths(durations: Path | None) -> dict[str, float] | None:
    if durations is None:
        return None
    found = {}
    for where, line in csv_rows(Path(durations)):
        if isinstance(line, Problem):
            raise ConfigError(f"{where}: {line.message}.")
        if "id" not in line or "length" not in line:
            raise ConfigError(f"{where}: a CSV file with the columns `id` and `length` is expected.")
        try:
            found[line["id"]] = number(line["length"], "`length`")
        except RowError as error:
            raise ConfigError(f"{where}: {error}.") from None
    return found
