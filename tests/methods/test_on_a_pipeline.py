"""The methods in the loop, on tiny random pipelines: signals, on-policy ratios, what an update moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import random_pipelines
import torch

from data_pipelines.media import Budget
from mmrl.advantages import group_relative
from mmrl.config import AdapterConfig, Config, ModelConfig, OptimizerConfig, parse
from mmrl.optimization import Updater
from mmrl.plugins import ConfigError, Stage
from mmrl.policies.diffusion import Denoising, DiffusionPolicy
from mmrl.policies.pipelines import Pipeline
from mmrl.recipe import Recipe, Term, make_recipe
from mmrl.records import Rollouts, Sample
from mmrl.report import Report
from mmrl.trainer import accumulate, credit, learn

LOSSES: dict[str, dict[str, Any]] = {
    "clipped": {},
    "grpo_guard": {},
    "gaussian_kl": {"without_dt": True},
    "velocity_kl": {},
    "behaviour_kl": {},
}
ON = {
    "sd3": LOSSES,
    "sd": {name: {} for name in LOSSES if name != "grpo_guard"},
}
"""The losses of a flow; those of DDIM, whose steps have no dt."""
SIGNALS = ("mean_shift", "step_std", "step_size", "velocity_mse", "gaussian_kl")


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a tiny pipeline by name, made once."""
    folder = tmp_path_factory.mktemp("pipelines")

    def path(name: str) -> Path:
        return folder / name if (folder / name).exists() else random_pipelines.save(name, folder / name)

    return path


@pytest.fixture
def make_policy(pipelines):
    def make(name: str) -> DiffusionPolicy:
        settings = ModelConfig(path=str(pipelines(name)), device="cpu")
        return DiffusionPolicy.load(settings, Budget())

    return make


def recipe_of(*terms: dict[str, Any], advantages: Any = ("group_relative",), **optimizer: Any) -> Recipe:
    raw = {
        "steps": 2,
        "prompts_per_step": 2,
        "group_size": 4,
        "data": {"train": "none.jsonl"},
        "rewards": ["brightness"],
        "advantages": list(advantages),
        "loss": {"terms": list(terms)},
        "optimizer": {"learning_rate": 1e-3, **optimizer},
    }
    return make_recipe(parse(raw, Config, where="test"), DiffusionPolicy, where="test")


def gradient(policy: DiffusionPolicy) -> torch.Tensor:
    """Of all trained weights, flat; they are left without."""
    found = torch.cat([p.grad.flatten() for _, p in policy.trainable() if p.grad is not None])
    for _, parameter in policy.trainable():
        parameter.grad = None
    return found


def disturb(policy: DiffusionPolicy) -> None:
    """Move the weights away from the model before training, of which the copy is loaded first."""
    with policy.pipeline.reference():
        pass
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))


def rollouts_of(policy: DiffusionPolicy, context: Any, recipe: Recipe | None = None) -> Rollouts:
    """Two prompts of four images with rewards drawn at random, credited."""
    samples = [Sample(name, ({"role": "user", "content": name},)) for name in ("a b", "c d")]
    how = Denoising(steps=4, level=0.5, width=16, height=16)
    rollouts = policy.generate(samples, [4, 4], how, seed=0, step=0, signals=set(SIGNALS) - policy.lacks(how).keys())
    rollouts.reward = torch.rand(8, generator=torch.Generator().manual_seed(0))
    if recipe is None:
        rollouts.advantage = group_relative(rollouts.reward[:, None].expand(rollouts.mask.shape), rollouts, context)
    else:
        credit(policy, recipe, rollouts, context)
    return rollouts


