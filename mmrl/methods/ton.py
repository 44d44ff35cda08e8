"""TON (arXiv 2505.16854), think or not: a cold start in which half of the thoughts are empty, then GRPO.

Adds: `skip_ratio`, which logs how often the thought is left out, and reverse thinking, by which a model writes the
thoughts of its own cold start from questions and answers (`mmrl data traces`; the paper's code has none). Dropping
thoughts is the transform `drop-thoughts`, and `think_format` pays an empty thought like a full one: nothing rewards
brevity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_pipelines.convert import Conversion, Progress, digest
from data_pipelines.dataset import read_samples
from data_pipelines.media import Budget
from data_pipelines.reading import Problem, Row
from data_pipelines.rows import row_of
from mmrl.config import ModelConfig, load_config
from mmrl.gold import WRITERS, gold_kind, gold_text
from mmrl.loading import load_policy, resolve
from mmrl.plugins import Stage
from mmrl.policies.prompts import prompt_messages, with_request
from mmrl.records import Rollouts, Sample
from mmrl.stages import Context, Policy
from rewards.parsing import sentences

ASK = (
    "The right answer is {gold}. Write down the short reasoning that leads to it: only what is seen and what follows "
    "from it, in a few sentences. Do not state the answer, and use no tags."
)
TOGETHER = 16
"""Rows whose thoughts are written at a time."""
EMPTY_THOUGHT = re.compile(r"\s*<think>\s*</think>")
TAG = re.compile(r"</?[A-Za-z]+>")


def skip_ratio(advantage: Tensor, rollouts: Rollouts, context: Context) -> Tensor:
    """Changes nothing; logs the share of completions whose thought is empty as the metric `skip_ratio`."""
    rollouts.signals["skip_ratio"] = torch.tensor([skips(text) for text in rollouts.text])
    return advantage


def skips(completion: str) -> bool:
    """Whether the thought is there and empty. A completion without a thought's tags has lost its form: no skip."""
    return EMPTY_THOUGHT.match(completion) is not None


def reverse(sample: Sample, gold: str) -> Sample:
    """The sample's question with its gold, and the request for what leads from one to the other."""
    return with_request(sample, ASK.format(gold=gold))


def unusable(text: str, gold: str, *, truncated: bool) -> str:
    """Why a completion is no thought; an empty text if it is one.

    The gold is forbidden in the last sentence only, where answers stand: a number may be met on the way.
    """
    if truncated or not text or TAG.search(text):
        return "did not end" if truncated else "has tags" if text else "is empty"
    stated = re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", sentences(text)[-1], re.IGNORECASE)
    return "states the answer" if stated else ""


def write_thoughts(
    policy: Policy, samples: Sequence[Sample], how: Any, *, seed: int, tag: str, attempts: int
) -> Iterator[Row | Problem]:
    """A row per sample that ends in `<think>thought</think><tag>gold</tag>`; the first of `attempts` thoughts is taken.

    A sample without a gold, or of whose completions none is a thought, is a problem.
    """
    for first in range(0, len(samples), TOGETHER):
        # Places in the image as seen can be written once a sample is encoded.
        part = [policy.encode(s)[0] if s.coordinates == "seen" else s for s in samples[first : first + TOGETHER]]
        golds = [gold_text(sample, style="plain") if gold_kind(sample) else "" for sample in part]
        asked = [reverse(sample, gold) for sample, gold in zip(part, golds, strict=True)]
        rollouts = policy.generate(asked, [attempts] * len(asked), how, seed=seed, step=0)
        for g, (sample, gold) in enumerate(zip(part, golds, strict=True)):
            found = [(rollouts.text[r].strip(), bool(rollouts.signals["truncated"][r])) for r in rollouts.rows_of(g)]
            reasons = [unusable(text, gold, truncated=truncated) for text, truncated in found]
            if not gold:
                yield Problem(sample.where, f"its target is none of {', '.join(WRITERS)}", "no answer")
            elif all(reasons):
                shown = f"{reasons[-1]}: {found[-1][0][:80]!r}"
                yield Problem(sample.where, f"no thought in {attempts} attempts; the last {shown}", "no thought")
            else:
                thought = f"<think>{found[reasons.index('')][0]}</think><{tag}>{gold}</{tag}>"
                turn = {"role": "assistant", "content": thought}
                told = {"messages": [*prompt_messages(sample), turn], "meta": sample.meta | {"thought": "kept"}}
                yield row_of(sample) | told


def convert_to_traces(
    data: str, out: Path, *, model: str, config_file: str | None, seed: int, tick: Any, max_new_tokens: int,
    temperature: float, **settings: Any,
) -> Progress:  # fmt: skip
    """`mmrl data traces`: checked and reported as a conversion; an interrupted one writes its thoughts once more."""
    config = None if config_file is None else load_config(config_file)
    how_to_load, budget = (config.model, config.data.budget) if config else (ModelConfig(), Budget())
    policy = load_policy(model, how_to_load, budget)
    how: Any = policy.sampling(max_new_tokens=max_new_tokens, temperature=temperature)
    stage = Stage("traces", write_thoughts, settings)
    samples = read_samples(data, need_target=True)
    conversion = Conversion(out, digest(stage, [data], out, str(resolve(model, how_to_load)), seed, how))
    return conversion.run(lambda: write_thoughts(policy, samples, how, seed=seed, **settings), tick=tick)
