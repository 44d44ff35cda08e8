"""Questions with several right options, for tw_grpo.yaml: a transform that keeps them, and the metric `exactly`."""

from __future__ import annotations

from random import Random
from typing import Any

from mmrl.records import Sample
from rewards.choices import soft_choices


def several(row: dict[str, Any], *, rng: Random, least: int = 2) -> dict[str, Any] | None:
    """A question with at least `least` right options; the others are left out."""
    return row if len(row["target"]["choices"]) >= least else None


def exactly(completion: str, sample: Sample) -> dict[str, float]:
    """1 if all right options are chosen and no other."""
    return {"exactly": float(soft_choices(completion, sample, partial=False).value)}
