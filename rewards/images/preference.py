"""Rewards from models of human preference: HPS v2.1, PickScore, ImageReward.

Each reads the caption (`target.caption`, else the prompt) with the picture. Models whose code wants an environment of
its own go behind the server: put `mmrl rewards serve my_file.py:my_reward` there and the reward `remote` here.
VideoAlign (VideoReward, arXiv 2501.13918) is one, it needs transformers 4.46 and trl 0.16:
`docs/examples/video_align.py` is that reward, and `videoalign_raw` turns its z-scores back into raw units. A row that
fails there has no score, where DanceGRPO's script puts -1 into the group's statistics. Its text alignment is unstable
as a reward.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from mmrl.records import Sample
from rewards.images.batches import Batched, CaptionCosine, caption_of, rgb
from rewards.images.loading import weights_file
from rewards.images.towers import open_clip_towers, transformers_towers
from rewards.registry import reward

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

HPS_ARCHITECTURE = "ViT-H-14"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, per channel."""
PickScale = Literal["cosine", "logit", "flow_grpo", "mixgrpo"]


@reward(range=(-1, 1), scope="batch", reads="image", source="HPS v2, arXiv 2306.09341")
class hps(CaptionCosine):
    """HPS v2.1: cosine of picture and caption in a ViT-H-14 tuned on human choices, unscaled; about 0.2 to 0.37.

    The picture is fitted into a square and padded (`fit_and_pad`), not cropped. Setting `weights`: a local
    `HPS_v2.1_compressed.pt` (or `HPS_v2_compressed.pt` for v2.0), or owner/repository/file on the hub.
    """

    def __init__(
        self, *, weights: str = "xswu/HPSv2/HPS_v2.1_compressed.pt", batch_size: int = 32, device: str = "cpu"
    ) -> None:
        file = weights_file(weights, setting="weights")
        self.towers = open_clip_towers(HPS_ARCHITECTURE, str(file), device)
        self.batch_size = batch_size

    def _pixels(self, picture: Image) -> Tensor:
        return fit_and_pad(picture, self.towers.side)


def fit_and_pad(image: Image, side: int) -> Tensor:
    """An RGB picture -> f32[3, side, side]: longest side scaled to `side`, centred on black, CLIP's normalisation.

    Bicubic on floats in 0..1, with antialiasing and without clipping the overshoot, as torchvision resizes tensors. The
    padding is 0 before it is normalised. HPS's own code forgets to pad a picture whose longest side is `side` already.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import normalize, pad, resize, to_tensor

    pixels = to_tensor(image)
    scale = side / max(image.size)
    height, width = (max(1, round(length * scale)) for length in pixels.shape[1:])
    if scale != 1:
        pixels = resize(pixels, [height, width], InterpolationMode.BICUBIC, antialias=True)
    left, top = (side - width) // 2, (side - height) // 2
    pixels = pad(pixels, [left, top, side - width - left, side - height - top], fill=0)
    return normalize(pixels, list(MEAN), list(STD))


@reward(range=(-math.inf, math.inf), scope="batch", reads="image", source="Pick-a-Pic, arXiv 2305.01569")
class pickscore(CaptionCosine):
    """PickScore: logit s * cosine of picture and caption, s = 100, over 26: about 0.7 to 0.9.

    Setting `scale`: `flow_grpo` is that; `cosine` (DanceGRPO), `logit` (the paper, about 20 to 23) and `mixgrpo`,
    (logit - 18) / 8, are the other ones in use. `model` and `processor` are local folders or hub names.
    """

    def __init__(
        self,
        *,
        scale: PickScale = "flow_grpo",
        model: str = "yuvalkirstain/PickScore_v1",
        processor: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        batch_size: int = 32,
        device: str = "cpu",
    ) -> None:
        self.towers = transformers_towers(model, processor, device)
        self.scale: PickScale = scale
        self.batch_size = batch_size

    def _score(self, rows: list[tuple[Tensor, str]]) -> list[float]:
        return [pickscore_scaled(cosine, self.towers.scale, self.scale) for cosine in super()._score(rows)]


def pickscore_scaled(cosine: float, logit_scale: float, scale: PickScale) -> float:
    """The four conventions for the same cosine; `logit_scale` is exp of the model's parameter, 100 for PickScore."""
    logit = logit_scale * cosine
    return {"cosine": cosine, "logit": logit, "flow_grpo": logit / 26, "mixgrpo": (logit - 18) / 8}[scale]


@reward(range=(-math.inf, math.inf), scope="batch", reads="image", source="ImageReward, arXiv 2304.05977")
class image_reward(Batched):
    """ImageReward: BLIP's reading of picture and caption, (r - 0.1672) / 1.0333; about -2 to 2.

    Runs the package `image-reward`, which pins timm 0.6 and old transformers: install it in an environment of its own,
    serve it there with `mmrl rewards serve image_reward` and use `remote` here. Setting `weights`: a local
    `ImageReward.pt` or the package's name; `med_config`: the `med_config.json` beside it, empty for the hub's. Used
    alone it is known to spoil FLUX pictures.
    """

    def __init__(
        self,
        *,
        weights: str = "ImageReward-v1.0",
        med_config: str = "",
        batch_size: int = 32,
        device: str = "cpu",
    ) -> None:
        try:
            import ImageReward
        except ImportError as error:
            raise ValueError(
                f"image_reward needs the package image-reward, which cannot be imported here ({error}).\n"
                f"  Install it in an environment of its own (pip install image-reward), run `mmrl rewards serve "
                f"image_reward` there, and use the reward `remote` with its url."
            ) from None
        try:
            self.model = ImageReward.load(weights, device=device, med_config=med_config or None)
        except Exception as error:
            raise ValueError(
                f"weights = {weights}: {error}\n  Without network, fetch ImageReward.pt and med_config.json from "
                f"huggingface.co/THUDM/ImageReward elsewhere and set weights and med_config to their paths."
            ) from None
        self.batch_size, self.device = batch_size, device

    def _prepare(self, image: Any, sample: Sample) -> tuple[Tensor, str]:
        return self.model.preprocess(rgb(image)), caption_of(sample)

    def _score(self, rows: list[tuple[Tensor, str]]) -> list[float]:
        import torch

        captions = [caption for _, caption in rows]
        options: dict[str, Any] = {"padding": "max_length", "truncation": True, "max_length": 35}
        blip = self.model.blip
        with torch.inference_mode():
            read = blip.tokenizer(captions, return_tensors="pt", **options).to(self.device)
            seen = blip.visual_encoder(torch.stack([pixels for pixels, _ in rows]).to(self.device))
            both = blip.text_encoder(
                read.input_ids,
                attention_mask=read.attention_mask,
                encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.long, device=seen.device),
                return_dict=True,
            )
            raw = self.model.mlp(both.last_hidden_state[:, 0].float())[:, 0]
        return [image_reward_normalised(value) for value in raw.tolist()]


def image_reward_normalised(raw: float) -> float:
    """(raw - mean) / std with the constants of ImageReward v1.0."""
    return (raw - 0.16717362830052426) / 1.0333394966054072


def videoalign_raw(visual: float, motion: float) -> tuple[float, float]:
    """Visual and motion quality in raw units, from VideoAlign's z-scores (`use_norm=True`)."""
    return visual * 2.2476 + 3.6757, motion * 1.3811 + 1.1646
