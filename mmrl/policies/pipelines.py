"""A diffusers pipeline, prepared for training: loaded, its scheduler replaced by a recording one, its denoiser trained
whole or by LoRA, everything else frozen. `diffusion.py` turns what it makes into records.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from data_pipelines.media import open_image
from mmrl.compat import declare_torchvision_operators
from mmrl.config import ModelConfig
from mmrl.plugins import ConfigError
from mmrl.policies.denoising import shifted_sigmas
from mmrl.policies.families import FAMILIES, Conditioning, Tensors, conditioning_of, listening
from mmrl.records import Sample

if TYPE_CHECKING:
    from mmrl.policies.diffusion import Denoising
    from mmrl.policies.recording import Trajectory, Transition

ASSETS = Path(__file__).parent.parent / "assets"
INDEX = "model_index.json"
LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")


def pipeline_class(path: str) -> str | None:
    """The class named in a pipeline's index, None for anything else; `tiny-*` are the ones that ship."""
    index = (ASSETS / path if path.startswith("tiny-") else Path(path)) / INDEX
    if index.is_file():
        return str(json.loads(index.read_text())["_class_name"])
    return None


def load_pipeline(settings: ModelConfig) -> Pipeline:
    """A pipeline from a local folder, a hub name, or one of the tiny ones that ship with mmrl."""
    declare_torchvision_operators()
    import diffusers

    path = str(ASSETS / settings.path) if settings.path.startswith("tiny-") else settings.path
    name = pipeline_class(settings.path)
    if name is not None and name not in FAMILIES:
        raise ConfigError(f"model.path = {settings.path} is a {name}; supported pipelines are {', '.join(FAMILIES)}.")
    device = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    keep_float32 = device == "cpu" or settings.adapter is None or settings.dtype == "float32"
    dtype = torch.float32 if keep_float32 else torch.bfloat16
    pipe = diffusers.DiffusionPipeline.from_pretrained(path, torch_dtype=dtype, **absent(Path(path)))
    return Pipeline(pipe.to(device), settings)


def absent(folder: Path) -> dict[str, None]:
    """The parts that a pipeline's index says it goes without; diffusers wants to be told."""
    index = json.loads((folder / INDEX).read_text()) if (folder / INDEX).is_file() else {}
    return {name: None for name, part in index.items() if isinstance(part, list) and part[0] is None}


class Pipeline:
    """A diffusers pipeline with its recording scheduler. `denoiser` is what is trained."""

    def __init__(self, pipe: Any, settings: ModelConfig) -> None:
        from mmrl.policies.recording import RecordingDDIM, RecordingFlow

        self.pipe, self.settings = pipe, settings
        self.family = FAMILIES[type(pipe).__name__]
        self.denoiser: Any = getattr(pipe, self.family.denoiser)
        self.latents_name = "sample" if self.family.ddim else "hidden_states"
        kind: Any = RecordingDDIM if self.family.ddim else RecordingFlow
        given = dict(pipe.scheduler.config)
        if "flow_shift" in given:  # UniPC, the scheduler Wan comes with
            given = {"shift": given["flow_shift"], "num_train_timesteps": given["num_train_timesteps"]}
        if self.family.ddim and given.get("prediction_type", "epsilon").startswith("flow"):
            raise ConfigError(f"model.path = {settings.path}: a U-Net with a flow scheduler is not supported.")
        self.scheduler: Any = kind.from_config(given)
        self.prediction = self.scheduler.prediction = self.scheduler.config.get("prediction_type", "epsilon")
        pipe.scheduler = self.scheduler
        pipe.set_progress_bar_config(disable=True)
        self._embeddings: dict[tuple[str, str, bool], Tensors] = {}
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
        if self.settings.gradient_checkpointing:
            self.denoiser.enable_gradient_checkpointing()
        vae: Any = getattr(self.pipe, "vae", None)
        if self.family.makes == "video" and hasattr(vae, "enable_tiling"):
            vae.enable_tiling()

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def embeddings(self, prompt: str, negative: str, *, guided: bool) -> Tensors:
        """The pipeline's arguments for a prompt; the text encoders see every prompt once."""
        key = (prompt, negative, guided)
        if key not in self._embeddings:
            with torch.no_grad():
                encoded = self.family.encode(self.pipe, prompt, negative, guided)
            self._embeddings[key] = {name: value.cpu() for name, value in encoded.items()}
        return {name: value.to(self.device) for name, value in self._embeddings[key].items()}

    def make(
        self,
        sample: Sample,
        how: Denoising,
        levels: Sequence[float],
        initial: list[torch.Generator],
        noise: list[torch.Generator],
    ) -> tuple[list[Any], Trajectory, Conditioning]:
        """One image (PIL) or video (list of PIL frames) per generator, how it came about, and the constant inputs."""
        family, rows = self.family, len(initial)
        self.scheduler.begin(self.transition(how), levels, noise, law=how.noise)
        if not family.ddim:
            self.scheduler.fixed_sigmas = None if how.shift is None else shifted_sigmas(how.steps, how.shift)
        encoded = self.embeddings(sample.prompt, how.negative_prompt, guided=how.guidance > 1)
        arguments: dict[str, Any] = {name: value.expand(rows, *value.shape[1:]) for name, value in encoded.items()}
        arguments |= {"num_inference_steps": how.steps, family.guidance: how.guidance, "generator": initial}
        if family.distilled and how.distilled_guidance is not None:
            arguments[family.distilled] = how.distilled_guidance
        for name, value in (("width", how.width), ("height", how.height), ("num_frames", how.frames)):
            if value is not None:
                arguments[name] = value
        if family.from_image:
            arguments["image"] = open_image(sample.media[0].path)
        training = self.denoiser.training
        self.denoiser.eval()
        try:
            with self.autocast(), listening(self.denoiser) as heard:
                result = self.pipe(**arguments, output_type="pil")
        finally:
            self.denoiser.train(training)
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
            fresh = load_pipeline(self.settings)
            self._reference = fresh.denoiser.requires_grad_(False).eval()
        trained, self.denoiser = self.denoiser, self._reference
        try:
            yield
        finally:
            self.denoiser = trained

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        mixed = self.device.type == "cuda" and self.settings.dtype != "float32"
        return torch.autocast("cuda", torch.bfloat16) if mixed else contextlib.nullcontext()

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
