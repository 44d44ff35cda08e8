"""CLIP-like models as two functions into one space: pictures to unit vectors, texts to unit vectors.

open_clip and transformers hold such models; what their cosines are worth is `clip.py` and `preference.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmrl
from mmrl.compat import declare_torchvision_operators
from mmrl.plugins import nearest
from rewards.images.loading import HUB

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

TINY = Path(mmrl.__file__).with_name("assets") / "tiny-clip"
"""The open_clip model that ships with mmrl, `model: tiny`: 0.4 M parameters, 24 words, pictures reduced to 32 x 32.

It knows the captions of `data_pipelines/captions`. On 1,000 new scenes drawn at 64 and at 32 pixels (`tiny_measure.py`)
the right `a <colour> <shape>` of 16 scores highest for 95 % and 94 % of single shapes, 0.66 above the mean of the
others; a true description scores above the same with one mistake for 95 %. Mean scores of a true caption at 32 pixels:
0.83; under 60 % noise 0.74, under 80 % 0.50; blurred by 3 pixels 0.70, by 8 0.21; noise alone 0.34, background alone
0.18, another scene 0.04. Trained by `tiny.py`."""


@dataclass(frozen=True)
class Towers:
    """A loaded model. Vectors come out as f32[n, width] of length 1."""

    prepare: Callable[[Image], Tensor]
    """An RGB picture -> f32[3, side, side], as the model was trained to see it."""
    encode_pixels: Callable[[Tensor], Tensor]
    encode_texts: Callable[[list[str]], Tensor]
    scale: float
    """exp(logit_scale), by which the model multiplies cosines before a softmax."""
    side: int
    """Of the square pictures it sees, in pixels."""
    device: str

    def pictures(self, prepared: list[Tensor]) -> Tensor:
        """f32[n, width]"""
        import torch

        with torch.inference_mode(), self._precision():
            return _unit(self.encode_pixels(torch.stack(prepared).to(self.device)))

    def texts(self, texts: list[str]) -> Tensor:
        """f32[n, width]; a text that occurs several times is encoded once."""
        import torch

        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        with torch.inference_mode(), self._precision():
            vectors = _unit(self.encode_texts(list(distinct)))
        return vectors[[distinct[text] for text in texts]]

    def cosines(self, prepared: list[Tensor], texts: list[str]) -> list[float]:
        """The cosine of each picture with the text beside it, in [-1, 1]."""
        return (self.pictures(prepared) * self.texts(texts)).sum(-1).clamp(-1, 1).tolist()

    def _precision(self) -> AbstractContextManager[Any]:
        """Half precision for matrix products on a GPU, as the scores were published."""
        import torch

        return torch.autocast(self.device.split(":")[0], dtype=torch.float16, enabled=self.device.startswith("cuda"))


def _unit(vectors: Tensor) -> Tensor:
    from torch.nn.functional import normalize

    return normalize(vectors.float(), dim=-1)


@cache
def open_clip_towers(model: str, weights: str, device: str) -> Towers:
    """A model of open_clip with its own transform and tokenizer, loaded once per process.

    `model` is an architecture (`ViT-L-14-quickgelu`) whose weights `weights` names, a tag of open_clip's list or a
    local file; or `hf-hub:owner/repository`, a local folder with `open_clip_config.json`, or `tiny`, which bring their
    own. ValueError says what cannot be loaded and what to do.
    """
    declare_torchvision_operators()
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    name, tag = _located(model, weights)
    try:
        loaded = open_clip.create_model(name, pretrained=tag, device=device, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        raise ValueError(
            f"model = {model}{f', weights = {weights}' if tag else ''}: open_clip cannot load it ({error}).\n"
            f"  Without network, set model to a local folder with open_clip_config.json and "
            f"open_clip_model.safetensors, or weights to a local file."
        ) from None
    loaded.eval().requires_grad_(False)
    size = loaded.visual.image_size
    return Towers(
        prepare=image_transform_v2(PreprocessCfg(**loaded.visual.preprocess_cfg), is_train=False),
        encode_pixels=loaded.encode_image,
        encode_texts=lambda texts: loaded.encode_text(tokenizer(texts).to(device)),
        scale=loaded.logit_scale.exp().item(),
        side=size if isinstance(size, int) else size[0],
        device=device,
    )


def _located(model: str, weights: str) -> tuple[str, str | None]:
    """Name and pretrained tag as open_clip wants them; None where the model brings its weights."""
    import open_clip

    folder = TINY if model == "tiny" else Path(model).expanduser()
    if folder.is_dir():
        return f"local-dir:{folder}", None
    if model.startswith(HUB):
        return model, None
    if model not in open_clip.list_models():
        raise ValueError(
            f"model = {model} is no architecture of open_clip, no local folder and not hf-hub:owner/repository.\n"
            f"  {nearest(model, ['tiny', *open_clip.list_models()])}"
        )
    if Path(weights).expanduser().is_file():
        return model, str(Path(weights).expanduser())
    tags = open_clip.list_pretrained_tags_by_model(model)
    if weights not in tags:
        raise ValueError(
            f"weights = {weights} is neither a local file nor open_clip's for {model}.\n  {nearest(weights, tags)}"
        )
    wanted = bool(open_clip.get_pretrained_cfg(model, weights).get("quick_gelu"))
    if wanted != bool(open_clip.get_model_config(model).get("quick_gelu")):
        twin = f"{model}-quickgelu" if wanted else model.removesuffix("-quickgelu")
        raise ValueError(
            f"model = {model}: the weights {weights} were trained as {twin}; with the other activation the scores are "
            f"wrong."
        )
    return model, weights


@cache
def transformers_towers(model: str, processor: str, device: str) -> Towers:
    """A CLIP of transformers, by local folder or hub name; `processor` names the transform and the tokenizer."""
    declare_torchvision_operators()
    from transformers import AutoModel, AutoProcessor

    try:
        loaded: Any = AutoModel.from_pretrained(model).eval().requires_grad_(False).to(device)
        reader: Any = AutoProcessor.from_pretrained(processor)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model = {model}, processor = {processor}: neither local folders nor names the hub gives us "
            f"({str(error).splitlines()[0]}).\n  Without network, fetch both repositories from huggingface.co "
            f"elsewhere and set model and processor to their folders."
        ) from None

    def encode_texts(texts: list[str]) -> Tensor:
        read = reader.tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
        return loaded.get_text_features(**read.to(device)).pooler_output

    return Towers(
        prepare=lambda picture: reader.image_processor(picture, return_tensors="pt")["pixel_values"][0],
        encode_pixels=lambda pixels: loaded.get_image_features(pixel_values=pixels).pooler_output,
        encode_texts=encode_texts,
        scale=loaded.logit_scale.exp().item(),
        side=loaded.config.vision_config.image_size,
        device=device,
    )
