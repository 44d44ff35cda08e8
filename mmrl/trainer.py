"""The loop: plan, collect, score, credit, learn, record. It knows stages and never a method.

    train()   one run, a step at a time: the picture of docs/design.md
    collect() the first half of a step: plan, rollout, score; a `Collector` says when it happens
    learn()   optimizer updates from the rollouts of a step: micro-batches, loss terms, global denominators

What a stage promises is in `stages.py`; how a config becomes stages in `recipe.py`; what a policy does with log-probs
in `policies/`. On several ranks everybody sees the whole step and works on a share of its groups (`distributed.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmrl import distributed
from mmrl.advantages import spread
from mmrl.evaluation import evaluate
from mmrl.losses import weights
from mmrl.optimization import Updater, learning_rate, make_updater
from mmrl.randomness import derive
from mmrl.recipe import Recipe, Term
from mmrl.records import MicroBatch, Rollouts, Sample
from mmrl.report import Clock, Report, describe
from mmrl.runs.run import Run
from mmrl.schedules import Schedule
from mmrl.serving.settings import is_served
from mmrl.stages import Context, Policy, Sampler


def train(
    run: Run, policy: Policy, recipe: Recipe, samples: Mapping[str, Sample], held_out: Sequence[Sample] = ()
) -> None:
    """One step: draw prompts, make completions, score them, turn scores into advantages, learn."""
    config = recipe.config
    sampler = recipe.make_sampler(samples)
    memory: dict[str, Any] = {}
    average = run.restore_model(policy, config.optimizer)
    updater = make_updater(policy, config)
    updater.followers.append(average.follow)
    metrics = run.restore(updater, sampler, memory)
    collector = make_collector(policy, recipe, sampler, samples)
    for step in range(run.first_step, config.steps):
        clock = Clock()
        context = make_context(step, policy, recipe, sampler, samples, metrics, memory)
        with updater.whole_weights():
            rollouts = collector.take(context, clock)
            with clock("credit"):
                credit(policy, recipe, rollouts, context)
        with clock("learn"):
            tolerance = policy.tolerance if step == run.first_step else None
            report = learn(policy, updater, rollouts, recipe, context, tolerance=tolerance)
        sampler.observe(step, rollouts)
        metrics = {**describe(rollouts, recipe.rewards), **report.metrics(), **clock.metrics()}
        metrics |= collector.metrics(rollouts)
        pieces = policy.pieces(rollouts) if hasattr(policy, "pieces") else None
        run.record(step, rollouts, metrics, pieces=pieces)
        if run.due(step, config.evaluate.every) and held_out:
            with average.applied(), updater.whole_weights(), collector.in_process():
                result = evaluate(policy, recipe.rewards, held_out, config.evaluate, recipe.sampling, seed=config.seed)
            run.evaluated(step, result)
        if run.due(step, config.checkpoint.every) or step + 1 == config.steps:
            run.checkpoint(step, policy, updater, average, sampler, metrics, memory, keep=config.checkpoint.keep)


class Collector:
    """Where the rollouts of a step come from. Here they are made when they are asked for, by the policy itself;
    `serving/collecting.py` has the same for servers, whose completions may be made some steps ahead."""

    def __init__(self, policy: Policy, recipe: Recipe, sampler: Sampler, samples: Mapping[str, Sample]) -> None:
        self.policy, self.recipe, self.sampler, self.samples = policy, recipe, sampler, samples

    def take(self, context: Context, clock: Clock) -> Rollouts:
        """The scored rollouts of the context's step."""
        return collect(self.policy, self.recipe, self.sampler, self.samples, context, clock)

    def in_process(self) -> AbstractContextManager[Any]:
        """Inside, the policy generates by itself, with the weights it has."""
        return nullcontext()

    def metrics(self, rollouts: Rollouts) -> dict[str, float]:
        """What there is to say of a step's rollouts besides what they are; asked once a step."""
        return {}


def make_collector(policy: Policy, recipe: Recipe, sampler: Sampler, samples: Mapping[str, Sample]) -> Collector:
    """As `rollout.engine` has it."""
    if not is_served(recipe.config):
        return Collector(policy, recipe, sampler, samples)
    from mmrl.serving.collecting import ServedCollector

    return ServedCollector(policy, recipe, sampler, samples)


def collect(
    policy: Policy,
    recipe: Recipe,
    sampler: Sampler,
    samples: Mapping[str, Sample],
    context: Context,
    clock: Clock,
) -> Rollouts:
    """The rollouts of the context's step: drawn, made and scored."""
    with clock("plan"):
        survey(sampler, samples, recipe, context)
        chosen, sizes = draw(sampler, samples, context.step)
    with clock("rollout"):
        rollout = recipe.rollout.at(context.step, context.total, context.metrics)
        rollouts: Rollouts = rollout(policy, chosen, sizes, context)
    with clock("score"):
        if rollouts.reward is None:
            context.score(rollouts)
    return rollouts


def draw(
    sampler: Sampler, samples: Mapping[str, Sample], step: int, request: int = 0
) -> tuple[list[Sample], list[int]]:
    plan = sampler.plan(step, request=request)
    return [samples[sample_id] for sample_id, _ in plan], [size for _, size in plan]


