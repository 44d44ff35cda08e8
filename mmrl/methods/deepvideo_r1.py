"""DeepVideo-R1 (arXiv 2506.07464): advantages are regressed instead of weighting a ratio, and prompts are made easier
or harder where the policy fails or always succeeds.

Adds: the loss `reg_grpo` (Eq. 8), whose standard deviation has a floor that the paper does not state, and the rollout
`difficulty_aware`: hints for hard prompts, noise on the frames of easy ones. Left out: masked frames, the paper's
other perturbation. What the paper leaves open and what we chose: docs/methods/deepvideo_r1.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import fsum, isnan

import torch
from torch import Tensor

from mmrl.advantages import group_mean, per_row
from mmrl.gold import gold_kind, gold_text
from mmrl.plugins import ConfigError, needs
from mmrl.policies.prompts import with_request
from mmrl.randomness import derive
from mmrl.records import Rollouts, Sample, concatenate
from mmrl.stages import Context, Policy
from rewards.parsing import sentences
from rewards.parsing.tags import last_tag

ASK = "The right answer is {gold}. Give the reasoning that leads to it in think tags, then the answer as asked."
HINT = "A line of reasoning that leads to the answer begins like this: {hint}"


class RegGRPO:
    """(A - P)^2, A the row's advantage and P the group's standardised log-ratios, mean over rows (Eq. 7 and 8).

    The log-ratio of a row to the policy that made it is the sum over its actions. Its standard deviation in the group
    (G - 1 in the denominator) is at least `floor`: at the first update all log-ratios are 0, and the gradient is
    -2 A / (N floor) per row, the policy gradient times 2 / floor; later `floor` * A is how far they are to move.
    """

    def __init__(self, *, floor: float = 0.1) -> None:
        if not floor > 0:
            raise ConfigError(f"reg_grpo.floor = {floor}: positive; the first update divides by it.")
        self.floor = floor

    def row_score(self, logp: Tensor, rows: Rollouts) -> Tensor:
        assert rows.logp_old is not None
        return ((logp - rows.logp_old) * rows.mask).sum(1)

    def group_loss(self, scores: Tensor, rollouts: Rollouts) -> Tensor:
        assert rollouts.advantage is not None and rollouts.reward is not None
        has = ~rollouts.reward.isnan()
        scores, wanted, group = scores[has], per_row(rollouts.advantage)[has], rollouts.group[has]
        count = group.bincount()[group]

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(len(rollouts.samples)).index_add(0, group, values)[group]

        centred = scores - total(scores) / count
        variance = total(centred**2) / (count - 1).clamp(min=1)
        return (wanted - centred / variance.clamp(min=self.floor**2).sqrt()).square().mean()


@needs("target")
def difficulty_aware(
    policy: Policy,
    samples: Sequence[Sample],
    sizes: Sequence[int],
    context: Context,
    *,
    window: int = 100,
    margin: float = 0.1,
    traces: int = 4,
    chunks: int = 4,
    noise: float = 25.0,
) -> Rollouts:
    """Groups whose mean reward is more than `margin` off that of the last `window` groups of earlier steps (before any
    change) are completed once more.

    Delta = window's mean - group's mean (Eq. 9). Hard, Delta > margin: the prompt gets the first round(Delta) + 1 of
    `chunks` parts of the best of `traces` thoughts that the policy wrote when told the answer (origin `hint`). Easy,
    Delta < -margin: the frames get Gaussian noise of `noise` * (|Delta| + 1), of 255 (origin `noise`). Scored.

    Metrics, as signals that are the same in all rows: `reward_unaided`, the mean before any change; `share_hinted` and
    `share_noised` of the groups.
    """
    if window < 1 or traces < 1 or chunks < 2 or noise < 0:
        raise ConfigError("rollout: difficulty_aware takes window and traces of at least 1, chunks of 2, noise of 0.")
    rollouts = context.generate(samples, sizes)
    context.score(rollouts)
    assert rollouts.reward is not None
    samples = rollouts.samples  # with the sizes that the model saw
    first = [rollouts.rows_of(group)[0] for group in range(len(samples))]
    means = group_mean(rollouts.reward, rollouts.group)[first]
    recent: list[float] = context.memory.setdefault("difficulty_aware", [])
    changed: dict[int, Sample] = {}
    if recent:
        usual = fsum(recent) / len(recent)
        delta = {group: usual - mean for group, mean in enumerate(means.tolist())}
        hard = {g: samples[g] for g, d in delta.items() if d > margin and gold_kind(samples[g]) is not None}
        best = best_thoughts(hard, context, traces) if hard else {}
        hints = {group: beginning(text, round(delta[group]) + 1, chunks) for group, text in best.items()}
        changed = {group: with_request(samples[group], HINT.format(hint=hint)) for group, hint in hints.items() if hint}
        for group, sample in enumerate(samples):
            if delta[group] < -margin and sample.media and noise:
                seed = derive(context.seed, "frame noise", context.step, group)
                amount = {"std": noise * (1 - delta[group]), "seed": seed}
                changed[group] = replace(sample, meta=sample.meta | {"frame_noise": amount})
    noised = [group for group, sample in changed.items() if sample.messages == samples[group].messages]
    if changed:
        again = context.generate(list(changed.values()), [sizes[group] for group in changed])
        context.score(again)
        again.origin = ["noise" if list(changed)[place] in noised else "hint" for place in again.group.tolist()]
        place = {group: len(samples) + i for i, group in enumerate(changed)}
        rollouts = concatenate([rollouts, again]).select_groups([place.get(g, g) for g in range(len(samples))])
    recent += [mean for mean in means.tolist() if not isnan(mean)]
    del recent[:-window]
    numbers = {
        "reward_unaided": float(means.nanmean()),
        "share_hinted": (len(changed) - len(noised)) / len(samples),
        "share_noised": len(noised) / len(samples),
    }
    rollouts.signals |= {name: torch.full((len(rollouts),), number) for name, number in numbers.items()}
    return rollouts


def best_thoughts(hard: Mapping[int, Sample], context: Context, traces: int) -> dict[int, str]:
    """The thought of the best-paid completion of each sample's prompt with its answer; without one, none."""
    asked = [with_request(sample, ASK.format(gold=gold_text(sample, style="plain"))) for sample in hard.values()]
    written = context.generate(asked, [traces] * len(asked))
    context.score(written)
    assert written.reward is not None
    reward = written.reward.nan_to_num(-torch.inf)
    best = [max(written.rows_of(place), key=lambda row: float(reward[row])) for place in range(len(asked))]
    thoughts = {group: last_tag(written.text[row], "think") for group, row in zip(hard, best, strict=True)}
    return {group: thought for group, thought in thoughts.items() if thought}


def beginning(thought: str, level: int, chunks: int) -> str:
    """The first `level` of `chunks` parts, in whole sentences; never the last part, where answers stand."""
    whole = sentences(thought)
    return " ".join(whole[: len(whole) * min(level, chunks - 1) // chunks])
