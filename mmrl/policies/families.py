"""What differs between diffusers pipelines: how prompts are encoded, and what guidance is called and does.

The inputs of the denoiser that do not change from step to step are not rebuilt here: `conditioning_of` takes them from
the pipeline's own calls, so that replay feeds the network exactly what the rollout fed it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mmrl.policies.pipelines import Pipeline

Tensors = dict[str, Tensor]
CHANGING = {"hidden_states", "sample", "timestep", "return_dict"}
"""Inputs that differ from step to step, or are the caller's."""
UNBATCHED = {"txt_ids", "img_ids"}
"""Inputs without a batch dimension (FLUX)."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of pipeline."""

    embeddings: str
    """What its `encode_prompt` returns, named as its arguments are; `_` for what is not one."""
    ddim: bool = False
    """A U-Net trained as DDPM; else a transformer trained as a rectified flow."""
    makes: Literal["image", "video"] = "image"
    from_image: Literal["one", "each"] | None = None
    """Starts from a sample's image, of which it wants one, or one for each row."""
    distilled: bool = False
    """`guidance_scale` is an input of the network, and classifier-free guidance is `true_cfg_scale`."""
    batched: bool = False
    """Guidance runs both prompts in one batch, the negative first; else in two calls, the negative second."""
    renormalised: bool = False
    """Guided outputs are scaled back to the norm of the unguided ones (Qwen-Image)."""
    time_divisor: int = 1
    """The network receives timestep / this."""
    packed: bool = False
    """Latents are packed by 2 x 2 before the network sees them."""
    multiple: int = 1
    """The pipeline refuses other sizes, whatever its VAE could take."""

    @property
    def denoiser(self) -> str:
        return "unet" if self.ddim else "transformer"

    @property
    def latents(self) -> str:
        """The denoiser's name for its noisy input."""
        return "sample" if self.ddim else "hidden_states"

    @property
    def guidance(self) -> str:
        return "true_cfg_scale" if self.distilled else "guidance_scale"


_HUNYUAN = Family(
    embeddings="prompt_embeds pooled_prompt_embeds prompt_attention_mask", makes="video", distilled=True, multiple=16
)
FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": Family(embeddings="prompt_embeds", ddim=True, batched=True, multiple=8),
    "StableDiffusion3Pipeline": Family(embeddings="prompt_embeds _ pooled_prompt_embeds", batched=True),
    "FluxPipeline": Family(
        embeddings="prompt_embeds pooled_prompt_embeds", distilled=True, time_divisor=1000, packed=True
    ),
    "QwenImagePipeline": Family(
        embeddings="prompt_embeds prompt_embeds_mask",
        distilled=True,
        renormalised=True,
        time_divisor=1000,
        packed=True,
    ),
    "WanPipeline": Family(embeddings="prompt_embeds", makes="video", multiple=16),
    "WanImageToVideoPipeline": Family(embeddings="prompt_embeds", makes="video", from_image="one", multiple=16),
    "HunyuanVideoPipeline": _HUNYUAN,
    "HunyuanSkyreelsImageToVideoPipeline": replace(_HUNYUAN, from_image="each"),
}


def encode(pipe: Any, names: str, text: str | list[str]) -> Tensors:
    """Prompts, negative ones too, as the pipeline's call would encode them: its arguments, one row for each prompt."""
    takes = inspect.signature(pipe.encode_prompt).parameters
    given = {"device": pipe.device, "num_images_per_prompt": 1, "prompt_2": None, "prompt_3": None}
    given |= {"do_classifier_free_guidance": False, "max_sequence_length": prompt_tokens(pipe)}
    encoded = pipe.encode_prompt(prompt=text, **{name: value for name, value in given.items() if name in takes})
    pairs = zip(names.split(), encoded if isinstance(encoded, tuple) else (encoded,), strict=False)
    return {name: value for name, value in pairs if value is not None and name != "_"}


def prompt_tokens(pipe: Any) -> int | None:
    """What the long prompts of a pipeline are padded to: its own default, or the less that its tokenizers take."""
    default = inspect.signature(pipe.__call__).parameters.get("max_sequence_length")
    if default is None:
        return None
    tokenizers = [part for name, part in pipe.components.items() if name.startswith("tokenizer")]
    if None in tokenizers:  # Stable Diffusion 3 without T5 stands zeros in for its tokens
        return int(default.default)
    return min(int(default.default), max(tokenizer.model_max_length for tokenizer in tokenizers))


def overlong(pipe: Any, text: str) -> tuple[int, int] | None:
    """(tokens, limit) of a prompt that every text encoder would cut. None where one reads it whole: in FLUX and Stable
    Diffusion 3 CLIP takes 77 tokens, which many prompts exceed, and T5 reads on. Templates count as nothing."""
    longest = prompt_tokens(pipe) or math.inf
    found = []
    for name, tokenizer in pipe.components.items():
        if name.startswith("tokenizer") and tokenizer is not None:
            limit = int(min(longest, tokenizer.model_max_length))
            found.append((limit, len(tokenizer(text, verbose=False)["input_ids"])))
    limit, tokens = max(found, key=lambda pair: pair[0] - pair[1])
    return (tokens, limit) if tokens > limit else None


