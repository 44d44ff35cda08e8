"""Seconds of one step. Phases follow each other as in `trainer.py`; nothing overlaps."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.flops import triangle
from benchmarks.scaling.machines import (
    BANDWIDTH_SHARE,
    GPU,
    GPUS,
    IMAGE,
    LAYER_SECONDS,
    MATRIX_SHARE,
    PICTURE_REWARD_SECONDS,
    REWARD_SECONDS,
    TEXT,
)
from benchmarks.scaling.memory import STRATEGIES, Strategy, frozen_bytes, memory, micro_tokens, prompts_of, rows_at_once
from benchmarks.scaling.shapes import FLUX, VAE_FLOPS_PER_PIXEL, Mode, Shape


@dataclass(frozen=True)
class Seconds:
    prefill: float
    """Of FLUX, 0."""
    decode: float
    """Of FLUX, denoising and the decoder of pictures."""
    rewards: float
    train: float
    """Forward, backward and recomputation."""
    update: float
    """The optimizer, bound by memory."""
    communicate: float
    """Gradients, and the weights that ZeRO gathers while training."""
    gather: float
    """Whole weights for generation under ZeRO-3."""

    @property
    def total(self) -> float:
        return sum(vars(self).values())


def seconds(shape: Shape, mode: Mode, strategy: Strategy, gpus: int, gpu: GPU) -> Seconds:
    """Of the rank with most to do, gradient checkpointing on."""
    rate = MATRIX_SHARE * gpu.flops
    prefill, decode = generation_seconds(shape, mode, gpus, gpu)
    images = shape.name == FLUX
    rows = prompts_of(shape, gpus) * (IMAGE.group if images else TEXT.group)
    # The update reads weight, gradient and two moments, and writes all but the gradient.
    updated = shape.trained(mode) / (gpus if strategy != "ddp" else 1)
    return Seconds(
        prefill=prefill,
        decode=decode,
        rewards=rows * (PICTURE_REWARD_SECONDS if images else REWARD_SECONDS),
        train=training_flops(shape, mode, prompts_of(shape, gpus)) / rate,
        update=28 * updated / (BANDWIDTH_SHARE * gpu.bandwidth),
        communicate=traffic(shape, mode, strategy, gpus) / gpu.collective(gpus),
        gather=gathered(shape, mode, gpus) / gpu.collective(gpus) if strategy == "zero3" else 0.0,
    )


def flux_flops(shape: Shape) -> float:
    """One denoising of one image: linear layers 24 D^2 a token and layer, attention 4 S^2 D, times (D^2 a sample)."""
    tokens, d = IMAGE.latent_tokens + IMAGE.text_tokens, shape.width
    singles = shape.layers - shape.doubles
    per_sample = 2 * d * d * (12 * shape.doubles + 3 * singles)
    return shape.layers * (24.0 * tokens * d * d + 4.0 * tokens * tokens * d) + per_sample


def forward_flops(shape: Shape, prompts: int) -> tuple[float, float]:
    """(vision, language) of one pass over packed rows, whose attention is computed densely and then masked."""
    costs = shape.costs
    assert costs is not None
    new = TEXT.group * TEXT.new_tokens
    language = TEXT.packed * costs.token + TEXT.packed**2 * costs.pair + new * costs.head
    return prompts * costs.image, prompts * language


def training_flops(shape: Shape, mode: Mode, prompts: int) -> float:
    """Forward, the same again for checkpoints, and a backward of two forwards; of one where weights are frozen.

    A layer is computed again only as far as its backward pass needs: not its last product, the down projection.
    """
    passes = 4 if mode == "full" else 3
    if shape.name == FLUX:
        return passes * prompts * IMAGE.group * IMAGE.trained_steps * flux_flops(shape)
    vision, language = forward_flops(shape, prompts)
    spared = 2.0 * prompts * TEXT.packed * shape.layers * shape.width * shape.feed
    return vision + passes * language - spared


def generation_seconds(shape: Shape, mode: Mode, gpus: int, gpu: GPU) -> tuple[float, float]:
    """(prefill, decode)."""
    rate, bandwidth = MATRIX_SHARE * gpu.flops, BANDWIDTH_SHARE * gpu.bandwidth
    prompts = prompts_of(shape, gpus)
    if shape.name == FLUX:
        images = prompts * IMAGE.group
        picture = VAE_FLOPS_PER_PIXEL * IMAGE.pixels**2
        return 0.0, images * (IMAGE.steps * flux_flops(shape) + picture) / rate
    costs = shape.costs
    assert costs is not None
    prompt = costs.image + TEXT.prompt_tokens * costs.token + TEXT.prompt_tokens**2 * costs.pair
    prefill, decode = prompts * prompt / rate, 0.0
    at_once = rows_at_once(shape, gpus)
    for first in range(0, prompts, at_once):
        decode += decode_seconds(shape, mode, min(at_once, prompts - first), rate, bandwidth)
    return prefill, decode


def decode_seconds(shape: Shape, mode: Mode, rows: int, rate: float, bandwidth: float) -> float:
    """One batch of packed rows from its prefill to its end: every step reads all weights and moves the cache."""
    costs = shape.costs
    assert costs is not None
    steps, queries = TEXT.new_tokens - 1, rows * TEXT.group
    weights = 2.0 * (shape.parameters - shape.vision)
    columns = rows * (steps * TEXT.prompt_tokens + TEXT.group * triangle(steps))  # summed over the steps
    memory_time = (steps * weights + columns * shape.kv_bytes * shape.cache_traffic) / bandwidth
    compute_time = (steps * queries * (costs.token + costs.head) + TEXT.group * columns * costs.pair) / rate
    return max(memory_time, compute_time, steps * shape.layers * LAYER_SECONDS)


def traffic(shape: Shape, mode: Mode, strategy: Strategy, gpus: int) -> float:
    """Bytes of a step that pass each GPU's link while training. A sum is a reduce-scatter and a gather."""
    if gpus == 1:
        return 0.0
    part = (gpus - 1) / gpus
    weights, micro = 4.0 * shape.trained(mode) * part, micro_tokens(shape, gpus)[2]
    if strategy in ("ddp", "zero1"):
        return 2 * weights
    if strategy == "zero2":  # reduced after every micro-batch
        return micro * weights + weights
    return micro * (weights + 2 * gathered(shape, mode, gpus))


def gathered(shape: Shape, mode: Mode, gpus: int) -> float:
    return (4.0 * shape.trained(mode) + frozen_bytes(shape, mode)) * (gpus - 1) / gpus


def best(shape: Shape, mode: Mode, gpus: int, gpu: GPU) -> tuple[Strategy, Seconds] | None:
    """The fastest strategy that fits, the simplest of equals; None where none does."""
    strategies = STRATEGIES if gpus > 1 else STRATEGIES[:1]
    fitting = [s for s in strategies if memory(shape, mode, s, gpus).peak <= gpu.usable]
    found = [(strategy, seconds(shape, mode, strategy, gpus, gpu)) for strategy in fitting]
    return min(found, key=lambda item: round(item[1].total, 2)) if found else None


def smallest(shape: Shape, mode: Mode, gpus: int) -> GPU | None:
    """The first GPU on which something fits."""
    return next((gpu for gpu in GPUS if best(shape, mode, gpus, gpu)), None)