def survey(sampler: Sampler, samples: Mapping[str, Sample], recipe: Recipe, context: Context) -> None:
    """Scored completions for the sampler alone, if it asks for some; as many prompts at a time as a step has."""
    asked = sampler.survey(context.step) if hasattr(sampler, "survey") else []
    for first in range(0, len(asked), recipe.config.prompts_per_step):
        part = asked[first : first + recipe.config.prompts_per_step]
        rollouts = context.generate([samples[sample_id] for sample_id, _ in part], [size for _, size in part])
        context.score(rollouts)
        sampler.observe(context.step, rollouts)


def make_context(
    step: int,
    policy: Policy,
    recipe: Recipe,
    sampler: Sampler,
    samples: Mapping[str, Sample],
    metrics: Mapping[str, float],
    memory: dict[str, Any] | None = None,
) -> Context:
    seed, total = recipe.config.seed, recipe.config.steps
    how: Any = recipe.sampling.at(step, total, metrics)
    requests = [0]

    def generate(chosen: Any, sizes: Any, **changes: Any) -> Rollouts:
        # Each call of a step draws with a seed of its own, so that a prompt met again is completed anew.
        requests[0] += 1
        return policy.generate(
            chosen,
            sizes,
            replace(how, **changes),
            seed=derive(seed, "request", requests[0]),
            step=step,
            signals=recipe.credit_needs | recipe.loss_needs,
        )

    return Context(
        step=step,
        total=total,
        seed=seed,
        metrics=metrics,
        generate=generate,
        draw=lambda request: draw(sampler, samples, step, request),
        score=lambda rollouts: recipe.score(rollouts, step),
        memory={} if memory is None else memory,
    )


def credit(policy: Policy, recipe: Recipe, rollouts: Rollouts, context: Context) -> None:
    """Fill `advantage` by the chain, after the signals its links need; log-probs that only the loss needs come last,
    of the actions that the chain has left to be trained. Rows without reward leave the mask, and with it every loss
    and every denominator: an update is as if they had not been made."""
    assert rollouts.reward is not None
    early, budget = recipe.credit_needs, recipe.config.micro_batch_tokens
    old_early = bool(early & {"logp_old", *policy.provides})
    if old_early:
        fill_logp_old(policy, rollouts, sorted(early & policy.provides), budget=budget)
    if compared := sorted(early & policy.compares):
        rollouts.signals |= policy.compare(rollouts, signals=compared, budget=budget)
    if "logp_ref" in early:
        fill_logp_ref(policy, rollouts, budget=budget)
    advantage = spread(rollouts.reward, rollouts)
    for stage in recipe.advantages:
        advantage = stage.at(context.step, context.total, context.metrics)(advantage, rollouts, context)
    rollouts.advantage = advantage.nan_to_num(0.0)
    rollouts.mask = rollouts.mask & ~advantage.isnan()
    if recipe.config.optimizer.updates_per_rollout > 1 and not old_early:
        fill_logp_old(policy, rollouts, [], budget=budget)
    if "logp_ref" in recipe.loss_needs - early:
        fill_logp_ref(policy, rollouts, budget=budget)


@torch.no_grad()
def fill_logp_old(policy: Policy, rollouts: Rollouts, signals: list[str], *, budget: int) -> None:
    """Log-probs of the policy that made the rollouts, by the training pass. One update per rollout needs none of this:
    its own log-probs are the old ones."""
    rollouts.logp_old = torch.zeros(rollouts.mask.shape)
    values_of = {name: torch.zeros(rollouts.mask.shape) for name in signals}
    for batch in policy.micro_batches(rollouts, budget=budget):
        logp, values = policy.logp(rollouts.part(batch), signals=signals)
        rollouts.logp_old[batch.rows] += logp.cpu()
        for name, value in values.items():
            values_of[name][batch.rows] += value.cpu()
    distributed.add_up(rollouts.logp_old)
    rollouts.signals |= {name: distributed.add_up(values) for name, values in values_of.items()}


def fill_logp_ref(policy: Policy, rollouts: Rollouts, *, budget: int) -> None:
    rollouts.logp_ref = torch.zeros(rollouts.mask.shape)
    for batch in policy.micro_batches(rollouts, budget=budget):
        rollouts.logp_ref[batch.rows] += policy.reference_logp(rollouts.part(batch)).cpu()
    distributed.add_up(rollouts.logp_ref)


def learn(
    policy: Policy,
    updater: Updater,
    rollouts: Rollouts,
    recipe: Recipe,
    context: Context,
    *,
    tolerance: float | None = None,
) -> Report:
    """`updates_per_rollout` optimizer updates: `epochs` passes over the rollouts, whole groups in equal parts.

    With a `tolerance` the log-probs are checked against those of the generation before anything is updated.
    """
    config, report = recipe.config.optimizer, Report()
    parts = config.updates_per_rollout // config.epochs
    rate = learning_rate(config, context.step, context.total)
    for _ in range(config.epochs):
        for part in range(min(parts, len(rollouts.samples))):
            batch = rollouts if parts == 1 else rollouts.select_groups(range(part, len(rollouts.samples), parts))
            accumulate(policy, updater, batch, recipe, context, report)
            report.add_up()
            if tolerance is not None:
                check_on_policy(report, tolerance=tolerance)
                tolerance = None
            norm = updater.update(rate=rate)
            report.updated(grad_norm=norm, learning_rate=rate)
    if rollouts.logp_old is None:
        rollouts.logp_old = report.first_logp
    return report


