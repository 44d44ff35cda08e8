"""Train the open_clip model that ships with mmrl, on drawn scenes: `model: tiny` of the CLIP rewards.

    python -m rewards.images.tiny mmrl/assets/tiny-clip         (scripts/make_tiny_clip.sh)

Two stages. `see`: the image tower names what is in a scene, a few hundred labels a second, because a contrastive loss
alone takes very long to tell shapes apart at this size. `read`: both towers with CLIP's loss, where every caption of
the batch that is true of a picture counts, and every caption has a twin with one mistake. Pictures are blurred, noisy
and off colour at random, so that half-finished ones score in between. How good the result is, says `tiny_measure.py`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from data_pipelines.captions.render import paint
from data_pipelines.captions.scenes import (
    BACKGROUNDS,
    NAMES,
    OPPOSITE,
    SHAPES,
    SIZES,
    Scene,
    draw_description,
    draw_mistake,
    draw_scene,
)
from mmrl.compat import declare_torchvision_operators

WORDS = ("a", *SIZES, *NAMES, *SHAPES, "left", "right", "of", "above", "below", "on", *BACKGROUNDS, "background")
SPECIAL = ("<pad>", "<start>", "<unknown>")
END = "<end>"
SIDE = 32
"""Side of the pictures the model sees, in pixels."""
CONTEXT = 20
"""Tokens of a caption, start and end included; the longest has 16."""
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 96,
        "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": len(SPECIAL) + len(WORDS) + 1,
            "width": 64,
            "heads": 2,
            "layers": 2,
            "mlp_ratio": 2.0,
            "hf_tokenizer_name": "tiny",
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic"},
}
_FIGURE = {"colour": len(NAMES), "shape": len(SHAPES), "size": len(SIZES)}
LABELS = {"background": len(BACKGROUNDS), "relation": 3} | {
    f"{what} {which}": count for which in (1, 2) for what, count in _FIGURE.items()
}
"""What the first stage names, with the number of values; the figures from left to right or from top to bottom."""
ABSENT = -100
ANY = -1


def make_tokenizer() -> Any:
    """One token per word, lower-cased; the end token has the highest number, where CLIP's text tower looks for it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS, END))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace("grey", "gray")])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<start> $A {END}", special_tokens=[(token, vocabulary[token]) for token in ("<start>", END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<start>", eos_token=END, unk_token="<unknown>"
    )


def make_model(*, seed: int = 0) -> Any:
    """The open_clip model with random weights."""
    declare_torchvision_operators()
    from open_clip.model import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(**CONFIG["model_cfg"], init_logit_scale=math.log(10))


class Pictures:
    """Drawn scenes: `scenes`, and `pixels` uint8[count, 3, SIDE, SIDE]. Drawn at 32, 48 or 64 pixels, then reduced."""

    def __init__(self, split: str, count: int) -> None:
        self.scenes: list[Scene] = []
        stored = []
        for index in range(count):
            rng = Random(f"captions/tiny-clip/{split}/{index}")
            scene = draw_scene(rng)
            picture = paint(scene, rng, size=rng.choice((32, 48, 64)))
            self.scenes.append(scene)
            stored.append(np.asarray(picture.resize((SIDE, SIDE), 3)))
        self.pixels = torch.from_numpy(np.stack(stored)).permute(0, 3, 1, 2).contiguous()


def normalise(pixels: Tensor) -> Tensor:
    """f32[n, 3, h, w] in 0..1 -> what the image tower reads."""
    return (pixels - 0.5) / 0.25


