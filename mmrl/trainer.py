"""The loop: plan, collect, score, credit, learn, record. It knows stages and never a method.

    train()   one run, a step at a time: the picture of docs/design.md
    collect() the first half of a step: plan, rollout, score; a `Collector` says when it happens
    learn()   optimizer updates from the rollouts of a step: micro-batches, loss terms, global denominators

What a stage promises is in `stages.py`; how a config becomes stages in `recipe.py`; what a policy does with log-probs
in `policies/`. On several ranks everybody sees the whole step and works on a share of its groups (`distributed.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmrl import distributed
from mmrl.advantages import spread
from mmrl.evaluation import evaluate
from mmrl.faults.endings import OffPolicy
from mmrl.faults.room import Room
from mmrl.faults.training import Faults
from mmrl.losses import weights
from mmrl.optimization import Updater, learning_rate, make_updater
from mmrl.randomness import derive
from mmrl.recipe import Recipe, Term
from mmrl.records import Rollouts, Sample
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
    faults = Faults(run, policy, updater, recipe)
    faults.before_the_first_step(list(samples.values()))
    for step in range(run.first_step, config.steps):
        run.step, clock = step, Clock()
        context = make_context(step, policy, recipe, sampler, samples, metrics, memory, faults.readable)
        with updater.whole_weights():
            rollouts = collector.take(context, clock)
            with clock("credit"):
                credit(policy, recipe, rollouts, context, room=faults.room)
        with clock("learn"):
            tolerance = policy.tolerance if step == run.first_step else None
            report = learn(policy, updater, rollouts, recipe, context, tolerance=tolerance, room=faults.room)
        sampler.observe(step, rollouts)
        metrics = {**describe(rollouts, recipe.rewards), **report.metrics(), **clock.metrics(), **faults.metrics()}
        metrics |= collector.metrics(rollouts)
        pieces = policy.pieces(rollouts) if hasattr(policy, "pieces") else None
        run.record(step, rollouts, metrics, pieces=pieces)
        faults.after_updates(report)
        score: float | None = None
        if run.due(step, config.evaluate.every) and held_out:
            with average.applied(), updater.whole_weights(), collector.in_process():
                result = evaluate(policy, recipe.rewards, held_out, config.evaluate, recipe.sampling, seed=config.seed)
            run.evaluated(step, result)
            score = result.score
        stopped = faults.asked_to_stop() if step + 1 < config.steps else None
        if run.due(step, config.checkpoint.every) or step + 1 == config.steps or stopped:
            if not (config.evaluate.every and held_out):
                score = run.mean_reward(config.checkpoint.every)
            keep, best = config.checkpoint.keep, config.checkpoint.best
            run.checkpoint(step, policy, updater, average, sampler, metrics, memory, keep=keep, best=best, score=score)
        if stopped:
            faults.stop(stopped)


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
        chosen, sizes = context.draw(0)
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
    readable: Callable[[list[Sample], list[int]], tuple[list[Sample], list[int]]] = lambda *drawn: drawn,
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
        draw=lambda request: readable(*draw(sampler, samples, step, request)),
        score=lambda rollouts: recipe.score(rollouts, step),
        memory={} if memory is None else memory,
    )


def credit(policy: Policy, recipe: Recipe, rollouts: Rollouts, context: Context, *, room: Room | None = None) -> None:
    """Fill `advantage` by the chain, after the signals its links need; log-probs that only the loss needs come last,
    of the actions that the chain has left to be trained. Rows without reward leave the mask, and with it every loss
    and every denominator: an update is as if they had not been made."""
    assert rollouts.reward is not None
    early, room = recipe.credit_needs, room or Room(recipe.config.micro_batch_tokens)
    old_early = bool(early & {"logp_old", *policy.provides})
    if old_early:
        fill_logp_old(policy, rollouts, sorted(early & policy.provides), room=room)
    if compared := sorted(early & policy.compares):
        rollouts.signals |= room.fit(
            policy, rollouts, lambda budget: policy.compare(rollouts, signals=compared, budget=budget)
        )
    if "logp_ref" in early:
        fill_logp_ref(policy, rollouts, room=room)
    advantage = spread(rollouts.reward, rollouts)
    for stage in recipe.advantages:
        advantage = stage.at(context.step, context.total, context.metrics)(advantage, rollouts, context)
    rollouts.advantage = advantage.nan_to_num(0.0)
    rollouts.mask = rollouts.mask & ~advantage.isnan()
    if recipe.config.optimizer.updates_per_rollout > 1 and not old_early:
        fill_logp_old(policy, rollouts, [], room=room)
    if "logp_ref" in recipe.loss_needs - early:
        fill_logp_ref(policy, rollouts, room=room)


@torch.no_grad()
def fill_logp_old(policy: Policy, rollouts: Rollouts, signals: list[str], *, room: Room) -> None:
    """Log-probs of the policy that made the rollouts, by the training pass. One update per rollout needs none of this:
    its own log-probs are the old ones."""

    def compute(budget: int) -> dict[str, Tensor]:
        found = {name: torch.zeros(rollouts.mask.shape) for name in ("logp_old", *signals)}
        for batch in policy.micro_batches(rollouts, budget=budget):
            logp, values = policy.logp(rollouts.part(batch), signals=signals)
            for name, value in {**values, "logp_old": logp}.items():
                found[name][batch.rows] += value.cpu()
        return found

    found = {name: distributed.add_up(v) for name, v in room.fit(policy, rollouts, compute).items()}
    rollouts.logp_old = found.pop("logp_old")
    rollouts.signals |= found


def fill_logp_ref(policy: Policy, rollouts: Rollouts, *, room: Room) -> None:
    def compute(budget: int) -> Tensor:
        logp = torch.zeros(rollouts.mask.shape)
        for batch in policy.micro_batches(rollouts, budget=budget):
            logp[batch.rows] += policy.reference_logp(rollouts.part(batch)).cpu()
        return logp

    rollouts.logp_ref = distributed.add_up(room.fit(policy, rollouts, compute))


def learn(
    policy: Policy,
    updater: Updater,
    rollouts: Rollouts,
    recipe: Recipe,
    context: Context,
    *,
    tolerance: float | None = None,
    room: Room | None = None,
) -> Report:
    """`updates_per_rollout` optimizer updates: `epochs` passes over the rollouts, whole groups in equal parts. One
    whose loss or gradient is not finite is left out; after `max_bad_updates` in a row no more are made.

    With a `tolerance` the log-probs are checked against those of the generation before anything is updated.
    """
    config, report = recipe.config.optimizer, Report()
    room = room or Room(recipe.config.micro_batch_tokens)
    parts = config.updates_per_rollout // config.epochs
    rate = learning_rate(config, context.step, context.total)
    for _ in range(config.epochs):
        for part in range(min(parts, len(rollouts.samples))):
            batch = rollouts if parts == 1 else rollouts.select_groups(range(part, len(rollouts.samples), parts))
            if updater.bad_in_a_row >= config.max_bad_updates:
                break
            accumulate(policy, updater, batch, recipe, context, report, room=room)
            report.add_up()
            if tolerance is not None and not report.bad:
                check_on_policy(report, tolerance=tolerance)
                tolerance = None
            norm = updater.update(rate=rate, skip=bool(report.bad))
            if updater.bad_in_a_row:
                ids = [sample.id for sample in batch.samples]
                report.not_updated(report.bad or [{"found": f"the gradient's norm is {norm}", "samples": ids}])
            else:
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
        raise OffPolicy(
            f"at the first step the log-probs of the training pass differ from those of the generation by "
            f"{report.mean_gap:.2g} on average (at most {tolerance:.2g} is rounding). The ratio is not 1 on policy: "
            "generation and training do not run the same model on the same prompt.",
            quiet=distributed.rank() > 0,
        )


def accumulate(
    policy: Policy,
    updater: Updater,
    batch: Rollouts,
    recipe: Recipe,
    context: Context,
    report: Report,
    *,
    room: Room | None = None,
) -> None:
    """Add up the gradient of the loss over one optimizer batch, a micro-batch at a time.

    A token loss is weighted with shares of the whole batch, a group loss with its exact derivative by each log-prob, so
    neither depends on how the batch is cut.
    """
    where = (context.step, context.total, context.metrics)
    terms = [(term, term.stage.at(*where), term.coefficient(*where)) for term in recipe.terms]
    room = room or Room(recipe.config.micro_batch_tokens)
    shares: dict[int, Tensor] = {}
    for index, (term, stage, coefficient) in enumerate(terms):
        if isinstance(term.coef, Schedule):
            report.coefficient(term.stage.name, coefficient)
        if term.is_group_loss:
            with updater.whole_weights():
                shares[index] = group_coefficients(policy, stage, batch, room)
        else:
            shares[index] = weights(batch.mask, term.aggregate, constant_length=recipe.constant_length)
    signals = sorted(recipe.loss_needs & policy.provides)

    def backward(budget: int) -> None:
        if updater.retries:
            updater.clear()
        report.begin(batch)
        for micro_batch, last in updater.turns(policy.micro_batches(batch, budget=budget)):
            if micro_batch is None:
                updater.backward(updater.run(policy.idle), last=last)  # type: ignore[attr-defined]
                continue
            part = batch.part(micro_batch)
            logp, values = updater.run(partial(policy.logp, part, signals=signals))
            part = on_device(part, logp, values)
            loss = logp.new_zeros(())
            for index, (term, stage, coefficient) in enumerate(terms):
                parts = term_loss(term, stage, logp, part, shares[index][micro_batch.rows].to(logp.device))
                report.term(term.stage.name, parts.detach(), part)
                loss = loss + coefficient * parts.sum()
            updater.backward(loss, last=last)
            report.micro_batch(micro_batch, batch, logp.detach(), float(loss.detach()))

    room.fit(policy, batch, backward, again=updater.retries)


def term_loss(term: Term, stage: Any, logp: Tensor, part: Rollouts, share: Tensor) -> Tensor:
    """f[n, T], a micro-batch's contributions to the term's value (of a group loss: to its gradient only)."""
    if term.is_group_loss:
        return share * logp
    return share * part.mask * stage(logp, part)


@torch.no_grad()
def group_coefficients(policy: Policy, stage: Any, batch: Rollouts, room: Room) -> Tensor:
    """f32[N, T], dL/dlogp of a group loss at the current policy: its log-probs without gradient, then one small
    autograd. A row may be cut over several micro-batches (some of its denoising steps in each). The loss compares the
    rows with an action to train; those without are not there, and their coefficients are 0."""

    def compute(budget: int) -> Tensor:
        logp = torch.zeros(batch.mask.shape)
        for micro_batch in policy.micro_batches(batch, budget=budget):
            logp[micro_batch.rows] += policy.logp(batch.part(micro_batch))[0].cpu()
        return logp

    logp = distributed.add_up(room.fit(policy, batch, compute))
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
