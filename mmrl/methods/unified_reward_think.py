"""UnifiedReward-Think (arXiv 2505.03318): a model learns to judge pairs with a thought, in three stages.

Adds: rejection sampling between cold start and GRPO, `mmrl data reject`: rows that the model judges rightly then
become its supervised data, thoughts included; the others are what GRPO trains on. Judging is a task like any other:
pairs are read by `preferences`, a right verdict is `exact_match`, its form `think_format`. Left out: scores for single
pictures. Differs from its code: the form is one thought and one answer and nothing after them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from data_pipelines.convert import Items, Progress
from data_pipelines.reading import Problem, Row
from data_pipelines.rows import dump, parse, row_of
from data_pipelines.sources import write_samples
from mmrl.advantages import named_score
from mmrl.plugins import Stage
from mmrl.policies.prompts import prompt_messages
from mmrl.recipe import Recipe
from mmrl.records import Sample
from mmrl.stages import Policy
from mmrl.survey import completed, survey


def sift(
    policy: Policy,
    recipe: Recipe,
    samples: Sequence[Sample],
    aside: Callable[[Row], object],
    *,
    completions: int = 1,
    metric: str | None = None,
    at_least: float = 1.0,
) -> Iterator[Row | Problem | None]:
    """Rows that end in the first of `completions` that is right, as an assistant turn; None for those without.

    Right is a score of `metric` (a reward's name; default the combined reward) of `at_least`. The rows without a right
    completion are given to `aside`, as they were asked. A row of which no completion has a score is a problem.
    """
    for sample, rollouts in completed(policy, recipe, samples, completions=completions):
        values = rollouts.reward if metric is None else named_score(metric, rollouts, stage="mmrl data reject")[1]
        assert values is not None
        right = ((values >= at_least) & ~rollouts.signals["truncated"]).nonzero().flatten().tolist()
        row = row_of(sample) | {"messages": prompt_messages(sample)}
        if values.isnan().all():
            yield Problem(sample.where, f"none of {completions} completions has a reward", "no reward")
        elif right:
            turn = {"role": "assistant", "content": rollouts.text[right[0]]}
            yield row | {"messages": [*row["messages"], turn]}
        else:
            aside(row)
            yield None


def reject(data: str, out: Path, wrong_out: Path, *, config_file: str, model: str | None, overrides: Sequence[str],
           tick: Any, **settings: Any) -> Progress:  # fmt: skip
    """`mmrl data reject`: a survey by `sift`, which the settings are of; the rows set aside end up in `wrong_out`."""

    def sifted(policy: Policy, recipe: Recipe, samples: Sequence[Sample], **settings: Any) -> Items:
        with TemporaryFile() as wrong:

            def aside(row: Row) -> None:
                wrong.write(dump({key: value for key, value in row.items() if key != "where"}))

            yield from sift(policy, recipe, samples, aside, **settings)
            wrong.seek(0)
            write_samples(wrong_out, map(parse, wrong))

    stage = Stage("reject", sifted, settings)
    return survey(stage, data, out, config_file=config_file, model=model, overrides=overrides, tick=tick)
