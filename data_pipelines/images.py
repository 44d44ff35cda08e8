"""Opens one image file: its size from the header, or its pixels, upright and over white. Imports no torch.

`media.py` is what others call; the decoding processes open the images of frame folders with it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

TRANSPOSED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
ORIENTATION = 0x0112
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
"""Files of a frame folder that are frames."""


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) from the header, after the EXIF orientation. ValueError says what is wrong with the file."""
    with _opened(path, "is not a readable image") as image:
        # PIL decodes a whole PNG in search of orientation data behind the pixels; nothing writes it there.
        searchable = image.format != "PNG" or "exif" in image.info
        transposed = searchable and image.getexif().get(ORIENTATION) in TRANSPOSED
        return image.size[::-1] if transposed else image.size


def open_image(path: str | Path) -> Image:
    """A decoded RGB image: EXIF orientation applied, transparency over white. ValueError on a damaged file."""
    from PIL import Image, ImageOps

    with _opened(path, "cannot be decoded") as stored:
        image = ImageOps.exif_transpose(stored)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")


def limit_pixels(pixels: int) -> None:
    """The most pixels of one image: a header that says more is refused before anything is decoded."""
    from PIL import Image

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # PIL's own words before the refusal
    Image.MAX_IMAGE_PIXELS = pixels


def check_pixels(path: str | Path, size: tuple[int, int]) -> None:
    """ValueError for an image or frame over the limit."""
    from PIL import Image

    limit, (width, height) = Image.MAX_IMAGE_PIXELS, size
    if limit is not None and width * height > limit:
        raise ValueError(
            f"{path} has {width:,} x {height:,} = {width * height:,} pixels and at most {limit:,} are decoded; "
            "shrink it, or raise data.decode.max_image_pixels (of `mmrl data`: --max-image-pixels)"
        )


@contextmanager
def _opened(path: str | Path, problem: str) -> Iterator[Image]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            check_pixels(path, image.size)
            yield image
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} is too large ({error}); shrink it, or raise "
            "data.decode.max_image_pixels (of `mmrl data`: --max-image-pixels)"
        ) from None
    except Exception as error:  # PIL's decoders raise whatever damaged bytes lead them to
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path} {problem}: {error or type(error).__name__}") from None
