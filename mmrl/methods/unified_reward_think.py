"""UnifiedReward-Think (arXiv 2505.03318): a model learns to judge pairs with a thought, in three stages.

Adds: rejection sampling between cold start and GRPO, `mmrl data reject`: rows that the model judges rightly then
become its supervised data, thoughts included; the others are what GRPO trains on. Judging is a task like any other:
pairs are read by `preferences`, a right verdict is `exact_match`, its form `think_format`. Left out: scores for single
pictures. Differs from its code: the form is one thought and one answer and nothing after them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.convert import Conversion, Progress, digest
from data_pipelines.dataset import read_samples
from data_pipelines.media import configure
from data_pipelines.reading import Problem, Row
from data_pipelines.sources import write_samples
from mmrl.advantages import named_score
from mmrl.config import load_config
from mmrl.plugins import ConfigError, Stage
from mmrl.policies import policy_class
from mmrl.policies.vlm import prompt_messages
from mmrl.recipe import Recipe, make_recipe
from mmrl.records import Sample
from mmrl.stages import Policy
from rewards.scoring import check_targets


def sift(
    policy: Policy,
    recipe: Recipe,
    samples: Sequence[Sample],
    wrong: list[Row],
    *,
    completions: int = 1,
    metric: str | None = None,
    at_least: float = 1.0,
) -> Iterator[Row | Problem | None]:
    """Rows that end in the first of `completions` that is right, as an assistant turn; None for those without.

    Right is a score of `metric` (a reward's name; default the combined reward) of `at_least`. The rows without a right
    completion are put into `wrong`, as they were asked. A row of which no completion has a score is a problem.
    """
    how: Any = recipe.sampling.at(0, 1)
    together = recipe.config.prompts_per_step
    for first in range(0, len(samples), together):
        part = samples[first : first + together]
        rollouts = policy.generate(part, [completions] * len(part), how, seed=recipe.config.seed, step=0)
        recipe.score(rollouts, 0)
        values = rollouts.reward if metric is None else named_score(metric, rollouts, stage="mmrl data reject")[1]
        assert values is not None
        for group, sample in enumerate(part):
            rows = rollouts.rows_of(group)
            row = row_of(sample)
            right = [r for r in rows if values[r] >= at_least and not rollouts.signals["truncated"][r]]
            if values[rows].isnan().all():
                yield Problem(sample.where, f"none of {completions} completions has a reward", "no reward")
            elif right:
                turn = {"role": "assistant", "content": rollouts.text[right[0]]}
                yield row | {"messages": [*row["messages"], turn]}
            else:
                wrong.append(row)
                yield None


def row_of(sample: Sample) -> Row:
    """The sample's question as a row to be written."""
    # A sample's id carries a digest of its media, which is added again when the row is read.
    name = re.sub(r"@[0-9a-f]{8}$", "", sample.id) if sample.media else sample.id
    return {
        "id": name, "messages": prompt_messages(sample), "target": sample.target, "meta": sample.meta,
        "where": sample.where,
    }  # fmt: skip


def reject(
    data: str, out: Path, wrong_out: Path, *, config_file: str, model: str | None, overrides: Sequence[str], tick: Any,
    **settings: Any,
) -> Progress:  # fmt: skip
    """`mmrl data reject`: checked and reported as a conversion; an interrupted one begins again."""
    config = load_config(config_file, [*overrides, *([f"model.path={model}"] if model else [])])
    kind = policy_class(config.model.path)
    if kind.makes != "text":
        raise ConfigError(f"{config_file}: {config.model.path} makes {kind.makes}s; verdicts are texts.")
    recipe = make_recipe(config, kind, where=config_file)
    configure(config.data.decode)
    samples = read_samples(data, need_target=True, roots=config.data.roots)
    check_targets(recipe.rewards, samples)
    policy = kind.load(config.model, config.data.budget)
    wrong: list[Row] = []
    conversion = Conversion(out, digest(Stage("reject", sift, settings), [data], out, repr(config)))
    progress = conversion.run(lambda: sift(policy, recipe, samples, wrong, **settings), tick=tick)
    write_samples(wrong_out, [{key: value for key, value in row.items() if key != "where"} for row in wrong])
    return progress
