"""Everything that is assumed and not computed: GPUs, shares of their peaks, and the recipe of a step."""

from __future__ import annotations

from dataclasses import dataclass

GB = 1e9


@dataclass(frozen=True)
class GPU:
    name: str
    memory: float
    """Bytes, as `nvidia-smi` reports them."""
    flops: float
    """bf16 FLOP/s of dense matrices, from the data sheet."""
    bandwidth: float
    """Bytes/s of its memory."""
    nvlink: float
    """Bytes/s to the other GPUs of the node, one direction."""
    network: float
    """Bytes/s to other nodes, one direction: one InfiniBand port for each GPU."""

    def collective(self, gpus: int) -> float:
        """Bytes/s at which each GPU takes part in a ring over `gpus`; over several nodes a ring per port."""
        link = self.nvlink if gpus <= NODE else min(self.nvlink, NODE * self.network)
        return COLLECTIVE_SHARE * link

    @property
    def usable(self) -> float:
        return (1 - RESERVED_SHARE) * self.memory


NODE = 8
"""GPUs of a node."""
H100 = GPU("H100", 85.5 * GB, 989e12, 3.35e12, 450 * GB, 50 * GB)
H200 = GPU("H200", 150.7 * GB, 989e12, 4.8e12, 450 * GB, 50 * GB)
A100 = GPU("A100", 85.9 * GB, 312e12, 2.04e12, 300 * GB, 25 * GB)
GPUS = (A100, H100, H200)

MATRIX_SHARE = 0.4
"""Of the peak FLOP/s, in prefill, log-probs, backward and denoising."""
BANDWIDTH_SHARE = 0.6
"""Of the peak bandwidth, in decoding."""
COLLECTIVE_SHARE = 0.7
"""Of the links."""
RESERVED_SHARE = 0.06
"""Of the memory: CUDA, NCCL, fragments of the allocator."""
LAYER_SECONDS = 0.9e-3
"""Python and kernel launches of one layer of transformers, one call: the floor of a decoding step."""
REWARD_SECONDS = 1e-3
"""Per completion, rules on a text; a reward model costs what it costs."""
PICTURE_REWARD_SECONDS = 30e-3
"""Per picture, a CLIP-sized reward."""
DISK = 2 * GB
"""Bytes/s that one process writes to a shared file system."""


@dataclass(frozen=True)
class TextRecipe:
    """A step of a vision-language model: one update, no reference model, so one training pass over the rollouts."""

    prompts: int = 64
    group: int = 8
    prompt_tokens: int = 1500
    vision_tokens: int = 1280
    """Of the prompt; one image of 1 megapixel."""
    new_tokens: int = 500
    micro_batch_tokens: int = 16_384
    generation_tokens: int = 262_144

    @property
    def packed(self) -> int:
        """Columns of a packed row: a prompt and its group."""
        return self.prompt_tokens + self.group * self.new_tokens


@dataclass(frozen=True)
class ImageRecipe:
    """A step of a flow that makes images, without guidance by a second pass."""

    prompts: int = 32
    group: int = 12
    pixels: int = 720
    steps: int = 16
    trained_steps: int = 9
    """Per image: `fraction: 0.6` of the 15 steps with noise."""
    text_tokens: int = 512
    batch: int = 8
    micro_batch_tokens: int = 16_384

    @property
    def latent_tokens(self) -> int:
        """2 x 2 latents of 8 x 8 pixels are a token."""
        return (self.pixels // 16) ** 2


TEXT, IMAGE = TextRecipe(), ImageRecipe()
