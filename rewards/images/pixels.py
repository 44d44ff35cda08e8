"""Rewards computed from pixels alone: file size, brightness, colour, motion. No-reference quality is `brisque.py`.

None of them knows what a picture shows, so they are for demonstrations, and as a weighed-in check against a model-based
reward that drifts (over-bright, over-smooth, frozen films).
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, Literal

from mmrl.records import Sample
from rewards.images.batches import rgb
from rewards.registry import Score, reward


@reward(range=(-math.inf, math.inf), reads="image", source="DDPO, arXiv 2305.13301")
def jpeg_size(
    image: Any,
    sample: Sample,
    *,
    want: Literal["compressible", "incompressible"] = "compressible",
    scale: float = 500.0,
) -> Score:
    """-kB / scale for `want: compressible`, +kB / scale for `incompressible`; kB of the picture as JPEG at quality 95.

    kB are 1,000 bytes. `scale` 500 is Flow-GRPO's, 1 is DDPO's.
    """
    if not scale > 0:
        raise ValueError(f"scale is a positive number of kB; found {scale}")
    stored = io.BytesIO()
    rgb(image).save(stored, format="JPEG", quality=95)
    kilobytes = stored.tell() / 1000
    sign = -1 if want == "compressible" else 1
    return Score(sign * kilobytes / scale, why=f"{kilobytes:.1f} kB")


@reward(range=(0, 1), reads="image", source="mmrl")
def brightness(image: Any, sample: Sample) -> float:
    """Mean luma over pixels, (0.299 R + 0.587 G + 0.114 B) / 255: 0 black, 1 white."""
    import numpy as np

    return float(np.asarray(rgb(image).convert("L")).mean() / 255)


@reward(range=(0, 1), reads="image", source="mmrl")
def colour(image: Any, sample: Sample, *, like: str = "") -> float:
    """1 - mean over pixels of |pixel - c| / d: how much of the picture has the colour c, d the largest distance from c.

    c is the setting `like`, else `target.colour`: a name CSS knows (`red`) or `#ff8000`. Distances are Euclidean in
    RGB. Pixel by pixel, so that a mixture of other colours whose mean is c gains nothing.
    """
    import numpy as np
    from PIL import ImageColor

    wanted = like or sample.target.get("colour")
    try:
        c = np.array(ImageColor.getrgb(wanted)[:3], dtype=np.float32)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"like (or target.colour) is a colour such as red or #ff8000; found {wanted!r}") from None
    farthest = np.linalg.norm(np.maximum(c, 255 - c))
    distance = np.linalg.norm(np.asarray(rgb(image), dtype=np.float32) - c, axis=-1)
    return float(np.clip(1 - distance.mean(dtype=np.float64) / farthest, 0, 1))


@reward(range=(0, 1), reads="image", source="Hasler & Süsstrunk, Measuring colourfulness in natural images, 2003")
def colourfulness(image: Any, sample: Sample) -> Score:
    """M / 376.5, M = |(s_rg, s_yb)| + 0.3 |(m_rg, m_yb)|: deviations and means of rg = R - G, yb = (R + G) / 2 - B.

    376.5 is the largest M there is; M = 109 is called extremely colourful.
    """
    import numpy as np

    red, green, blue = np.moveaxis(np.asarray(rgb(image), dtype=np.float64), -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    m = float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))
    largest = 255 * math.sqrt(2 * (1 + 0.3**2))
    return Score(min(m / largest, 1.0), why=f"M = {m:.1f}")


@reward(range=(0, 1), reads="video", source="mmrl")
def motion(frames: Sequence[Any], sample: Sample) -> float:
    """Mean absolute difference of neighbouring frames over pixels and channels, / 255; 0 for a single frame."""
    import numpy as np

    if not isinstance(frames, Sequence) or not frames:
        raise TypeError(f"motion reads videos (lists of PIL frames); the completion is {type(frames).__name__}")
    if len({frame.size for frame in frames}) > 1:
        raise ValueError(f"the frames have different sizes: {sorted({frame.size for frame in frames})}")
    differences = []
    last = None
    for frame in frames:
        pixels = np.asarray(rgb(frame), dtype=np.int16)
        if last is not None:
            differences.append(np.abs(pixels - last).mean() / 255)
        last = pixels
    return float(np.mean(differences)) if differences else 0.0
