"""Image rewards on videos: an entry's key `frame` says which frames such a reward reads (docs/rewards.md).

    first, middle, last     one frame; the middle of an even number is the later of the two
    3                       that frame, from 0 on
    mean                    every frame, in calls of their own; the row's score is the mean

A video without the frame is a failure of its row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any, TypeAlias

from mmrl.plugins import ConfigError, nearest
from rewards.calling import Outcome
from rewards.registry import RewardInfo, Score

NAMES = ("first", "middle", "last", "mean")

Frame: TypeAlias = int | str
Call: TypeAlias = tuple[list[int], list[Any]]
"""Rows and what each of them shows."""


def as_frame(value: Any, info: RewardInfo, *, where: str) -> Frame | None:
    """The checked value of the key `frame`; ConfigError for a wrong one, and for a reward that reads no images."""
    if value is None:
        return None
    if info.reads not in ("image", "any"):
        raise ConfigError(
            f"{where} chooses the frame of a video that an image reward reads; {info.name} reads {info.reads}."
        )
    if isinstance(value, str) and value not in NAMES:
        raise ConfigError(f"{where} = {value!r} names no frame.\n  {nearest(value, NAMES)} Or a number from 0 on.")
    if not isinstance(value, int | str) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
        raise ConfigError(f"{where} is {', '.join(NAMES)} or the number of a frame, from 0 on; found {value!r}.")
    return value


def by_frame(rows: list[int], videos: Sequence[Sequence[Any]], frame: Frame) -> Iterator[Call]:
    """The calls that take the place of a call with these videos, a frame of each row in every one of them.

    So a reward that compares the rows of a call compares frames of the same place. Rows without the frame are in none.
    """
    chosen = [_chosen(video, frame) for video in videos]
    for place in range(max(map(len, chosen), default=0)):
        present = [index for index, frames in enumerate(chosen) if place < len(frames)]
        yield [rows[index] for index in present], [chosen[index][place] for index in present]


def _chosen(video: Sequence[Any], frame: Frame) -> list[Any]:
    """The frames that are read; none if the video does not have them."""
    if frame == "mean":
        return list(video)
    place = {"first": 0, "middle": len(video) // 2, "last": max(0, len(video) - 1)}.get(str(frame), frame)
    assert isinstance(place, int)
    return list(video[place : place + 1])


def over_frames(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a row from those of its frames: the first failure, else the mean of the scores there are."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    scores = [outcome.value for outcome in outcomes if isinstance(outcome, Score)]
    if len(outcomes) == 1 or failures or not scores:
        return failures[0] if failures else outcomes[0]
    return Score(fmean(scores), why=f"mean of {len(scores)} frames, {min(scores):.4g} to {max(scores):.4g}")
