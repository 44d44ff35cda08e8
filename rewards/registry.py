"""How a reward is written and what it is called. Running rewards over rollouts is `scoring.py`.

A reward is a plain function; the decorator only attaches facts about it:

    @reward(range=(0, 1), needs=("answer",))
    def contains(completion: str, sample: Sample, *, ignore_case: bool = True) -> float: ...

It returns a number, a `Score` (a number with something to show in the viewer) or None (this reward does not apply to
this row). Keyword-only parameters are its settings. What it receives depends on its scope:

    row    (completion: str, sample: Sample)                  -> number | Score | None
    group  (completions: list[str], sample: Sample)           -> list of these, one per completion of the group
    batch  (completions: list[str], samples: list[Sample])    -> list of these, one per row it applies to

A config names a built-in, or your own by `path/to/file.py:function`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

Scope = Literal["row", "group", "batch"]
Function = TypeVar("Function", bound=Callable[..., Any])

BUILTIN: dict[str, str] = {
    "point_in_box": "rewards.boxes:point_in_box",
    "point_distance": "rewards.boxes:point_distance",
    "box_iou": "rewards.boxes:box_iou",
    "think_format": "rewards.text:think_format",
    "point_format": "rewards.text:point_format",
    "letter_choice": "rewards.text:letter_choice",
    "exact_match": "rewards.text:exact_match",
    "length_penalty": "rewards.text:length_penalty",
}


@dataclass(frozen=True)
class Score:
    """A reward's value for one completion, with what the viewer shows next to it."""

    value: float
    parsed: Any = None
    """What the reward read in the completion; `{"point": [x, y]}` and `{"box": [x1, y1, x2, y2]}`, in pixels of the
    stored image, are drawn on it."""
    why: str = ""
    """One line, for a value that is not obvious."""


@dataclass(frozen=True)
class RewardInfo:
    """The facts a reward declares about itself."""

    name: str
    range: tuple[float, float] = (-math.inf, math.inf)
    """Lowest and highest value, inclusive; anything outside is a failure."""
    needs: tuple[str, ...] = ()
    """Keys that `sample.target` must have."""
    scope: Scope = "row"


def reward(
    name: str | None = None,
    range: tuple[float, float] = (0, 1),
    needs: tuple[str, ...] = (),
    scope: Scope = "row",
) -> Callable[[Function], Function]:
    """Declare a function a reward; the function itself stays as it is. `name` defaults to the function's own."""
    if callable(name):
        raise TypeError(f"write @reward() with parentheses above {name.__name__}.")
    low, high = range
    if not low <= high:
        raise ValueError(f"a reward's range is (lowest, highest); found {range}.")
    if isinstance(needs, str):
        raise TypeError(f'needs is a tuple of keys: needs=("{needs}",).')
    if scope not in get_args(Scope):
        raise ValueError(f"a reward's scope is one of {', '.join(get_args(Scope))}; found {scope!r}.")

    def declare(function: Function) -> Function:
        info = RewardInfo(name or function.__name__, (low, high), tuple(needs), scope)
        function.reward_info = info  # type: ignore[attr-defined]
        return function

    return declare


def info_of(function: Callable[..., Any]) -> RewardInfo:
    """What `function` declares; an undecorated function is a row reward without bounds."""
    declared = getattr(function, "reward_info", None)
    return declared or RewardInfo(getattr(function, "__name__", type(function).__name__))
