"""Numbers written in a text."""

from __future__ import annotations

import math
import re

# ASCII digits only; a minus sign counts unless it joins two words or numbers, as in "10-20".
NUMBER = r"(?:(?<![\w.])-)?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"
_NUMBERS = re.compile(NUMBER)


def numbers(text: str) -> list[float]:
    """Every finite decimal number in the text, in order: `-3`, `2.5`, `1e3`."""
    return [value for value in map(float, _NUMBERS.findall(text)) if math.isfinite(value)]
