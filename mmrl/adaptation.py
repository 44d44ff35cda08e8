"""`mmrl adapt`: train a model on inputs that nobody labelled, then let it answer them. Test-time training, as in TTRV.

The inputs are images with one question for all, or the rows of a dataset. Where rows have gold labels, rewards never
see them (`data.labels: withheld`); `rollout.metric` counts how many answers are right before and after. What comes out
is a run directory with the model in its last checkpoint, and `predictions.jsonl`. Method and recipe:
docs/methods/ttrv.md, `assets/adapt.yaml`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_pipelines.dataset import write_samples
from data_pipelines.media import configure
from mmrl.config import Config, load_config
from mmrl.launch import check_prompts, load_trained, read_for, run_training
from mmrl.methods.ttrv import gold_scores
from mmrl.plugins import ConfigError
from mmrl.policies import policy_class
from mmrl.recipe import Recipe, make_recipe
from mmrl.records import Sample
from mmrl.runs import layout
from mmrl.runs.checkpoints import model_at, model_of
from mmrl.runs.files import write_bytes
from mmrl.runs.reader import read_metrics
from mmrl.runs.summary import clean

RECIPE = Path(__file__).parent / "assets" / "adapt.yaml"
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
METRICS = {"choice": "letter_choice", "number": "relaxed_accuracy", "text": "exact_match"}
"""How a vote is read -> the reward that says whether it is right, where there is a gold label."""
SHOWN = 20
"""Inputs in the table."""


@dataclass(frozen=True)
class Said:
    """A model's likeliest completion of one input."""

    text: str
    confidence: float
    """Its probability, 0 to 1: the product over its tokens, at temperature 1."""
    right: float
    """What the metric says; NaN without a gold label."""


@dataclass(frozen=True)
class Adapted:
    model: Path
    predictions: Path
    table: Table


def adapt(
    target: str,
    inputs: Sequence[Path],
    out: Path,
    *,
    question: str | None = None,
    answer: str | None = None,
    recipe_file: str | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    console: Console,
) -> Adapted:
    """Train `target` on the inputs, and write what it says of them before and after; `answer` is a key of METRICS."""
    target = whole_model_at(target)
    if (out / layout.CONFIG).exists() and not resume:
        raise ConfigError(f"{out} already holds a run.\n  Choose another --out, or continue this one with --resume.")
    changes = [
        f"model.path={target}",
        f"data.train={dataset_of(inputs, question, out)}",
        f"runs={out.absolute().parent}",
    ]
    changes += [f"name={out.name}", "data.labels=withheld"]
    if answer is not None:
        if answer not in METRICS:
            raise ConfigError(f"--answer {answer}: one of {', '.join(METRICS)}.")
        changes += [f"rewards.0.answer={answer}", f"rollout.metric={METRICS[answer]}"]
    where, changes = recipe_file or str(RECIPE), [*overrides, *changes]
    kind = policy_class(target)
    if kind.makes != "text":
        raise ConfigError(f"{target} makes {kind.makes}s; `mmrl adapt` is for models that answer questions.")
    config: Config = load_config(where, changes)
    configure(config.data.decode)
    samples = read_for(kind, config.data.train, config.data, console)
    if config.prompts_per_step > len(samples):  # no input more than once in a step
        changes.append(f"prompts_per_step={len(samples)}")
        config = load_config(where, changes)
    recipe = make_recipe(config, kind, where=where)
    before = answers(target, config, recipe, samples, console)
    folder = run_training(where, changes, resume=resume, console=console)
    after = answers(str(model_of(folder)), config, recipe, samples, console)
    predictions = folder / "predictions.jsonl"
    lines = [json.dumps(row(*one), ensure_ascii=False) for one in zip(samples, before, after, strict=True)]
    write_bytes(predictions, "".join(f"{line}\n" for line in lines).encode())
    return Adapted(model_of(folder), predictions, table(samples, before, after, read_metrics(folder)))


def whole_model_at(target: str) -> str:
    """The model itself, or that of a run. ConfigError for a run that trained an adapter."""
    path = model_at(target)
    if path != target and not (Path(path) / "config.json").is_file():
        raise ConfigError(
            f"{path} is an adapter, and `mmrl adapt` begins with a whole model.\n  Merge it first (peft)."
        )
    return path


