"""Actions on a screen, written in a text."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from rewards.parsing.coordinates import LARGEST, Values
from rewards.parsing.structured import json_value

LONGEST = 2000
"""Characters of a literal. No action is longer, and Python's own parser stays fast and safe."""

_ACTION = re.compile(r"""["']action["']\s*:\s*(?:"([^"]*)"|'([^']*)'|(\w+))""")


def action_name(text: str) -> str | None:
    """The value of the last key `action` in the text: JSON's or Python's quotes, or no quotes around a word."""
    names = _ACTION.findall(text)
    return "".join(names[-1]).strip() if names else None


def literal(text: str) -> Any:
    """The value of a text that is one JSON value or Python literal of at most 2,000 characters, else None.

    Nothing is ever evaluated.
    """
    if len(text) > LONGEST:
        return None
    value, problem = json_value(text)
    if not problem:
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's remarks on odd literals
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def position(value: Any) -> Values | None:
    """Two coordinates: a list or tuple of two numbers, or the text of one."""
    value = literal(value) if isinstance(value, str) else value
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    if not all(isinstance(one, int | float) and abs(one) <= LARGEST for one in value):
        return None
    return float(value[0]), float(value[1])
