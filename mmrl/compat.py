"""Facts about libraries on a machine without CUDA. First: a CPU build of torch next to a CUDA build of torchvision.

torchvision's compiled operators then fail to load, and its Python code, which registers fake kernels for
`torchvision::nms`, fails at import with "operator torchvision::nms does not exist"; transformers, qwen_vl_utils
and open_clip fail with it. Declaring the two schemas is enough for everything mmrl uses: resizing and reading of
images need no compiled operator. The exception is transformers' server, which decodes pictures with `torchvision.io`;
there Pillow takes the operator's place.

Second: DeepSpeed, which transformers imports when it saves a model, warns that it found no accelerator unless told so.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SCHEMAS = ("nms", "qnms")


def torchvision_operators_load() -> bool:
    """Whether torchvision's compiled operators fit this torch. True as well where torchvision is not installed."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    if hasattr(torch.ops.torchvision, "nms"):
        return True
    libraries = sorted(Path(spec.origin).parent.glob("_C.*"))
    if not libraries:
        return False
    try:
        torch.ops.load_library(str(libraries[0]))
    except OSError:
        return False
    return True


def declare_torchvision_operators() -> bool:
    """Make `import torchvision` work where a CPU torch meets a torchvision whose operators do not load.

    Returns whether anything was declared. Call it before the first import of torchvision; calling it again is free.
    """
    import torch

    if "torchvision" in sys.modules or torch.version.cuda or torchvision_operators_load():
        return False
    library = torch.library.Library("torchvision", "DEF")
    for name in SCHEMAS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    # The schemas live as long as this object does.
    globals()["_library"] = library
    return True


def tell_deepspeed() -> None:
    """Before it is imported: that this is a CPU, if it is one."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def provide_image_decoder() -> bool:
    """Give `torchvision.io` a `decode_image` made of Pillow where its own has no operator. Returns whether it did.

    For `transformers serve` (5.x), which imports the function whenever a request has a picture. Imports torchvision.
    """
    declare_torchvision_operators()
    from torchvision import io
    from torchvision.io import image

    if image._has_image_ops():
        return False
    io.decode_image = image.decode_image = decode_image
    return True


def decode_image(input: Any, mode: Any = "UNCHANGED", apply_exif_orientation: bool = False) -> Tensor:
    """u8[channels, height, width] from a path or from encoded bytes, u8[n]; as torchvision's, for the modes that Pillow
    has as well (RGB, RGBA, GRAY, UNCHANGED)."""
    import io

    from PIL import Image, ImageOps
    from torchvision.transforms.functional import pil_to_tensor

    modes = {"RGB": "RGB", "RGBA": "RGBA", "RGB_ALPHA": "RGBA", "GRAY": "L", "GRAY_ALPHA": "LA"}
    wanted = str(getattr(mode, "name", mode)).upper()
    with Image.open(input if isinstance(input, str | Path) else io.BytesIO(input.numpy().tobytes())) as opened:
        picture = ImageOps.exif_transpose(opened) if apply_exif_orientation else opened
        return pil_to_tensor(picture.convert(modes[wanted]) if wanted != "UNCHANGED" else picture)
