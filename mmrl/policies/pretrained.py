"""Load a Qwen-VL model with transformers and decide what of it is trained: everything, or LoRA adapters, with or
without the vision tower. What the model is then used for is `vlm.py`. Where models go and in which precision they
compute (`placement`, `mixed_precision`) holds for diffusion pipelines as well."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmrl.compat import declare_torchvision_operators, tell_deepspeed
from mmrl.config import ModelConfig
from mmrl.plugins import ConfigError

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TINY = Path(__file__).parent.parent / "assets" / "tiny-vlm"
ADAPTER_FILE = "adapter_config.json"


def load_pretrained(settings: ModelConfig) -> tuple[Any, Any]:
    """Model and processor from a local folder, a hub name, or `tiny` (the weights that ship with mmrl)."""
    declare_torchvision_operators()
    tell_deepspeed()
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    path = str(TINY) if settings.path == "tiny" else settings.path
    if (Path(path) / ADAPTER_FILE).is_file():
        raise ConfigError(
            f"model.path = {path} holds a LoRA adapter; merge it, or name the base model and set model.adapter."
        )
    try:
        family = AutoConfig.from_pretrained(path).model_type
    except OSError as error:
        raise ConfigError(
            f"model.path = {settings.path}: neither a local folder with a model nor a name the hub gives us ({error})."
        ) from None
    if family not in FAMILIES:
        raise ConfigError(f"model.path = {settings.path} is a {family} model; supported are {', '.join(FAMILIES)}.")
    device, dtype = placement(settings)
    model: Any = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype, attn_implementation=settings.attention)
    model.to(device)
    return model, AutoProcessor.from_pretrained(path)


def placement(settings: ModelConfig) -> tuple[torch.device, torch.dtype]:
    """Where a model goes, and the dtype its weights are loaded in: those that are trained stay in float32, as bfloat16
    would round small updates away; `mixed_precision` computes with them."""
    device = torch.device(
        settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    )
    keep_float32 = device.type == "cpu" or settings.adapter is None or settings.dtype == "float32"
    return device, torch.float32 if keep_float32 else torch.bfloat16


def mixed_precision(device: torch.device, settings: ModelConfig) -> contextlib.AbstractContextManager[Any]:
    """Inside, a GPU computes in bfloat16, unless float32 is asked for."""
    mixed = device.type == "cuda" and settings.dtype != "float32"
    return torch.autocast("cuda", torch.bfloat16) if mixed else contextlib.nullcontext()


def prepare_for_training(model: Any, settings: ModelConfig) -> None:
    """Freeze what is not trained, and switch gradient checkpointing on if asked for."""
    model.requires_grad_(settings.adapter is None)
    if settings.vision == "frozen":
        model.model.visual.requires_grad_(False)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()


def add_lora(model: Any, settings: ModelConfig) -> Any:
    """Low-rank adapters on every linear layer of the language model; on the vision tower too when it is trained."""
    from peft import LoraConfig, get_peft_model

    adapter = settings.adapter
    assert adapter is not None
    parts = {"language_model", "visual"} if settings.vision == "trained" else {"language_model"}
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and parts & set(name.split("."))
    ]
    config = LoraConfig(r=adapter.rank, lora_alpha=adapter.alpha, lora_dropout=0.0, target_modules=names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(adapter.seed)
        return get_peft_model(model, config)


def adapters(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The LoRA layers inside, which a model with its adapter switched off does not run."""
    return [module for name, module in model.named_modules() if name.endswith((".lora_A", ".lora_B"))]


def forbidden_tokens(model: Any, processor: Any) -> Tensor:
    """Vision placeholders and delimiters, which only a processor may write."""
    config = model.config
    named = [getattr(config, f"{name}_token_id", None) for name in ("image", "video", "vision_start", "vision_end")]
    vocabulary = processor.tokenizer.get_vocab()
    pads = [vocabulary.get(token) for token in ("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")]
    return torch.tensor(sorted({i for i in [*named, *pads] if i is not None}))


def stop_tokens(model: Any, processor: Any) -> Tensor:
    """End-of-turn first, then whatever else the generation config calls an end."""
    ends = model.generation_config.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return torch.tensor(list(dict.fromkeys([processor.tokenizer.eos_token_id, *ends])))
