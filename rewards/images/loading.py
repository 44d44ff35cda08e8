"""Find weights and open them safely: a local path or a file on the Hugging Face hub, holding tensors and nothing else.

Nothing here unpickles objects, so a weights file cannot run code.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

HUB = "hf-hub:"
"""open_clip's prefix for a name on the hub."""


def weights_file(source: str, *, setting: str) -> Path:
    """The local path of a weights file: `source`, or `owner/repository/path/of/file` on the hub, downloaded once.

    ValueError names the setting and the file to fetch by hand.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    parts = source.removeprefix(HUB).split("/")
    if len(parts) < 3 or "" in parts or parts[0] in (".", "..", "~") or os.path.isabs(source):
        raise ValueError(
            f"{setting} = {source} is not a file. It is a local path, or owner/repository/file on the Hugging Face hub."
        )
    from huggingface_hub import hf_hub_download

    repository, file = "/".join(parts[:2]), "/".join(parts[2:])
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:
        raise ValueError(
            f"{setting} = {source} is neither a local file nor one the hub gives us ({type(error).__name__}: "
            f"{_first_line(error)}).\n  Without network, fetch {file} from huggingface.co/{repository} elsewhere and "
            f"set {setting} to its path."
        ) from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors, on the CPU, of a `.safetensors` file or a PyTorch file (a state dict, alone or under `state_dict`).

    ValueError if a PyTorch file holds anything but tensors and plain containers.
    """
    import pickle

    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be opened as plain tensors ({_first_line(error)}). Files that hold code are refused; "
            f"convert it to safetensors where you trust it."
        ) from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(torch.is_tensor(value) for value in found.values()):
        raise ValueError(f"{path} holds a {type(found).__name__}, not a state dict (names and tensors).")
    return {name.removeprefix("module."): value for name, value in found.items()}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
