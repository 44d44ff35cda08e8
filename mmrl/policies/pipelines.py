"""A diffusers pipeline, prepared for training: loaded, its scheduler replaced by a recording one, its denoiser trained
whole or by LoRA, everything else frozen. `diffusion.py` turns what it makes into records.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from data_pipelines.media import open_image
from mmrl.compat import declare_torchvision_operators
from mmrl.config import ModelConfig
from mmrl.plugins import ConfigError, nearest
from mmrl.policies.denoising import shifted_sigmas
from mmrl.policies.families import (
    FAMILIES,
    Conditioning,
    Family,
    Tensors,
    conditioning_of,
    encode,
    encoding_once,
    listening,
    overlong,
)
from mmrl.policies.pretrained import mixed_precision, placement
from mmrl.records import Sample

if TYPE_CHECKING:
    from mmrl.policies.diffusion import Denoising
    from mmrl.policies.recording import Trajectory, Transition

ASSETS = Path(__file__).parent.parent / "assets"
INDEX = "model_index.json"
LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
KEPT = 1024
"""Prompts whose embeddings are held while the text encoders are there to make them again."""
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")


def location(path: str) -> str:
    """Where `path` is: a local pipeline, also one with the name of a pipeline that ships with mmrl; else the one that
    ships; else the path itself, which may be a name of the hub."""
    shipped = ASSETS / path
    return path if path not in shipped_pipelines() or (Path(path) / INDEX).is_file() else str(shipped)


def shipped_pipelines() -> list[str]:
    return sorted(file.parent.name for file in ASSETS.glob(f"*/{INDEX}"))


def index_of(path: str) -> dict[str, Any] | None:
    """A pipeline's index, from its folder or from the hub; None for anything else, such as a language model.

    ConfigError for the misspelt name of a pipeline that ships with mmrl, and for a hub name about which there is
    neither a local copy nor an answer of the hub.
    """
    folder = Path(location(path))
    if not folder.exists() and path.startswith("tiny-"):
        raise ConfigError(
            f"model.path = {path} is neither a folder nor a model that ships with mmrl.\n"
            f"  {nearest(path, ['tiny', *shipped_pipelines()])}"
        )
    hub = not folder.exists() and HUB_NAME.fullmatch(path)
    file = hub_index(path) if hub else folder / INDEX
    if file is None or not file.is_file():
        return None
    try:
        index = json.loads(file.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"model.path = {path}: {file} cannot be read ({error}).") from None
    if not isinstance(index, dict) or "_class_name" not in index:
        raise ConfigError(f"model.path = {path}: {file} names no pipeline (`_class_name`).")
    return index


def hub_index(name: str) -> Path | None:
    """The index in a repository of the hub, None if it is there without one. Local copies are asked before the hub."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    cached = try_to_load_from_cache(name, INDEX)
    if isinstance(cached, str):
        return Path(cached)
    if isinstance(try_to_load_from_cache(name, "config.json"), str):  # a model that is no pipeline
        return None
    try:
        return Path(hf_hub_download(name, INDEX))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"model.path = {name}: neither a folder here nor a model the hub gives us ({reason}).\n"
            f"  Name a local folder, or fetch it where there is a network: hf download {name} --local-dir models/..."
        ) from None


def pipeline_class(path: str) -> str | None:
    """The class named in a pipeline's index, None for anything else."""
    index = index_of(path)
    return None if index is None else str(index["_class_name"])


def load_pipeline(settings: ModelConfig) -> Pipeline:
    """A pipeline from a local folder, a hub name, or one of the tiny ones that ship with mmrl."""
    declare_torchvision_operators()
    import diffusers
    import transformers

    index = index_of(settings.path) or {}
    supported(settings.path, index.get("_class_name"))
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    device, dtype = placement(settings)
    # The parts that the index says a pipeline goes without; diffusers wants to be told.
    absent = {name: None for name, part in index.items() if isinstance(part, list) and part[0] is None}
    try:
        pipe = diffusers.DiffusionPipeline.from_pretrained(location(settings.path), dtype=dtype, **absent)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"model.path = {settings.path}: the pipeline cannot be loaded ({reason}).") from None
    return Pipeline(pipe.to(device), settings)