@pytest.mark.parametrize("name", ["sd", "sd3"])
def test_signals_on_policy(make_policy, context, name):
    policy = make_policy(name)
    rollouts = rollouts_of(policy, context)
    with torch.no_grad():
        logp, signals = policy.logp(rollouts, signals=SIGNALS if name == "sd3" else set(SIGNALS) - {"step_size"})
    mask = rollouts.mask
    torch.testing.assert_close(logp[mask], rollouts.logp_rollout[mask], atol=1e-5, rtol=1e-5)
    for zero in ("mean_shift", "velocity_mse", "gaussian_kl"):
        assert (signals[zero].abs() < 1e-8).all()
    assert (signals["step_std"][mask] > 0).all()
    if name == "sd3":  # DanceGRPO's law: std = level sqrt|dt|
        lengths = -policy.pipeline.scheduler.sigmas.diff().expand(mask.shape)
        torch.testing.assert_close(signals["step_size"][mask], lengths[mask])
        torch.testing.assert_close(signals["step_std"][mask], 0.5 * lengths[mask].sqrt())


@pytest.mark.parametrize(("name", "loss"), [(name, loss) for name in ON for loss in ON[name]])
def test_an_update_by_every_loss(make_policy, context, name, loss):
    """Terms that compare with the model before training or the behaviour policy begin at 0 and move nothing."""
    policy = make_policy(name)
    recipe = recipe_of({"name": loss, **ON[name][loss]})
    recipe.check_lacks(policy.lacks(Denoising()))
    before = [parameter.detach().clone() for _, parameter in policy.trainable()]
    optimizer = Updater(policy, OptimizerConfig(learning_rate=1e-3))
    report = learn(policy, optimizer, rollouts_of(policy, context, recipe), recipe, context).metrics()
    moved = any(not b.equal(p) for b, (_, p) in zip(before, policy.trainable(), strict=True))
    if loss in ("clipped", "grpo_guard"):
        assert moved and report["grad_norm"] > 0
    else:
        assert report["grad_norm"] < 1e-4 and abs(report[f"loss/{loss}"]) < 1e-8


@pytest.mark.parametrize("loss", ["gaussian_kl", "velocity_kl", "behaviour_kl"])
def test_divergences_pull_back_what_has_moved(make_policy, context, loss):
    policy = make_policy("sd3")
    recipe = recipe_of({"name": loss, **LOSSES[loss]}, updates_per_rollout=2, epochs=2)
    rollouts = rollouts_of(policy, context, recipe)
    disturb(policy)
    optimizer = Updater(policy, OptimizerConfig(learning_rate=1e-3))
    values = [learn(policy, optimizer, rollouts, recipe, context).metrics()[f"loss/{loss}"] for _ in range(2)]
    assert 0 < values[-1] < values[0]


@pytest.mark.parametrize("updates", [1, 2])
def test_only_the_best_and_worst_go_through_the_model(make_policy, context, updates, monkeypatch):
    """Those of which the old log-probs are wanted as well, when a rollout has several updates."""
    policy = make_policy("sd3")
    through: list[int] = []
    logp = policy.logp

    def listen(rows: Rollouts, **named: Any) -> Any:
        through.append(int(rows.mask.sum()))
        return logp(rows, **named)

    monkeypatch.setattr(policy, "logp", listen)
    recipe = recipe_of(
        {"name": "clipped"},
        {"name": "kl"},
        advantages=["group_relative", {"name": "best_and_worst", "best": 1, "worst": 1}],
        updates_per_rollout=updates,
    )
    rollouts = rollouts_of(policy, context, recipe)
    trained = [row for batch in policy.micro_batches(rollouts, budget=10_000) for row in batch.rows]
    rewards = rollouts.reward.view(2, 4)
    wanted = {g * 4 + int(row) for g in range(2) for row in (rewards[g].argmax(), rewards[g].argmin())}
    assert sorted(trained) == sorted(wanted)
    assert sum(through) == updates * 4 * 3  # reference and old log-probs of 4 rows, 3 trained steps each
    assert (rollouts.logp_old is None) == (updates == 1)


class Spread:
    """A group loss of which neither part is linear in the log-probs of a row."""

    def row_score(self, logp: torch.Tensor, rows: Rollouts) -> torch.Tensor:
        return ((logp * rows.mask).sum(1) / 3) ** 2

    def group_loss(self, scores: torch.Tensor, rollouts: Rollouts) -> torch.Tensor:
        return scores.logsumexp(0) - scores.std()


