"""One environment fact: a CPU build of torch next to a CUDA build of torchvision.

torchvision's compiled operators then fail to load, and its Python code, which registers fake kernels for
`torchvision::nms`, fails at import with "operator torchvision::nms does not exist"; transformers, qwen_vl_utils
and open_clip fail with it. Declaring the two schemas is enough for everything mmrl uses: resizing and reading of
images need no compiled operator.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

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
