"""The records that flow through the loop: Media and Sample (what is asked), Rollouts (what was done).

Nothing here computes; stages fill the fields in the order of the loop. Reading samples from disk is
`data_pipelines/dataset.py`; writing rollouts is `mmrl/runs/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from mmrl import distributed

if TYPE_CHECKING:
    from torch import Tensor

Messages = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Media:
    """One image or video of a sample. Sizes are (width, height) in pixels; rewards and overlays depend on them."""

    kind: Literal["image", "video"]
    path: str
    """Absolute path of the file."""
    digest: str
    """SHA-256 of the file's bytes, hexadecimal; names the copy in the run directory."""
    size: tuple[int, int]
    """Size as stored, after the EXIF orientation is applied."""
    seen: tuple[int, int] | None = None
    """Size after the pixel budget: what the model saw. None until the sample was measured or encoded."""
    times: tuple[float, ...] = ()
    """Video only: the time in seconds of every frame the model saw."""
    frames: int = 1
    """Video: frames of the file."""
    fps: float = 0.0
    """Video: frames per second of the file, on average; 0 where only the row says it (a folder of frames)."""
    grid: tuple[int, int, int] | None = None
    """(pairs of frames, rows, columns) of the patches the model saw."""
    tokens: int = 0
    """Vision tokens of the prompt; 0 until they are known."""


@dataclass(frozen=True)
class Sample:
    """One row of a dataset.

    `messages` is a chat with Qwen content parts (`{"type": "image", "image": path}` and so on), `media` the same
    files in order of appearance, `target` the gold (`box`, `point`, `span`, `answer`, `choices`, `count`, ...),
    `meta` everything else (task, source, coordinate convention, hints).
    """

    id: str
    messages: Messages
    media: tuple[Media, ...] = ()
    target: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    where: str = ""
    """File and row it was read from, for error messages."""

    @property
    def prompt(self) -> str:
        """The text of the last user message: what an image reward compares with."""
        asked = [message["content"] for message in self.messages if message.get("role") == "user"]
        parts = asked[-1] if asked else ""
        return parts if isinstance(parts, str) else "".join(part.get("text", "") for part in parts)

    def unlabelled(self) -> Sample:
        """The sample without its gold: no target, and no assistant turn at the end of the chat."""
        turns = len(self.messages)
        while turns and self.messages[turns - 1].get("role") == "assistant":
            turns -= 1
        return replace(self, target={}, messages=self.messages[:turns])

    @property
    def coordinates(self) -> str:
        """The convention of the boxes and points in completions: `pixel`, `seen`, `norm1` or `norm1000`."""
        return str(self.meta.get("coordinates", "pixel"))


@dataclass(frozen=True)
class MicroBatch:
    """Some rows, and of these some actions, that go through the model at once."""

    rows: list[int]
    mask: Tensor | None = None
    """bool[n, T]; None is all actions of the rows."""


