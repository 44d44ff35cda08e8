"""Versions of what mmrl imports, and of DeepSpeed's operators, which of them are there. Nothing is compiled."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from importlib import metadata

from mmrl.doctor.findings import Finding, ask

NECESSARY = ("torch", "transformers", "qwen-vl-utils", "pillow", "safetensors", "pyarrow", "pydantic")
OPTIONAL = {
    "decord": "nothing: video is then decoded with PyAV",
    "av": "video, where decord is missing or fails on a file",
    "peft": "model.adapter (LoRA)",
    "diffusers": "diffusion policies",
    "open_clip_torch": "CLIP and aesthetic rewards",
    "deepspeed": "distribution.strategy zero1, zero2 and zero3",
    "psutil": "several processes through scripts/launch",
    "scikit-learn": "mmrl data make digits",
    "matplotlib": "mmrl runs plot",
    "tensorboard": "logging: [tensorboard]",
    "wandb": "logging: [wandb]",
    "trackio": "logging: [trackio]",
    "trl": "benchmarks against TRL (extra: bench)",
}
"""Package -> what does not work without it."""

COMPILES = {"async_io", "gds"}
"""Operators whose check compiles a program."""
OPERATORS = """
import json, os, torch
if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
import glob
from deepspeed.git_version_info import installed_ops
from deepspeed.ops.op_builder.all_ops import ALL_OPS
from torch.utils.cpp_extension import get_default_build_root
found = {}
root = os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()
for name, builder in ALL_OPS.items():
    made = glob.glob(os.path.join(root, "**", name + ".so"), recursive=True)
    if installed_ops.get(name) or made:
        found[name] = "compiled"
    elif name not in %r:
        found[name] = "compatible" if builder.is_compatible(verbose=False) else "not compatible"
print(json.dumps(found))
"""


def versions() -> Iterator[Finding]:
    yield Finding("mmrl", metadata.version("mmrl-vision"))
    yield Finding("python", platform.python_version())
    for package in (*NECESSARY, *OPTIONAL):
        try:
            yield Finding(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            if package in OPTIONAL:
                yield Finding(package, "missing", f"without it: no {OPTIONAL[package]}", "limited")
            else:
                yield Finding(package, "missing", "mmrl cannot run; `bash scripts/setup.sh` installs it", "broken")


def torchvision() -> Iterator[Finding]:
    from mmrl.compat import torchvision_operators_load

    if not torchvision_operators_load():
        remark = "its operators do not fit this torch; mmrl works without them"
        yield Finding("torchvision", metadata.version("torchvision"), remark, "limited")


def deepspeed_operators() -> Iterator[Finding]:
    """mmrl's optimizer is torch's AdamW, so none of them is needed."""
    try:
        metadata.version("deepspeed")
    except metadata.PackageNotFoundError:
        return
    found, problem = ask(OPERATORS % COMPILES)
    if found is None:
        yield Finding("deepspeed operators", "cannot be imported", problem, "limited")
    else:
        for state in ("compiled", "compatible", "not compatible"):
            names = [name for name, its in found.items() if its == state and name != "deepspeed_not_implemented"]
            remark = "would be compiled when asked for; mmrl asks for none" if state == "compatible" else ""
            if names or state == "compiled":
                yield Finding(f"deepspeed, {state}", ", ".join(names) or "none", remark)
    gcc = shutil.which("gcc") or shutil.which("cc")
    missing = "deepspeed cannot build its operators"
    yield Finding("C compiler", gcc or "missing", "" if gcc else missing, "fine" if gcc else "limited")