def supported(path: str, name: str | None) -> None:
    if name is not None and name not in FAMILIES:
        raise ConfigError(f"model.path = {path} is a {name}; supported pipelines are {', '.join(FAMILIES)}.")


def recording_scheduler(pipe: Any, family: Family, path: str) -> Any:
    """In place of the pipeline's own, with its noise schedule."""
    from mmrl.policies.recording import RecordingDDIM, RecordingFlow

    if pipe.scheduler is None:
        raise ConfigError(f"model.path = {path}: this pipeline has no scheduler; its index names none.")
    given, name = dict(pipe.scheduler.config), type(pipe.scheduler).__name__
    is_flow = name.startswith("FlowMatch") or bool(given.get("use_flow_sigmas"))
    if family.ddim:
        if is_flow or "beta_start" not in given:
            raise ConfigError(
                f"model.path = {path}: a U-Net needs a scheduler of the DDIM kind, and this has a {name}."
            )
        for setting in ("clip_sample", "thresholding"):
            if given.get(setting):
                raise ConfigError(f"model.path = {path}: its scheduler has {setting} on, which no density allows for.")
        return RecordingDDIM.from_config(given)
    if not is_flow:
        raise ConfigError(f"model.path = {path}: this pipeline needs a scheduler of a flow, and has a {name}.")
    if "flow_shift" in given:  # UniPC, which Wan comes with
        given = {"shift": given["flow_shift"], "num_train_timesteps": given["num_train_timesteps"]}
    return RecordingFlow.from_config(given)