@dataclass
class Rollouts:
    """N completions in groups, a struct of arrays. Prompts and their pixels are stored once per group, never G times.

    A row belongs to `samples[group[row]]` and was made from `prompts[prompt[row]]`; a method that gives some rows of a
    group another prompt (a hint, say) has more prompts than groups. Groups may have different sizes.
    """

    samples: list[Sample]
    """One per group."""
    prompts: list[Any]
    """Encoded by the policy that made the rollouts, with their media tensors; opaque to everybody else. None where
    another process holds it, and with it the row's picture."""
    group: Tensor
    """int64[N], row -> group. Rows of one group are adjacent, and groups are in order."""
    prompt: Tensor
    """int64[N], row -> prompt. Rows of one prompt are adjacent, and prompts are in order."""
    actions: Tensor
    """int64[N, T], right-padded completion tokens; or f32[N, T + 1, ...], the latents around T denoising steps."""
    length: Tensor
    """int64[N], actions of each completion: tokens, the end-of-turn included, or denoising steps."""
    mask: Tensor
    """bool[N, T], the actions that may receive loss: all of a completion, or the denoising steps chosen for training,
    unless a stage takes some out."""
    text: list[str]
    """N, what a text reward sees; empty strings where a policy makes images or videos."""
    origin: list[str]
    """N: `policy`, `ground_truth`, `hint`, `replay`, ..."""
    images: list[Any] | None = None
    """N, what an image or video reward sees: a PIL image, or the list of a video's PIL frames."""
    temperature: float = 1.0
    """Temperature of the sampled distribution; log-probs are those of the same distribution."""
    logp_rollout: Tensor | None = None
    """f32[N, T], log-probs as computed while generating; 0 for rows that come from elsewhere."""
    logp_old: Tensor | None = None
    """f32[N, T], log-probs of the policy that made the rollouts, computed by the training pass."""
    logp_ref: Tensor | None = None
    """f32[N, T], log-probs under the reference policy."""
    scores: dict[str, Tensor] = field(default_factory=dict)
    """One f32[N] per reward, raw; NaN = not applicable or failed (then `notes` says why)."""
    weights: dict[str, float] = field(default_factory=dict)
    """The weight of each score in the reward, this step."""
    reward: Tensor | None = None
    """f32[N], combined; NaN = this row has no reward and stays out of its group's statistics."""
    advantage: Tensor | None = None
    """f32[N, T]."""
    signals: dict[str, Tensor] = field(default_factory=dict)
    """What a stage asked for; first dimension N (`entropy` [N, T], `truncated` [N], ...)."""
    notes: list[dict[str, Any]] = field(default_factory=list)
    """N, per reward name what it wants shown: parsed answer, reason, error."""

    def __post_init__(self) -> None:
        if not self.notes:
            self.notes = [{} for _ in self.text]

    def __len__(self) -> int:
        return len(self.text)

    @property
    def made(self) -> Tensor:
        """bool[N, T], the actions that exist: False on padding only."""
        import torch

        return torch.arange(self.mask.shape[1]) < self.length[:, None]

    @property
    def own(self) -> Tensor:
        """bool[N], completions that the policy made of the sample as it is (origin `policy`). Statistics of the policy
        (mean reward, length, entropy, the gap between generation and training) are of these rows alone."""
        import torch

        return torch.tensor([origin == "policy" for origin in self.origin])

    @property
    def held(self) -> Tensor:
        """bool[N], rows whose prompt this process holds: all, unless several processes share the work."""
        import torch

        if distributed.size() == 1:
            return torch.ones(len(self), dtype=torch.bool)
        return torch.tensor([prompt is not None for prompt in self.prompts])[self.prompt]

    def sample_of(self, row: int) -> Sample:
        return self.samples[int(self.group[row])]

    def rows_of(self, group: int) -> list[int]:
        return (self.group == group).nonzero().flatten().tolist()

    def group_sizes(self) -> list[int]:
        return self.group.bincount(minlength=len(self.samples)).tolist()

    def select(self, rows: Sequence[int]) -> Rollouts:
        """The given rows, in the given order, with only the prompts they use."""
        import torch

        index = torch.as_tensor(rows, dtype=torch.long)
        groups, group = torch.unique_consecutive(self.group[index], return_inverse=True)
        prompts, prompt = torch.unique_consecutive(self.prompt[index], return_inverse=True)
        assert len(groups) == len(groups.unique()), "rows of one group must stay adjacent"

        def take(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[index]

        return replace(
            self,
            samples=[self.samples[g] for g in groups.tolist()],
            prompts=[self.prompts[p] for p in prompts.tolist()],
            group=group,
            prompt=prompt,
            actions=self.actions[index],
            length=self.length[index],
            mask=self.mask[index],
            text=[self.text[r] for r in index.tolist()],
            images=None if self.images is None else [self.images[r] for r in index.tolist()],
            origin=[self.origin[r] for r in index.tolist()],
            logp_rollout=take(self.logp_rollout),
            logp_old=take(self.logp_old),
            logp_ref=take(self.logp_ref),
            scores={name: value[index] for name, value in self.scores.items()},
            reward=take(self.reward),
            advantage=take(self.advantage),
            signals={name: value[index] for name, value in self.signals.items()},
            notes=[self.notes[r] for r in index.tolist()],
        )

    def part(self, batch: MicroBatch) -> Rollouts:
        """The rows of a micro-batch; its mask selects the actions that are to be computed now."""
        rows = self.select(batch.rows)
        return rows if batch.mask is None else replace(rows, mask=rows.mask & batch.mask)

    def select_groups(self, groups: Sequence[int]) -> Rollouts:
        """All rows of the given groups, in the given order."""
        return self.select([row for g in groups for row in self.rows_of(g)])


def concatenate(parts: Sequence[Rollouts]) -> Rollouts:
    """Join rollouts, keeping groups apart; completions are padded to the longest. All parts carry the same fields."""
    import torch

    first = parts[0]
    if len(parts) == 1:
        return first
    steps = max(part.mask.shape[1] for part in parts)

    def widen(value: Tensor) -> Tensor:
        short = steps - value.shape[1] if value.dim() == 2 else 0  # never negative padding, which would cut
        return torch.nn.functional.pad(value, (0, short)) if short > 0 else value

    def join(values: list[Tensor | None]) -> Tensor | None:
        present = [value for value in values if value is not None]
        assert len(present) in (0, len(parts)), "a field must be present in all parts or in none"
        return torch.cat([widen(value) for value in present]) if present else None

    def join_named(named: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([widen(part[name]) for part in named]) for name in named[0]}

    def renumber(name: str, counted: str) -> Tensor:
        sizes = [len(getattr(part, counted)) for part in parts]
        return torch.cat([getattr(part, name) + sum(sizes[:i]) for i, part in enumerate(parts)])

    joined: dict[str, Any] = {
        name: join([getattr(part, name) for part in parts])
        for name in ("actions", "length", "mask", "logp_rollout", "logp_old", "logp_ref", "reward", "advantage")
    }
    listed: dict[str, Any] = {
        name: [x for part in parts for x in getattr(part, name)]
        for name in ("samples", "prompts", "text", "origin", "notes")
    }
    return replace(
        first,
        **joined,
        **listed,
        group=renumber("group", "samples"),
        prompt=renumber("prompt", "prompts"),
        images=None if first.images is None else [image for part in parts for image in part.images or []],
        scores=join_named([part.scores for part in parts]),
        signals=join_named([part.signals for part in parts]),
    )
