"""The models, as configs written out from their published files; weights are never made (torch's meta device).

Parameters are counted from the real classes; what a token costs is a formula each, checked in `checks.py`. Bytes are
those of the training path as it is: weights that are trained are float32 and computed with in bfloat16 by autocast, so
the residual stream is float32; with LoRA the frozen weights are bfloat16, and so is the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from benchmarks.flops import Costs, costs_of
from benchmarks.scaling.machines import TEXT

Mode = Literal["full", "lora"]
RANK = 16
HEAD_FORWARD, HEAD_BACKWARD = 8, 12
"""Bytes of a logit in the LM head, a chunk at a time: float32 twice, and in its backward pass three times (log-softmax,
its gradient, that of the logits), beside the matrix in bf16 and its gradient."""
HEAD_CHUNK = 2048
"""`SharedPrefix.head_chunk`."""
DRAW_BYTES = 26
"""Of a logit while a token is drawn from it."""

TEXTS: dict[str, dict[str, Any]] = {
    "Qwen2.5-VL-3B": {"hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36, "vocab_size": 151_936,
                      "num_attention_heads": 16, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "Qwen2.5-VL-7B": {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "vocab_size": 152_064,
                      "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False},
    "Qwen2.5-VL-72B": {"hidden_size": 8192, "intermediate_size": 29_568, "num_hidden_layers": 80, "vocab_size": 152_064,
                       "num_attention_heads": 64, "num_key_value_heads": 8, "tie_word_embeddings": False},
}  # fmt: skip
VISION = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "patch_size": 14, "window_size": 112,
          "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2}  # fmt: skip
VISION_WIDTH = {"Qwen2.5-VL-3B": 3420, "Qwen2.5-VL-7B": 3420, "Qwen2.5-VL-72B": 3456}
FLUX = "FLUX.1-dev"
MODELS = (*TEXTS, FLUX)
PUBLISHED = {"Qwen2.5-VL-7B": 16_584_333_312, FLUX: 23_802_932_552}
"""Bytes of published bf16 weights: `total_size` of the index, and the file flux1-dev.safetensors, header included."""
FLUX_ENCODERS = {"T5": 4_762_310_656, "CLIP": 123_060_480, "VAE": 83_819_683}
"""Parameters of FLUX's other parts."""
VAE_FLOPS_PER_PIXEL = 9.72e6
"""Of FLUX's decoder, counted on the meta device."""


def vlm_config(name: str, **changes: Any) -> Any:
    """The config of a Qwen2.5-VL, with some of the language model's numbers changed."""
    import transformers as hf

    text = {**TEXTS[name], **changes}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    vision = {**VISION, "intermediate_size": VISION_WIDTH[name], "out_hidden_size": text["hidden_size"]}
    return hf.Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rope},
        vision_config=vision,
        tie_word_embeddings=text["tie_word_embeddings"],
    )


def make_vlm(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    from mmrl.compat import declare_torchvision_operators

    declare_torchvision_operators()
    import transformers as hf

    return hf.Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype, attn_implementation="sdpa")


def make_flux(doubles: int = 19, singles: int = 38) -> Any:
    from mmrl.compat import declare_torchvision_operators

    declare_torchvision_operators()
    import diffusers

    return diffusers.FluxTransformer2DModel(num_layers=doubles, num_single_layers=singles, guidance_embeds=True)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@dataclass(frozen=True)