@contextmanager
def encoding_once(vae: Any) -> Iterator[None]:
    """Inside, `vae` encodes the first thing it is given, to the mode of its distribution, and returns that forever.

    Image-to-video pipelines encode the sample's image again for every row, and some draw from the distribution, so
    that the rows of a group would have different first frames.
    """
    encode = vae.encode
    kept: list[Tensor] = []

    def first(x: Tensor, *_: Any, **__: Any) -> Any:
        if not kept:
            kept.append(encode(x).latent_dist.mode())
        return SimpleNamespace(latents=kept[0])

    vae.encode = first
    try:
        yield
    finally:
        vae.encode = encode


@dataclass(frozen=True)
class Conditioning:
    """The constant inputs of the denoiser for one prompt, one row each, as the pipeline itself passed them."""

    calls: list[dict[str, Any]]
    """Without guidance one set of inputs; with it two, the positive first."""
    beside: Tensor | None
    """[1, C', ...] latents that stand beside the noisy ones in the channels: the first frame of image-to-video."""
    dtype: torch.dtype
    """Of the latents the network was given."""
    time_dtype: torch.dtype
    guidance: float
    tokens: int
    """Places of a latent the network attends over, both passes of guidance counted: the unit of a memory budget."""


@contextmanager
def listening(denoiser: Any) -> Iterator[list[dict[str, Any]]]:
    """Inside, the inputs of the first two calls of `denoiser` are kept, by name."""
    signature = inspect.signature(denoiser.forward)
    heard: list[dict[str, Any]] = []

    def keep(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(heard) < 2:
            heard.append(dict(signature.bind(*args, **kwargs).arguments))

    handle = denoiser.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield heard
    finally:
        handle.remove()


def conditioning_of(heard: list[dict[str, Any]], pipeline: Pipeline, start: Tensor, *, guidance: float) -> Conditioning:
    """From what the denoiser was given in the first step, whose latents were `start` f32[n, C, ...]."""
    family, rows, guided = pipeline.family, len(start), guidance > 1
    latents: Tensor = heard[0][family.latents]
    if guided and family.batched:
        halves = [(heard[0], slice(rows, rows + 1)), (heard[0], slice(0, 1))]
    else:
        halves = [(inputs, slice(0, 1)) for inputs in heard[: 2 if guided else 1]]
    calls = [
        {name: pick(name, value, part, len(latents)) for name, value in inputs.items() if name not in CHANGING}
        for inputs, part in halves
    ]
    beside = latents[:1, start.shape[1] :].detach() if latents.shape[1] > start.shape[1] else None
    places = start[0].numel() // start.shape[-1] if start.dim() == 3 else start[0, 0].numel()
    patch = getattr(pipeline.denoiser.config, "patch_size", 1) if start.dim() > 3 else 1
    size = [patch, patch] if isinstance(patch, int) else list(patch)
    return Conditioning(
        calls=calls,
        beside=beside,
        dtype=latents.dtype,
        time_dtype=heard[0]["timestep"].dtype,
        guidance=guidance,
        tokens=max(1, places // math.prod(size)) * len(calls),
    )


def predict(pipeline: Pipeline, conditioning: Conditioning, x: Tensor, timestep: Tensor) -> Tensor:
    """The guided output of the denoiser for latents f32[n, ...] of one prompt at timesteps f32[n]."""
    family = pipeline.family
    rows = len(x)
    latents = x.to(conditioning.dtype)
    if conditioning.beside is not None:
        latents = torch.cat([latents, conditioning.beside.expand(rows, *conditioning.beside.shape[1:])], 1)
    time = timestep.to(conditioning.time_dtype)
    if family.time_divisor > 1:
        time = time / family.time_divisor

    def ask(calls: list[dict[str, Any]]) -> Tensor:
        inputs = {name: repeat(name, [call[name] for call in calls], rows) for name in calls[0]}
        inputs[family.latents] = torch.cat([latents] * len(calls))
        inputs["timestep"] = torch.cat([time] * len(calls))
        return pipeline.denoiser(**inputs, return_dict=False)[0]

    if len(conditioning.calls) == 1:
        return ask(conditioning.calls)
    positive, negative = conditioning.calls
    if family.batched:
        without, with_prompt = ask([negative, positive]).chunk(2)
    else:
        with_prompt, without = ask([positive]), ask([negative])
    guided = without + conditioning.guidance * (with_prompt - without)
    if family.renormalised:
        guided = guided * (with_prompt.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))
    return guided


def repeat(name: str, values: list[Any], rows: int) -> Any:
    """An input of one row per call, for `rows` rows of each."""
    if name in UNBATCHED:
        return values[0]
    if isinstance(values[0], Tensor) and values[0].dim() > 0 and values[0].shape[0] == 1:
        return torch.cat([value.expand(rows, *value.shape[1:]) for value in values])
    if isinstance(values[0], list) and len(values[0]) == 1:
        return [item for value in values for item in value * rows]
    return values[0]


def pick(name: str, value: Any, part: slice, rows: int) -> Any:
    """One row of an input, where it has rows."""
    if name in UNBATCHED:
        return value
    if isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == rows:
        return value[part].detach()
    if isinstance(value, list) and len(value) == rows:
        return value[part]
    return value