def check_on_policy(report: Report, *, tolerance: float) -> None:
    """The log-probs of the training pass must be those of the generation, or nothing that follows has a meaning.

    It catches a training pass that sees something else than the generation did: another prompt or image, other
    weights, another time or guidance. Clipping does not depend on the gap, for both log-probs of a ratio are of the
    training pass; so `tolerance` is not measured by a clip range but lies between what rounding does and what such a
    mistake does (`Policy.tolerance`). It is the mean of the first update's policy-made actions, before the update.
    """
    if not report.mean_gap <= tolerance:
        raise RuntimeError(
            f"at the first step the log-probs of the training pass differ from those of the generation by "
            f"{report.mean_gap:.2g} on average (at most {tolerance:.2g} is rounding). The ratio is not 1 on policy: "
            "generation and training do not run the same model on the same prompt."
        )


def accumulate(
    policy: Policy, updater: Updater, batch: Rollouts, recipe: Recipe, context: Context, report: Report
) -> None:
    """Add up the gradient of the loss over one optimizer batch, a micro-batch at a time.

    A token loss is weighted with shares of the whole batch, a group loss with its exact derivative by each log-prob, so
    neither depends on how the batch is cut.
    """
    where = (context.step, context.total, context.metrics)
    terms = [(term, term.stage.at(*where), term.coefficient(*where)) for term in recipe.terms]
    shares: dict[int, Tensor] = {}
    micro_batches = policy.micro_batches(batch, budget=recipe.config.micro_batch_tokens)
    for index, (term, stage, coefficient) in enumerate(terms):
        if isinstance(term.coef, Schedule):
            report.coefficient(term.stage.name, coefficient)
        if term.is_group_loss:
            with updater.whole_weights():
                shares[index] = group_coefficients(policy, stage, batch, micro_batches)
        else:
            shares[index] = weights(batch.mask, term.aggregate, constant_length=recipe.constant_length)
    signals = sorted(recipe.loss_needs & policy.provides)
    report.begin(batch)
    for micro_batch, last in updater.turns(micro_batches):
        if micro_batch is None:
            updater.backward(updater.run(policy.idle), last=last)  # type: ignore[attr-defined]
            continue
        part = batch.part(micro_batch)
        logp, values = updater.run(partial(policy.logp, part, signals=signals))
        part = on_device(part, logp, values)
        loss = logp.new_zeros(())
        for index, (term, stage, coefficient) in enumerate(terms):
            value = term_loss(term, stage, logp, part, shares[index][micro_batch.rows].to(logp.device))
            report.term(term.stage.name, float(value.detach()))
            loss = loss + coefficient * value
        updater.backward(loss, last=last)
        report.micro_batch(micro_batch, batch, logp.detach(), float(loss.detach()))


def term_loss(term: Term, stage: Any, logp: Tensor, part: Rollouts, share: Tensor) -> Tensor:
    """A micro-batch's contribution to the term's value (of a group loss: to its gradient only)."""
    if term.is_group_loss:
        return (share * logp).sum()
    return (share * part.mask * stage(logp, part)).sum()


@torch.no_grad()
def group_coefficients(policy: Policy, stage: Any, batch: Rollouts, micro_batches: list[MicroBatch]) -> Tensor:
    """f32[N, T], dL/dlogp of a group loss at the current policy: its log-probs without gradient, then one small
    autograd. A row may be cut over several micro-batches (some of its denoising steps in each). The loss compares the
    rows with an action to train; those without are not there, and their coefficients are 0."""
    logp = torch.zeros(batch.mask.shape)
    for micro_batch in micro_batches:
        logp[micro_batch.rows] += policy.logp(batch.part(micro_batch))[0].cpu()
    distributed.add_up(logp)
    rows = batch.mask.any(1).nonzero().flatten().tolist()
    coefficients = torch.zeros_like(logp)
    if rows:
        there, trained = batch.select(rows), logp[rows].requires_grad_(True)
        with torch.enable_grad():
            scores = stage.row_score(trained, on_device(there, trained, {}))
            (coefficients[rows],) = torch.autograd.grad(stage.group_loss(scores, there), trained)
    return coefficients


def on_device(part: Rollouts, logp: Tensor, signals: Mapping[str, Tensor]) -> Rollouts:
    """The rows of a micro-batch as a loss term sees them: on the log-probs' device, with the current signals."""

    def move(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(logp.device)

    return replace(
        part,
        mask=part.mask.to(logp.device),
        advantage=move(part.advantage),
        logp_old=move(part.logp_old) if part.logp_old is not None else logp.detach(),
        logp_ref=move(part.logp_ref),
        signals={**{name: value.to(logp.device) for name, value in part.signals.items()}, **signals},
    )
