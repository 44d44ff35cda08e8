"""BRISQUE, quality of a picture without a reference, computed here from the features and support vectors.

The model in `mmrl/assets/brisque`, 770 support vectors, is the one the package `brisque` 0.2.0 (Apache-2.0) carries;
`scripts/make_brisque.sh` takes it out. The package itself fails under numpy 2.4 and opens a pickle; piq's BRISQUE
downloads its weights when it is called.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmrl
from mmrl.records import Sample
from rewards.images.batches import rgb
from rewards.registry import Score, reward

if TYPE_CHECKING:
    from numpy import ndarray

MODEL = Path(mmrl.__file__).with_name("assets") / "brisque" / "model.safetensors"
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours (down, right) whose products are looked at: beside, below, and on both diagonals."""
SMALLEST = 16
"""Sides in pixels; below it there are too few pixels for the statistics."""


@reward(range=(0, 1), reads="image", source="Mittal et al., BRISQUE, IEEE TIP 21(12), 2012")
def brisque(image: Any, sample: Sample) -> Score:
    """1 - clip(BRISQUE, 0, 100) / 100: how natural a photograph looks, judged by the statistics of its pixels.

    Falls with noise, blur and compression. BRISQUE is an SVM's regression on 36 features of the luma at two sizes. A
    picture of one colour, or smaller than 16 pixels, has no such statistics and is worth 0; drawings and other
    unphotographic pictures get values that mean little.
    """
    import numpy as np

    luma = np.asarray(rgb(image).convert("L"), dtype=np.float64)
    if min(luma.shape) < SMALLEST:
        return Score(0.0, why=f"smaller than {SMALLEST} pixels")
    features = np.concatenate([statistics(luma), statistics(halved(luma))])
    if not np.isfinite(features).all():
        return Score(0.0, why="no texture to judge")
    raw = regress(features)
    return Score(float(np.clip(1 - raw / 100, 0, 1)), why=f"BRISQUE {raw:.1f}")


def regress(features: ndarray) -> float:
    """BRISQUE of 36 features: sum of a_i exp(-gamma |x - v_i|^2) - rho, x the features scaled to [-1, 1]."""
    import numpy as np

    model = _model()
    low, high = model["range"]
    x = -1 + 2 * (features - low) / (high - low)
    kernel = np.exp(-model["gamma"] * ((x - model["vectors"]) ** 2).sum(1))
    return float(kernel @ model["coefficients"] - model["rho"])


@cache
def _model() -> dict[str, ndarray]:
    """f64: vectors [770, 36], coefficients [770], range [2, 36] (lowest, highest), gamma, rho."""
    from safetensors.numpy import load_file

    return {name: values.astype("float64") for name, values in load_file(MODEL).items()}


def statistics(luma: ndarray) -> ndarray:
    """The 18 features of one size: generalised Gaussians fitted to the normalised luma and to products of neighbours.

    `luma` f64[height, width] in 0..255 -> f64[18]; NaN or infinite where the picture has no variation.
    """
    import numpy as np

    normal = normalised(luma)
    height, width = normal.shape
    shape, left, right = fit(normal)
    features = [shape, (left**2 + right**2) / 2]
    for down, beside in SHIFTS:
        first = normal[: height - down, max(0, -beside) : width - max(0, beside)]
        second = normal[down:, max(0, beside) : width - max(0, -beside)]
        shape, left, right = fit(first * second)
        mean = (right - left) * np.exp(_log_gamma(2 / shape) - (_log_gamma(1 / shape) + _log_gamma(3 / shape)) / 2)
        features += [shape, mean, left**2, right**2]
    return np.array(features)


def normalised(luma: ndarray) -> ndarray:
    """(luma - local mean) / (local deviation + 1), under a Gaussian of 7 x 7 pixels and sigma 7/6; zeros outside."""
    import numpy as np
    from scipy.ndimage import correlate1d

    offsets = np.arange(-3, 4)
    kernel = np.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    kernel /= kernel.sum()

    def smooth(values: ndarray) -> ndarray:
        return correlate1d(correlate1d(values, kernel, axis=0, mode="constant"), kernel, axis=1, mode="constant")

    mean = smooth(luma)
    deviation = np.sqrt(np.abs(smooth(luma**2) - mean**2))
    return (luma - mean) / (deviation + 1)


def fit(values: ndarray) -> tuple[float, float, float]:
    """Shape, left and right deviation of the asymmetric generalised Gaussian with the moments of `values`.

    The shape in 0.2 .. 10 whose Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)) is closest to
    mean(|x|)^2 / mean(x^2) * (g^3 + 1)(g + 1) / (g^2 + 1)^2, g = left / right.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        left = np.sqrt((values[values < 0] ** 2).sum() / (values < 0).sum())
        right = np.sqrt((values[values >= 0] ** 2).sum() / (values >= 0).sum())
        g = left / right
        ratio = np.abs(values).mean() ** 2 / (values**2).mean() * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    shapes, ratios = _shapes()
    if not np.isfinite(ratio):
        return float("nan"), float(left), float(right)
    return float(shapes[np.abs(ratios - ratio).argmin()]), float(left), float(right)


@cache
def _shapes() -> tuple[ndarray, ndarray]:
    """Shapes 0.2, 0.201, ... 10 and the moment ratio of each."""
    import numpy as np

    shapes = np.arange(0.2, 10.0005, 0.001)
    return shapes, np.exp(2 * _log_gamma(2 / shapes) - _log_gamma(1 / shapes) - _log_gamma(3 / shapes))


def _log_gamma(value: Any) -> Any:
    from scipy.special import gammaln

    return gammaln(value)


def halved(luma: ndarray) -> ndarray:
    """Half the size, by cubic interpolation between pixels (a = -0.75, no smoothing first), as the model learned it."""
    import numpy as np

    for axis in (0, 1):
        length = luma.shape[axis] // 2
        starts = 2 * np.arange(length)
        taps = zip((-1, 0, 1, 2), (-0.09375, 0.59375, 0.59375, -0.09375), strict=True)
        luma = sum(
            weight * luma.take(np.clip(starts + offset, 0, luma.shape[axis] - 1), axis=axis) for offset, weight in taps
        )
    return luma
