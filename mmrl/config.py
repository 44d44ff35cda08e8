"""Typed, strict configs: the sections, and how the mapping of YAML files and overrides (`mappings.py`) becomes them.

Every section is a dataclass and its fields are the documentation. An unknown key, a wrong type or an impossible
combination is an error that names the file, the key and the nearest valid one. Stages (sampler, rollout, rewards,
advantages, loss terms) stay plain mappings here; `recipe.py` checks them against their plugins' signatures.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from data_pipelines.budget import Budget
from data_pipelines.decoding import Decoding
from mmrl.batches import nearest_updates
from mmrl.layering import lay_over
from mmrl.mappings import apply_override, normalise_stages, read_yaml
from mmrl.plugins import ConfigError, nearest
from mmrl.runs.checkpoints import model_at
from mmrl.serving import settings as serving

StageSpec = dict[str, Any]
"""`{name: ..., setting: ...}`; in YAML a bare name is enough."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """LoRA on every linear layer of the language model, and of the vision tower when `vision: trained`."""

    rank: int = 16
    alpha: int = 32
    seed: int = 0
    """Of the adapter's initial weights."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    path: str = "tiny"
    """A local folder, a hub name, a run directory (its newest checkpoint's model), or a model that ships with mmrl:
    `tiny`, or a tiny diffusers pipeline."""
    vision: Literal["frozen", "trained"] = "frozen"
    """Whether the vision tower and its merger are trained."""
    adapter: AdapterConfig | None = None
    """None trains all weights of the language model."""
    gradient_checkpointing: bool = False
    attention: Literal["sdpa", "eager"] = "sdpa"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the computation on a GPU; `auto` is bfloat16 there. Weights that are trained stay in float32."""
    device: str = "auto"
    generation_tokens: int = 262_144
    """Most KV-cache tokens held at a time while generating."""
    text_encoders: Literal["release", "keep"] = "release"
    """Of image and video models. `release` encodes all prompts of the data before training and frees the encoders;
    `keep` encodes a prompt when it is drawn, for data whose embeddings would not fit into the CPU's memory."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    train: str | list[str]
    """A JSON Lines file, or several that are read as one; the format is in docs/data.md."""
    test: str | list[str] | None = None
    """Held out; evaluated every `evaluate.every` steps."""
    budget: Budget = field(default_factory=Budget)
    labels: Literal["needed", "withheld"] = "needed"
    """`withheld`: rows need no target, and no reward sees one that is there; it serves for logged metrics only."""
    check: Literal["full", "off"] = "full"
    """`full` decodes and measures every row before training, so that a bad row stops the run at its start."""
    bad_media: Literal["stop", "skip"] = "stop"
    """What a file that cannot be read, or that changes while the run goes on, does: `stop` the run, or `skip` its rows,
    which are counted."""
    roots: list[str] = field(default_factory=list)
    """Folders, besides the dataset's own, that media may lie in; with any, absolute paths must lie there too."""
    decode: Decoding = field(default_factory=Decoding)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    terms: list[StageSpec]
    """Added up; each may carry `coef` (a number or schedule, default 1) and its own `aggregate`."""
    aggregate: Literal["token_mean", "sequence_mean", "sequence_sum", "constant"] = "token_mean"
    constant_length: int | None = None
    """For `aggregate: constant`; default sampling.max_new_tokens."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW."""

    learning_rate: float = 1e-6
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up; `linear` and `cosine` end at 0."""
    warmup_steps: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    updates_per_rollout: int = 1
    """Optimizer updates made from the rollouts of one step: `epochs` passes over them, each in equal parts."""
    epochs: int = 1
    ema: float | None = None
    """Decay of a moving average of the trained weights, which evaluations and checkpoints then hold (`ema.py`)."""
    ema_every: int = 1
    """Updates from one change of the average to the next."""
    max_bad_updates: int = 3
    """An update whose loss or gradient is not finite is left out; after so many in a row the run stops."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    every: int = 0
    """Steps between evaluations on data.test; 0 = never."""
    samples: int = 1
    """Completions per prompt."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    limit: int | None = None
    """Rows of data.test to use; None = all."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    every: int = 100
    """Steps between checkpoints; the last step always has one."""
    keep: int = 2
    """The newest so many are kept."""
    best: bool = True
    """Keep the best as well, `checkpoints/best`: that of the highest evaluation's score, or without evaluations of the
    highest mean reward over the last `every` steps."""


