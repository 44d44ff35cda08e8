"""How well a small open_clip model knows drawn scenes it has not seen; run by `tiny.py` on the model it made."""

from __future__ import annotations

from random import Random

import torch

from data_pipelines.captions.render import paint
from data_pipelines.captions.scenes import NAMES, SHAPES, draw_description, draw_mistake, draw_scene
from mmrl.compat import declare_torchvision_operators
from rewards.images.tiny import spoil
from rewards.images.towers import open_clip_towers


def measure(folder: str, *, count: int = 1000, size: int = 64, spoiled: bool = False) -> dict[str, float]:
    """How well a model in `folder` knows pictures of `size` pixels that it was not trained on.

    `right of 16`: of single figures, how often the caption `a <colour> <shape>` scores highest among 16 of the 30;
    `gap`: its score minus the mean of the other 15; `right of 2`: how often a true description (sizes, relations,
    backgrounds) scores higher than the same with one mistake; `score`, `score of mistake`: their means.
    """
    declare_torchvision_operators()
    from torchvision.transforms.functional import to_pil_image, to_tensor

    towers = open_clip_towers(folder, "", "cpu")
    rng = Random(f"captions/tiny-clip/measure/{size}")
    scenes = [draw_scene(rng) for _ in range(count)]
    drawn = torch.stack([to_tensor(paint(scene, rng, size=size)) for scene in scenes])
    if spoiled:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            drawn, _ = spoil(drawn)
    seen = torch.cat([towers.pictures([towers.prepare(to_pil_image(x)) for x in part]) for part in drawn.split(100)])

    names = [f"a {colour} {shape}" for colour in NAMES for shape in SHAPES]
    singles = [row for row, scene in enumerate(scenes) if len(scene.figures) == 1]
    gold = [f"a {scenes[row].figures[0].colour} {scenes[row].figures[0].shape}" for row in singles]
    chosen = [[name, *rng.sample([other for other in names if other != name], 15)] for name in gold]
    scores = torch.stack([towers.texts(c) @ seen[row] for row, c in zip(singles, chosen, strict=True)])

    said = [draw_description(rng, scene) for scene in scenes]
    true = (towers.texts([scene.caption for scene in said]) * seen).sum(1)
    false = (towers.texts([draw_mistake(rng, scene).caption for scene in said]) * seen).sum(1)
    found = {
        "right of 16": (scores.argmax(1) == 0).float().mean(),
        "gap": (scores[:, 0] - scores[:, 1:].mean(1)).mean(),
        "right of 2": (true > false).float().mean(),
        "score": true.mean(),
        "score of mistake": false.mean(),
    }
    return {name: round(value.item(), 3) for name, value in found.items()}
