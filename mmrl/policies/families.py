"""What differs between diffusers pipelines: how prompts are encoded, and what guidance is called and does.

The inputs of the denoiser that do not change from step to step are not rebuilt here: `conditioning_of` takes them from
the pipeline's own calls, so that replay feeds the network exactly what the rollout fed it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Family:
    """One kind of pipeline."""

    encode: Callable[..., Tensors]
    """(pipeline, prompt, negative, guided) -> the pipeline's keyword arguments for it, one row each."""
    denoiser: str = "transformer"
    guidance: str = "guidance_scale"
    """The argument for classifier-free guidance."""
    distilled: str | None = None
    """The argument for a guidance value the network receives as an input."""
    batched: bool = False
    """Guidance runs both prompts in one batch, the negative first; else in two calls, the negative second."""
    renormalised: bool = False
    """Guided outputs are scaled back to the norm of the unguided ones (Qwen-Image)."""
    makes: Literal["image", "video"] = "image"
    from_image: bool = False
    """Starts from a sample's image."""
    ddim: bool = False
    time_divisor: int = 1
    """The network receives timestep / this."""
    text_parts: tuple[str, ...] = ("text_encoder", "tokenizer")
    """What is not needed once prompts are encoded."""


def named(names: str, values: Any) -> Tensors:
    pairs = zip(names.split(), values, strict=False)
    return {name: value for name, value in pairs if value is not None and name != "_"}


def encode_sd(pipe: Any, prompt: str, negative: str, guided: bool) -> Tensors:
    encoded = pipe.encode_prompt(prompt, pipe.device, 1, guided, negative_prompt=negative)
    return named("prompt_embeds negative_prompt_embeds", encoded)


def encode_sd3(pipe: Any, prompt: str, negative: str, guided: bool) -> Tensors:
    encoded = pipe.encode_prompt(
        prompt, None, None, do_classifier_free_guidance=guided, negative_prompt=negative, device=pipe.device
    )
    return named("prompt_embeds negative_prompt_embeds pooled_prompt_embeds negative_pooled_prompt_embeds", encoded)


def encode_flux(pipe: Any, prompt: str, negative: str, guided: bool) -> Tensors:
    encoded = named("prompt_embeds pooled_prompt_embeds _", pipe.encode_prompt(prompt, None, device=pipe.device))
    if guided:
        other = pipe.encode_prompt(negative, None, device=pipe.device)
        encoded |= named("negative_prompt_embeds negative_pooled_prompt_embeds _", other)
    return encoded


def encode_wan(pipe: Any, prompt: str, negative: str, guided: bool) -> Tensors:
    encoded = pipe.encode_prompt(prompt, negative, guided, device=pipe.device)
    return named("prompt_embeds negative_prompt_embeds", encoded)


def encode_hunyuan(pipe: Any, prompt: str, negative: str, guided: bool) -> Tensors:
    names = "prompt_embeds pooled_prompt_embeds prompt_attention_mask"
    encoded = named(names, pipe.encode_prompt(prompt, device=pipe.device))
    if guided:
        other = named(names, pipe.encode_prompt(negative, device=pipe.device))
        encoded |= {f"negative_{name}": value for name, value in other.items()}
    return encoded


def encode_qwen(pipe: Any, prompt: str, negative: str, guided: bool) -> Tensors:
    encoded = named("prompt_embeds prompt_embeds_mask", pipe.encode_prompt(prompt, device=pipe.device))
    if guided:
        other = pipe.encode_prompt(negative, device=pipe.device)
        encoded |= named("negative_prompt_embeds negative_prompt_embeds_mask", other)
    return encoded


_TWO = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
_THREE = (*_TWO, "text_encoder_3", "tokenizer_3")
FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": Family(encode_sd, denoiser="unet", batched=True, ddim=True),
    "StableDiffusion3Pipeline": Family(encode_sd3, batched=True, text_parts=_THREE),
    "FluxPipeline": Family(
        encode_flux, guidance="true_cfg_scale", distilled="guidance_scale", text_parts=_TWO, time_divisor=1000
    ),
    "QwenImagePipeline": Family(
        encode_qwen, guidance="true_cfg_scale", distilled="guidance_scale", renormalised=True, time_divisor=1000
    ),
    "WanPipeline": Family(encode_wan, makes="video"),
    "WanImageToVideoPipeline": Family(encode_wan, makes="video", from_image=True),
    "HunyuanVideoPipeline": Family(
        encode_hunyuan, guidance="true_cfg_scale", distilled="guidance_scale", makes="video", text_parts=_TWO
    ),
    "HunyuanSkyreelsImageToVideoPipeline": Family(
        encode_hunyuan,
        guidance="true_cfg_scale",
        distilled="guidance_scale",
        makes="video",
        from_image=True,
        text_parts=_TWO,
    ),
}


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
    latents: Tensor = heard[0][pipeline.latents_name]
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
        inputs[pipeline.latents_name] = torch.cat([latents] * len(calls))
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
