"""Rewards from CLIP: does the picture fit its caption, which caption of several does it fit, is it beautiful.

All of them load their model with open_clip (`towers.py`); `model: tiny` is one that ships with mmrl, for drawn shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmrl.records import Sample
from rewards.images.batches import Batched, CaptionCosine, caption_of, rgb
from rewards.images.loading import load_tensors, weights_file
from rewards.images.towers import open_clip_towers
from rewards.registry import Score, reward

if TYPE_CHECKING:
    from torch import Tensor

MODEL, WEIGHTS = "ViT-L-14-quickgelu", "openai"


@reward(range=(-1, 1), scope="batch", reads="image", source="CLIP, arXiv 2103.00020")
class clip_score(CaptionCosine):
    """Cosine of picture and caption in CLIP's space, unscaled; real pictures and captions use about 0.1 to 0.4 of it.

    The caption is `target.caption`, else the prompt. Settings: `model`, an architecture of open_clip with its
    `weights` (a tag or a local file), or what brings its own: `hf-hub:owner/repository`, a local folder, `tiny`.
    DanceGRPO and MixGRPO score with `hf-hub:apple/DFN5B-CLIP-ViT-H-14-384`. Transform and tokenizer are the model's.
    """

    def __init__(
        self, *, model: str = MODEL, weights: str = WEIGHTS, batch_size: int = 32, device: str = "cpu"
    ) -> None:
        self.towers = open_clip_towers(model, weights, device)
        self.batch_size = batch_size


@reward(range=(0, 1), scope="batch", reads="image", source="CLIP, arXiv 2103.00020, section 3.1")
class clip_probability(Batched):
    """Zero-shot probability of the caption among several: softmax(s * cosine), s the model's own scale (100 for CLIP).

    The others are `target.captions`, else the setting `labels`; the caption itself (`target.caption`, else the prompt)
    is added where it is not among them. Other settings as in `clip_score`.
    """

    def __init__(
        self,
        *,
        labels: Sequence[str] = (),
        model: str = MODEL,
        weights: str = WEIGHTS,
        batch_size: int = 32,
        device: str = "cpu",
    ) -> None:
        self.towers = open_clip_towers(model, weights, device)
        self.labels = labels
        self.batch_size = batch_size

    def _prepare(self, image: Any, sample: Sample) -> tuple[Tensor, list[str]]:
        """Pixels and the captions to choose from, the right one first."""
        others = sample.target.get("captions", self.labels)
        if isinstance(others, str) or not all(isinstance(other, str) for other in others):
            raise TypeError(f"target.captions is a list of texts; found {others!r}")
        captions = list(dict.fromkeys([caption_of(sample), *others]))
        if len(captions) < 2:
            raise ValueError(f"target.captions (or the setting labels) has no caption but the right one: {captions}")
        return self.towers.prepare(rgb(image)), captions

    def _score(self, rows: list[tuple[Tensor, list[str]]]) -> list[Score]:
        pictures = self.towers.pictures([pixels for pixels, _ in rows])
        texts = self.towers.texts([caption for _, captions in rows for caption in captions])
        scores = []
        for picture, (_, captions), vectors in zip(
            pictures, rows, texts.split([len(captions) for _, captions in rows]), strict=True
        ):
            probabilities = (self.towers.scale * vectors @ picture).softmax(0)
            best = captions[int(probabilities.argmax())]
            why = "" if best == captions[0] else f"looks more like {best!r}"
            scores.append(Score(probabilities[0].clamp(0, 1).item(), why=why))
        return scores


@reward(range=(-math.inf, math.inf), scope="batch", reads="image", source="LAION aesthetic predictor v2")
class aesthetic(Batched):
    """LAION's aesthetic score, about 1 to 10: an affine head on the picture's CLIP ViT-L-14 (OpenAI) unit vector.

    The head's five linear layers have no activation between them, so they are multiplied out once, in float64. Setting
    `head`: a local file (`sac+logos+ava1-l14-linearMSE.pth`, or safetensors with its names) or owner/repository/file
    on the hub. Other settings as in `clip_score`; another CLIP needs a head of its own.
    """

    def __init__(
        self,
        *,
        head: str = "trl-lib/ddpo-aesthetic-predictor/aesthetic-model.pth",
        model: str = MODEL,
        weights: str = WEIGHTS,
        batch_size: int = 32,
        device: str = "cpu",
    ) -> None:
        self.weight, self.bias = affine_head(load_tensors(weights_file(head, setting="head")), where=f"head = {head}")
        self.towers = open_clip_towers(model, weights, device)
        self.batch_size = batch_size
        width = self.towers.texts(["a"]).shape[1]
        if len(self.weight) != width:
            raise ValueError(f"head = {head} reads {len(self.weight)} numbers; the vectors of {model} have {width}")

    def _prepare(self, image: Any, sample: Sample) -> Tensor:
        return self.towers.prepare(rgb(image))

    def _score(self, prepared: list[Tensor]) -> list[float]:
        return aesthetic_scores(self.towers.pictures(prepared).cpu(), self.weight, self.bias).tolist()


def aesthetic_scores(vectors: Tensor, weight: Tensor, bias: float) -> Tensor:
    """f64[n] = vectors f32[n, width] @ weight f64[width] + bias."""
    return vectors.double() @ weight + bias


def affine_head(tensors: dict[str, Tensor], *, where: str) -> tuple[Tensor, float]:
    """The product of the linear layers `layers.<n>.weight` and `.bias`, in the order of n: f64[width] and bias."""
    import torch

    numbers = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("layers.")})
    if not numbers or set(tensors) != {f"layers.{n}.{part}" for n in numbers for part in ("weight", "bias")}:
        raise ValueError(
            f"{where} is no aesthetic head: its tensors are {', '.join(sorted(tensors)[:4])} ... instead of "
            f"layers.0.weight, layers.0.bias, layers.2.weight ..."
        )
    width = tensors[f"layers.{numbers[0]}.weight"].shape[1]
    weight, bias = torch.eye(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    for n in numbers:
        layer = tensors[f"layers.{n}.weight"].double()
        weight, bias = layer @ weight, layer @ bias + tensors[f"layers.{n}.bias"].double()
    if len(weight) != 1:
        raise ValueError(f"{where}: its last layer gives {len(weight)} numbers instead of 1")
    return weight[0], bias.item()
