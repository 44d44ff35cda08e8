"""How questions about pictures from above are worded, other than those that data sets bring along."""

from __future__ import annotations

from mmrl.plugins import ConfigError

THINK = "Think between <think> and </think>, then give only the answer between <answer> and </answer>."
"""The form of UAV-VL-R1 (arXiv 2508.11196), whose own wording is not published."""
PLAIN = "Give only the answer."

HINTS = {
    "count": "Answer with a number.",
    "presence": "Answer yes or no.",
    "area": "Answer with one of: {bins}.",
}
"""Task -> what is said after a data set's own question, which does not tell the form of its answer."""

UNITS = {
    "pixel": "in pixels",
    "seen": "in pixels",
    "norm1": "as shares of width and height from 0 to 1",
    "norm1000": "on a scale from 0 to 1000",
}
"""Convention of the answer (`mmrl.records.Sample.coordinates`) -> how the prompt asks for it."""


def prompt(question: str, *, think: bool) -> str:
    """A question with the form that its answer shall have."""
    return f"{question}\n{THINK if think else PLAIN}"


def units(coordinates: str) -> str:
    """ConfigError for an unknown convention."""
    if coordinates not in UNITS:
        raise ConfigError(f"coordinates = {coordinates}: one of {', '.join(UNITS)}.")
    return UNITS[coordinates]


def listed(words: list[str], last: str = "or") -> str:
    """`a, b or c`"""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]
