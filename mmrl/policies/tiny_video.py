"""Films for the tiny text-to-video pipeline, and its autoencoder: principal components, found without training.

A Wan autoencoder this small needs more minutes to learn than all the rest (docs/notes.md). What its pictures ask of it
is little: patches of 4 x 4 pixels in six plain colours. So its weights are set: encoder and decoder compute the
projection on the patches' first principal components and its transpose, frame by frame, exactly up to 1 %, in the
class, and by the code, that a trained one has. The rest of the training is `tiny_diffusion.py`.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_pipelines.captions.render import film
from data_pipelines.captions.scenes import HEADINGS, NAMES, SHAPES, Figure
from mmrl.policies.tiny_pipelines import FRAME_CHANNELS, FRAMES, SIDE

LARGE = 100.0
"""Of the channel that makes a norm of all channels nearly a constant; values beside it are at most about 8."""
QUIET = -12.0
"""Log-variance of the encoder's distribution."""


def films(rng: random.Random, count: int) -> tuple[list[str], Tensor]:
    """`count` captions, and f32[count, 3, FRAMES, SIDE, SIDE] in [-1, 1]."""
    captions, arrays = [], []
    for _ in range(count):
        figure, heading = Figure(rng.choice(NAMES), rng.choice(SHAPES), "large"), rng.choice(HEADINGS)
        frames = film(figure, heading, rng, size=SIDE, frames=FRAMES)
        captions.append(f"a {figure.colour} {figure.shape} moving {heading}")
        arrays.append(np.stack([np.asarray(frame) for frame in frames]))
    return captions, torch.from_numpy(np.stack(arrays)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def stills(latents: Tensor, rng: random.Random) -> Tensor:
    """One frame of each film, as a film of one frame: f32[n, c, frames, h, w] -> [n, c, 1, h, w]."""
    frames = torch.tensor([rng.randrange(latents.shape[2]) for _ in latents])
    return latents[torch.arange(len(latents)), :, frames].unsqueeze(2)


@torch.no_grad()
def set_autoencoder(vae: Any, films: Tensor) -> Tensor:
    """Set the weights of `vae` from films f32[n, 3, frames, h, w] in [-1, 1]. Returns their latents
    f32[n, FRAME_CHANNELS, frames, h / 4, w / 4], as the denoiser sees them.

    All channels have one scale, which the config keeps: an error in latents is the same error in pixels.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

    patches = patchify(films, vae.config.patch_size).movedim(1, -1).flatten(0, -2)  # [places, 48]
    mean = patches.mean(0)
    components = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches)).eigenvectors
    components = components[:, -FRAME_CHANNELS:].flip(1).T  # [FRAME_CHANNELS, 48], the largest first
    rest = torch.cat([torch.zeros(FRAME_CHANNELS), torch.full((FRAME_CHANNELS,), QUIET)])
    chosen = torch.eye(FRAME_CHANNELS)
    set_half(vae.encoder, components, -components @ mean, torch.cat([chosen, 0 * chosen]), rest)
    set_half(vae.decoder, chosen, torch.zeros(FRAME_CHANNELS), components.T, mean)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight.copy_(torch.eye(len(conv.weight))[:, :, None, None, None])
        conv.bias.zero_()
    vae.requires_grad_(False).eval()
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in films.split(32)])
    scale = float(latents.square().mean().sqrt())
    vae.register_to_config(latents_std=[scale] * FRAME_CHANNELS)
    return latents / scale


def set_half(half: Any, inner: Tensor, inner_bias: Tensor, outer: Tensor, outer_bias: Tensor) -> None:
    """Let an encoder or decoder compute outer (inner x + inner_bias) + outer_bias at every place; inner is [c, in],
    outer [out, c], and the half has 2 c + 1 channels.

    They are u, -u and one large constant. The residual branches add nothing. The norm over channels then divides by
    nearly that constant, and silu(a) - silu(-a) = a undoes the nonlinearity.
    """
    channels = half.conv_in.out_channels
    for name, weights in half.named_parameters():
        if name.endswith(("conv2.weight", "conv2.bias", "proj.weight", "proj.bias")):
            weights.zero_()
    set_pointwise(half.conv_in, torch.cat([inner, -inner, 0 * inner[:1]]))
    half.conv_in.bias.copy_(torch.cat([inner_bias, -inner_bias, torch.tensor([LARGE])]))
    unscaled = outer * (LARGE / math.sqrt(channels))
    set_pointwise(half.conv_out, torch.cat([unscaled, -unscaled, 0 * unscaled[:, :1]], 1))
    half.conv_out.bias.copy_(outer_bias)


def set_pointwise(conv: Any, weights: Tensor) -> None:
    """A causal convolution that looks at its own place only; its last time is the present."""
    conv.weight.zero_()
    conv.weight[:, :, -1, 1, 1] = weights
