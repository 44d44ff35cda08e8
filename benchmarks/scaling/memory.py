"""Bytes on one GPU, by strategy, in the two phases of a step. What mmrl does is read off `optimization.py`, `zero.py`,
`pretrained.py` and `shared_prefix.py`, and of DeepSpeed's stages from its source. No term is fitted to a GPU, but what
FLUX's layers keep of a token (`shapes.FLUX_DOUBLE` and the like) was read off the counts of `checks.py`: its checks of
FLUX's training peaks show that the terms add up, and nothing about these constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.scaling.machines import GB, IMAGE, NODE, TEXT
from benchmarks.scaling.shapes import (
    DRAW_BYTES,
    FLUX,
    FLUX_DOUBLE,
    FLUX_DOUBLE_LORA,
    FLUX_ENCODERS,
    HEAD_BACKWARD,
    HEAD_CHUNK,
    HEAD_FORWARD,
    Mode,
    Shape,
)

Strategy = Literal["ddp", "zero1", "zero2", "zero3"]
STRATEGIES: tuple[Strategy, ...] = ("ddp", "zero1", "zero2", "zero3")
DDP_BUCKET = 2 * 4 * 2**26
"""`optimization.BUCKET` numbers, flattened, and the flat copy that the sum arrives in."""
ZERO_BUCKET = 4 * 500_000_000
"""DeepSpeed's `reduce_bucket_size`, whose default mmrl leaves."""
LIVE = 4 * 1_000_000_000
"""DeepSpeed's `stage3_max_live_parameters`."""


@dataclass
class Memory:
    """Parts in bytes, by phase."""

    generation: dict[str, float] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        return max(sum(self.generation.values()), sum(self.training.values()))

    @property
    def phase(self) -> str:
        generation, training = sum(self.generation.values()), sum(self.training.values())
        return "generation" if generation > training else "training"


def memory(shape: Shape, mode: Mode, strategy: Strategy, gpus: int, *, checkpointing: bool = True) -> Memory:
    """Of the rank with most to do. On one GPU there is nothing to spread, and every strategy is `ddp`."""
    if gpus == 1:
        strategy = "ddp"
    resident = states(shape, mode, strategy, gpus)
    found = Memory()
    found.generation = {name: value for name, value in resident.items() if name not in ("gradients", "buffers")}
    if strategy == "zero3":
        found.generation["gathered weights"] = 4.0 * shape.trained(mode) + frozen_bytes(shape, mode)
        found.generation["gradients"] = resident["gradients"]  # a buffer that DeepSpeed keeps
    found.generation |= {"bf16 copies": shape.copies(mode), **generating(shape, mode, gpus)}
    tokens, columns, _ = micro_tokens(shape, gpus)
    found.training = {**resident, **training(shape, mode, tokens, columns, checkpointing=checkpointing)}
    return found


def frozen_bytes(shape: Shape, mode: Mode) -> float:
    return (2.0 if mode == "lora" else 4.0) * shape.frozen(mode) + decoder_bytes(shape, mode)


def decoder_bytes(shape: Shape, mode: Mode) -> float:
    return (2.0 if mode == "lora" else 4.0) * FLUX_ENCODERS["VAE"] if shape.name == FLUX else 0.0


def states(shape: Shape, mode: Mode, strategy: Strategy, gpus: int) -> dict[str, float]:
    """What lives on a GPU from step to step, and the buffers of the update."""
    trained, frozen = float(shape.trained(mode)), frozen_bytes(shape, mode)
    share = trained / gpus
    if strategy == "ddp":
        buffers = min(DDP_BUCKET, 8 * trained) if gpus > 1 else 0.0
        return {
            "weights": 4 * trained + frozen,
            "gradients": 4 * trained,
            "optimizer": 8 * trained,
            "buffers": buffers,
        }
    if strategy == "zero3":
        # The decoder of images is no part of the module that DeepSpeed spreads.
        rest = decoder_bytes(shape, mode)
        return {
            "weights": 4 * share + (frozen - rest) / gpus + rest,
            "gradients": 4 * share,
            "optimizer": 8 * share,
            "buffers": ZERO_BUCKET + min(LIVE, 4 * trained + frozen),
        }
    gradients = 4 * trained if strategy == "zero1" else 4 * share
    # Stages 1 and 2 update a second copy of the share, and flatten its gradient for the update.
    return {
        "weights": 4 * trained + frozen,
        "gradients": gradients + 4 * share,
        "optimizer": 8 * share + 4 * share,
        "buffers": float(ZERO_BUCKET),
    }


