"""How a model is asked where to click. Real screenshots and full-size drawn screens share the wording."""

from __future__ import annotations

from mmrl.plugins import ConfigError

PROMPT = "In this screenshot, where do you click for: {instruction}? Answer with the point (x, y){unit}."
UNITS = {
    "pixel": " in pixels",
    "seen": " in pixels",
    "norm1": ", as shares of width and height from 0 to 1",
    "norm1000": ", on a scale from 0 to 1000",
}
"""Convention of the answer (`mmrl.records.Sample.coordinates`) -> how the prompt asks for it."""


def ask_for_click(instruction: str, coordinates: str, *, prompt: str = PROMPT) -> str:
    """The question; ConfigError for an unknown convention."""
    if coordinates not in UNITS:
        raise ConfigError(f"coordinates = {coordinates}: one of {', '.join(UNITS)}.")
    return prompt.format(instruction=instruction, unit=UNITS[coordinates])