def dataset_of(inputs: Sequence[Path], question: str | None, out: Path) -> Path:
    """The dataset itself, or images and a question written as one, `OUT/inputs.jsonl`."""
    if question is None:
        if len(inputs) != 1 or inputs[0].suffix.lower() in IMAGES:
            raise ConfigError(
                "mmrl adapt takes images and a --question, or one dataset whose rows ask their own.\n"
                '  For example: mmrl adapt MODEL photos/*.jpg --question "Which animal? A cat B dog C bird D horse"'
            )
        return inputs[0]
    if other := [str(path) for path in inputs if path.suffix.lower() not in IMAGES]:
        raise ConfigError(f"--question asks about images; {other[0]} is none ({', '.join(IMAGES)}).")
    if missing := [str(path) for path in inputs if not path.is_file()]:
        raise ConfigError(f"{missing[0]} does not exist.")
    rows = [
        {"id": f"{number:04d}-{path.stem}", "messages": [{"role": "user", "content": [
            {"type": "image", "image": str(path.absolute())}, {"type": "text", "text": question}]}]}
        for number, path in enumerate(inputs, 1)
    ]  # fmt: skip
    return write_samples(out / "inputs.jsonl", rows)


def answers(model: str, config: Config, recipe: Recipe, samples: Sequence[Sample], console: Console) -> list[Said]:
    """The likeliest completion of every sample, as many at a time as a step has prompts."""
    policy = load_trained(model, config)
    how: Any = recipe.sampling.at(0, config.steps)
    said = []
    check_prompts(policy, samples, config.data, console)
    metric = config.rollout.get("metric")
    for first in range(0, len(samples), config.prompts_per_step):
        part = samples[first : first + config.prompts_per_step]
        rollouts = policy.generate(part, [1] * len(part), how.at_temperature(0.0), seed=config.seed, step=0)
        right = [math.nan] * len(part) if metric is None else gold_scores(rollouts, metric).tolist()
        assert rollouts.logp_rollout is not None
        sure = rollouts.logp_rollout.sum(1).exp().tolist()
        said += [Said(*one) for one in zip(rollouts.text, sure, right, strict=True)]
    return said


def row(sample: Sample, before: Said, after: Said) -> dict[str, Any]:
    """One line of predictions.jsonl; `right` only where there is a gold label."""
    facts = {
        "id": sample.id,
        "media": [media.path for media in sample.media],
        "question": sample.prompt,
        "prediction": after.text,
        "confidence": float(f"{after.confidence:.4g}"),
        "before": before.text,
        "confidence_before": float(f"{before.confidence:.4g}"),
    }
    return facts if math.isnan(after.right) else facts | {"right": after.right, "right_before": before.right}


def table(
    samples: Sequence[Sample], before: Sequence[Said], after: Sequence[Said], metrics: Sequence[dict[str, Any]]
) -> Table:
    """The first inputs with both answers; below, how far the votes agree and, with gold labels, how many are right."""
    shown = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), show_footer=True)
    agreed = [line["vote_agreement"] for line in metrics if line.get("vote_agreement") is not None]
    notes = [f"{len(samples)} inputs"]
    notes += [f"votes agree {agreed[0]:.0%} → {agreed[-1]:.0%}"] if agreed else []
    rights = [[one.right for one in said if not math.isnan(one.right)] for said in (before, after)]
    footers = [f"right {math.fsum(right) / len(right):.1%}" if right else "" for right in rights]
    shown.add_column("input", footer=Text(", ".join(notes)), overflow="ellipsis", no_wrap=True)
    for name, footer in zip(("before", "after"), footers, strict=True):
        shown.add_column(name, footer=Text(footer))
        shown.add_column("", justify="right")
    for sample, old, new in list(zip(samples, before, after, strict=True))[:SHOWN]:
        name = Path(sample.media[0].path).name if sample.media else sample.id
        cells = (name, old.text, f"{old.confidence:.2f}", new.text, f"{new.confidence:.2f}")
        shown.add_row(*(Text(clean(cell)) for cell in cells))
    if len(samples) > SHOWN:
        shown.add_row(f"and {len(samples) - SHOWN} more")
    return shown
