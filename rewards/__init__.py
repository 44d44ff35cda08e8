"""Rewards: functions that turn a completion into a number. `registry.py` says how to write one.

`parsing.py` reads completions, `scoring.py` runs rewards over rollouts, every other file is a family of rewards.
"""

from rewards.registry import Score, reward

__all__ = ["Score", "reward"]