def spoil(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """f32[n, 3, h, w] in 0..1: blur for random quarters, noise for half of the batch, contrast and tint for all.

    Also f32[n], what is left of each picture: (1 - share of noise)(1 - sigma of the blur / 3), 1 for a clean one.
    """
    pixels, count = pixels.clone(), len(pixels)
    left = torch.ones(count)
    for part, its in zip(pixels.chunk(4), left.chunk(4), strict=True):
        if torch.rand(()) < 0.5:
            sigma = 0.3 + 1.2 * torch.rand(()).item()
            part.copy_(blur(part, sigma))
            its.mul_(1 - sigma / 3)
    noise = 0.7 * torch.rand(count) * (torch.rand(count) < 0.5)
    level = noise[:, None, None, None]
    pixels = pixels * (1 - level) + level * static(count)
    contrast, tint = 1 + 0.1 * torch.randn(count, 1, 1, 1), 0.04 * torch.randn(count, 3, 1, 1)
    return ((pixels - 0.5) * contrast + 0.5 + tint).clamp(0, 1), left * (1 - noise)


def static(count: int) -> Tensor:
    """f32[count, 3, SIDE, SIDE] of noise around gray."""
    return 0.5 + 0.4 * torch.randn(count, 3, SIDE, SIDE)


def blur(pixels: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, `sigma` in pixels."""
    kernel = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 9)
    padded = functional.pad(pixels, (4, 4, 4, 4), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def numbers(scene: Scene) -> list[int]:
    """A scene as numbers in the order of `LABELS`: ABSENT for what there is not, ANY for what it leaves open."""

    def index(values: Sequence[str], value: str | None) -> int:
        return ANY if value is None else values.index(value)

    relation = 0 if scene.relation is None else 1 + tuple(OPPOSITE).index(scene.relation)
    listed = [index(tuple(BACKGROUNDS), scene.background), relation]
    for figure in scene.figures:
        listed += [NAMES.index(figure.colour), SHAPES.index(figure.shape), index(SIZES, figure.size)]
    return listed + [ABSENT] * (len(LABELS) - len(listed))


def labels(scene: Scene) -> list[int]:
    """Of the first stage."""
    listed = numbers(scene.turned() if scene.relation in ("right of", "below") else scene)
    listed[1] = (None, "left of", "above").index(
        {"right of": "left of", "below": "above"}.get(scene.relation or "", scene.relation)
    )
    return listed


def truth(descriptions: Sequence[Scene], pictures: Sequence[Scene]) -> Tensor:
    """bool[pictures, descriptions], `Scene.describes` for all of them at once."""
    shown = np.array([numbers(scene) for scene in pictures])[:, None]
    true = np.zeros((len(pictures), len(descriptions)), dtype=bool)
    for told in ([numbers(d) for d in descriptions], [numbers(d.turned()) for d in descriptions]):
        said = np.array(told)[None]
        true |= ((said == shown) | (said == ANY)).all(-1)
    return torch.from_numpy(true)


def contrast(similarity: Tensor, true: Tensor, left: Tensor) -> Tensor:
    """CLIP's loss with several right answers: cross-entropy to the mixture of them, both ways.

    `similarity` f32[pictures, captions], scaled; `true` bool of the same shape. A picture's captions count alike, a
    caption's pictures by `left`^3, f32[pictures], so that it prefers clean ones. What has no right answer only serves
    as a wrong one.
    """
    losses = []
    for dim, right in ((1, true.float()), (0, true * left[:, None] ** 3)):
        total = right.sum(dim)
        entropy = -(similarity.log_softmax(dim) * right).sum(dim)
        losses.append((entropy[total > 0] / total[total > 0]).mean())
    return torch.stack(losses).mean()


def see(model: Any, pictures: Pictures, *, steps: int, batch: int = 128, rate: float = 4e-3) -> None:
    """First stage: linear heads on the image embedding name background, relation, colours, shapes and sizes."""
    head = nn.Linear(CONFIG["model_cfg"]["embed_dim"], sum(LABELS.values()))
    wanted = torch.tensor([labels(scene) for scene in pictures.scenes])
    optimizer, set_rate = _optimizer([*model.visual.named_parameters(), *head.named_parameters()], rate, steps)
    for step in range(steps):
        set_rate(step)
        rows = torch.randint(len(wanted), (batch,))
        spoiled, _ = spoil(pictures.pixels[rows].float() / 255)
        found = head(model.encode_image(normalise(spoiled)))
        parts = found.split(list(LABELS.values()), dim=1)
        losses = [functional.cross_entropy(part, wanted[rows, i], ignore_index=ABSENT) for i, part in enumerate(parts)]
        loss = torch.stack(losses).sum()
        _learn(optimizer, loss)
        if step % 100 == 99:
            print(f"see   step {step + 1:5d}  loss {loss.item():.3f}", flush=True)


def read(
    model: Any, pictures: Pictures, *, steps: int, batch: int = 96, twins: int = 24, blank: int = 8, rate: float = 1e-3
) -> None:
    """Second stage: CLIP's loss over a batch of scenes, a caption of each, and that caption with a mistake.

    The first `twins` scenes are there twice, spoiled differently; `blank` pictures are noise and nothing else.
    """
    tokenizer = make_tokenizer()
    rng = Random("captions/tiny-clip/read")
    optimizer, set_rate = _optimizer(list(model.named_parameters()), rate, steps)
    for step in range(steps):
        set_rate(step)
        rows = [rng.randrange(len(pictures.scenes)) for _ in range(batch)]
        shown = [pictures.scenes[row] for row in rows]
        said = [draw_description(rng, scene) for scene in shown]
        said += [draw_mistake(rng, scene) for scene in said]
        spoiled, left = spoil(pictures.pixels[rows + rows[:twins]].float() / 255)
        spoiled, left = torch.cat([spoiled, static(blank).clamp(0, 1)]), torch.cat([left, torch.zeros(blank)])
        true = truth(said, shown)
        true = torch.cat([true, true[:twins], torch.zeros(blank, len(said), dtype=torch.bool)])
        images = model.encode_image(normalise(spoiled), normalize=True)
        texts = model.encode_text(tokens(tokenizer, [scene.caption for scene in said]), normalize=True)
        loss = contrast(model.logit_scale.exp() * images @ texts.T, true, left)
        _learn(optimizer, loss)
        model.logit_scale.data.clamp_(0, math.log(50))
        if step % 100 == 99:
            scale = model.logit_scale.exp().item()
            print(f"read  step {step + 1:5d}  loss {loss.item():.3f}  scale {scale:.1f}", flush=True)


def tokens(tokenizer: Any, captions: list[str]) -> Tensor:
    """int64[n, CONTEXT]"""
    options = {"max_length": CONTEXT, "padding": "max_length", "truncation": True, "return_tensors": "pt"}
    return tokenizer(captions, **options).input_ids


def _optimizer(named: list[tuple[str, nn.Parameter]], rate: float, steps: int) -> tuple[Any, Any]:
    """AdamW, and a function that sets a step's learning rate: 50 steps up, then a cosine to zero."""
    matrices = [weight for _, weight in named if weight.ndim >= 2]
    vectors = [weight for _, weight in named if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))

    def set_rate(step: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * step / steps)) / 2

    return optimizer, set_rate


def _learn(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], 1.0)
    optimizer.step()


def ship(model: Any, folder: Path) -> None:
    """Write `folder` as open_clip reads it: config, tokenizer, weights in float16."""
    from safetensors.torch import save_file

    from mmrl.runs.files import atomic_folder

    with atomic_folder(folder) as target:
        (target / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
        make_tokenizer().save_pretrained(target)
        halves = {
            name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()
        }
        save_file(halves, target / "open_clip_model.safetensors")


def main(folder: str, *, scenes: int = 24_000, see_steps: int = 2000, read_steps: int = 1600) -> None:
    """Train, write `folder`, print what it can do."""
    from rewards.images.tiny_measure import measure

    start = time.process_time()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = make_model().train()
    pictures = Pictures("train", scenes)
    see(model, pictures, steps=see_steps)
    read(model, pictures, steps=read_steps)
    ship(model, Path(folder))
    print(f"{time.process_time() - start:.0f} s of CPU time")
    for size, spoiled in ((64, False), (32, False), (32, True)):
        print(f"{size} pixels{', spoiled' if spoiled else ''}: {measure(folder, size=size, spoiled=spoiled)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
