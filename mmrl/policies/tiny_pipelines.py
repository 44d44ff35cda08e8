"""The small diffusers pipelines that ship with mmrl, at random weights; `tiny_diffusion.py` trains them.

    tiny-flow     Stable Diffusion 3: a rectified flow, text to image
    tiny-ddim     Stable Diffusion 1: a U-Net trained as DDPM, text to image
    tiny-video    Wan 2.1: a rectified flow, text to video, 5 frames

Pictures have 32 x 32 pixels and are 8 x 8 latents of 8 channels, frames of films of 12. Every part is the class
that its big sister uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from data_pipelines.captions.scenes import HEADINGS, NAMES, SHAPES

SIDE, FRAMES = 32, 5
LATENT_SIDE, LATENT_CHANNELS = 8, 8
FRAME_CHANNELS = 12
FRAME_UNIT = 2
"""Frames that the Wan pipeline counts for each it makes after the first: `frames: 9` makes 5. The autoencoder leaves
time as it is; asked to count by 1, the pipeline of diffusers 0.42 makes one frame too many, and warns."""
CONTEXT = 8
"""Tokens of a prompt."""
WIDTH, HEADS, LAYERS, TEXT_WIDTH = 64, 2, 3, 32
WORDS = ("a", *NAMES, *SHAPES)
FILM_WORDS = (*WORDS, "moving", *HEADINGS)


def tiny_flow(*, width: int = WIDTH, layers: int = LAYERS) -> Any:
    """Stable Diffusion 3 with its three text encoders."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    tokenizer, words = clip_tokenizer(), word_tokenizer(WORDS)
    transformer = SD3Transformer2DModel(
        sample_size=LATENT_SIDE, patch_size=2, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        num_layers=layers, attention_head_dim=width // HEADS, num_attention_heads=HEADS,
        joint_attention_dim=2 * TEXT_WIDTH, caption_projection_dim=width, pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=LATENT_SIDE,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), vae=image_vae(shift_factor=0.0),
        text_encoder=clip_encoder(tokenizer, projection=True), tokenizer=tokenizer,
        text_encoder_2=clip_encoder(tokenizer, projection=True), tokenizer_2=tokenizer,
        text_encoder_3=t5_encoder(words, 2 * TEXT_WIDTH), tokenizer_3=words,
    )  # fmt: skip


def tiny_ddim() -> Any:
    """Stable Diffusion 1 with the noise schedule it is published with."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=LATENT_SIDE, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 48), layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=TEXT_WIDTH, attention_head_dim=4,
        norm_num_groups=8,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    return StableDiffusionPipeline(
        unet=unet, scheduler=scheduler, vae=image_vae(), text_encoder=clip_encoder(tokenizer), tokenizer=tokenizer,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def tiny_video() -> Any:
    """Wan 2.1. Its autoencoder sees patches of 4 x 4 pixels, one frame at a time; `tiny_video.py` sets its weights."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

    tokenizer, patch = word_tokenizer(FILM_WORDS), SIDE // LATENT_SIDE
    vae = AutoencoderKLWan(
        base_dim=2 * FRAME_CHANNELS + 1, z_dim=FRAME_CHANNELS, dim_mult=[1], num_res_blocks=0, temperal_downsample=[],
        patch_size=patch, in_channels=3 * patch**2, out_channels=3 * patch**2, scale_factor_temporal=FRAME_UNIT,
        scale_factor_spatial=patch, latents_mean=[0.0] * FRAME_CHANNELS, latents_std=[1.0] * FRAME_CHANNELS,
    )  # fmt: skip
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS,
        in_channels=FRAME_CHANNELS, out_channels=FRAME_CHANNELS, text_dim=TEXT_WIDTH, freq_dim=WIDTH,
        ffn_dim=2 * WIDTH, num_layers=LAYERS, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )  # fmt: skip
    return WanPipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), vae=vae,
        text_encoder=t5_encoder(tokenizer, TEXT_WIDTH, kind="UMT5"), tokenizer=tokenizer,
    )  # fmt: skip


MAKERS: dict[str, Callable[[], Any]] = {"flow": tiny_flow, "ddim": tiny_ddim, "video": tiny_video}


def image_vae(**settings: Any) -> Any:
    from diffusers import AutoencoderKL

    blocks = (16, 24, 32)
    return AutoencoderKL(
        block_out_channels=blocks, down_block_types=("DownEncoderBlock2D",) * len(blocks),
        up_block_types=("UpDecoderBlock2D",) * len(blocks), layers_per_block=1, latent_channels=LATENT_CHANNELS,
        norm_num_groups=4, mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False,
        sample_size=SIDE, **settings,
    )  # fmt: skip


def clip_tokenizer() -> Any:
    """That of the tiny CLIP model: whole words."""
    from rewards.images.tiny import make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.model_max_length = CONTEXT
    return tokenizer


def word_tokenizer(words: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", model_max_length=CONTEXT
    )


def clip_encoder(tokenizer: Any, *, projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, projection_dim=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH, num_attention_heads=2, num_hidden_layers=2,
        max_position_embeddings=CONTEXT, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def t5_encoder(tokenizer: Any, width: int, *, kind: Literal["T5", "UMT5"] = "T5") -> Any:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), d_model=width, d_ff=2 * width, d_kv=width // 2, num_heads=2, num_layers=2
    )
    return getattr(transformers, f"{kind}EncoderModel")(config)
