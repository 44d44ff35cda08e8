"""`mmrl doctor`: what is installed, what the machine offers, and what is missing and what that disables."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata

from rich.table import Table

PACKAGES = {
    "torch": "everything",
    "transformers": "vision-language models",
    "qwen-vl-utils": "reading images and videos for Qwen-VL models",
    "decord": "nothing: video is then decoded with PyAV",
    "av": "video, where decord is missing or fails on a file",
    "pillow": "images",
    "peft": "model.adapter (LoRA)",
    "diffusers": "diffusion policies",
    "open_clip_torch": "CLIP and aesthetic rewards",
    "deepspeed": "training on several GPUs",
    "scikit-learn": "mmrl data make digits",
    "matplotlib": "mmrl runs plot",
    "trl": "benchmarks against TRL (extra: bench)",
}
"""Package -> what does not work without it."""


def examine() -> Table:
    """One row per package and device, with what a missing one disables."""
    table = Table("what", "found", "remark", title="mmrl doctor", title_justify="left")
    table.add_row("mmrl", metadata.version("mmrl-vision"), "")
    table.add_row("python", platform.python_version(), "")
    for package, disables in PACKAGES.items():
        try:
            table.add_row(package, metadata.version(package), "")
        except metadata.PackageNotFoundError:
            table.add_row(
                package,
                "[yellow]missing[/]",
                f"without it: no {disables}" if disables != "everything" else "mmrl cannot run",
            )
    add_torch(table)
    gcc = shutil.which("gcc") or shutil.which("cc")
    table.add_row("C compiler", gcc or "[yellow]missing[/]", "" if gcc else "deepspeed cannot build its operators")
    table.add_row("processor", f"{os.cpu_count()} cores", "")
    return table


def add_torch(table: Table) -> None:
    import torch

    from mmrl.compat import torchvision_operators_load

    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        table.add_row(f"GPU {index}", torch.cuda.get_device_name(index), f"{memory:.0f} GiB")
    if not torch.cuda.is_available():
        table.add_row("GPU", "none", "training runs on the processor: tiny models only")
    if not torchvision_operators_load():
        table.add_row(
            "torchvision",
            metadata.version("torchvision"),
            "its operators do not fit this torch; mmrl works without them",
        )
