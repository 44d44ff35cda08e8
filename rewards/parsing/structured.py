"""JSON written in a text."""

from __future__ import annotations

import json
import math
import re
from typing import Any

DIGITS = 300
"""No number of an answer has more digits; a longer one would not fit a float, and takes quadratic time to read."""

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


def json_value(text: str) -> tuple[Any, str]:
    """The value of a text that is one JSON value, or None with the reason why it is not; the reason is else empty.

    A fence of three backticks around the whole text is no part of it. NaN, infinities and numbers too large for a
    float are not JSON here.
    """
    text = text.strip()
    fenced = _FENCE.fullmatch(text)
    try:
        value = json.loads(
            fenced[1] if fenced else text, parse_int=_integer, parse_float=_finite, parse_constant=_refused
        )
    except RecursionError:
        return None, "nested too deeply"
    except ValueError as error:
        return None, f"not JSON: {error}"
    return value, ""


def _integer(written: str) -> int:
    return int(written) if len(written) <= DIGITS else int(_refused(f"a number of {len(written)} digits"))


def _finite(written: str) -> float:
    value = float(written)
    return value if math.isfinite(value) else _refused(f"{written[:20]}...")


def _refused(written: str) -> Any:
    raise ValueError(f"{written} is no number that a float holds")