def prompts_of(shape: Shape, gpus: int) -> int:
    """Groups of the GPU with most; groups are whole."""
    return math.ceil((IMAGE.prompts if shape.name == FLUX else TEXT.prompts) / gpus)


def rows_at_once(shape: Shape, gpus: int) -> int:
    """Packed rows (prompts with their groups) that are generated together."""
    return min(prompts_of(shape, gpus), max(1, TEXT.generation_tokens // TEXT.packed))


def generating(shape: Shape, mode: Mode, gpus: int) -> dict[str, float]:
    """The cache when it is full, and the largest of what comes and goes."""
    if shape.name == FLUX:
        tokens = IMAGE.batch * (IMAGE.latent_tokens + IMAGE.text_tokens)
        return {"transient": tokens * 60.0 * shape.width}
    rows = rows_at_once(shape, gpus)
    columns = rows * TEXT.packed
    assert shape.costs is not None
    # Prefill: one layer of all prompts (gate, up and their product in bf16; the stream and q, k, v around them).
    prefill = rows * TEXT.prompt_tokens * (6.0 * shape.feed + 14 * shape.width + 4 * shape.inner)
    vision = rows * TEXT.vision_tokens * 4 * 60.0 * 1280
    # Decoding: a layer's cache joined with the new column and its keys and values repeated for all heads, and logits.
    repeated = columns * 4.0 * (shape.inner + shape.keys)
    logits = rows * TEXT.group * shape.vocabulary * float(DRAW_BYTES)
    return {"KV cache": columns * float(shape.kv_bytes), "transient": max(prefill, vision, repeated + logits)}


def micro_tokens(shape: Shape, gpus: int) -> tuple[int, int, int]:
    """(tokens of the largest micro-batch, columns of a row, micro-batches of an optimizer batch)."""
    prompts = prompts_of(shape, gpus)
    if shape.name == FLUX:
        pairs = max(1, IMAGE.micro_batch_tokens // IMAGE.latent_tokens)
        of_prompt = IMAGE.group * IMAGE.trained_steps
        columns = IMAGE.latent_tokens + IMAGE.text_tokens
        return pairs * columns, columns, prompts * math.ceil(of_prompt / pairs)
    rows = min(prompts, max(1, TEXT.micro_batch_tokens // TEXT.packed))
    return rows * TEXT.packed, TEXT.packed, math.ceil(prompts / rows)


def training(shape: Shape, mode: Mode, tokens: int, columns: int, *, checkpointing: bool) -> dict[str, float]:
    """What a micro-batch keeps for its backward pass, and the largest of three moments: the end of the forward pass,
    the LM head's backward pass, and that of one layer, which is computed again."""
    found = {"activations": float(tokens * shape.kept_bytes(mode, columns, checkpointing=checkpointing))}
    logits = float(HEAD_CHUNK * shape.vocabulary)
    copies = shape.copies(mode)
    head = 4.0 * shape.width * shape.vocabulary if mode == "full" else 0.0  # a bf16 copy and its gradient
    forward = {"bf16 copies": copies, "LM head": HEAD_FORWARD * logits}
    # Without checkpoints the graph holds on to the copies.
    backward = {"bf16 copies": head if checkpointing else copies + head / 2, "LM head": HEAD_BACKWARD * logits}
    layer = {"a layer": float(tokens * shape.layer_bytes(mode, columns)) if checkpointing else 0.0}
    if shape.doubles and checkpointing:
        layer = {"a layer": float(tokens * shape.width * (FLUX_DOUBLE if mode == "full" else FLUX_DOUBLE_LORA))}
    return found | max((forward, backward, layer), key=lambda moment: sum(moment.values()))


def host_bytes(shape: Shape, mode: Mode, gpus: int) -> tuple[float, float]:
    """(loading, checkpoint): CPU memory of a node when every rank loads the whole model, and of the first node when
    rank 0 collects the optimizer's states for a checkpoint."""
    loading = min(gpus, NODE) * (4.0 * shape.trained(mode) + frozen_bytes(shape, mode))
    return loading, 8.0 * shape.trained(mode)


def gigabytes(value: float) -> str:
    return f"{value / GB:,.0f}" if value >= 10 * GB else f"{value / GB:.1f}"
