"""How a model is asked about a video. Real and drawn clips share the wording.

A style is what the completion should look like: `answer`, the answer in answer tags alone; `think`, a thought in think
tags before it; `json`, as `think`, the answer being Temporal-R1's JSON object. Which paper asks for what:
docs/data_video.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from data_pipelines.video.parts import LETTERS

Style = Literal["answer", "think"]
GroundingStyle = Literal["answer", "think", "json"]
Kind = Literal["one", "several", "mixed", "text", "number", "written"]

THINK = "Think first, inside <think> and </think> tags. "
TIMES = (
    "Think first, inside <think> and </think> tags; in there, put the times you look at, as xx.xx or xx.xx to xx.xx, "
    "inside <timestep> and </timestep> tags. "
)

GROUNDING: dict[GroundingStyle, str] = {
    "answer": (
        'Find the moment of the video that shows "{query}". Give its start and end in seconds, with two decimals, as '
        '"start to end" inside <answer> and </answer> tags. For example: <answer>12.54 to 17.83</answer>'
    ),
    "think": (
        'Find the moment of the video that shows "{query}". ' + TIMES + "Then give its start and end in seconds, with "
        'two decimals, as "start to end" inside <answer> and </answer> tags. For example: '
        "<answer>12.54 to 17.83</answer>"
    ),
    "json": (
        'When does "{query}" happen in the video? ' + THINK + "Then give its start and end in seconds as a JSON object "
        'inside <answer> and </answer> tags. For example: <answer>{{"start_time": "12.5", "end_time": "17.8"}}</answer>'
    ),
}

HIGHLIGHTS = (
    'Find the highlights of the video for "{query}": the times, in seconds, of the moments that show it, and how '
    "salient each is, from 1 to 5. {thought}Give them inside <answer> and </answer> tags in this form: "
    "<answer>The highlight timestamps are in the 82, 84, 86 seconds. Their saliency scores are 1.3, 1.7, 2.0.</answer>"
)

FORMS: dict[Kind, str] = {
    "one": "the letter of the one right option",
    "several": "the letters of all right options, separated by commas",
    "mixed": "the letter of the right option, or the letters separated by commas if several are right",
    "text": "a word or a short phrase",
    "number": "a number",
    "written": "the text, exactly as it is written",
}
"""What the answer tags are to hold."""

GROUNDED = (
    "{thought}Then give the letter of the one right option inside <answer> and </answer> tags, and the parts of the "
    "video that show it, in seconds, as a list of (start, end) inside <glue> and </glue> tags. For example: "
    "<answer>C</answer><glue>[(5.2, 10.4)]</glue>"
)


def ask_for_span(query: str, style: GroundingStyle) -> str:
    return GROUNDING[style].format(query=query)


def ask_for_highlights(query: str, style: Style) -> str:
    return HIGHLIGHTS.format(query=query, thought=TIMES if style == "think" else "")


def ask_for_answer(question: str, kind: Kind, style: Style) -> str:
    thought = THINK if style == "think" else ""
    return f"{question}\n{thought}Give the final answer inside <answer> and </answer> tags: {FORMS[kind]}."


def ask_for_evidence(question: str) -> str:
    """NExT-GQA as VideoChat-R1 asks it: a thought, a letter, and the intervals that show it."""
    return f"{question}\n{GROUNDED.format(thought=TIMES)}"


def with_options(question: str, options: Sequence[str]) -> str:
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))])
