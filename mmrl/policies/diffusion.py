"""The diffusion policy: a denoising step is an action.

A diffusers pipeline makes images or videos through a recording scheduler (`recording.py`); `logp` replays single steps
through the bare denoiser with the inputs the pipeline itself gave it (`families.py`), in batches of (row, step) pairs.
What is trained of a pipeline and how it is loaded: `pipelines.py`. Records in, records out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from data_pipelines.media import Budget
from mmrl.config import ModelConfig
from mmrl.lockstep import Part
from mmrl.plugins import ConfigError
from mmrl.policies.families import Conditioning, predict
from mmrl.policies.pipelines import Pipeline, load_pipeline
from mmrl.policies.pretrained import adapters
from mmrl.policies.recording import Transition, gaussian, score
from mmrl.policies.steps import check_window, noisy_steps, trained_steps
from mmrl.randomness import derive, earlier_occurrences, torch_generator
from mmrl.records import MicroBatch, Rollouts, Sample, concatenate


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """How images and videos are made, and which steps of that are trained."""

    steps: int = 10
    width: int | None = None
    height: int | None = None
    """Pixels; None is the pipeline's own size."""
    frames: int | None = None
    """Videos only."""
    guidance: float = 1.0
    """Classifier-free guidance, in rollout and training; 1 is none, and one pass through the network instead of two."""
    distilled_guidance: float | None = None
    """The guidance that a distilled network takes as an input (FLUX 3.5, HunyuanVideo 6)."""
    negative_prompt: str = ""
    shift: float | None = None
    """Of the sigma schedule of flows (`shifted_sigmas`); None keeps the pipeline's own schedule."""
    noise: Literal["constant", "flow_grpo", "cps"] = "constant"
    """The law of a flow's noise: `constant` is DanceGRPO's. DDIM pipelines have one law, whose eta is the level."""
    level: float = 0.3
    """Strength of the noise; 0 is deterministic, which no training takes."""
    same_noise: bool = False
    """All completions of a prompt begin with the same noise."""
    window: Literal["all", "random", "progressive", "start"] = "all"
    """Which steps carry noise, see `noisy_steps`; the others are deterministic."""
    window_size: int | None = None
    """Every window but `all` has one."""
    window_first: int | None = None
    """None is 0."""
    window_last: int | None = None
    """Excluded; None is the end."""
    window_every: int | None = None
    """Of a progressive window; None is 25."""
    window_stride: int | None = None
    """Of a progressive window; None is 1."""
    last_step: bool = False
    """Whether the last step may carry noise and be trained."""
    trained: Literal["first", "random"] = "first"
    fraction: float = 1.0
    """The share of the noisy steps that is trained, for every completion."""
    batch: int = 8
    """Images or videos made at a time."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"sampling.{name} = {value}: a finite number.")
        for name in ("steps", "window_size", "window_every", "window_stride", "batch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"sampling.{name} = {value}: at least 1.")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"sampling.fraction = {self.fraction}: above 0, at most 1.")
        if self.guidance < 1:
            raise ConfigError(f"sampling.guidance = {self.guidance}: at least 1, which is none.")
        if self.window_first is not None and self.window_first < 0:
            raise ConfigError(f"sampling.window_first = {self.window_first}: not negative.")
        if self.level < 0:
            raise ConfigError(f"sampling.level = {self.level}: not negative.")
        if self.shift is not None and self.shift <= 0:
            raise ConfigError(f"sampling.shift = {self.shift}: above 0; 1 is none.")

    def at_temperature(self, temperature: float) -> Denoising:
        """The noise scaled by `temperature`. 0 is the deterministic sampler; completions of a prompt then differ by
        what they begin with."""
        return replace(self, level=self.level * temperature, same_noise=self.same_noise and temperature > 0)


@dataclass(frozen=True)
class DiffusionPrompt:
    """One prompt as the denoiser was given it, and how its steps are drawn."""

    conditioning: Conditioning
    transition: Transition


class DiffusionPolicy:
    """A diffusers pipeline that makes images and scores the steps they were made in."""

    provides: ClassVar[frozenset[str]] = frozenset(
        {"mean_shift", "step_std", "step_size", "velocity_mse", "gaussian_kl"}
    )
    compares: ClassVar[frozenset[str]] = frozenset()
    sampling: ClassVar[type] = Denoising
    makes: ClassVar[Literal["text", "image", "video"]] = "image"

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    @classmethod
    def load(cls, settings: ModelConfig, budget: Budget) -> DiffusionPolicy:
        return cls(load_pipeline(settings))

    @property
    def device(self) -> torch.device:
        return self.pipeline.device

    @property
    def model(self) -> Any:
        return self.pipeline.denoiser

    def encode(self, sample: Sample) -> Sample:
        """The sample itself, if it has what the pipeline needs."""

        def refuse(why: str) -> None:
            raise ConfigError(f"{sample.where or sample.id}: {why}")

        if not sample.prompt.strip():
            refuse("the prompt is empty: the last user message holds no text.")
        if self.pipeline.family.from_image and not sample.media:
            refuse("this pipeline starts from an image, and the messages hold none.")
        if cut := self.pipeline.overlong(sample.prompt):
            refuse(f"the prompt has {cut[0]} tokens, of which the text encoders read {cut[1]}. Shorten it.")
        return sample

    # -- the Policy of stages.py ---------------------------------------------------------------------------------

    def check(self, how: Denoising, *, training: bool) -> None:
        """ConfigError for what the pipeline cannot make and, when training, for what would leave nothing to train or
        change nothing."""
        self.pipeline.check(how)
        if how.guidance == 1 and how.negative_prompt:
            raise ConfigError(
                "sampling.negative_prompt needs sampling.guidance above 1; without guidance none is read."
            )
        if how.guidance > 1 and (cut := self.pipeline.overlong(how.negative_prompt)):
            raise ConfigError(
                f"sampling.negative_prompt has {cut[0]} tokens, of which the text encoders read {cut[1]}."
            )
        if not training:
            return
        if how.level == 0:
            raise ConfigError(
                "sampling.level = 0: without noise no step has a density, and nothing is trained. DanceGRPO takes 0.3 "
                "for flows, Flow-GRPO 0.7 with noise = flow_grpo, DDPO 1.0 with DDIM (evaluations have none anyway)."
            )
        check_window(how)
        trained_steps(how, noisy_steps(how, seed=0, step=0), rows=1, seed=0)
        if how.last_step and not self.pipeline.last_step_is_noisy(how):
            raise ConfigError(
                f"sampling.last_step: with noise = {how.noise} the last of {how.steps} steps has no noise on this "
                "pipeline's schedule, so it cannot be trained. Leave it out."
            )

    def lacks(self, how: Denoising) -> Mapping[str, str]:
        """Signals of `provides` that mean nothing for steps made like this, and why: text that names the setting."""
        transition = self.pipeline.transition(how)
        if transition == "flow_cps":
            why = "sampling.noise = cps, whose log-prob is no density and whose std holds no dt"
            return {"mean_shift": why, "step_size": why}
        if transition == "ddim":
            return {"step_size": f"model.path = {self.pipeline.settings.path}, a DDIM pipeline, whose steps have no dt"}
        return {}

    def prepare(self, samples: Sequence[Sample], how: Denoising) -> None:
        """Encode the prompts and let go of the text encoders, unless `model.text_encoders` keeps them."""
        if self.pipeline.settings.text_encoders == "release":
            self.pipeline.encode_and_release([*(sample.prompt for sample in samples), how.negative_prompt])

    def generate(
        self,
        samples: Sequence[Sample],
        sizes: Sequence[int],
        how: Denoising,
        *,
        seed: int,
        step: int,
        signals: Collection[str] = (),
    ) -> Rollouts:
        """`sizes[i]` completions of `samples[i]`, a function of (seed, step, sample, row) and not of the batch.

        For `mean_shift` the means of all steps are kept, as large again as the latents themselves. ConfigError for
        signals that steps made like this cannot have (`lacks`).
        """
        for signal in sorted(self.lacks(how).keys() & set(signals)):
            raise ConfigError(f"a stage needs {signal}, which there is not with {self.lacks(how)[signal]}.")
        for sample in samples:
            self.encode(sample)
        noisy = noisy_steps(how, seed=seed, step=step) if how.level > 0 else []
        groups = []
        for sample, size, before in zip(samples, sizes, earlier_occurrences(samples), strict=True):
            seed_of_group = derive(seed, "completion", step, sample.id, before)
            group, means = self._group(sample, size, how, noisy, seed=seed_of_group)
            if "mean_shift" in signals:
                group.signals["mean"] = means
            groups.append(group)
        return concatenate(groups)

    @torch.no_grad()
    def _group(
        self, sample: Sample, size: int, how: Denoising, noisy: list[int], *, seed: int
    ) -> tuple[Rollouts, Tensor]:
        """The completions of one prompt, `how.batch` at a time, and the means f32[size, T, ...] of their steps; only
        the steps in `noisy` are drawn."""
        images: list[Any] = []
        parts = []
        levels = [how.level if index in noisy else 0.0 for index in range(how.steps)]
        for start in range(0, size, how.batch):
            rows = range(start, min(size, start + how.batch))
            initial = [torch_generator(seed, "initial", 0 if how.same_noise else row) for row in rows]
            noise = [torch_generator(seed, "step", row) for row in rows]
            made, trajectory, conditioning = self.pipeline.make(sample, how, levels, initial, noise)
            images += made
            parts.append(trajectory)
        first = parts[0]
        mask = torch.zeros(size, how.steps, dtype=torch.bool)
        if noisy:
            mask = trained_steps(how, noisy, rows=size, seed=seed) & (torch.tensor(first.levels) > 0)
            if not mask.any(1).all():
                raise ConfigError(
                    f"sampling.level = {how.level}: with noise = {how.noise} the steps to be trained have no noise."
                )
        prompt = DiffusionPrompt(conditioning, self.pipeline.transition(how))
        zeros = torch.zeros(size, dtype=torch.long)
        group = Rollouts(
            samples=[sample],
            prompts=[prompt],
            group=zeros,
            prompt=zeros.clone(),
            actions=torch.cat([torch.stack(part.latents, 1) for part in parts]),
            length=torch.full((size,), how.steps),
            mask=mask,
            text=[""] * size,
            images=images,
            origin=["policy"] * size,
            logp_rollout=torch.cat([torch.stack(part.logp, 1) for part in parts]),
            signals={
                "timestep": torch.tensor(first.timesteps).expand(size, -1),
                "level": torch.tensor(first.levels).expand(size, -1),
                "schedule": torch.tensor(first.schedule).expand(size, -1),
            },
        )
        return group, torch.cat([torch.stack(part.means, 1) for part in parts])

    def logp(self, rows: Rollouts, *, signals: Sequence[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """Log-probs of the steps that `rows.mask` selects, f32[n, T], 0 elsewhere; and of those steps, on request,

        `step_std`      the standard deviation of the step
        `step_size`     |dt|, the length of a flow's step in sigma
        `mean_shift`    |mean - mean in the rollout|^2 / (2 std^2), averaged over dimensions
        `velocity_mse`  |output - output of the reference|^2, averaged
        `gaussian_kl`   |mean - mean of the reference|^2 / (2 std^2), averaged
        """
        device = self.pipeline.device
        out = {name: torch.zeros(rows.mask.shape, device=device) for name in ("logp", *signals)}
        for p, prompt in enumerate(rows.prompts):
            pairs = (rows.mask & (rows.prompt == p)[:, None]).nonzero(as_tuple=True)
            if len(pairs[0]):
                for name, values in self._replay(rows, prompt, pairs, signals).items():
                    out[name] = out[name].index_put(tuple(pair.to(device) for pair in pairs), values)
        return out.pop("logp"), out

    def _replay(
        self, rows: Rollouts, prompt: DiffusionPrompt, pairs: tuple[Tensor, ...], signals: Sequence[str]
    ) -> dict[str, Tensor]:
        """The steps of some (row, step) pairs of one prompt again, with gradient; f32[pairs] by name."""
        pipeline, device = self.pipeline, self.pipeline.device
        row, step = pairs
        x, following = rows.actions[row, step].to(device), rows.actions[row, step + 1].to(device)
        schedule = rows.signals["schedule"]
        here, there = schedule[row, step].to(device), schedule[row, step + 1].to(device)
        level, timestep = rows.signals["level"][row, step].to(device), rows.signals["timestep"][row, step].to(device)

        def gauss(output: Tensor) -> tuple[Tensor, Tensor]:
            return gaussian(prompt.transition, output, x, here, there, level, pipeline.prediction)

        with pipeline.autocast():
            output = predict(pipeline, prompt.conditioning, x, timestep)
        mean, std = gauss(output)
        found = {"logp": score(prompt.transition, following, mean, std), "step_std": std}
        if "step_size" in signals:
            found["step_size"] = (there - here).abs()
        if "mean_shift" in signals:
            old = rows.signals["mean"][row, step].to(device)
            found["mean_shift"] = average((mean - old).square()) / (2 * std**2)
        if {"velocity_mse", "gaussian_kl"} & set(signals):
            with torch.no_grad(), pipeline.autocast(), pipeline.reference():
                other = predict(pipeline, prompt.conditioning, x, timestep)
            found["velocity_mse"] = average((output.float() - other.float()).square())
            found["gaussian_kl"] = average((mean - gauss(other)[0]).square()) / (2 * std**2)
        return {name: found[name] for name in ("logp", *signals)}

    def compare(self, rollouts: Rollouts, *, signals: Sequence[str], budget: int) -> dict[str, Tensor]:
        """Nothing: `compares` is empty."""
        assert not signals, signals
        return {}

    @torch.no_grad()
    def reference_logp(self, rows: Rollouts) -> Tensor:
        """Under the model as it was before training."""
        with self.pipeline.reference():
            return self.logp(rows)[0]

    def micro_batches(self, rollouts: Rollouts, *, budget: int) -> list[MicroBatch]:
        """Parts of at most `budget` latent tokens: (row, step) pairs of one prompt each."""
        parts = []
        for p, prompt in enumerate(rollouts.prompts):
            rows, steps = (rollouts.mask & (rollouts.prompt == p)[:, None]).nonzero(as_tuple=True)
            size = max(1, budget // prompt.conditioning.tokens)
            for start in range(0, len(rows), size):
                some, their_steps = rows[start : start + size], steps[start : start + size]
                chosen, place = some.unique(return_inverse=True)
                mask = torch.zeros(len(chosen), rollouts.mask.shape[1], dtype=torch.bool)
                mask[place, their_steps] = True
                parts.append(MicroBatch(chosen.tolist(), mask))
        return parts

    @property
    def tolerance(self) -> float:
        """A log-prob is a mean over the latent's dimensions, so what bfloat16 rounds averages out, to 1e-3 or less
        where outputs differ by 1 % and latents have 512 dimensions. With another prompt `tiny-flow` is off by 0.004
        and more, with times that are 10 % off by 0.005 (`noise: cps`, which has no 1 / std^2: 0.0006 and 0.0014)."""
        return 1e-4 if self.pipeline.device.type == "cpu" else 1e-3

    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, p) for name, p in self.pipeline.denoiser.named_parameters() if p.requires_grad]

    def parts(self) -> list[Part]:
        """The denoiser."""
        return [Part(self.pipeline.denoiser)]

    def kept_whole(self) -> list[torch.nn.Module]:
        """Adapters, which the reference does without."""
        return adapters(self.pipeline.denoiser)

    def save(self, folder: Path) -> None:
        self.pipeline.save(folder)

    def restore(self, folder: Path) -> None:
        self.pipeline.restore(folder)


class VideoDiffusionPolicy(DiffusionPolicy):
    """A pipeline that makes videos."""

    makes: ClassVar[Literal["text", "image", "video"]] = "video"


def average(values: Tensor) -> Tensor:
    """[n, ...] -> [n]"""
    return values.flatten(1).mean(1)
