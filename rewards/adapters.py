"""Rewards written for other trainers, called in their own form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rewards.registry import RewardInfo, info_of


def adapt(plugin: Callable[..., Any], form: str | None, *, where: str) -> tuple[Callable[..., Any], RewardInfo]:
    """The plugin in mmrl's form, and its facts."""
    return plugin, info_of(plugin)
