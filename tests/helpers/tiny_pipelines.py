"""Every supported diffusers pipeline with random weights, a few thousand parameters each, saved as a real folder.

Text encoders are real and tiny as well; their tokenizers know a few words (T5, Llama, Qwen) or letters (CLIP).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmrl.compat import declare_torchvision_operators

declare_torchvision_operators()
WORDS = ["red", "green", "blue", "circle", "square", "a", "the", "on", "moves", "dark"]
CLIP_TOKENS = 77
SIZES: dict[str, dict[str, int]] = {
    "sd": {"width": 16, "height": 16},
    "sd3": {"width": 8, "height": 8},
    "flux": {"width": 8, "height": 8},
    "qwen": {"width": 16, "height": 16},
    "wan": {"width": 16, "height": 16, "frames": 5},
    "wan_i2v": {"width": 16, "height": 16, "frames": 5},
    "hunyuan": {"width": 16, "height": 16, "frames": 5},
    "skyreels": {"width": 16, "height": 16, "frames": 5},
}
"""The smallest that each takes, as settings of `sampling`."""


def save(name: str, folder: Path) -> Path:
    """The pipeline `name` in `folder`."""
    torch.manual_seed(0)
    BUILDERS[name]().save_pretrained(folder)
    return folder


# -- text ------------------------------------------------------------------------------------------------------------


def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        vocabulary |= {letter: len(vocabulary), f"{letter}</w>": len(vocabulary) + 1}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=CLIP_TOKENS)


def word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "<unk>", "<end>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", model_max_length=2048
    )


def clip_encoder(hidden: int, *, projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=hidden, projection_dim=hidden, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1,
        vocab_size=64, max_position_embeddings=CLIP_TOKENS, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def t5_encoder(hidden: int, *, multilingual: bool = False) -> Any:
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    settings = {"vocab_size": 32, "d_model": hidden, "d_ff": 16, "d_kv": 8, "num_heads": 2, "num_layers": 1}
    return UMT5EncoderModel(UMT5Config(**settings)) if multilingual else T5EncoderModel(T5Config(**settings))


def llama(hidden: int) -> Any:
    from transformers import LlamaConfig, LlamaModel

    return LlamaModel(
        LlamaConfig(
            vocab_size=32, hidden_size=hidden, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            pad_token_id=0,
        )
    )  # fmt: skip


# -- parts shared by families ----------------------------------------------------------------------------------------


def flow(**settings: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


def image_vae(*blocks: int, latent_channels: int = 4, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=blocks, down_block_types=["DownEncoderBlock2D"] * len(blocks),
        up_block_types=["UpDecoderBlock2D"] * len(blocks), latent_channels=latent_channels, norm_num_groups=2,
        **settings,
    )  # fmt: skip


# -- pipelines -------------------------------------------------------------------------------------------------------


def stable_diffusion() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=(4, 8), layers_per_block=1, sample_size=8, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8, norm_num_groups=2,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=image_vae(4, 8), text_encoder=clip_encoder(8), tokenizer=clip_tokenizer(), unet=unet,
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sd3() -> Any:
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, out_channels=4,
    )  # fmt: skip
    vae = image_vae(
        4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0609, scaling_factor=1.5035
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=flow(shift=3.0), vae=vae,
        text_encoder=clip_encoder(16, projection=True), tokenizer=clip_tokenizer(),
        text_encoder_2=clip_encoder(16, projection=True), tokenizer_2=clip_tokenizer(),
        text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip


def flux() -> Any:
    from diffusers import FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8], guidance_embeds=True,
    )  # fmt: skip
    return FluxPipeline(
        transformer=transformer, scheduler=flow(shift=3.0, use_dynamic_shifting=True),
        vae=image_vae(4, latent_channels=1, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0609,
                      scaling_factor=1.5035),
        text_encoder=clip_encoder(32), tokenizer=clip_tokenizer(),
        text_encoder_2=t5_encoder(32), tokenizer_2=word_tokenizer(),
    )  # fmt: skip


def qwen() -> Any:
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel

    from mmrl.policies.tiny import make_model

    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=3,
        joint_attention_dim=32, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=24, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    tokenizer = word_tokenizer()
    return QwenImagePipeline(
        transformer=transformer, vae=vae, tokenizer=tokenizer,
        text_encoder=make_model("qwen2_5_vl", tokenizer=tokenizer, width=32, layers=1),
        scheduler=flow(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, shift_terminal=0.02),
    )  # fmt: skip


def wan_transformer(channels: int) -> Any:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=channels, out_channels=16,
        text_dim=32, freq_dim=256, ffn_dim=32, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )  # fmt: skip


def wan_parts() -> dict[str, Any]:
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    return {"vae": vae, "text_encoder": t5_encoder(32, multilingual=True), "tokenizer": word_tokenizer()}


def wan() -> Any:
    from diffusers import WanPipeline

    return WanPipeline(**wan_parts(), transformer=wan_transformer(16), scheduler=flow(shift=3.0))


def wan_i2v() -> Any:
    """With the scheduler that Wan is published with."""
    from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline

    scheduler = UniPCMultistepScheduler(flow_shift=3.0, use_flow_sigmas=True, prediction_type="flow_prediction")
    return WanImageToVideoPipeline(
        **wan_parts(), transformer=wan_transformer(36), scheduler=scheduler, image_encoder=None, image_processor=None
    )


def hunyuan_parts(channels: int) -> dict[str, Any]:
    from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoTransformer3DModel

    transformer = HunyuanVideoTransformer3DModel(
        in_channels=channels, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1,
        num_single_layers=1, num_refiner_layers=1, patch_size=1, patch_size_t=1, guidance_embeds=True,
        text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4,
        scaling_factor=0.476986, mid_block_add_attention=True,
    )  # fmt: skip
    return {
        "transformer": transformer, "vae": vae, "scheduler": flow(shift=7.0),
        "text_encoder": llama(16), "tokenizer": word_tokenizer(),
        "text_encoder_2": clip_encoder(8), "tokenizer_2": clip_tokenizer(),
    }  # fmt: skip


def hunyuan() -> Any:
    from diffusers import HunyuanVideoPipeline

    return HunyuanVideoPipeline(**hunyuan_parts(4))


def skyreels() -> Any:
    from diffusers import HunyuanSkyreelsImageToVideoPipeline

    return HunyuanSkyreelsImageToVideoPipeline(**hunyuan_parts(8))


BUILDERS = {
    "sd": stable_diffusion, "sd3": sd3, "flux": flux, "qwen": qwen, "wan": wan, "wan_i2v": wan_i2v,
    "hunyuan": hunyuan, "skyreels": skyreels,
}  # fmt: skip
