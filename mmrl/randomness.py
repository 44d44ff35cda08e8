"""Randomness as a function of (seed, purpose, numbers): no hidden state, so a resumed run draws what an
uninterrupted one would have drawn, and the plan does not depend on the number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import torch

    from mmrl.records import Sample


def derive(seed: int, purpose: str, *numbers: int | str) -> int:
    """A 63-bit seed that is as good as independent for every (purpose, numbers)."""
    text = "/".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def torch_generator(seed: int, purpose: str, *numbers: int | str) -> torch.Generator:
    """A CPU generator."""
    import torch

    return torch.Generator().manual_seed(derive(seed, purpose, *numbers))


def numpy_generator(seed: int, purpose: str, *numbers: int | str) -> numpy.random.Generator:
    import numpy

    return numpy.random.default_rng(derive(seed, purpose, *numbers))


def earlier_occurrences(samples: Sequence[Sample]) -> list[int]:
    """How often each sample stood before itself in the list, so that a sample drawn twice is completed differently."""
    return [sum(other.id == sample.id for other in samples[:i]) for i, sample in enumerate(samples)]
