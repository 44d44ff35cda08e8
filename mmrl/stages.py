"""What the six stages of the loop promise each other, with tensor shapes; nothing else.

N rows (completions) in groups, T actions per row. A stage that is a function takes its settings as keyword-only
parameters; a stage that keeps state (a sampler) is a class that takes them in its constructor. Stages are named in
the config by registry name or by `path/to/file.py:name`; `docs/extending.md` shows one of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from data_pipelines.media import Budget
    from mmrl.config import ModelConfig
    from mmrl.lockstep import Part
    from mmrl.records import MicroBatch, Rollouts, Sample

Plan = list[tuple[str, int]]
"""(sample id, number of completions) for one step."""


@dataclass(frozen=True)
class Context:
    """What a stage may know of the run around it, and ask of it."""

    step: int
    """From 0."""
    total: int
    """Steps of the whole run."""
    seed: int
    metrics: Mapping[str, float]
    """Those of the previous step; empty at step 0."""
    generate: Callable[..., Rollouts]
    """`(samples, sizes, **changes)`: completions of the policy with the config's sampling settings, some changed."""
    draw: Callable[[int], tuple[list[Sample], list[int]]]
    """Further (samples, sizes) for this step; the argument numbers the request, from 1."""
    score: Callable[[Rollouts], None]
    """Run the rewards, for a rollout that must see them to decide. The trainer does not score such rollouts again."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What stages keep from step to step, each under its own name. Saved in checkpoints, so it must survive JSON."""


class Sampler(Protocol):
    """Which prompts, how many completions each.

    A sampler may have a method `survey(step) -> Plan` as well: prompts that the policy completes before `step` is
    planned, scored and handed to `observe`, for the sampler alone; nobody learns from them.
    """

    def plan(self, step: int, *, request: int = 0) -> Plan:
        """A pure function of (seed, step, request, state). `request` > 0 asks for other prompts for the same step."""
        ...

    def observe(self, step: int, rollouts: Rollouts) -> None:
        """See the scored rollouts of a step."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Rollout(Protocol):
    """Completions from the policy, or from elsewhere (then `origin` says so). Settings are keyword-only."""

    def __call__(
        self, policy: Policy, samples: Sequence[Sample], sizes: Sequence[int], context: Context
    ) -> Rollouts: ...


class AdvantageStage(Protocol):
    """One link of the chain from reward to advantage. The first link receives the reward, the same at every action.

    So a shaping of the reward is a link before the one that compares the rows of a group. A row whose reward is NaN
    has none (its reward failed): links leave it out of every statistic, and the trainer sets its advantage to 0.

    Non-negative token weights belong here: for token-ratio losses w * L(A) = L(w * A).
    """

    def __call__(self, advantage: Tensor, rollouts: Rollouts, context: Context) -> Tensor:
        """f32[N, T] -> f32[N, T]"""
        ...


class TokenLoss(Protocol):
    """A loss per action. `rows` are some of the rollouts; `rows.signals` and `rows.logp_old` are there if needed."""

    def __call__(self, logp: Tensor, rows: Rollouts) -> Tensor:
        """f32[n, T] -> f32[n, T]; aggregated with denominators of the whole optimizer batch."""
        ...


class GroupLoss(Protocol):
    """A loss that compares rows and depends on the policy only through one number per row, made of its log-probs.

    Exact however rows are cut into micro-batches: the log-probs of the whole batch from a pass without gradient, c =
    dL/dlogp [N, T] from a small autograd, then sum c * logp.
    """

    def row_score(self, logp: Tensor, rows: Rollouts) -> Tensor:
        """f32[n, T] -> f32[n]"""
        ...

    def group_loss(self, scores: Tensor, rollouts: Rollouts) -> Tensor:
        """f32[N] -> scalar"""
        ...


class Policy(Protocol):
    """The only part that knows what an action is.

    A policy whose actions read as text may have a method `pieces(rollouts) -> list[list[str]]` as well: per row the
    text of each action, which together are all that was written, special tokens by their names. Runs keep it.

    For the memory probe it may have `largest(samples, how, *, group_size, prompts, budget) -> Rollouts`, as large as a
    step's can get. One that completes fewer prompts at once where memory runs out says how many by
    `generation_tokens`, and `limit_generation(tokens)` sets it.
    """

    provides: ClassVar[frozenset[str]]
    """Signals that `logp` can compute along the way, such as `entropy`."""

    compares: ClassVar[frozenset[str]]
    """Signals that need all rows of a group at once, for advantage stages; `compare` computes them."""

    sampling: ClassVar[type]
    """A keyword-only dataclass with the settings of `generate`, which the config's `sampling` section sets. Its method
    `at_temperature(t)` is the same with more or less chance; 0 is none."""

    makes: ClassVar[Literal["text", "image", "video"]]
    """What a completion is, and so what rewards it can have."""

    @classmethod
    def load(cls, settings: ModelConfig, budget: Budget) -> Policy: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def model(self) -> Any:
        """The torch module that `trainable` is of."""
        ...

    def encode(self, sample: Sample) -> Any:
        """What `generate` makes of a sample first; refuses what it cannot take, with the reason."""
        ...

    @property
    def tolerance(self) -> float:
        """How far, on average, log-probs may differ between generation and training by rounding alone."""
        ...

    def check(self, how: Any, *, training: bool) -> None:
        """ConfigError for a `sampling` that this model cannot do, and when training for one with nothing to learn from.
        Called before anything is written."""
        ...

    def lacks(self, how: Any) -> Mapping[str, str]:
        """Signals of `provides` that there are not with this model and `sampling`, and why. Asked before anything is
        written."""
        ...

    def prepare(self, samples: Sequence[Sample], how: Any) -> None:
        """What is done once, before the first completion, for all samples that the policy will be asked for."""
        ...

    def generate(
        self,
        samples: Sequence[Sample],
        sizes: Sequence[int],
        how: Any,
        *,
        seed: int,
        step: int,
        signals: Collection[str] = (),
    ) -> Rollouts:
        """`sizes[i]` completions of `samples[i]`, a function of (seed, step, sample) and not of the batch.

        `signals` are those that `logp` will be asked for, some of which compare with what happens here.
        """
        ...

    def logp(self, rows: Rollouts, *, signals: Sequence[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """Differentiable log-probs of the actions, f32[n, T], 0 where there is none, and the signals asked for."""
        ...

    def compare(self, rollouts: Rollouts, *, signals: Sequence[str], budget: int) -> dict[str, Tensor]:
        """Signals of `compares`, f32[N, T], without gradient; at most `budget` tokens at a time."""
        ...

    def reference_logp(self, rows: Rollouts) -> Tensor:
        """f32[n, T] under the reference policy, without gradient."""
        ...

    def micro_batches(self, rollouts: Rollouts, *, budget: int) -> list[MicroBatch]:
        """Parts that cost at most `budget` tokens each, where one row (or one step of one) allows it."""
        ...

    def trainable(self) -> list[tuple[str, Any]]:
        """Named parameters that the optimizer may change."""
        ...

    def parts(self) -> list[Part]:
        """The modules that a forward pass is made of, called from outside, in order of use (`lockstep.py`)."""
        ...

    def kept_whole(self) -> list[torch.nn.Module]:
        """Modules whose weights every rank keeps whole under ZeRO-3, for a pass uses them any number of times, or not
        at all."""
        ...

    def save(self, folder: Path) -> None: ...

    def restore(self, folder: Path) -> None: ...
