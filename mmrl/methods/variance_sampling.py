"""MMR1 (arXiv 2509.21268): prompts are drawn by how much their completions vary, in outcome and in wording.

Adds: `VarianceAware`, a sampler that keeps a score per prompt, outcome * variance of the reward + trajectory *
diversity of the completions, and draws a share of every step by it, the rest evenly. Leaves out: MMR1's rewards, which
`rewards/` has (`think_format`, `cosine_length`, `repetition`, `math_answer`), and its cold start (`mmrl sft`).
Differs from its code: self-BLEU counts as 1 - self-BLEU and padding is no token; no prompt is drawn twice in a step;
the even share passes through the data epoch by epoch (docs/methods/variance_sampling.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal

import numpy

from mmrl.diversity import distinct, self_bleu
from mmrl.plugins import ConfigError
from mmrl.randomness import numpy_generator
from mmrl.records import Rollouts
from mmrl.samplers import Shuffled
from mmrl.stages import Plan

LAST = 1e-30
"""Weight of a prompt whose score is 0, where the highest has 1: it comes after all others."""


class VarianceAware:
    """A share of a step's prompts is drawn by how their completions vary in reward and wording, the rest evenly."""

    def __init__(
        self,
        ids: Collection[str],
        prompts: int,
        group_size: int,
        seed: int,
        *,
        weighted: float = 0.5,
        outcome: float = 0.8,
        trajectory: float = 0.2,
        diversity: Literal["self_bleu", "distinct"] = "self_bleu",
        metric: str | None = None,
        refresh: int = 0,
        completions: int = 8,
        momentum: float = 0.0,
    ) -> None:
        """`weighted` is the paper's lambda, `outcome` its alpha, `trajectory` its beta. `metric` names the reward whose
        variance counts (default: the combined one; name the accuracy when there are others).

        Every `refresh` steps, from the first on, all prompts are completed `completions` times for their scores alone;
        0 never does: scores come from the completions of training, which are used in any case. A prompt's score
        becomes momentum * score + (1 - momentum) * new.
        """
        if not (0 <= weighted <= 1 and 0 <= momentum < 1 and min(outcome, trajectory) >= 0 < outcome + trajectory):
            raise ConfigError(
                f"sampler: variance_aware takes weighted ({weighted}) from 0 to 1, momentum ({momentum}) below 1, and "
                f"outcome ({outcome}) and trajectory ({trajectory}) from 0 on, one of them above."
            )
        if refresh < 0 or (refresh and completions < 2):
            raise ConfigError(
                f"sampler: variance_aware takes refresh ({refresh}) in steps, 0 for never, and at least 2 completions "
                f"({completions}), or none could differ from another."
            )
        self.ids, self.group_size, self.seed = list(ids), group_size, seed
        self.weighted = int(prompts * weighted)
        self.even = Shuffled(ids, prompts - self.weighted, group_size, seed)
        self.outcome, self.trajectory, self.diversity, self.metric = outcome, trajectory, diversity, metric
        self.refresh, self.completions, self.momentum = refresh, completions, momentum
        self.scores: dict[str, float] = {}
        """By sample id. A prompt that has none yet counts as the mean of those that have."""

    def plan(self, step: int, *, request: int = 0) -> Plan:
        """The even share; then others with a chance in proportion to their scores, one by one, none twice."""
        even = self.even.plan(step, request=request)
        taken = {sample_id for sample_id, _ in even}
        rest = [sample_id for sample_id in self.ids if sample_id not in taken] or self.ids
        usual = math.fsum(self.scores.values()) / len(self.scores) if self.scores else 1.0
        scores = numpy.array([self.scores.get(sample_id, usual) for sample_id in rest])
        # The order of log(weight) + Gumbel noise is that of weighted draws without replacement.
        noise = numpy_generator(self.seed, "variance", step, request).gumbel(size=len(rest))
        keys = numpy.log(numpy.maximum(scores / (scores.max() or 1.0), LAST)) + noise
        order = (-keys).argsort(kind="stable").tolist()
        return even + [(rest[order[i % len(rest)]], self.group_size) for i in range(self.weighted)]

    def survey(self, step: int) -> Plan:
        """All prompts, when their scores are due to be made anew."""
        due = self.refresh > 0 and step % self.refresh == 0
        return [(sample_id, self.completions) for sample_id in self.ids] if due else []

    def observe(self, step: int, rollouts: Rollouts) -> None:
        """Score the prompts by the rows that the policy made and that have a reward, where there are two or more."""
        values = rollouts.reward if self.metric is None else rollouts.scores.get(self.metric)
        if values is None:
            raise ConfigError(f"sampler.metric = {self.metric}: no such reward; known: {', '.join(rollouts.scores)}.")
        usable = (rollouts.own & ~values.isnan()).tolist()
        for group, sample in enumerate(rollouts.samples):
            rows = [row for row in rollouts.rows_of(group) if usable[row]]
            if len(rows) < 2:
                continue
            score = self.outcome * float(values[rows].double().var(unbiased=False))
            if self.trajectory:
                if rollouts.actions.is_floating_point():
                    raise ConfigError("sampler.trajectory compares tokens, and this policy makes none: trajectory=0.")
                made = [rollouts.actions[row, : rollouts.length[row]].tolist() for row in rows]
                score += self.trajectory * (1 - self_bleu(made) if self.diversity == "self_bleu" else distinct(made))
            self.scores[sample.id] = self.momentum * self.scores.get(sample.id, score) + (1 - self.momentum) * score

    def state_dict(self) -> dict[str, Any]:
        return {"scores": dict(self.scores)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scores = dict(state["scores"])
