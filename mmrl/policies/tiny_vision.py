"""The first stage of the tiny model: its vision tower learns to see, before a language model reads it.

From random weights, language modelling alone suppresses vision tokens long before it could use them (1,600 steps of 32
chats left the answers at chance; docs/notes.md). Supervised directly, the tower learns within minutes: every vision
token says what it lies on (colour, kind, whether it moves), where the centre of that is, and how many centres are in
its cell. The pictures are drawn as they are needed, of all four modalities. The heads are thrown away.
`scripts/make_tiny_vlm.sh` runs it: python -m mmrl.policies.tiny_vision IN OUT
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.progress import track
from torch import Tensor

from data_pipelines.charts.tiny import FLOOR, UNIT, draw_bars, paint_bars
from data_pipelines.gui.render import TINY_KINDS, draw_screen
from data_pipelines.gui.shapes import COLOURS, THEMES
from data_pipelines.uav.tiny import draw_tiny
from data_pipelines.video.clips import FORMS, draw_clip
from data_pipelines.video.render import paint
from mmrl.policies.tiny import MERGE, PATCH

SIDE = 64
"""Width and height of the pictures in pixels; frames of clips have half of it."""
CELL = PATCH * MERGE
"""Pixels per side of a vision token."""
SEEN = 12
"""A thing must cover this many pixels of a cell to be its answer."""
KINDS = (*TINY_KINDS, "square", "bar", "car", "house", "tree", "river")
HEADS = {"colour": len(COLOURS) + 1, "kind": len(KINDS), "x": SIDE, "y": SIDE, "moves": 2, "centres": 4}
"""Classes of each head. The last colour is "nothing here, or nothing with a colour of its own"; x and y are in 64ths of
the picture's sides; the last number of centres is "this many or more"."""


@dataclass(frozen=True)
class Thing:
    """Something in a picture."""

    kind: str
    colour: str | None
    box: tuple[float, float, float, float]
    """(x1, y1, x2, y2) in pixels."""
    moves: bool = False

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Picture:
    """Two frames that the model merges into one row of patches, the same one twice for an image, and what is there."""

    frames: tuple[Image.Image, Image.Image]
    things: list[Thing]


def screen(rng: Random) -> Picture:
    image, elements = draw_screen(rng, (SIDE, SIDE), rng.choice(list(THEMES)))
    return Picture((image, image), [Thing(e.kind, e.name.split()[0], e.box) for e in elements])


def chart(rng: Random) -> Picture:
    bars = draw_bars(rng)
    image = paint_bars(bars, rng.choice(list(THEMES)), grid=rng.random() < 0.7)
    return Picture(
        (image, image), [Thing("bar", b.colour, (b.left, FLOOR - UNIT * b.value, b.right, FLOOR)) for b in bars]
    )


def from_above(rng: Random) -> Picture:
    image, seen = draw_tiny(rng, (SIDE, SIDE))
    return Picture((image, image), [Thing(s.kind, s.colour, s.box) for s in seen])


def moment(rng: Random) -> Picture:
    """One second of a clip."""
    clip = draw_clip(rng, FORMS["tiny"])
    times = [(second := rng.randrange(clip.form.seconds)), second + 1 / clip.form.fps]
    things = []
    for actor in clip.in_view(times[0]):
        (x, y), half = actor.place(times[0]), actor.diameter / 2
        moves = actor.place(times[1]) != (x, y)
        things.append(Thing(actor.kind, actor.colour_at(times[0]), (x - half, y - half, x + half, y + half), moves))
    first, second_frame = (paint(clip, time) for time in times)
    return Picture((first, second_frame), things)


PAINTERS: tuple[Callable[[Random], Picture], ...] = (screen, chart, from_above, moment)


def pretrain(source: Path, out: Path, *, steps: int = 2000, batch: int = 64, rate: float = 1e-3) -> None:
    """Train the vision tower of the model in `source`; save the whole model to `out`. Each step draws `batch` pictures,
    of each modality as many."""
    from mmrl.config import ModelConfig
    from mmrl.policies.pretrained import load_pretrained

    model, processor = load_pretrained(ModelConfig(path=str(source)))
    visual = model.model.visual
    with torch.no_grad():  # let positions be heard beside content from the start
        visual.pos_embed.weight.mul_(4.0)
        visual.patch_embed.proj.weight.mul_(0.5)
    width = model.config.text_config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = torch.nn.ModuleDict({name: torch.nn.Linear(width, n) for name, n in HEADS.items()})
    parameters = [*visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05)
    rng = Random("tiny vision")
    for _ in track(range(steps), "vision tower"):
        pictures = [paint_one(rng) for paint_one in PAINTERS for _ in range(batch // len(PAINTERS))]
        loss = vision_loss(visual, heads, *encode(pictures, processor))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    model.save_pretrained(out)
    processor.save_pretrained(out)


def encode(pictures: Sequence[Picture], processor: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Patches f32[P, values] of all pictures in a row, their grids int64[n, 3], answers int64[tokens, heads]."""
    pairs = [np.stack([np.asarray(frame) for frame in picture.frames]) for picture in pictures]
    videos = [torch.from_numpy(pair).permute(0, 3, 1, 2) for pair in pairs]
    values = processor.video_processor(videos=videos, do_resize=False, do_sample_frames=False, return_tensors="pt")
    answers = torch.cat([answers_of(picture) for picture in pictures])
    return values["pixel_values_videos"], values["video_grid_thw"], answers


def vision_loss(visual: Any, heads: Any, pixels: Tensor, grids: Tensor, answers: Tensor) -> Tensor:
    """Sum over the heads of their mean cross-entropies; cells without a thing count for `colour` and `centres` only."""
    tokens = visual(pixels, grid_thw=grids, return_dict=True).pooler_output.flatten(0, -2)
    # At unit scale, as the language model's norm will present them.
    read = tokens * torch.rsqrt(tokens.pow(2).mean(-1, keepdim=True) + 1e-6)
    loss = 1e-3 * tokens.pow(2).mean()
    for name, answer in zip(HEADS, answers.unbind(-1), strict=True):
        told = answer >= 0
        loss = loss + F.cross_entropy(heads[name](read[told]), answer[told])
    return loss


def answers_of(picture: Picture) -> Tensor:
    """int64[cells, heads], row by row: the thing that covers most of each cell; -1 where a head has nothing to say."""
    width, height = picture.frames[0].size
    columns, rows = width // CELL, height // CELL
    answers = torch.tensor([[len(COLOURS), -1, -1, -1, -1, 0]] * (rows * columns))
    for cell in range(rows * columns):
        top, left = CELL * (cell // columns), CELL * (cell % columns)
        most = SEEN - 1.0
        for thing in picture.things:
            x1, y1, x2, y2 = thing.box
            x, y = thing.centre
            answers[cell, -1] += int(left <= x < left + CELL and top <= y < top + CELL)
            across, down = min(x2, left + CELL) - max(x1, left), min(y2, top + CELL) - max(y1, top)
            if min(across, down) > 0 and across * down > most:
                most = across * down
                colour = len(COLOURS) if thing.colour is None else list(COLOURS).index(thing.colour)
                place = [int(x * SIDE / width), int(y * SIDE / height)]
                answers[cell, :-1] = torch.tensor([colour, KINDS.index(thing.kind), *place, int(thing.moves)])
    answers[:, -1].clamp_(max=HEADS["centres"] - 1)
    return answers


if __name__ == "__main__":
    pretrain(*(Path(argument) for argument in sys.argv[1:3]))
