"""How a reward is written and what it is called. Running rewards over rollouts is `scoring.py`.

A reward is a plain function; the decorator only attaches facts about it:

    @reward(range=(0, 1), needs=("answer",))
    def contains(completion: str, sample: Sample, *, ignore_case: bool = True) -> float: ...

It returns a number, a `Score` (a number with something to show in the viewer) or None (this reward does not apply to
this row). Keyword-only parameters are its settings. What it receives depends on its scope:

    row    (completion, sample)            -> number | Score | None
    group  (completions, sample)           -> list of these, one per completion of the group
    batch  (completions, samples)          -> list of these, one per row it applies to

and on what it reads: a completion is a `str`, a PIL image (`reads="image"`) or a list of PIL frames
(`reads="video"`). A group or batch reward that reads `rollouts` receives one argument instead, the `Rollouts` of its
rows, with token lengths and the scores of the rewards listed before it.

What is loaded once, such as a model, goes into a class: settings are the keyword-only parameters of its constructor,
the instance is called as above. A setting named `device` receives the run's device unless the config gives one.

A config names a built-in, an installed package's (entry points in the group `mmrl.rewards`), your own by
`path/to/file.py:name`, or `package.module:name`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar, get_args

Scope = Literal["row", "group", "batch"]
Reads = Literal["text", "image", "video", "any", "rollouts"]
Function = TypeVar("Function", bound=Callable[..., Any])


def _in(module: str, *names: str) -> dict[str, str]:
    return {name: f"rewards.{module}:{name}" for name in names}


BUILTIN: dict[str, str] = {
    **_in("temporal", "tiou", "interval_iou", "temporal_recall", "highlight", "temporal_json", "grounded_answer"),
    **_in("boxes", "point_in_box", "point_distance", "box_iou", "box_giou", "box_matching", "count"),
    **_in("actions", "ui_action", "aitz_action"),
    **_in("regions", "region_consistency"),
    **_in("quantities", "relaxed_accuracy", "chart_value", "list_match", "math_answer"),
    **_in("choices", "letter_choice", "soft_choices"),
    **_in("text", "exact_match", "anls", "rouge", "token_recall", "better_than_reference"),
    **_in("votes", "vote_frequency", "majority_vote"),
    **_in("form", "think_format", "answer_format", "point_format", "json_format"),
    **_in("length", "length_penalty", "cosine_length", "length_budget", "shorter_in_group", "dast"),
    **_in("length", "slow_thinking", "repetition"),
    **_in("images.clip", "clip_score", "clip_probability", "aesthetic"),
    **_in("images.preference", "hps", "pickscore", "image_reward"),
    **_in("images.pixels", "jpeg_size", "brightness", "colour", "colourfulness", "motion"),
    **_in("images.brisque", "brisque"),
    **_in("images.ocr", "ocr_text"),
    **_in("remote", "remote"),
}


def available() -> dict[str, str]:
    """Every reward a config can name without a path: name -> "module:attribute". Built-ins cannot be replaced."""
    installed = {point.name: point.value for point in entry_points(group="mmrl.rewards")}
    return {**installed, **BUILTIN}


@dataclass(frozen=True)
class Score:
    """A reward's value for one completion, with what the viewer shows next to it."""

    value: float
    parsed: Any = None
    """What the reward read in the completion; `{"point": [x, y]}` and `{"box": [x1, y1, x2, y2]}`, in pixels of the
    stored image, are drawn on it, `{"span": [start, end]}`, in seconds, on the time line."""
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
    reads: Reads = "text"
    """What a completion is for it; `any` takes whatever the policy makes."""
    source: str = ""
    """The paper, benchmark or code it comes from."""
    timeout: float | None = None
    """Seconds a call may take. Set, it runs in a worker process that is killed when it takes longer."""


def reward(
    name: str | None = None,
    range: tuple[float, float] = (0, 1),
    needs: tuple[str, ...] = (),
    scope: Scope = "row",
    *,
    reads: Reads = "text",
    source: str = "",
    timeout: float | None = None,
) -> Callable[[Function], Function]:
    """Declare a function or a class a reward; it stays as it is. `name` defaults to its own; see `RewardInfo`."""
    if callable(name):
        raise TypeError(f"write @reward() with parentheses above {name.__name__}.")
    low, high = range
    if not low <= high:
        raise ValueError(f"a reward's range is (lowest, highest); found {range}.")
    if isinstance(needs, str):
        raise TypeError(f'needs is a tuple of keys: needs=("{needs}",).')
    if scope not in get_args(Scope):
        raise ValueError(f"a reward's scope is one of {', '.join(get_args(Scope))}; found {scope!r}.")
    if reads not in get_args(Reads):
        raise ValueError(f"a reward reads one of {', '.join(get_args(Reads))}; found {reads!r}.")
    if reads == "rollouts" and scope == "row":
        raise ValueError('a reward that reads rollouts has scope="group" or scope="batch".')

    def declare(function: Function) -> Function:
        info = RewardInfo(name or function.__name__, (low, high), tuple(needs), scope, reads, source, timeout)
        function.reward_info = info  # type: ignore[attr-defined]
        return function

    return declare


def info_of(function: Callable[..., Any]) -> RewardInfo:
    """What `function` declares; an undecorated function is a row reward without bounds."""
    declared = getattr(function, "reward_info", None)
    return declared or RewardInfo(getattr(function, "__name__", type(function).__name__))