@dataclass(frozen=True, kw_only=True)
class DistributionConfig:
    """How several processes share the work; one process has nothing to share. docs/distribution.md."""

    strategy: Literal["ddp", "zero1", "zero2", "zero3"] = "ddp"
    """`ddp`: every rank has all weights, gradients and optimizer states. DeepSpeed's ZeRO spreads over the ranks: 1 the
    optimizer states, 2 the gradients too, 3 the weights too."""
    generation: Literal["auto", "gathered", "synchronised"] = "auto"
    """With zero3, whether every rank gathers all weights to generate, once a step, or all ranks generate token by token
    together, gathering a layer at a time; `auto` gathers if the weights fit into half of the free memory."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run."""

    name: str = ""
    """Folder under `runs`; default is the config file's name."""
    runs: str = "runs"
    seed: int = 0
    steps: int
    prompts_per_step: int
    group_size: int
    """Completions per prompt."""
    micro_batch_tokens: int = 16_384
    """Tokens, prompt and padding included, that go through the model at once in training; bounds memory."""
    memory_probe: Literal["auto", "on", "off"] = "auto"
    """Try the largest rows before the first step, so that what does not fit is found at once; `auto`: on a GPU."""
    max_failed_rewards: float = 0.2
    """Share of a step's completions whose reward may fail before the run stops."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig
    sampler: StageSpec = field(default_factory=lambda: {"name": "shuffled"})
    sampling: dict[str, Any] = field(default_factory=dict)
    """How completions are made; the settings are the policy's (`mmrl methods list`), such as max_new_tokens."""
    rollout: StageSpec = field(default_factory=lambda: {"name": "on_policy"})
    """`engine` says who generates: `in_process`, or `server`, which the section of that name describes."""
    server: serving.ServerConfig | None = None
    rewards: list[StageSpec]
    advantages: list[StageSpec] = field(default_factory=lambda: [{"name": "group_relative"}])
    loss: LossConfig = field(default_factory=lambda: LossConfig(terms=[{"name": "clipped"}]))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    distribution: DistributionConfig = field(default_factory=DistributionConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: list[StageSpec] = field(default_factory=list)
    """Where metrics go besides metrics.jsonl: `tensorboard`, `wandb`, `trackio`, or a logger of your own."""


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """Supervised fine-tuning on the assistant turns of a dataset, for a cold start (`mmrl sft`)."""

    out: str
    """Folder for the trained model."""
    seed: int = 0
    steps: int
    batch_size: int
    """Rows per step."""
    checkpoint_every: int = 100
    """Steps between checkpoints, from which `--resume` goes on; 0 = none."""
    micro_batch_tokens: int = 16_384
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    distribution: DistributionConfig = field(default_factory=DistributionConfig)


def load_config(path: str | Path, overrides: typing.Sequence[str] = (), *, kind: type = Config) -> Any:
    """A `Config` (or another `kind` of section) from a YAML file, further files laid over it, and `key=value`s.

    Files that contradict each other are refused (`layering.py`); a `key=value` wins over all files, wherever it stands.
    """
    file = Path(path)
    files = [word for word in overrides if word.endswith((".yaml", ".yml")) and "=" not in word]
    changes = [word for word in overrides if word not in files]
    decided = {change.partition("=")[0] for change in changes}
    raw = lay_over(read_yaml(file), [(name, read_yaml(Path(name))) for name in files], decided=decided)
    for change in changes:
        apply_override(raw, change)
        normalise_stages(raw)
    if kind is Config and not raw.get("name"):
        raw["name"] = file.stem
    config = parse(raw, kind, where=str(file))
    model = dataclasses.replace(config.model, path=model_at(config.model.path))
    return dataclasses.replace(config, model=model)


def parse(raw: Mapping[str, Any], kind: type, *, where: str) -> Any:
    """Check a mapping against a section's dataclass and build it."""
    raw = normalise_stages(dict(raw))
    if isinstance(raw.get("rollout"), dict):  # `engine` alone changes no stage
        raw["rollout"] = {"name": "on_policy", **raw["rollout"]}
    check_keys(raw, kind, where=where, path="")
    try:
        config: Any = TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}{found(e)}" for e in error.errors()[:8]]
        raise ConfigError(f"{where} is not a valid {kind.__name__}:\n" + "\n".join(lines)) from None
    check_combinations(config, where)
    return config


def found(error: Any) -> str:
    return "" if error["type"] == "missing" else f" (found {error['input']!r})"


