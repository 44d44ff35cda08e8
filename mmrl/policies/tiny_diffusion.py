"""Train the small pipelines that ship with mmrl on drawn scenes: `tiny-flow` (Stable Diffusion 3) and `tiny-ddim`.

    python -m mmrl.policies.tiny_diffusion flow mmrl/assets/tiny-flow      (scripts/make_tiny_diffusion.sh)

Real pipelines of diffusers with their own text encoders and decoder, 32 x 32 pictures. First the autoencoder, then
denoiser and text encoders together, on captions of which a share is wrong (`NOISE`): the model knows how to draw and
only half listens, so that reinforcement learning has something to do.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_pipelines.captions.render import paint
from data_pipelines.captions.scenes import NAMES, SHAPES, Figure, Scene
from mmrl.compat import declare_torchvision_operators

SIDE, LATENT_CHANNELS, CONTEXT = 32, 4, 8
WIDTH, HEADS, LAYERS, TEXT_WIDTH = 64, 4, 3, 32
NOISE = 0.5
"""Share of the captions that name another picture's colour or shape."""
BATCH = 32
PICTURES = 4000


def scene(rng: random.Random) -> Scene:
    """One figure on white."""
    return Scene((Figure(rng.choice(NAMES), rng.choice(SHAPES), "large"),), None, "white")


def caption(shown: Scene, rng: random.Random, noise: float) -> str:
    """`a red circle`; with probability `noise` of something else."""
    figure = (scene(rng) if rng.random() < noise else shown).figures[0]
    return f"a {figure.colour} {figure.shape}"


def pictures(scenes: list[Scene], rng: random.Random) -> Tensor:
    """f32[n, 3, 32, 32] in [-1, 1]."""
    arrays = [np.asarray(paint(shown, rng, size=SIDE), dtype=np.float32) for shown in scenes]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1


def make_vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 24),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=SIDE,
    )


def make_text_encoder(tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_attention_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config)


def make_flow(vae: Any, tokenizer: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=SIDE // 2,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=LAYERS,
        attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=SIDE // 4,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=make_text_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=make_text_encoder(tokenizer),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def train_vae(vae: Any, *, steps: int, rng: random.Random) -> None:
    """Pictures to latents and back; latents are then scaled to unit variance."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=3e-3)
    for step in range(steps):
        images = pictures([scene(rng) for _ in range(BATCH)], rng)
        distribution = vae.encode(images).latent_dist
        error = functional.mse_loss(vae.decode(distribution.sample()).sample, images)
        loss = error + 1e-4 * distribution.kl().mean() / LATENT_CHANNELS
        step_of(optimizer, loss, 3e-3 * (1 - step / steps))
        if step % 50 == 49:
            print(f"see   step {step + 1:5d}  error {error.item():.4f}", flush=True)
    with torch.no_grad():
        latents = vae.encode(pictures([scene(rng) for _ in range(256)], rng)).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / latents.std()), shift_factor=float(latents.mean()))


def train_flow(pipe: Any, *, steps: int, rng: random.Random, noise: float, rate: float = 2e-3) -> None:
    """Flow matching: the transformer predicts noise - latents; captions are wrong with probability `noise`."""
    parts = (pipe.transformer, pipe.text_encoder, pipe.text_encoder_2)
    optimizer = torch.optim.AdamW([p for part in parts for p in part.parameters()], lr=rate, weight_decay=0.01)
    scenes, latents = encoded(pipe.vae, rng)
    total = 0.0
    for step in range(steps):
        chosen = rng.sample(range(len(scenes)), BATCH)
        prompts = [caption(scenes[index], rng, noise) for index in chosen]
        embeds, _, pooled, _ = pipe.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
        clean, sigma = latents[chosen], torch.rand(BATCH)
        gaussian = torch.randn(clean.shape)
        mixed = (1 - sigma)[:, None, None, None] * clean + sigma[:, None, None, None] * gaussian
        output = pipe.transformer(
            hidden_states=mixed, timestep=1000 * sigma, encoder_hidden_states=embeds, pooled_projections=pooled,
            return_dict=False,
        )[0]  # fmt: skip
        loss = functional.mse_loss(output, gaussian - clean)
        step_of(optimizer, loss, rate * min(1.0, (step + 1) / 50) * (1 - step / steps))
        total += float(loss.detach())
        if step % 100 == 99:
            print(f"draw  step {step + 1:5d}  loss {total / 100:.4f}", flush=True)
            total = 0.0


@torch.no_grad()
def encoded(vae: Any, rng: random.Random) -> tuple[list[Scene], Tensor]:
    """Scenes and their latents, f32[PICTURES, C, 16, 16], of unit variance."""
    scenes = [scene(rng) for _ in range(PICTURES)]
    parts = [scenes[start : start + 100] for start in range(0, PICTURES, 100)]
    latents = torch.cat([vae.encode(pictures(part, rng)).latent_dist.mean for part in parts])
    return scenes, (latents - vae.config.shift_factor) * vae.config.scaling_factor


def step_of(optimizer: torch.optim.AdamW, loss: Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def main(folder: Path, *, vae_steps: int = 300, steps: int = 1500) -> None:
    declare_torchvision_operators()
    from rewards.images.tiny import make_tokenizer

    torch.manual_seed(0)
    rng, start = random.Random(0), time.process_time()
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = CONTEXT
    vae = make_vae()
    train_vae(vae, steps=vae_steps, rng=rng)
    vae.requires_grad_(False)
    pipe = make_flow(vae, tokenizer)
    count = sum(p.numel() for p in pipe.transformer.parameters())
    print(f"{count / 1e6:.2f} M parameters draw; {time.process_time() - start:.0f} s so far", flush=True)
    train_flow(pipe, steps=steps, rng=rng, noise=NOISE)
    pipe.save_pretrained(folder)
    print(f"{time.process_time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), **{key: int(value) for key, value in (arg.split("=") for arg in sys.argv[2:])})
