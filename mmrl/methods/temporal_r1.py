"""Temporal-R1 (arXiv 2506.01908): learn only from rows on which the model's own completions differ in reward.

Adds: `mmrl data select`, which completes every row several times, scores it by a recipe's rewards and keeps the rows of
enough spread. The rest is made of what there is: the dual reward is routing by task (`letter_choice` for questions,
`tiou` or `temporal_json` for moments, `grounded_answer` for both at once), the loss GRPO with a KL and an
entropy bonus. The paper's k and thresholds are not public: docs/methods/temporal_r1.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_pipelines.convert import Conversion, Items, Progress, digest
from data_pipelines.dataset import read_samples
from data_pipelines.media import configure
from data_pipelines.reading import Problem
from mmrl.config import load_config
from mmrl.plugins import ConfigError, Stage
from mmrl.policies import policy_class
from mmrl.recipe import Recipe, make_recipe
from mmrl.records import Rollouts, Sample
from mmrl.stages import Policy
from rewards.scoring import check_targets


def varied(
    policy: Policy,
    recipe: Recipe,
    samples: Sequence[Sample],
    *,
    completions: int = 8,
    spread: float = 0.05,
    metrics: Sequence[str] = (),
) -> Iterator[dict[str, Any] | Problem | None]:
    """The samples as rows, in order; None for those whose `completions` have a standard deviation (population) below
    `spread`, all right and all wrong ones among them. The row's `meta.selection` holds mean and spread.

    They are those of the recipe's reward, or of the sum of the rewards that `metrics` names and that apply.
    """
    how: Any = recipe.sampling.at(0, 1)
    together = recipe.config.prompts_per_step
    for first in range(0, len(samples), together):
        part = samples[first : first + together]
        rollouts = policy.generate(part, [completions] * len(part), how, seed=recipe.config.seed, step=0)
        recipe.score(rollouts, 0)
        values = judged(rollouts, metrics)
        for group, sample in enumerate(part):
            here = values[rollouts.rows_of(group)]
            here = here[~here.isnan()].double()
            if len(here) < 2:
                yield Problem(sample.where, f"{len(here)} of {completions} completions have a reward", "no reward")
                continue
            mean, std = float(here.mean()), float(here.std(unbiased=False))
            yield row_of(sample, mean, std, len(here)) if std >= spread else None


def judged(rollouts: Rollouts, metrics: Sequence[str]) -> Tensor:
    """f32[N]: the reward, or the sum of some scores; NaN where there is none."""
    unknown = set(metrics) - set(rollouts.scores)
    if unknown:
        there = ", ".join(rollouts.scores)
        raise ConfigError(f"--metric {min(unknown)}: no such reward in the recipe; there are {there}.")
    assert rollouts.reward is not None
    if not metrics:
        return rollouts.reward
    scores = torch.stack([rollouts.scores[name] for name in metrics])
    return scores.nansum(0).masked_fill(scores.isnan().all(0), torch.nan)


def row_of(sample: Sample, mean: float, std: float, completions: int) -> dict[str, Any]:
    """The sample as a row to be written, with what it was chosen for."""
    selection = {"mean": round(mean, 6), "std": round(std, 6), "completions": completions}
    return {
        # A sample's id carries a digest of its media, which is added again when the row is read.
        "id": re.sub(r"@[0-9a-f]{8}$", "", sample.id) if sample.media else sample.id,
        "messages": list(sample.messages),
        "target": sample.target,
        "meta": sample.meta | {"selection": selection},
        "where": sample.where,
    }


def select(
    data: str, out: Path, *, config_file: str, model: str | None, overrides: Sequence[str], tick: Any, **settings: Any
) -> Progress:
    """`mmrl data select`: checked and reported as a conversion; an interrupted one begins again."""
    config = load_config(config_file, overrides)
    config = replace(config, model=replace(config.model, path=model or config.model.path))
    kind = policy_class(config.model.path)
    if kind.makes != "text":
        raise ConfigError(f"{config_file}: {config.model.path} makes {kind.makes}s; what selects rows writes text.")
    recipe = make_recipe(config, kind, where=config_file)
    configure(config.data.decode)
    policy = kind.load(config.model, config.data.budget)
    policy.check(recipe.sampling.at(0, 1), training=True)
    samples = read_samples(data, need_target=config.data.labels == "needed", roots=config.data.roots)
    if config.data.labels == "needed":
        check_targets(recipe.rewards, samples)

    def items() -> Items:
        return varied(policy, recipe, samples, **settings)

    return Conversion(out, digest(Stage("select", varied, settings), [data], out, repr(config))).run(items, tick=tick)