class Pipeline:
    """A diffusers pipeline with its recording scheduler. `denoiser` is what is trained."""

    def __init__(self, pipe: Any, settings: ModelConfig) -> None:
        supported(settings.path, type(pipe).__name__)
        self.pipe, self.settings = pipe, settings
        self.family = FAMILIES[type(pipe).__name__]
        if pipe.config.get("boundary_ratio") is not None or pipe.config.get("expand_timesteps"):
            raise ConfigError(f"model.path = {settings.path}: Wan 2.2 is not supported; Wan 2.1 is.")
        self.denoiser: Any = getattr(pipe, self.family.denoiser)
        self.scheduler = pipe.scheduler = recording_scheduler(pipe, self.family, settings.path)
        self.prediction = self.scheduler.prediction = self.scheduler.config.get("prediction_type", "epsilon")
        pipe.set_progress_bar_config(disable=True)
        self._embeddings: OrderedDict[str, Tensors] = OrderedDict()
        self._released = False
        self._reference: Any = None
        self._prepare()

    def _prepare(self) -> None:
        """Freeze what is not trained; gradient checkpointing, LoRA, and tiles for the decoder as configured."""
        for part in self.pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False).eval()
        adapter = self.settings.adapter
        if adapter is None:
            self.denoiser.requires_grad_(True)
        else:
            from peft import LoraConfig

            names = {name for name, _ in self.denoiser.named_modules()}
            targets = sorted(name for name in names if name.endswith(LORA_TARGETS))
            config = LoraConfig(r=adapter.rank, lora_alpha=adapter.alpha, target_modules=targets)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(adapter.seed)
                self.denoiser.add_adapter(config)
            for weights in self.denoiser.parameters():
                if weights.requires_grad:
                    weights.data = weights.data.float()
        if self.settings.gradient_checkpointing:
            self.denoiser.enable_gradient_checkpointing()
        vae: Any = getattr(self.pipe, "vae", None)
        if self.family.makes == "video" and hasattr(vae, "enable_tiling"):
            vae.enable_tiling()

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def embeddings(self, prompt: str) -> Tensors:
        """The pipeline's arguments for a prompt. They are kept on the CPU, in the dtype they were made in: all of them
        once the text encoders are gone, the last `KEPT` prompts' as long as they are there."""
        if prompt not in self._embeddings:
            if self._released:
                raise ConfigError(
                    f"the text encoders are gone and have not seen {prompt!r}: with model.text_encoders = release "
                    "training knows the prompts of its data only. Set model.text_encoders to keep."
                )
            self._encode(prompt)
            if len(self._embeddings) > KEPT:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(prompt)
        return {name: value.to(self.device) for name, value in self._embeddings[prompt].items()}

    @torch.no_grad()
    def _encode(self, prompt: str) -> None:
        encoded = encode(self.pipe, self.family.embeddings, prompt)
        self._embeddings[prompt] = {name: value.cpu() for name, value in encoded.items()}

    def encode_and_release(self, prompts: Sequence[str]) -> None:
        """Embed these prompts, negative ones too, and free the text encoders, which no other prompt then has."""
        for prompt in prompts:
            if prompt not in self._embeddings and not self._released:
                self._encode(prompt)
        parts = [name for name in self.pipe.components if name.startswith(("text_encoder", "tokenizer"))]
        self.pipe.register_modules(**dict.fromkeys(parts))
        self._released = True

    def overlong(self, prompt: str) -> tuple[int, int] | None:
        """(tokens, limit) of a prompt that would be cut; None also once the text encoders are gone, and it was not."""
        return None if self._released else overlong(self.pipe, prompt)

    def check(self, how: Denoising) -> None:
        """Refuse what a pipeline would round, ignore or misunderstand."""

        def refuse(setting: str, why: str) -> None:
            raise ConfigError(f"sampling.{setting} = {getattr(how, setting)}: {why}")

        family, pipe = self.family, self.pipe
        if family.ddim and how.noise != "constant":
            refuse("noise", "a law of flows. A DDIM pipeline has one law, whose eta is sampling.level; leave this out.")
        if family.ddim and how.shift is not None:
            refuse("shift", "only flows have one, and this is a DDIM pipeline.")
        if how.distilled_guidance is not None and not self.denoiser.config.get("guidance_embeds"):
            refuse("distilled_guidance", "this network takes none as an input; sampling.guidance is what you want.")
        if how.level > 1 and (family.ddim or how.noise == "cps"):
            refuse("level", "at most 1 here, where all of the step's noise is new.")
        if family.ddim:
            try:
                self.scheduler.set_timesteps(how.steps)
                self.scheduler.place(0)
            except (ValueError, IndexError):
                refuse("steps", f"the model was trained with {self.scheduler.config.num_train_timesteps}, take fewer.")
        largest = self.denoiser.config.get("pos_embed_max_size")
        for setting in ("width", "height"):
            value = getattr(how, setting)
            if value is not None and (value < 1 or value % self.size_unit):
                refuse(setting, f"this pipeline makes positive multiples of {self.size_unit}.")
            if value is not None and largest is not None and value > largest * self.size_unit:
                refuse(setting, f"this pipeline makes at most {largest * self.size_unit}.")
        if how.frames is not None and family.makes == "image":
            refuse("frames", "this pipeline makes images.")
        elif how.frames is not None:
            unit = pipe.vae_scale_factor_temporal
            if how.frames < 1 or (how.frames - 1) % unit:
                refuse("frames", f"this pipeline makes 1 and a multiple of {unit}, such as {1 + 4 * unit}.")

    def last_step_is_noisy(self, how: Denoising) -> bool:
        """Whether the last step has a density. Flow-CPS ends in x_0, and DDIM does where its last alpha is 1."""
        if not self.family.ddim:
            return how.noise != "cps"
        self.scheduler.set_timesteps(how.steps)
        here, there = self.scheduler.place(how.steps - 1)
        return bool(here < there < 1)

    @property
    def size_unit(self) -> int:
        """Widths and heights are multiples of this many pixels."""
        family, patch = self.family, getattr(self.denoiser.config, "patch_size", 1)
        if not isinstance(patch, int):
            patch = patch[-1]
        scale = "vae_scale_factor_spatial" if family.makes == "video" else "vae_scale_factor"
        return math.lcm(getattr(self.pipe, scale) * (2 if family.packed else patch), family.multiple)

    def make(
        self,
        sample: Sample,
        how: Denoising,
        levels: Sequence[float],
        initial: list[torch.Generator],
        noise: list[torch.Generator],
    ) -> tuple[list[Any], Trajectory, Conditioning]:
        """One image (PIL) or video (list of PIL frames) per generator, how it came about, and the constant inputs."""
        self.check(how)
        family, rows = self.family, len(initial)
        self.scheduler.begin(self.transition(how), levels, noise, law=how.noise)
        if not family.ddim:
            self.scheduler.fixed_sigmas = None if how.shift is None else shifted_sigmas(how.steps, how.shift)
        encoded = self.embeddings(sample.prompt)
        if how.guidance > 1:
            negative = self.embeddings(how.negative_prompt)
            encoded |= {f"negative_{name}": value for name, value in negative.items()}
        # Copies, as in replay: with a stride of 0 the kernels of bfloat16 round in another way.
        arguments: dict[str, Any] = {name: torch.cat([value] * rows) for name, value in encoded.items()}
        arguments |= {"num_inference_steps": how.steps, family.guidance: how.guidance, "generator": initial}
        chosen: dict[str, Any] = {"width": how.width, "height": how.height, "num_frames": how.frames}
        if family.distilled:
            chosen["guidance_scale"] = how.distilled_guidance
        arguments |= {name: value for name, value in chosen.items() if value is not None}
        with contextlib.ExitStack() as stack:
            if family.from_image:
                image = open_image(sample.media[0].path)
                arguments["image"] = image if family.from_image == "one" else [image] * rows
                stack.enter_context(encoding_once(self.pipe.vae))
            stack.enter_context(self.autocast())
            heard = stack.enter_context(listening(self.denoiser))
            result = self.pipe(**arguments, output_type="pil")
        trajectory = self.scheduler.trajectory
        conditioning = conditioning_of(heard, self, trajectory.latents[0], guidance=how.guidance)
        return result.frames if family.makes == "video" else result.images, trajectory, conditioning

    def transition(self, how: Denoising) -> Transition:
        return "ddim" if self.family.ddim else "flow_cps" if how.noise == "cps" else "flow_sde"

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, `denoiser` is the model as it was before training: the adapter off, or a copy of its weights."""
        if self.settings.adapter is not None:
            self.denoiser.disable_adapters()
            try:
                yield
            finally:
                self.denoiser.enable_adapters()
            return
        if self._reference is None:
            fresh = type(self.denoiser).from_pretrained(
                location(self.settings.path), subfolder=self.family.denoiser, dtype=self.denoiser.dtype
            )
            self._reference = fresh.to(self.device).requires_grad_(False).eval()
        trained, self.denoiser = self.denoiser, self._reference
        try:
            yield
        finally:
            self.denoiser = trained

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return mixed_precision(self.device, self.settings)

    def save(self, folder: Path) -> None:
        """The denoiser, or its LoRA weights, in the files of diffusers."""
        if self.settings.adapter is not None:
            self.denoiser.save_lora_adapter(folder, weight_name=LORA_WEIGHTS)
        else:
            self.denoiser.save_pretrained(folder / self.family.denoiser)

    def restore(self, folder: Path) -> None:
        """Put the weights of `save` back, bit for bit."""
        from safetensors.torch import load_file

        if self.settings.adapter is not None:
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.denoiser, load_file(folder / LORA_WEIGHTS))
            return
        files = sorted((folder / self.family.denoiser).glob("*.safetensors"))
        self.denoiser.load_state_dict({name: value for file in files for name, value in load_file(file).items()})
