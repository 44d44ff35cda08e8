"""A config turned into the objects of the loop, every name resolved and every setting checked before training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmrl.config import Config
from mmrl.plugins import ConfigError, Stage, build, check_settings, settings_of
from mmrl.registry import ADVANTAGES, LOSSES, ROLLOUTS, SAMPLERS
from mmrl.schedules import Schedule, as_schedule
from mmrl.serving.settings import importance_stage
from mmrl.stages import Policy, Sampler
from rewards.scoring import Rewards, check_reads

if TYPE_CHECKING:
    from mmrl.losses import Aggregate
    from mmrl.records import Rollouts

BUILT_IN_SIGNALS = frozenset({"logp_ref", "logp_old", "truncated"})
"""Signals the trainer or every policy provides; a policy adds its own in `provides`."""


@dataclass(frozen=True)
class Term:
    """One loss term of the sum."""

    stage: Stage
    coef: float | Schedule
    aggregate: Aggregate

    @property
    def is_group_loss(self) -> bool:
        return hasattr(self.stage.plugin, "group_loss")

    @property
    def needs(self) -> dict[str, str]:
        """The signals it reads, and for each what asks for it: the term, or the term with a setting. A loss says by
        `needed_by` which of its signals only a setting asks for that is on."""
        settings: Mapping[str, str] = getattr(self.stage.plugin, "needed_by", {})
        name = f"`{self.stage.name}`"
        return {
            signal: f"{name} with {settings[signal]}" if signal in settings else name
            for signal in self.stage.needs
            if signal not in settings or self.stage.settings.get(settings[signal])
        }

    def coefficient(self, step: int, total: int, metrics: Mapping[str, float]) -> float:
        return self.coef(step, total, metrics) if isinstance(self.coef, Schedule) else self.coef


@dataclass(frozen=True)
class Recipe:
    """What the loop runs."""

    config: Config
    make_sampler: Callable[[Collection[str]], Sampler]
    """From the training samples by id; a sampler that reads ids alone is content with a list of them."""
    rollout: Stage
    sampling: Stage
    """Makes the policy's `Sampling` of a step."""
    rewards: Rewards
    advantages: list[Stage]
    terms: list[Term]
    constant_length: int
    """For `aggregate: constant`."""

    @property
    def credit_needs(self) -> set[str]:
        """Signals the advantage chain reads."""
        return {signal for stage in self.advantages for signal in stage.needs}

    @property
    def loss_needs(self) -> set[str]:
        """Signals the loss terms read; those of the policy are then the current ones, with gradient."""
        return {signal for term in self.terms for signal in term.needs}

    def score(self, rollouts: Rollouts, step: int) -> None:
        """Fill scores, reward and notes. With `data.labels: withheld` the rewards see samples without their gold."""
        samples = rollouts.samples
        if self.config.data.labels == "withheld":
            rollouts.samples = [sample.unlabelled() for sample in samples]
        self.rewards.score(rollouts, step=step, total=self.config.steps)
        rollouts.samples = samples

    def check_signals(self, policy: type[Policy], *, where: str) -> None:
        """Refuse at start-up what nobody can provide. Signals that compare rows have no gradient: none for a loss."""
        for_loss = policy.provides | BUILT_IN_SIGNALS
        stages = [(stage, for_loss | policy.compares) for stage in self.advantages]
        for stage, provided in [*stages, *((term.stage, for_loss) for term in self.terms)]:
            missing = set(stage.needs) - provided
            if missing:
                raise ConfigError(
                    f"{where}: `{stage.name}` needs {', '.join(sorted(missing))}, which this policy does not provide.\n"
                    f"  (Provided: {', '.join(sorted(provided))}.)"
                )

    def check_lacks(self, lacks: Mapping[str, str]) -> None:
        """Refuse what the policy could provide, but not with its model and `sampling`; `lacks` says why, by signal."""
        asked = {signal: f"`{stage.name}`" for stage in self.advantages for signal in stage.needs}
        for term in self.terms:
            asked |= term.needs
        for signal in sorted(asked.keys() & lacks.keys()):
            raise ConfigError(f"{asked[signal]} needs {signal}, which there is not with {lacks[signal]}.")


def make_recipe(config: Config, policy: type[Policy], *, where: str) -> Recipe:
    """Resolve and check every stage against the kind of policy; `where` is the config file, for messages."""
    sampler = build(config.sampler, SAMPLERS, kind="sampler", where=f"{where}: sampler")
    moved = sorted(settings_of(policy.sampling).keys() & config.rollout.keys())
    if moved:
        raise ConfigError(f"{where}: rollout.{moved[0]} belongs to the section `sampling`: sampling.{moved[0]}.")
    rollout = build(config.rollout, ROLLOUTS, kind="rollout", where=f"{where}: rollout", reserved=("engine",))
    if "target" in rollout.needs and config.data.labels == "withheld":
        raise ConfigError(
            f"{where}: rollout `{rollout.name}` learns from targets, and data.labels is `withheld`.\n"
            "  Choose one: another rollout, or data.labels=needed."
        )
    sampling = check_settings(policy.sampling, config.sampling, name="sampling", where=f"{where}: sampling")
    rewards = Rewards.from_config(config.rewards, where=f"{where}: rewards", max_failed=config.max_failed_rewards)
    check_reads(rewards, policy.makes, where=where)
    advantages = [
        build(spec, ADVANTAGES, kind="advantage stage", where=f"{where}: advantages.{i}")
        for i, spec in enumerate([*config.advantages, *importance_stage(config)])
    ]
    terms = [make_term(spec, config, where=f"{where}: loss.terms.{i}") for i, spec in enumerate(config.loss.terms)]

    def make_sampler(samples: Collection[str]) -> Sampler:
        plugin: Any = sampler.plugin
        return plugin(samples, config.prompts_per_step, config.group_size, config.seed, **sampler.settings)

    return Recipe(
        config=config,
        make_sampler=make_sampler,
        rollout=rollout,
        sampling=Stage("sampling", policy.sampling, sampling),
        rewards=rewards,
        advantages=advantages,
        terms=terms,
        constant_length=config.loss.constant_length or int(sampling.get("max_new_tokens", 1)),
    )


def make_term(spec: Mapping[str, Any], config: Config, *, where: str) -> Term:
    stage = build(spec, LOSSES, kind="loss term", where=where, reserved=("coef", "aggregate"))
    coef = spec.get("coef", 1.0)
    schedule = as_schedule(coef, where=f"{where}.coef")
    if schedule is None and (isinstance(coef, bool) or not isinstance(coef, int | float)):
        raise ConfigError(f"{where}.coef = {coef!r}: a number or a schedule.")
    aggregate = spec.get("aggregate", config.loss.aggregate)
    known = ("token_mean", "sequence_mean", "sequence_sum", "constant")
    if aggregate not in known:
        raise ConfigError(f"{where}.aggregate = {aggregate!r}: one of {', '.join(known)}.")
    return Term(stage, schedule or float(coef), aggregate)