def test_a_group_loss_is_exact_where_rows_are_cut_between_micro_batches(make_policy, context):
    policy = make_policy("sd3")
    recipe = recipe_of({"name": "clipped"})
    rollouts = rollouts_of(policy, context, recipe)
    cut = replace(
        recipe,
        terms=[Term(Stage("spread", Spread, {}), 1.0, "token_mean")],
        config=replace(recipe.config, micro_batch_tokens=2 * rollouts.prompts[0].conditioning.tokens),
    )
    batches = policy.micro_batches(rollouts, budget=cut.config.micro_batch_tokens)
    assert len(batches) > len({row for batch in batches for row in batch.rows})  # 2 pairs each, of rows of 3 steps
    accumulate(policy, Updater(policy, cut.config.optimizer), rollouts, cut, context, Report())
    found = gradient(policy)
    loss = Spread()
    loss.group_loss(loss.row_score(policy.logp(rollouts)[0], rollouts), rollouts).backward()
    whole = gradient(policy)
    assert whole.norm() > 0
    assert (found - whole).norm() < 1e-4 * whole.norm()


# -- what a law of noise cannot give ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "noise", "loss", "message"),
    [
        ("sd3", "cps", {"name": "grpo_guard"}, "`grpo_guard` needs mean_shift, .*sampling.noise = cps"),
        ("sd3", "cps", {"name": "gaussian_kl", "without_dt": True}, "`gaussian_kl` with without_dt .*noise = cps"),
        ("sd3", "cps", {"name": "gaussian_kl"}, None),
        ("sd3", "cps", {"name": "velocity_kl"}, None),
        ("sd3", "flow_grpo", {"name": "grpo_guard"}, None),
        ("sd3", "flow_grpo", {"name": "gaussian_kl", "without_dt": True}, None),
        ("sd", "constant", {"name": "grpo_guard"}, "`grpo_guard` needs step_size, .*a DDIM pipeline"),
        ("sd", "constant", {"name": "gaussian_kl", "without_dt": True}, "with without_dt needs step_size, .* DDIM"),
        ("sd", "constant", {"name": "gaussian_kl"}, None),
    ],
)
def test_a_loss_that_these_steps_have_no_signal_for(make_policy, name, noise, loss, message):
    policy, recipe = make_policy(name), recipe_of(loss)
    how = Denoising(steps=3, width=16, height=16, noise=noise)
    sample = Sample("a", ({"role": "user", "content": "a"},))
    if message is None:
        recipe.check_lacks(policy.lacks(how))
        policy.generate([sample], [1], how, seed=0, step=0, signals=recipe.loss_needs)
        return
    with pytest.raises(ConfigError, match=message):
        recipe.check_lacks(policy.lacks(how))
    with pytest.raises(ConfigError, match="a stage needs"):  # also where a stage changes the law on its way
        policy.generate([sample], [1], how, seed=0, step=0, signals=recipe.loss_needs)


# -- rows whose reward failed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [[1, 6], [4, 5, 6, 7]], ids=["two rows", "a whole group"])
@pytest.mark.parametrize("aggregate", ["token_mean", "sequence_mean", "spread"])
def test_rows_without_reward_are_as_if_they_were_not_there(make_policy, context, aggregate, failed):
    policy = make_policy("sd3")
    grouped = aggregate == "spread"
    recipe = recipe_of({"name": "clipped"}, {"name": "velocity_kl", "coef": 5.0})
    terms = [Term(Stage("spread", Spread, {}), 1.0, "token_mean")] if grouped else [
        replace(term, aggregate=aggregate) for term in recipe.terms
    ]  # fmt: skip
    recipe = replace(recipe, terms=terms)
    rollouts = rollouts_of(policy, context)
    rollouts.reward[failed] = float("nan")
    without = rollouts.select([row for row in range(8) if row not in failed])
    disturb(policy)
    found = []
    for batch in (rollouts, without):
        credit(policy, recipe, batch, context)
        accumulate(policy, Updater(policy, recipe.config.optimizer), batch, recipe, context, Report())
        found.append(gradient(policy))
    assert found[1].norm() > 0
    assert (found[0] - found[1]).norm() < 1e-5 * found[1].norm()


