"""Floating-point operations of a step, counted from a model's config: with prompts repeated for every completion, and
with every token once. Their ratio bounds what sharing the prefix can bring where both sides compute equally well.

Counted are matrix products (2 per multiply-add) and attention over the pairs that are visible; of the LM head only
positions that are sampled or scored. A backward pass costs twice its forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Flops:
    generation: float
    training: float

    @property
    def step(self) -> float:
        return self.generation + self.training


@dataclass(frozen=True)
class Costs:
    """Of one model, forward."""

    token: float
    """A token through the layers of the language model, attention aside."""
    pair: float
    """A (query, key) pair of its attention, all layers."""
    head: float
    """A position through the LM head."""
    image: float
    """One image through the vision tower."""


def count(costs: Costs, *, prompt_tokens: int, prompts: int, group: int, new_tokens: int) -> tuple[Flops, Flops]:
    """(repeated, unique); `prompt_tokens` is the length of one prompt."""
    rows = prompts * group

    def step(encoded: int) -> Flops:
        """`encoded` is how many prompts are encoded; completions are always those of all rows."""
        prefixes = encoded * (costs.image + prompt_tokens * costs.token + triangle(prompt_tokens) * costs.pair)

        def completions(tokens: int) -> float:
            return rows * (tokens * costs.token + (tokens * prompt_tokens + triangle(tokens)) * costs.pair)

        # A completion's last token is drawn and never read, in training as in generation.
        forward = prefixes + completions(new_tokens - 1) + rows * new_tokens * costs.head
        return Flops(generation=forward, training=3 * forward)

    return step(rows), step(prompts)


def triangle(n: int) -> float:
    return n * (n + 1) / 2


def costs_of(config: Any, vision_tokens: int) -> Costs:
    """Of a Qwen2.5-VL model whose prompts hold one image of so many tokens."""
    text, vision = config.text_config, config.vision_config
    width, heads = text.hidden_size, text.num_attention_heads
    inner = heads * (getattr(text, "head_dim", None) or width // heads)
    keys = inner * text.num_key_value_heads // heads
    token = 2 * (width * (inner + 2 * keys) + inner * width + 3 * width * text.intermediate_size)

    small, merged = vision.hidden_size, vision.hidden_size * vision.spatial_merge_size**2
    patches = vision_tokens * vision.spatial_merge_size**2
    embed = 2 * 3 * vision.temporal_patch_size * vision.patch_size**2 * small
    patch = embed + vision.depth * 2 * (4 * small * small + 3 * small * vision.intermediate_size)
    full = len([layer for layer in vision.fullatt_block_indexes if layer < vision.depth])
    window = min(patches, (vision.window_size // vision.patch_size) ** 2)
    pairs = patches * (full * patches + (vision.depth - full) * window)
    merger = 2 * (merged * merged + merged * vision.out_hidden_size)
    return Costs(
        token=text.num_hidden_layers * token,
        pair=text.num_hidden_layers * 4 * inner,
        head=2 * width * text.vocab_size,
        image=patches * patch + 4 * small * pairs + vision_tokens * merger,
    )
