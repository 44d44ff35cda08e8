"""A recipe over a dataset, without training: its model completes every row, its rewards score what was written, and a
method makes rows of that. `mmrl data select` and `mmrl data reject` are such surveys.

What a method does with a row's completions is its own file in `methods/`; rows on their way to disk are
`data_pipelines/convert.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipelines.convert import Conversion, Items, Progress, digest
from data_pipelines.dataset import read_samples
from data_pipelines.media import configure
from mmrl.config import Config, load_config
from mmrl.loading import resolve
from mmrl.plugins import ConfigError, Stage
from mmrl.policies import policy_class
from mmrl.recipe import Recipe, make_recipe
from mmrl.records import Rollouts, Sample
from mmrl.stages import Policy
from rewards.scoring import check_targets


def survey(
    stage: Stage,
    data: str,
    out: Path,
    *,
    config_file: str,
    overrides: Sequence[str],
    model: str | None,
    tick: Any,
    must_differ: bool = False,
) -> Progress:
    """Write to `out` what the stage's plugin, `(policy, recipe, samples, **settings) -> rows`, makes of a dataset.

    Checked and reported as a conversion; an interrupted one begins again. `model`, or that of a run, stands in
    for the recipe's. `must_differ` refuses sampling by which all completions of a row are the same.
    """
    config: Config = load_config(config_file, overrides)
    settings, weights = resolve(model, config.model) if model else (config.model, None)
    config = replace(config, model=settings)
    kind = policy_class(config.model.path)
    if kind.makes != "text":
        raise ConfigError(f"{config_file}: {config.model.path} makes {kind.makes}s; a survey is of texts.")
    recipe = make_recipe(config, kind, where=config_file)
    configure(config.data.decode)
    labelled = config.data.labels == "needed"
    samples = read_samples(data, need_target=labelled, roots=config.data.roots)
    if labelled:
        check_targets(recipe.rewards, samples)
    policy = kind.load(config.model, config.data.budget)
    if weights is not None:
        policy.restore(weights)
    policy.check(recipe.sampling.at(0, 1), training=must_differ)

    def rows() -> Items:
        plugin: Any = stage.plugin
        made: Items = plugin(policy, recipe, samples, **stage.settings)
        return made

    try:
        return Conversion(out, digest(stage, [data], out, repr(config), str(weights))).run(rows, tick=tick)
    finally:
        recipe.rewards.close()


def completed(
    policy: Policy, recipe: Recipe, samples: Sequence[Sample], *, completions: int
) -> Iterator[tuple[Sample, Rollouts]]:
    """Every sample in order with its `completions`, scored: one group. A step's prompts are completed at a time."""
    how: Any = recipe.sampling.at(0, 1)
    together = recipe.config.prompts_per_step
    for first in range(0, len(samples), together):
        part = samples[first : first + together]
        rollouts = policy.generate(part, [completions] * len(part), how, seed=recipe.config.seed, step=0)
        recipe.score(rollouts, 0)
        yield from ((sample, rollouts.select_groups([group])) for group, sample in enumerate(part))