def check_keys(raw: Any, kind: Any, *, where: str, path: str) -> None:
    """Unknown keys at any depth of the dataclasses, with a guess."""
    options = [kind, *typing.get_args(kind)] if isinstance(kind, types.UnionType) else [kind]
    section = next((option for option in options if dataclasses.is_dataclass(option)), None)
    if section is None or not isinstance(raw, Mapping):
        return
    hints = typing.get_type_hints(section)
    for key, value in raw.items():
        full = f"{path}.{key}" if path else str(key)
        if key not in hints:
            raise ConfigError(f"{where}: {full} is not a setting.\n  {nearest(str(key), hints)}")
        check_keys(value, hints[key], where=where, path=full)


def check_combinations(config: Any, where: str) -> None:
    """What types cannot say."""
    problems = []
    if isinstance(config, Config):
        if config.group_size < 2:
            problems.append(
                f"group_size = {config.group_size}: an advantage compares the completions of a prompt, "
                "so there must be at least 2 (4 to 16 are usual)."
            )
        if config.prompts_per_step < 1:
            problems.append(f"prompts_per_step = {config.prompts_per_step}: at least 1.")
        if not 0 <= config.max_failed_rewards <= 1:
            problems.append(f"max_failed_rewards = {config.max_failed_rewards}: a share between 0 and 1.")
        moving = [key for key, value in config.sampler.items() if isinstance(value, Mapping) and "schedule" in value]
        if moving:
            problems.append(
                f"sampler.{moving[0]} is a schedule; a sampler is made once, before the first step, so its settings "
                "are numbers. Schedules are for rollout, sampling, rewards, advantages and loss."
            )
        if not config.rewards:
            problems.append("rewards is empty: name at least one (`mmrl rewards list`).")
        if config.evaluate.every and not config.data.test:
            problems.append("evaluate.every is set but data.test is not.")
        problems += serving.problems(config)
        if config.checkpoint.keep < 1:
            problems.append(f"checkpoint.keep = {config.checkpoint.keep}: at least 1, the one just written.")
        if config.checkpoint.every < 1:
            problems.append(f"checkpoint.every = {config.checkpoint.every}: at least 1.")
        if config.optimizer.epochs < 1:
            problems.append(f"optimizer.epochs = {config.optimizer.epochs}: at least 1.")
        updates, epochs = config.optimizer.updates_per_rollout, max(config.optimizer.epochs, 1)
        if config.prompts_per_step >= 1 and (
            updates % epochs or not epochs <= updates <= epochs * config.prompts_per_step
        ):
            problems.append(
                f"optimizer.updates_per_rollout = {updates} with optimizer.epochs = {epochs} and prompts_per_step = "
                f"{config.prompts_per_step}: every pass has as many updates, and each update at least one whole group. "
                f"Nearest: {nearest_updates(updates, epochs, config.prompts_per_step)}."
            )
    if config.steps < 1:
        problems.append(f"steps = {config.steps}: at least 1.")
    if config.optimizer.learning_rate <= 0:
        problems.append(f"optimizer.learning_rate = {config.optimizer.learning_rate}: must be positive.")
    if config.model.adapter is not None and config.model.adapter.rank < 1:
        problems.append(f"model.adapter.rank = {config.model.adapter.rank}: at least 1.")
    if config.optimizer.ema is not None and not 0 < config.optimizer.ema < 1:
        problems.append(f"optimizer.ema = {config.optimizer.ema}: a decay between 0 and 1, such as 0.995.")
    if config.optimizer.ema is not None and isinstance(config, SftConfig):
        problems.append("optimizer.ema is for `mmrl train`; `mmrl sft` keeps no average. Leave it out.")
    if config.optimizer.ema_every < 1:
        problems.append(f"optimizer.ema_every = {config.optimizer.ema_every}: at least 1.")
    if config.optimizer.max_bad_updates < 1:
        problems.append(f"optimizer.max_bad_updates = {config.optimizer.max_bad_updates}: at least 1.")
    if isinstance(config, SftConfig) and config.checkpoint_every < 0:
        problems.append(f"checkpoint_every = {config.checkpoint_every}: a number of steps, or 0 for no checkpoints.")
    if config.micro_batch_tokens < 1:
        problems.append("micro_batch_tokens: at least 1.")
    if problems:
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {problem}" for problem in problems))


def dump(config: Any) -> str:
    """YAML that `load_config` reads back to the same config."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
