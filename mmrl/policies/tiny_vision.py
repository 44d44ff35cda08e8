"""The first stage of the tiny model: its vision tower learns to see, before a language model reads it.

From random weights, language modelling alone suppresses vision tokens long before it could use them (1,600 steps of 32
chats left the answers at chance; docs/notes.md). Supervised directly, the tower learns within minutes: every vision
token says which element of a drawn screen it lies on (colour, kind) and where that element's centre is. The heads are
thrown away. `scripts/make_tiny_vlm.sh` runs it: python -m mmrl.policies.tiny_vision IN OUT COLD_START_JSONL
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from data_pipelines.dataset import read_samples
from data_pipelines.gui.render import TINY_KINDS
from data_pipelines.gui.shapes import COLOURS
from data_pipelines.media import open_image
from mmrl.policies.tiny import MERGE, PATCH
from mmrl.records import Sample

SIDE = 64
"""Width and height of the screens in pixels."""
CELL = PATCH * MERGE
"""Pixels per side of a vision token."""
CELLS = SIDE // CELL
SEEN = 12
"""An element must cover this many pixels of a cell to be its answer."""
HEADS = {"colour": len(COLOURS) + 1, "kind": len(TINY_KINDS), "x": SIDE, "y": SIDE}
"""Classes of each head; the last colour is "nothing here"."""


def pretrain(source: Path, out: Path, data: Path, *, steps: int = 2000, batch: int = 64, rate: float = 1e-3) -> None:
    """Train the vision tower of the model in `source` on the screens of a cold-start dataset; save to `out`."""
    from mmrl.config import ModelConfig
    from mmrl.policies.pretrained import load_pretrained

    model, processor = load_pretrained(ModelConfig(path=str(source)))
    visual = model.model.visual
    pixels, answers = prepare(read_samples(data, need_target=False), processor)
    with torch.no_grad():  # let positions be heard beside content from the start
        visual.pos_embed.weight.mul_(4.0)
        visual.patch_embed.proj.weight.mul_(0.5)
    generator = torch.Generator().manual_seed(0)
    width = model.config.text_config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = torch.nn.ModuleDict({name: torch.nn.Linear(width, n) for name, n in HEADS.items()})
    parameters = [*visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05)
    for _ in track(range(steps), "vision tower"):
        chosen = torch.randint(len(pixels), (batch,), generator=generator)
        loss = vision_loss(visual, heads, pixels[chosen], answers[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    model.save_pretrained(out)
    processor.save_pretrained(out)


def vision_loss(visual: Any, heads: Any, pixels: Tensor, answers: Tensor) -> Tensor:
    """Mean cross-entropies of the four heads. `pixels` f32[B, patches, values], `answers` int64[B, CELLS**2, 4]."""
    grid = torch.tensor([[1, SIDE // PATCH, SIDE // PATCH]]).expand(len(pixels), -1)
    tokens = visual(pixels.flatten(0, 1), grid_thw=grid, return_dict=True).pooler_output.flatten(0, -2)
    # At unit scale, as the language model's norm will present them.
    read = tokens * torch.rsqrt(tokens.pow(2).mean(-1, keepdim=True) + 1e-6)
    colour, kind, x, y = answers.flatten(0, 1).unbind(-1)
    seen = kind >= 0
    loss = F.cross_entropy(heads["colour"](read), colour)
    for name, answer in (("kind", kind), ("x", x), ("y", y)):
        loss = loss + F.cross_entropy(heads[name](read[seen]), answer[seen])
    return loss + 1e-3 * tokens.pow(2).mean()


def prepare(samples: Sequence[Sample], processor: Any) -> tuple[Tensor, Tensor]:
    """Pixels f32[N, patches, values] and answers int64[N, CELLS**2, 4] of the samples' screens."""
    pixels = []
    for start in range(0, len(samples), 200):
        images = [open_image(sample.media[0].path) for sample in samples[start : start + 200]]
        values = processor.image_processor(images=images, do_resize=False, return_tensors="pt")["pixel_values"]
        pixels.append(values.view(len(images), -1, values.shape[-1]))
    return torch.cat(pixels), torch.stack([answers_of(sample.meta["elements"]) for sample in samples])


def answers_of(elements: Sequence[dict[str, Any]]) -> Tensor:
    """int64[CELLS**2, 4]: colour, kind, x, y of the element that covers most of each cell; kind -1 for none."""
    answers = torch.tensor([[len(COLOURS), -1, -1, -1]] * CELLS**2)
    for cell in range(CELLS**2):
        top, left = CELL * (cell // CELLS), CELL * (cell % CELLS)
        most = SEEN - 1
        for element in elements:
            x1, y1, x2, y2 = element["box"]
            width, height = min(x2, left + CELL) - max(x1, left), min(y2, top + CELL) - max(y1, top)
            if min(width, height) > 0 and width * height > most:
                most = width * height
                colour, kind = element["name"].split()
                place = [(x1 + x2) // 2, (y1 + y2) // 2]
                answers[cell] = torch.tensor([list(COLOURS).index(colour), TINY_KINDS.index(kind), *place])
    return answers


if __name__ == "__main__":
    pretrain(*(Path(argument) for argument in sys.argv[1:4]))