class Shape:
    """A model as memory and time see it. Bytes and FLOPs; `layers` are blocks that gradient checkpointing keeps."""

    name: str
    layers: int
    width: int
    heads: int
    inner: int
    """Width of all query heads."""
    keys: int
    """Width of all key heads."""
    feed: int
    vocabulary: int
    parameters: int
    vision: int
    """Of them in the vision tower, which is frozen; 0 for FLUX."""
    embedding: int
    """Of them in an embedding that is not the LM head too: looked up, never multiplied."""
    adapter: int
    """Weights of LoRA at rank 16 as mmrl adds it."""
    costs: Costs | None = None
    doubles: int = 0
    """FLUX: layers with two streams; the others have one."""

    def trained(self, mode: Mode) -> int:
        return self.adapter if mode == "lora" else self.parameters - self.vision

    def frozen(self, mode: Mode) -> int:
        return self.parameters if mode == "lora" else self.vision

    def copies(self, mode: Mode) -> float:
        """Bytes of the bf16 copies that autocast makes of trained matrices, and keeps until it ends."""
        return 2.0 * (self.trained(mode) - (self.embedding if mode == "full" else 0))

    @property
    def kv_bytes(self) -> int:
        """Of a token in the cache, which is bf16."""
        return 2 * 2 * self.keys * self.layers

    @property
    def cache_traffic(self) -> float:
        """How often a decoding step moves each byte of the cache: it is joined with the new column (read, written), and
        sdpa with a mask wants keys and values repeated for all query heads (read, written r times, read r times)."""
        return 3 + 2 * (self.inner // self.keys)

    def layer_bytes(self, mode: Mode, columns: int) -> int:
        """What a layer keeps of a token for its backward pass, in a row of so many columns.

        Qwen2.5, trained whole: the stream and the normed stream (float32) of two norms, a bf16 input for each of q, k,
        v, gate and up; queries, repeated keys and values, and the output; four tensors of the feed-forward layer. LoRA:
        the norms keep float32 copies of the stream, q, k, v, gate, up and o their inputs, and down its own.
        The mask is kept once a layer in bf16, so a token has `columns` entries of it.
        """
        d, inner, feed = self.width, self.inner, self.feed
        if self.name == FLUX:
            return (FLUX_SINGLE if mode == "full" else FLUX_SINGLE_LORA) * d
        rest = 4 * self.heads + 8 + 2 * columns
        if mode == "full":
            return 26 * d + 8 * inner + 8 * feed + rest
        return 18 * d + 10 * inner + 8 * feed + 14 * RANK + rest

    def kept_bytes(self, mode: Mode, columns: int, *, checkpointing: bool) -> int:
        """Of a token, of all layers: everything, or the input of each."""
        one = self.layer_bytes(mode, columns)
        last = 8 * self.width if self.vocabulary else (16 if mode == "full" else 25) * self.width  # outside of layers
        double = one if not self.doubles else (FLUX_DOUBLE if mode == "full" else FLUX_DOUBLE_LORA) * self.width
        if checkpointing:
            return self.layers * (4 if mode == "full" else 2) * self.width + last
        return last + (self.layers - self.doubles) * one + self.doubles * double


FLUX_DOUBLE, FLUX_SINGLE, FLUX_DOUBLE_LORA, FLUX_SINGLE_LORA = 58, 50, 36, 32
"""Bytes that FLUX's two kinds of layers keep of a token, per unit of width; counted in `checks.py`."""


@cache
def shape_of(name: str) -> Shape:
    return flux_shape() if name == FLUX else vlm_shape(name, vlm_config(name))


def vlm_shape(name: str, config: Any) -> Shape:
    with torch.device("meta"):
        model = make_vlm(config)
    text = config.text_config
    inner = text.hidden_size
    keys = inner // text.num_attention_heads * text.num_key_value_heads
    width, feed = text.hidden_size, text.intermediate_size
    pairs = (
        2 * (width + inner) + 2 * (width + keys) + 3 * (width + feed)
    )  # inputs and outputs of a block's linear layers
    return Shape(
        name=name,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        heads=text.num_attention_heads,
        inner=inner,
        keys=keys,
        feed=text.intermediate_size,
        vocabulary=text.vocab_size,
        parameters=count(model),
        vision=count(model.model.visual),
        embedding=0 if config.tie_word_embeddings else text.vocab_size * width,
        adapter=text.num_hidden_layers * RANK * pairs,
        costs=costs_of(config, TEXT.vision_tokens),
    )


def flux_shape() -> Shape:
    with torch.device("meta"):
        parameters = count(make_flux())
    doubles, singles, width = 19, 38, 3072
    return Shape(
        name=FLUX,
        layers=doubles + singles,
        width=width,
        heads=24,
        inner=width,
        keys=width,
        feed=4 * width,
        vocabulary=0,
        parameters=parameters,
        vision=0,
        embedding=0,
        adapter=RANK * 2 * width * (8 * doubles + 3 * singles),
        doubles=doubles,
    )
