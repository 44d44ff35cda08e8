"""Train the small diffusers pipelines that ship with mmrl (`tiny_pipelines.py`) on drawn scenes.

    python -m mmrl.policies.tiny_diffusion flow mmrl/assets/tiny-flow       (scripts/make_tiny_diffusion.sh)

First the autoencoder, then denoiser and text encoders together, on captions of which the share `WRONG` is about another
picture: the model knows how to draw and only half listens, so that reinforcement learning has something to do. The
video pipeline draws single frames first, at a fifth of the cost, then films; its autoencoder (`tiny_video.py`) needs no
training.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from data_pipelines.captions.render import paint
from data_pipelines.captions.scenes import NAMES, SHAPES, Figure, Scene
from mmrl.compat import declare_torchvision_operators
from mmrl.policies.families import FAMILIES, encode
from mmrl.policies.tiny_pipelines import MAKERS, SIDE
from mmrl.policies.tiny_video import films, set_autoencoder, stills

WRONG = 0.5
BATCH = 64
PICTURES = 4096
INPUTS = {"prompt_embeds": "encoder_hidden_states", "pooled_prompt_embeds": "pooled_projections"}
"""The denoiser's names of what a pipeline encodes."""
EVERY = 100
"""Steps of which the mean error is shown."""
KL = 1e-4
"""Weight of the autoencoder's divergence from a standard normal, per latent number."""


def main(kind: str, folder: Path, *, see: int = 800, draw: int | None = None, move: int = 2500) -> None:
    """`see` steps of the autoencoder and `draw` (6000, for single frames 3000) of the rest, `move` of them on films;
    saves a pipeline of half-precision weights."""
    declare_torchvision_operators()
    torch.manual_seed(0)
    rng, start = random.Random(0), time.process_time()
    pipe = MAKERS[kind]()
    if kind == "video":
        captions, pictures = films(rng, PICTURES)
        latents = set_autoencoder(pipe.vae, pictures)
        train_denoiser(pipe, captions, stills(latents, rng), steps=draw or 3000, rng=rng)
        train_denoiser(pipe, captions, latents, steps=move, rng=rng, batch=BATCH // 2)
    else:
        captions, pictures = data(rng)
        train_vae(pipe.vae, pictures, steps=see, rng=rng)
        latents = scaled_latents(pipe.vae, pictures)
        train_denoiser(pipe, captions, latents, steps=draw or 6000, rng=rng)
    pipe.to(torch.float16).save_pretrained(folder)
    print(f"{folder}: {time.process_time() - start:.0f} s of one core")


def data(rng: random.Random) -> tuple[list[str], Tensor]:
    """`PICTURES` captions, and f32[PICTURES, 3, SIDE, SIDE] in [-1, 1]."""
    figures = [Figure(rng.choice(NAMES), rng.choice(SHAPES), "large") for _ in range(PICTURES)]
    arrays = [np.asarray(paint(Scene((figure,), None, "white"), rng, size=SIDE)) for figure in figures]
    captions = [f"a {figure.colour} {figure.shape}" for figure in figures]
    return captions, torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(vae: Any, pictures: Tensor, *, steps: int, rng: random.Random) -> None:
    """Pictures to latents and back."""
    for step, optimize in training(vae.parameters(), steps, 3e-3, "see"):
        images = pictures[rng.sample(range(len(pictures)), BATCH // 2)]
        distribution = vae.encode(images).latent_dist
        error = functional.mse_loss(vae.decode(distribution.sample()).sample, images)
        spread = 0.5 * (distribution.mean**2 + distribution.var - 1 - distribution.logvar).mean()
        optimize(error + KL * spread)
        if step % 100 == 99:
            print(f"see {step + 1}: error {error.item():.4f}")
    vae.requires_grad_(False).eval()


@torch.no_grad()
def scaled_latents(vae: Any, pictures: Tensor) -> Tensor:
    """Latents of the pictures at unit mean square, by numbers that the autoencoder's config keeps."""
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in pictures.split(32)])
    scale = float(1 / latents.square().mean().sqrt())
    vae.register_to_config(scaling_factor=scale)
    return latents * scale


def train_denoiser(
    pipe: Any, captions: Sequence[str], latents: Tensor, *, steps: int, rng: random.Random, batch: int = BATCH
) -> None:
    """Noisy latents and captions, of which the share `WRONG` are another picture's, to noise or velocity."""
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    encoders = [part for name, part in pipe.components.items() if name.startswith("text_encoder") and part is not None]
    loss = ddpm_loss if hasattr(pipe, "unet") else flow_loss
    total = 0.0
    parameters = [p for part in (denoiser, *encoders) for p in part.parameters()]
    for step, optimize in training(parameters, steps, 2e-3, "draw"):
        chosen = rng.sample(range(len(captions)), batch)
        prompts = [rng.choice(captions) if rng.random() < WRONG else captions[index] for index in chosen]
        error = loss(pipe, denoiser, latents[chosen], conditioning(pipe, prompts))
        optimize(error)
        total += error.item()
        if step % EVERY == EVERY - 1:
            print(f"draw {step + 1}: error {total / EVERY:.4f}", flush=True)
            total = 0.0


def conditioning(pipe: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
    """The denoiser's text inputs, encoded as the diffusion policy does it; every distinct prompt once."""
    family = FAMILIES[type(pipe).__name__]
    distinct = list(dict.fromkeys(prompts))
    rows = [distinct.index(prompt) for prompt in prompts]
    encoded = encode(pipe, family.embeddings, distinct)
    return {INPUTS[name]: values[rows] for name, values in encoded.items()}


def flow_loss(pipe: Any, denoiser: Any, clean: Tensor, text: dict[str, Tensor]) -> Tensor:
    """A rectified flow predicts noise - clean at x = (1 - sigma) clean + sigma noise."""
    sigma, noise = torch.rand(len(clean)), torch.randn(clean.shape)
    wide = sigma.reshape(-1, *[1] * (clean.dim() - 1))
    output = denoiser((1 - wide) * clean + wide * noise, timestep=1000 * sigma, **text, return_dict=False)[0]
    return functional.mse_loss(output, noise - clean)


def ddpm_loss(pipe: Any, denoiser: Any, clean: Tensor, text: dict[str, Tensor]) -> Tensor:
    """A DDPM predicts the noise at a random time of its schedule."""
    times, noise = torch.randint(pipe.scheduler.config.num_train_timesteps, (len(clean),)), torch.randn(clean.shape)
    output = denoiser(pipe.scheduler.add_noise(clean, noise, times), times, **text, return_dict=False)[0]
    return functional.mse_loss(output, noise)


def training(parameters: Any, steps: int, rate: float, name: str) -> Any:
    """(step, a function that takes the loss) for every step, at a rate that rises quickly and falls to 0."""
    parameters = list(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05)

    def optimize(loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()

    for step in track(range(steps), name, transient=True):
        yield step, optimize


if __name__ == "__main__":
    options: dict[str, Callable[[str], int]] = {"see": int, "draw": int, "move": int}
    given = dict(word.split("=", 1) for word in sys.argv[3:])
    main(sys.argv[1], Path(sys.argv[2]), **{name: options[name](value) for name, value in given.items()})
