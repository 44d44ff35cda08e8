"""CRAFT-GUI (arXiv 2508.11360): a curriculum, from steps of short tasks to steps of long ones.

Adds: `Curriculum`, a sampler that draws each stage of the run from the part of the data that is as hard. The rest of
the paper is routing: rewards by rules for actions, a judge for questions about screens, each for its own `task`
(docs/methods/craft_gui.md). The paper's code is not public; where the stages begin is ours.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any, Literal

from mmrl.plugins import ConfigError
from mmrl.records import Rollouts, Sample
from mmrl.samplers import Shuffled
from mmrl.stages import Plan


class Curriculum:
    """Every stage of the run passes through samples of its own difficulty, epoch by epoch."""

    def __init__(
        self,
        samples: Mapping[str, Sample],
        prompts: int,
        group_size: int,
        seed: int,
        *,
        key: str,
        starts: list[int],
        bounds: list[float] | None = None,
        hard: Literal["high", "low"] = "high",
        keep_easier: bool = False,
    ) -> None:
        """`key` of `meta` holds a sample's difficulty: a number, or a list, which counts by its length. A dot leads
        further in; `hard: low` is for numbers that fall: `selection.mean`, which `mmrl data select` writes.

        The first stage begins at step 0, the others at the steps `starts`. A sample belongs to the first stage whose
        bound it does not exceed (for `hard: low`: does not fall below), to the last if it is beyond all `bounds`;
        without bounds the stages are equal parts of the data in order of difficulty. `keep_easier` lets a stage draw
        from the easier ones as well.
        """
        if sorted({0, *starts}) != [0, *starts]:
            raise ConfigError(f"sampler.starts = {starts}: steps in rising order, above 0; each begins a harder stage.")
        if bounds is not None and len(bounds) != len(starts):
            raise ConfigError(
                f"sampler.bounds = {bounds} divides into {len(bounds) + 1} parts, and starts = {starts} into "
                f"{len(starts) + 1} stages: as many bounds as starts."
            )
        sign = 1.0 if hard == "high" else -1.0
        difficulty = {sample_id: sign * number(sample, key) for sample_id, sample in samples.items()}
        ordered = sorted(samples, key=lambda sample_id: difficulty[sample_id])  # equal ones stay in the data's order
        if bounds is None:
            ends = [len(ordered) * (stage + 1) // (len(starts) + 1) for stage in range(len(starts) + 1)]
        else:
            limits = [sign * bound for bound in bounds]
            if limits != sorted(limits):
                raise ConfigError(f"sampler.bounds = {bounds}: from easy to hard, and hard is {hard}.")
            found = [bisect_left(limits, difficulty[sample_id]) for sample_id in ordered]
            ends = [bisect_right(found, stage) for stage in range(len(starts) + 1)]
        parts = [ordered[0 if keep_easier or not stage else ends[stage - 1] : end] for stage, end in enumerate(ends)]
        if not all(parts):
            sizes = ", ".join(str(len(part)) for part in parts)
            raise ConfigError(f"sampler: a stage has no samples ({sizes} by stage); change bounds, or fewer starts.")
        self.begins = [0, *starts]
        self.stages = [Shuffled(part, prompts, group_size, seed) for part in parts]

    def plan(self, step: int, *, request: int = 0) -> Plan:
        """Of the stage that the step belongs to, whose epochs begin with it."""
        stage = bisect_right(self.begins, step) - 1
        return self.stages[stage].plan(step - self.begins[stage], request=request)

    def observe(self, step: int, rollouts: Rollouts) -> None:
        """Nothing to learn: the plan depends on the step alone."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""


def number(sample: Sample, key: str) -> float:
    """The sample's difficulty. ConfigError where there is none."""
    value: Any = sample.meta
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    value = len(value) if isinstance(value, list) else value
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        numbers = [name for name, other in sample.meta.items() if isinstance(other, int | float | list)]
        raise ConfigError(
            f"{sample.where or sample.id}: sampler.key = {key}: meta.{key} is {value!r}, neither a number nor a list.\n"
            f"  (There are: {', '.join(numbers) or 'none'}.)"
        )
    return float(value)
