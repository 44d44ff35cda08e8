"""Fresh weights to the servers: saved below the run directory by rank 0, then every server is told.

    adapter      vLLM: POST /v1/load_lora_adapter under a name of its own, then /v1/unload_lora_adapter of an old one
    checkpoint   SGLang: POST /update_weights_from_disk · vLLM: POST /collective_rpc reload_weights ·
                 transformers: nothing, the folder is the name of the model in the next request

A version is the step whose rollouts are the first made with it; of servers that are given none, the step that is being
learned. Names hold a word of the process as well: a resumed run makes other weights of the same step, and servers keep
what they once loaded. The version before the current one stays loadable, for requests that are under way while weights
change.
"""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmrl import distributed
from mmrl.policies.pretrained import TINY
from mmrl.runs.files import atomic_folder
from mmrl.serving.client import BadAnswer, Server, ServerError, Servers, excerpt
from mmrl.serving.settings import ServerConfig

if TYPE_CHECKING:
    import httpx

    from mmrl.policies.vlm import VLMPolicy

KEPT = 2
"""Versions that servers may still be asked for."""


class Weights:
    """What the servers have of a policy's weights. `current` is (the name to ask for, the version)."""

    def __init__(self, servers: Servers, settings: ServerConfig, policy: VLMPolicy, folder: Path, *, name: str) -> None:
        self.servers, self.settings, self.policy, self.folder = servers, settings, policy, folder
        path = policy.settings.path
        self.base = settings.model or (str(TINY) if path == "tiny" else path)
        self.current = (self.base, 0)
        self.at: Path | None = None
        self.prefix = f"{name}-{secrets.token_hex(3)}"
        self._given: list[tuple[str, Path]] = []
        if settings.weights != "none" and settings.kind != "transformers":
            servers.restore = self._load

    def update(self, step: int, *, under_way: bool) -> None:
        """Before the rollouts of `step` are made: give the servers the policy's weights, if it is their turn. Called on
        every rank, inside `whole_weights`. `under_way`: requests may be, at this moment."""
        if self.settings.weights == "none":
            self.current = (self.base, step)
            return
        if self._given and step % self.settings.weights_every:
            return
        self.prefix = distributed.gather(self.prefix)[0]
        name = f"{self.prefix}-{step:06d}"
        self.at = (self.folder / name).absolute()
        if distributed.rank() == 0:
            if not self._given:
                shutil.rmtree(self.folder, ignore_errors=True)  # what a killed process left
            with atomic_folder(self.at) as folder:
                self._save(folder)
        model = {"adapter": name, "checkpoint": str(self.at) if self.settings.kind == "transformers" else self.base}
        self._given.append((name, self.at))
        trouble = ""
        if distributed.rank() == 0:
            try:
                self.servers.each(self._load)
            except ServerError as error:
                trouble = str(error)
        # Every rank learns of it, or the others would wait for this one for ever.
        if trouble := distributed.gather(trouble)[0]:
            raise ServerError(trouble, quiet=distributed.rank() > 0)
        self.current = (model[self.settings.weights], step)
        self._forget(under_way=under_way)

    def close(self) -> None:
        if distributed.rank() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- inside --------------------------------------------------------------------------------------------------

    def _save(self, folder: Path) -> None:
        if self.settings.weights == "adapter" or self.policy.settings.adapter is None:
            self.policy.save(folder)
        else:
            save_merged(self.policy, folder)

    async def _load(self, client: httpx.AsyncClient, server: Server) -> None:
        """Make a server have the newest weights that were saved; harmless where it has them."""
        if self.at is None or self.settings.kind == "transformers":
            return
        if self.settings.weights == "adapter":
            path = "/v1/load_lora_adapter"
            body: dict[str, Any] = {"lora_name": self.at.name, "lora_path": str(self.at)}
        elif self.settings.kind == "sglang":
            path, body = "/update_weights_from_disk", {"model_path": str(self.at)}
        else:
            path, body = "/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(self.at)}}
        status, answer = await self.servers.post(client, server, path, body)
        if status != 200 and b"already" not in answer:
            raise BadAnswer(
                f"{path} answers status {status}: {excerpt(answer)} (docs/rollout_servers.md says how a server is "
                "started that takes weights)"
            )
        if self.settings.kind == "sglang" and not success(answer):
            raise BadAnswer(f"{path}: {excerpt(answer)}")
        if path == "/collective_rpc":  # nothing of the old weights may stay in it
            await self.servers.post(client, server, "/reset_prefix_cache", {})

    def _forget(self, *, under_way: bool) -> None:
        """What nobody will ask for any more."""
        old, self._given = self._given[:-KEPT], self._given[-KEPT:]
        if distributed.rank() > 0:
            return

        async def let_go(client: httpx.AsyncClient, server: Server) -> None:
            if self.settings.weights == "adapter":
                for name, _ in old:
                    await self.servers.post(client, server, "/v1/unload_lora_adapter", {"lora_name": name})
            elif self.settings.kind == "transformers" and not under_way:
                await self.servers.post(client, server, "/reset", {})

        if old:
            self.servers.each(let_go)
        for _, folder in old:
            shutil.rmtree(folder, ignore_errors=True)


def success(answer: bytes) -> bool:
    try:
        value: Any = json.loads(answer)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("success") is True


def save_merged(policy: VLMPolicy, folder: Path) -> None:
    """A whole model, with the adapter added to its weights; the policy's own are not touched."""
    with torch.device("meta"):
        whole = type(policy.model)(policy.model.config)
    whole.load_state_dict(merged(policy.model), assign=True, strict=False)
    whole.tie_weights()
    whole.generation_config = policy.model.generation_config
    whole.save_pretrained(folder)
    policy.processor.save_pretrained(folder)


@torch.no_grad()
def merged(model: Any) -> dict[str, Tensor]:
    """The weights of a model with LoRA layers, by the names that they have without."""
    from peft.tuners.lora import LoraLayer

    state = {name: tensor for name, tensor in model.state_dict().items() if ".lora_" not in name}
    layers: Any = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    for name, layer in layers:
        key = f"{name}.base_layer.weight"
        for adapter in layer.active_adapters:
            state[key] = state[key] + layer.get_delta_weight(adapter).to(state[key].dtype)
    return {name.replace(".base_layer.", "."): tensor for name, tensor in state.items()}