def test_a_step_in_which_every_reward_failed_moves_nothing(make_policy, context):
    policy = make_policy("sd3")
    recipe = recipe_of({"name": "clipped"}, {"name": "velocity_kl"})
    rollouts = rollouts_of(policy, context)
    rollouts.reward[:] = float("nan")
    disturb(policy)
    before = [parameter.detach().clone() for _, parameter in policy.trainable()]
    credit(policy, recipe, rollouts, context)
    learn(policy, Updater(policy, recipe.config.optimizer), rollouts, recipe, context)
    assert all(b.equal(p) for b, (_, p) in zip(before, policy.trainable(), strict=True))


# -- training and generation agree -----------------------------------------------------------------------------------


def test_a_training_pass_that_sees_something_else_is_refused_before_it_moves_anything(make_policy, context):
    policy = make_policy("sd3")
    recipe = recipe_of({"name": "clipped"})
    rollouts = rollouts_of(policy, context, recipe)
    before = [parameter.detach().clone() for _, parameter in policy.trainable()]
    optimizer = Updater(policy, recipe.config.optimizer)
    wrong = replace(rollouts, logp_rollout=rollouts.logp_rollout + 2 * policy.tolerance)
    with pytest.raises(RuntimeError, match="differ from those of the generation"):
        learn(policy, optimizer, wrong, recipe, context, tolerance=policy.tolerance)
    assert all(b.equal(p) for b, (_, p) in zip(before, policy.trainable(), strict=True))
    learn(policy, optimizer, rollouts, recipe, context, tolerance=policy.tolerance)
    assert any(not b.equal(p) for b, (_, p) in zip(before, policy.trainable(), strict=True))


@pytest.mark.parametrize("mistake", ["none", "prompts", "times"])
def test_mistakes_are_larger_than_the_tolerance_of_a_gpu(mistake):
    """A swapped prompt or times that are 10 % off, on a model that knows its prompts."""
    policy = DiffusionPolicy.load(ModelConfig(path="tiny-flow", device="cpu"), Budget())
    samples = [Sample(text, ({"role": "user", "content": text},)) for text in ("a red circle", "two blue stars")]
    rollouts = policy.generate(samples, [2, 2], Denoising(steps=10), seed=0, step=0)
    if mistake == "prompts":
        rollouts = replace(rollouts, prompts=rollouts.prompts[::-1])
    elif mistake == "times":
        rollouts.signals["timestep"] = 0.9 * rollouts.signals["timestep"]
    with torch.no_grad():
        gap = (policy.logp(rollouts)[0] - rollouts.logp_rollout)[rollouts.mask].abs().mean()
    assert gap < 1e-6 if mistake == "none" else gap > 2e-3, gap


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_means_of_the_rollout_fit_the_log_probs_of_the_training_pass(context, dtype):
    """With several updates per rollout `logp_old` is the training pass's, at other batches; the means stay those of the
    rollout. On policy GRPO-Guard's ratio is then off 1 by rounding, far below its clip range of 1e-4."""
    torch.manual_seed(0)
    pipe = random_pipelines.BUILDERS["sd3"]().to(dtype)
    policy = DiffusionPolicy(Pipeline(pipe, ModelConfig(path="mine", adapter=AdapterConfig(rank=2))))
    recipe = recipe_of({"name": "grpo_guard"}, updates_per_rollout=2)
    recipe = replace(recipe, config=replace(recipe.config, micro_batch_tokens=3 * 256))  # 3 pairs at a time
    rollouts = rollouts_of(policy, context, recipe)
    assert rollouts.prompts[0].conditioning.tokens == 256
    with torch.no_grad():
        logp, signals = policy.logp(rollouts, signals=["mean_shift", "step_std"])
    balanced = (logp - rollouts.logp_old + signals["mean_shift"]) * signals["step_std"]
    assert balanced[rollouts.mask].abs().max() < 1e-6
