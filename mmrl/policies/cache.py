"""The KV cache of generation, in the dtype in which the model computes.

Where float32 weights are trained in mixed precision, keys leave the rotation in float32, and transformers then caches
values in float32 as well: twice the memory. Attention computes in bfloat16 either way, with the same bits.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache


class KVCache(DynamicCache):
    """Keys in the dtype of the values, which is the compute dtype: nothing is done to them after their projection."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = super().update(
            key_states.to(value_states.dtype), value_states, layer_idx, *args, **kwargs
        )
        return found
