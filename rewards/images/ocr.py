"""Reward for text in pictures, read with RapidOCR (PaddleOCR's models as ONNX, inside the package)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mmrl.records import Sample
from rewards.images.batches import caption_of, rgb
from rewards.registry import Score, reward
from rewards.text import levenshtein

if TYPE_CHECKING:
    from PIL.Image import Image

QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”')


@reward(range=(0, 1), reads="image", source="Flow-GRPO, arXiv 2505.05470")
class ocr_text:
    """1 if the text read in the picture contains the wanted text, else 1 - min(edits, length) / length.

    Wanted is `target.text`, else what stands in the first double quotes of the caption (`target.caption`, else the
    prompt). Both are lower-cased without blanks; everything that is read is joined. `edits` is the Levenshtein distance
    of the two, `length` that of the wanted text. Needs rapidocr-onnxruntime (`pip install mmrl-vision[images]`).
    """

    def __init__(self) -> None:
        try:
            from rapidocr_onnxruntime import RapidOCR
        except ImportError as error:
            raise ValueError(f"ocr_text needs the package rapidocr-onnxruntime ({error}); install mmrl-vision[images]"
                             ) from None  # fmt: skip
        self.engine = RapidOCR()

    def __call__(self, image: Any, sample: Sample) -> Score:
        wanted = wanted_text(sample)
        read = self.read(image)
        return Score(text_match(read, wanted), parsed=read, why="" if read else "no text in the picture")

    def read(self, image: Any) -> str:
        """All text in a picture, line by line from the top, joined by blanks; without any, an empty string."""
        import numpy as np

        lines, _ = self.engine(np.asarray(_widened(rgb(image)))[:, :, ::-1])
        return " ".join(text for _, text, _ in lines or [])


def _widened(image: Image) -> Image:
    """At most four times as long as wide, filled up with the corner's colour: the engine enlarges the short side to 736
    pixels and takes minutes over a strip."""
    from PIL import Image as pil

    least = max(image.size) // 4
    if min(image.size) >= least:
        return image
    canvas = pil.new("RGB", (max(image.width, least), max(image.height, least)), image.getpixel((0, 0)))
    canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
    return canvas


def wanted_text(sample: Sample) -> str:
    """ValueError if the sample names no text."""
    text = sample.target.get("text")
    if text is None:
        quoted = QUOTED.search(caption_of(sample))
        text = (quoted[1] or quoted[2] or "") if quoted else ""
    if not isinstance(text, str):
        raise TypeError(f"target.text is a text; found {text!r}")
    if not _plain(text):
        raise ValueError(f"there is no text to draw: target.text, or something in double quotes in the caption; found "
                         f"target.text = {sample.target.get('text')!r}")  # fmt: skip
    return text


def text_match(read: str, wanted: str) -> float:
    """The formula of `ocr_text`; `wanted` has at least one character that is not blank."""
    read, wanted = _plain(read), _plain(wanted)
    if wanted in read:
        return 1.0
    return 1 - min(levenshtein(read, wanted), len(wanted)) / len(wanted)


def _plain(text: str) -> str:
    return "".join(text.split()).lower()
