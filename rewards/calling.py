"""One call of one reward: what it is given, what its answer means. Everything that calls rewards calls them here.

A reward answers for a row in one of three ways, which are never mixed up:

    a number    a `Score`
    None        does not apply to this row
    a failure   an exception: raised, returned in a list for single rows, or made here from an answer that is not one
                finite number in the declared range per completion. Raised, it stands for all rows of the call.
"""

from __future__ import annotations

import asyncio
import inspect
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, SupportsFloat

from mmrl.records import Rollouts, Sample
from rewards.registry import RewardInfo, Score

FLOAT32_MAX = 3.4028235e38

Outcome = Score | Exception | None


def attempt(
    function: Callable[..., Any], info: RewardInfo, completions: Sequence[Any] | Rollouts, samples: Sequence[Sample]
) -> list[Outcome]:
    """Call a reward and read its answer: one outcome per completion, never an exception.

    `completions` are what the reward reads, one sample each; for `reads="rollouts"` the rollouts themselves.
    """
    try:
        return _ask(function, info, completions, samples)
    except SystemExit as error:
        return [RuntimeError(f"called exit({error.code!r})")] * len(completions)
    except Exception as error:
        return [error] * len(completions)


def _ask(
    function: Callable[..., Any], info: RewardInfo, completions: Sequence[Any] | Rollouts, samples: Sequence[Sample]
) -> list[Outcome]:
    if isinstance(completions, Rollouts):
        returned = function(completions)
    elif info.scope == "row":
        returned = function(completions[0], samples[0])
    else:
        returned = function(list(completions), samples[0] if info.scope == "group" else list(samples))
    if inspect.isawaitable(returned):
        returned = asyncio.run(_wait(returned))
    if info.scope == "row":
        return [_outcome(returned, info.range)]

    values = returned.tolist() if hasattr(returned, "tolist") else returned
    if not isinstance(values, list | tuple):
        raise TypeError(
            f"returned {reprlib.repr(values)}; a {info.scope} reward returns a list, one value per completion"
        )
    if len(values) != len(completions):
        raise ValueError(f"returned {len(values)} values for {len(completions)} completions")
    return [_outcome(value, info.range) for value in values]


async def _wait(awaitable: Any) -> Any:
    return await awaitable


def _outcome(value: Any, bounds: tuple[float, float]) -> Outcome:
    if value is None or isinstance(value, Exception):
        return value
    score = value if isinstance(value, Score) else Score(value)
    if not isinstance(score.value, SupportsFloat):
        return TypeError(f"returned {reprlib.repr(score.value)}, which is not a number")
    try:
        number = float(score.value)
    except (OverflowError, TypeError, ValueError) as error:
        return ValueError(f"returned {reprlib.repr(score.value)}, which is no number for float(): {error}")
    if not abs(number) <= FLOAT32_MAX:
        return ValueError(f"returned {number}, which is not finite in float32")
    if not bounds[0] <= number <= bounds[1]:
        return ValueError(f"returned {number}, outside its range [{bounds[0]}, {bounds[1]}]")
    return replace(score, value=number)


class RemoteError(RuntimeError):
    """An exception that a reward raised in another process; the text of its traceback is the `__cause__`."""

    def __init__(self, kind: str, message: str, trace: str = "") -> None:
        super().__init__(f"{kind}: {message}")
        self.encoded = {"type": kind, "message": message, "traceback": trace}
        self.__cause__ = RemoteTraceback(trace) if trace else None


class RemoteTraceback(Exception):
    """Where another process was, as text; shown above the error that it caused."""

    def __str__(self) -> str:
        return f"\n{self.args[0].rstrip()}"


def describe(error: Exception) -> str:
    return str(error) if isinstance(error, RemoteError) else f"{type(error).__name__}: {error}"
