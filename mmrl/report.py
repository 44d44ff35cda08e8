"""What a step is described by: numbers of the rollouts, of the updates, and seconds per phase. All flat floats."""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmrl import distributed
from mmrl.advantages import group_count, group_mean, group_std
from mmrl.records import MicroBatch, Rollouts
from rewards.scoring import Rewards


class Clock:
    """Seconds per named phase of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = time.perf_counter() - start

    def metrics(self) -> dict[str, float]:
        return {f"seconds/{phase}": seconds for phase, seconds in self.seconds.items()}


def describe(rollouts: Rollouts, rewards: Rewards) -> dict[str, float]:
    """Metrics of scored rollouts, of the policy's own rows if there are any (`Rollouts.own`).

    Others count in `reward_off_policy`, their mean reward, and in `failed/<name>`.
    `reward_std` is the mean spread within groups, the signal there is to learn from. A group of zero spread has none;
    it counts as all right when its reward is above the middle of the rewards' range, as all wrong otherwise.
    `entropy` and `tokens` are of discrete actions, whose log-probs are those of probabilities: `entropy` is estimated
    by the mean of -log-prob of the sampled tokens, in nats. Actions that are latents have densities instead. A signal
    with one number per row (`truncated`, what a method notes) is logged by its mean under its own name.
    """
    assert rollouts.reward is not None
    metrics, own = rewards.metrics(rollouts), rollouts.own
    if not own.all():
        metrics["reward_off_policy"] = float(rollouts.reward[~own].nanmean())
    if own.any() and not own.all():
        rollouts = rollouts.select(own.nonzero().flatten().tolist())
    assert rollouts.reward is not None
    reward, group = rollouts.reward, rollouts.group
    metrics |= {"reward": float(reward.nanmean()), "length": float(rollouts.length.float().mean())}
    std = group_std(reward, group)
    metrics["reward_std"] = float(std.nanmean())
    first = torch.tensor([rollouts.rows_of(g)[0] for g in range(len(rollouts.samples))])
    compared = group_count(reward, group)[first] > 1
    flat = compared & (std[first] == 0)
    halfway = rewards.halfway(rollouts).masked_fill(reward.isnan(), float("nan"))
    high = (group_mean(reward, group) > group_mean(halfway, group))[first]
    metrics["groups_zero_spread"] = float(flat.float().mean())
    metrics["groups_all_right"] = float((flat & high).float().mean())
    metrics["groups_all_wrong"] = float((flat & ~high).float().mean())
    for name, values in rollouts.signals.items():
        if values.dim() == 1:
            metrics[name] = float(values.float().nanmean())
    discrete = not rollouts.actions.is_floating_point()
    if discrete:
        metrics["tokens"] = float(rollouts.length.sum())
    if discrete and rollouts.logp_rollout is not None:
        metrics["entropy"] = float(-rollouts.logp_rollout[rollouts.made].mean())
    if rollouts.logp_ref is not None and rollouts.logp_old is not None:
        ahead = (rollouts.logp_old - rollouts.logp_ref)[rollouts.mask]
        metrics["kl"] = float((torch.exp(-ahead) + ahead - 1).mean())
    return metrics


@dataclass
class Tally:
    """What the micro-batches of one optimizer batch add up to, on one rank or on all."""

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gap_total: float = 0.0
    gap_count: int = 0
    gap_max: float = 0.0
    ratio_max: float = 0.0
    bad: list[dict[str, Any]] = field(default_factory=list)
    """Per micro-batch with a loss that is no number: which term, what it was, the ids of its samples."""

    def add(self, other: Tally) -> None:
        for name, value in other.sums.items():
            self.sums[name] += value
        self.gap_total += other.gap_total
        self.gap_count += other.gap_count
        self.gap_max = max(self.gap_max, other.gap_max)
        self.ratio_max = max(self.ratio_max, other.ratio_max)


class Report:
    """What the updates of a step did, collected a micro-batch at a time."""

    def __init__(self) -> None:
        self.first_logp: Tensor | None = None
        """f32[N, T], log-probs at the first update, if it used all rollouts at once."""
        self._here, self._total = Tally(), Tally()
        self._updates = 0
        self._compared = False
        self._norms: list[float] = []
        self._rate = 0.0
        self._coefficients: dict[str, float] = {}
        self.bad: list[dict[str, Any]] = []
        """Of the optimizer batch that was added up last, from all ranks."""
        self.skipped: list[list[dict[str, Any]]] = []
        """What was found, for each update that was not made."""

    def term(self, name: str, values: Tensor, part: Rollouts) -> None:
        """`values` f[n, T] are what the actions of `part` contribute to the term."""
        value = float(values.sum())
        self._here.sums[f"loss/{name}"] += value
        if not math.isfinite(value):
            rows = (~values.isfinite().all(1)).nonzero().flatten().tolist() or range(len(part))
            ids = list(dict.fromkeys(part.sample_of(row).id for row in rows))
            self._here.bad.append({"found": f"loss/{name} is {value}", "samples": ids})

    def coefficient(self, name: str, value: float) -> None:
        """Of a loss term whose coefficient is a schedule."""
        self._coefficients[f"coef/{name}"] = value

    def begin(self, batch: Rollouts) -> None:
        """`batch` is what the next update is made of; begun anew, what was collected of it is forgotten."""
        self._here = Tally()
        if not self._updates:
            self.first_logp = torch.zeros(batch.mask.shape)
            self._compared = batch.logp_rollout is not None

    def micro_batch(self, part: MicroBatch, batch: Rollouts, logp: Tensor, loss: float) -> None:
        """`logp` f32[n, T] are the current log-probs of a part of the optimizer batch."""
        here = self._here
        here.sums["loss"] += loss
        index = torch.as_tensor(part.rows)
        made, logp = batch.made[index], logp.float().cpu()
        if part.mask is not None:
            made &= part.mask
        if batch.logp_old is not None:
            ratio = (logp - batch.logp_old[index])[made].exp()
            here.ratio_max = max(here.ratio_max, float((ratio - 1).abs().max()))
        if self._updates:
            return
        if self.first_logp is not None and self.first_logp.shape == batch.mask.shape:
            self.first_logp[index] += logp
        if batch.logp_rollout is not None:
            own = made & batch.own[index][:, None]
            gap = (logp - batch.logp_rollout[index])[own].abs()
            here.gap_total += float(gap.sum())
            here.gap_count += gap.numel()
            here.gap_max = max(here.gap_max, float(gap.max()) if gap.numel() else 0.0)

    def add_up(self) -> None:
        """All micro-batches of an optimizer batch are done: join what the ranks collected."""
        self.bad = []
        for tally in distributed.gather(self._here):
            self._total.add(tally)
            self.bad += tally.bad
        self._here = Tally()
        if self._updates == 0 and self.first_logp is not None:
            distributed.add_up(self.first_logp)

    def updated(self, *, grad_norm: float, learning_rate: float) -> None:
        self._updates += 1
        self._norms.append(grad_norm)
        self._rate = learning_rate

    def not_updated(self, found: list[dict[str, Any]]) -> None:
        """`found` says what stood against it."""
        self._updates += 1
        self.skipped.append(found)

    @property
    def mean_gap(self) -> float:
        return self._total.gap_total / max(1, self._total.gap_count)

    def metrics(self) -> dict[str, float]:
        """`ratio_gap` is the largest |log-prob in training - log-prob in generation| before the first update; there is
        none where whoever generated gave no log-probs."""
        updates = max(1, self._updates)
        return {
            **{name: value / updates for name, value in self._total.sums.items()},
            **self._coefficients,
            **({"ratio_gap": self._total.gap_max} if self._compared else {}),
            "ratio_max": self._total.ratio_max,
            "grad_norm": sum(self._norms) / max(1, len(self._norms)),
            "learning_rate": self._rate,
            **({"updates_skipped": float(len(self.skipped))} if self.skipped else {}),
        }
