"""The shared-prefix engine: one packed row per prompt, in generation and in training.

A prompt with vision tokens is long and its G completions are short, so the prompt is encoded once. Its completions
sit behind it in the same row,

    training     [prefix | a a a a | b b | c c c]      columns in completion order
    generation   [prefix | a b c | a b c | a c | a]    columns in the order they are made, kept in the KV cache

and a mask lets a token see the prefix and the earlier tokens of its own completion. Both layouts are described by
`Columns` (who owns a column, and when it comes), and one rule, `visible`, makes every mask. M-RoPE positions restart
after the prefix for each completion, so log-probs and gradients are those of G separate sequences (up to rounding).

This file knows the language model and the packing; media and chat templates are in `prompts.py`, records in `vlm.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PREFIX, PADDING = -1, -2


@dataclass
class Prompt:
    """An encoded prompt of L tokens, on the CPU."""

    ids: Tensor
    """int64[L]"""
    positions: Tensor
    """int64[3, L], M-RoPE position of every token (time, height, width)."""
    media: dict[str, Tensor] = field(default_factory=dict)
    """Vision inputs of the model: pixel_values, image_grid_thw, pixel_values_videos, video_grid_thw."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def next_position(self) -> int:
        """M-RoPE position of the first completion token, on all three axes."""
        return int(self.positions.max()) + 1


@dataclass
class Columns:
    """Who owns each column of a packed row (PREFIX, PADDING or a completion's number), and its order in time."""

    owner: Tensor
    """int64[B, S]"""
    time: Tensor
    """int64[B, S]"""

    def append(self, other: Columns) -> Columns:
        return Columns(torch.cat([self.owner, other.owner], 1), torch.cat([self.time, other.time], 1))

    def select(self, rows: Tensor) -> Columns:
        return Columns(self.owner[rows], self.time[rows])


def visible(query: Columns, key: Columns) -> Tensor:
    """bool[B, 1, Q, K]: a column sees the prefix and its own completion, up to its own time. Padding sees padding."""
    own = key.owner[:, None, :] == query.owner[:, :, None]
    shared = (key.owner == PREFIX)[:, None, :]
    past = key.time[:, None, :] <= query.time[:, :, None]
    return ((own | shared) & past)[:, None]


def gather_media(prompts: Sequence[Prompt], device: torch.device) -> dict[str, Tensor]:
    """The vision inputs of several prompts, concatenated in prompt order as the model expects them."""
    names = {name: None for prompt in prompts for name in prompt.media}
    return {
        name: torch.cat([prompt.media[name] for prompt in prompts if name in prompt.media]).to(device) for name in names
    }


def pad_rows(rows: Sequence[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


@dataclass
class Packed:
    """B prompts with their completions, S columns. `predictor` finds the column whose output predicts each token."""

    ids: Tensor
    """int64[B, S]"""
    positions: Tensor
    """int64[3, B, S]"""
    columns: Columns
    predictor: Tensor
    """int64[M], flat index into [B, S], for the M completion tokens in row order."""

    def to(self, device: torch.device) -> Packed:
        columns = Columns(self.columns.owner.to(device), self.columns.time.to(device))
        return Packed(self.ids.to(device), self.positions.to(device), columns, self.predictor.to(device))


def pack(prompts: Sequence[Prompt], completions: Sequence[Sequence[Tensor]]) -> Packed:
    """[prefix | c1 | ... | cG] per prompt, right-padded to one width. `completions[b]` belong to `prompts[b]`."""
    ids, positions, owner, time, predictors = [], [], [], [], []
    for prompt, rows in zip(prompts, completions, strict=True):
        length = len(prompt)
        lengths = [len(row) for row in rows]
        own_time = [torch.arange(n) for n in lengths]
        ids.append(torch.cat([prompt.ids, *rows]))
        positions.append(
            torch.cat([prompt.positions, *[(prompt.next_position + t).expand(3, -1) for t in own_time]], 1)
        )
        owner.append(torch.cat([torch.full((n,), who) for who, n in enumerate([length, *lengths], start=PREFIX)]))
        time.append(torch.cat([torch.arange(length), *[length + t for t in own_time]]))
        # A completion's first token is predicted by the last prefix column, the others by the column before them.
        start = length
        for n in lengths:
            columns = torch.arange(start - 1, start - 1 + n)
            columns[:1] = length - 1
            predictors.append((len(ids) - 1, columns))
            start += n
    width = max(len(row) for row in ids)
    return Packed(
        ids=pad_rows(ids, 0),
        positions=torch.stack([torch.nn.functional.pad(row, (0, width - row.shape[1])) for row in positions], 1),
        columns=Columns(pad_rows(owner, PADDING), pad_rows(time, 0)),
        predictor=torch.cat([torch.empty(0, dtype=torch.long), *[b * width + c for b, c in predictors]]),
    )


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The distribution completions are drawn from. Log-probs ignore top_p and top_k, as everywhere in the field."""

    max_new_tokens: int
    temperature: float = 1.0
    """0 takes the likeliest token; log-probs are then those at temperature 1."""
    top_p: float = 1.0
    top_k: int = 0

    def at_temperature(self, temperature: float) -> Sampling:
        return replace(self, temperature=temperature)


@dataclass
class SharedPrefix:
    """Packed generation and packed log-probs for a transformers Qwen-VL model."""

    model: Any
    """A `...ForConditionalGeneration`; LoRA layers may be injected."""
    forbidden: Tensor
    """int64[K], tokens the policy can never choose: vision placeholders would shift every later media tensor."""
    stops: Tensor
    """int64[K], tokens that end a completion."""
    head_chunk: int = 2048
    """Completion positions that go through the LM head at a time; bounds memory at chunk x vocabulary."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def hidden(
        self, ids: Tensor, positions: Tensor, mask: Tensor, media: dict[str, Tensor], cache: Any = None
    ) -> Tensor:
        """[B, S, D], the last hidden states."""
        return self.model.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
            **media,
        ).last_hidden_state

    def action_logits(self, hidden: Tensor, temperature: float) -> Tensor:
        """f32[M, V], logits of the distribution that is sampled and scored: tempered, forbidden tokens excluded."""
        logits = self.model.lm_head(hidden).float() / temperature
        return logits.index_fill(1, self.forbidden.to(logits.device), float("-inf"))

    def allowed_log_probs(self, hidden: Tensor, temperature: float) -> Tensor:
        """f32[M, K], log-probs of the K tokens that can be drawn, in order."""
        logits = self.action_logits(hidden, temperature)
        allowed = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
        allowed[self.forbidden.to(logits.device)] = False
        return logits[:, allowed].log_softmax(-1)

    def predicting(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[Tensor]]) -> Tensor:
        """[M, D], the hidden states that predict the M completion tokens, in row order."""
        packed = pack(prompts, completions).to(self.device)
        mask = visible(packed.columns, packed.columns)
        hidden = self.hidden(packed.ids, packed.positions, mask, gather_media(prompts, self.device))
        return hidden.flatten(0, 1)[packed.predictor]

    def logp(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[Tensor]],
        *,
        temperature: float,
        entropy: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Log-prob, and on request entropy, of the M completion tokens in row order: f32[M] each, differentiable."""
        hidden = self.predicting(prompts, completions)
        tokens = torch.cat([token for rows in completions for token in rows]).to(self.device)

        def head(hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
            log_probs = self.action_logits(hidden, temperature).log_softmax(-1)
            chosen = log_probs.gather(1, tokens[:, None])[:, 0]
            return chosen, -(log_probs.exp() * log_probs.clamp(min=-1e4)).sum(-1) if entropy else None

        if len(tokens) <= self.head_chunk:
            return head(hidden, tokens)
        chunks = [
            checkpoint(head, h, t, use_reentrant=False)
            for h, t in zip(hidden.split(self.head_chunk), tokens.split(self.head_chunk), strict=True)
        ]
        return torch.cat([c[0] for c in chunks]), torch.cat([c[1] for c in chunks]) if entropy else None

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Prompt], noise: Sequence[Tensor], how: Sampling
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """Complete each prompt once per row of its noise.

        `noise[b]` is f32[G_b, max_new_tokens], uniform in [0, 1): token t of row g is drawn with `noise[b][g, t]`
        alone, so a completion does not depend on what else is in the batch. Returns per prompt and row (tokens,
        log-probs), both of the completion's length: up to and including the first stop token, or `max_new_tokens`.
        """
        from mmrl.policies.cache import KVCache

        device, lengths = self.device, torch.tensor([len(prompt) for prompt in prompts])
        prefix = pad_rows([prompt.ids for prompt in prompts], 0)
        width = prefix.shape[1]
        positions = torch.stack([torch.nn.functional.pad(p.positions, (0, width - len(p))) for p in prompts], 1)
        time = torch.arange(width).expand(len(prompts), -1)
        columns = Columns(torch.where(time < lengths[:, None], PREFIX, PADDING).to(device), time.to(device))
        cache = KVCache()
        hidden = self.hidden(
            prefix.to(device), positions.to(device), visible(columns, columns), gather_media(prompts, device), cache
        )
        state = Decoding.start(prompts, noise, device)
        last = hidden[torch.arange(len(prompts)), (lengths - 1).to(device)]  # [B, D]
        hidden = last[:, None].expand(-1, state.slots.shape[1], -1)
        for step in range(how.max_new_tokens):
            alive = state.slots >= 0
            logits = self.action_logits(hidden[alive], how.temperature or 1.0)
            rows = state.slots[alive]
            tokens = draw(logits, state.noise[rows, step], how) if how.temperature else logits.argmax(-1)
            state.tokens[rows, step] = tokens
            state.logp[rows, step] = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
            state.length[rows] = step + 1
            ended = torch.isin(tokens, self.stops.to(device))
            if step + 1 == how.max_new_tokens or bool(ended.all()):
                break
            kept = state.retire(rows[ended])
            if kept is not None:  # prompts without a living row leave the batch and the cache
                cache.batch_select_indices(kept)
                columns = columns.select(kept)
            query = state.columns(step)
            columns = columns.append(query)
            ids = state.tokens[state.slots.clamp(min=0), step]
            hidden = self.hidden(ids, state.positions(step), visible(query, columns), {}, cache)
        return state.completions()


@dataclass
class Decoding:
    """The rows in flight. `slots[b, a]` is the row that the a-th query of packed row b works on, or -1."""

    slots: Tensor
    """int64[B, A]"""
    prefix_length: Tensor
    """int64[B]"""
    next_position: Tensor
    """int64[B]"""
    sizes: list[int]
    """rows per prompt, in the order of the call"""
    noise: Tensor
    """f32[N, T]"""
    tokens: Tensor
    """int64[N, T]"""
    logp: Tensor
    """f32[N, T]"""
    length: Tensor
    """int64[N]"""

    @classmethod
    def start(cls, prompts: Sequence[Prompt], noise: Sequence[Tensor], device: torch.device) -> Decoding:
        sizes = [len(rows) for rows in noise]
        uniform = torch.cat(list(noise)).to(device)
        return cls(
            slots=pad_rows(torch.arange(sum(sizes)).split(sizes), -1).to(device),
            prefix_length=torch.tensor([len(prompt) for prompt in prompts], device=device),
            next_position=torch.tensor([prompt.next_position for prompt in prompts], device=device),
            sizes=sizes,
            noise=uniform,
            tokens=torch.zeros(uniform.shape, dtype=torch.long, device=device),
            logp=torch.zeros(uniform.shape, device=device),
            length=torch.zeros(len(uniform), dtype=torch.long, device=device),
        )

    def retire(self, rows: Tensor) -> Tensor | None:
        """Take finished rows out. Returns the indices of the packed rows to keep when some have no living row left."""
        self.slots = torch.where(torch.isin(self.slots, rows), -1, self.slots)
        alive = self.slots >= 0
        width = int(alive.sum(1).max())
        if width < self.slots.shape[1]:  # move the living rows to the front, then cut the empty slots off
            order = alive.int().argsort(dim=1, descending=True, stable=True)[:, :width]
            self.slots = self.slots.gather(1, order)
        occupied = alive.any(1)
        if bool(occupied.all()):
            return None
        kept = occupied.nonzero().flatten()
        self.slots, self.prefix_length, self.next_position = (
            value[kept] for value in (self.slots, self.prefix_length, self.next_position)
        )
        return kept

    def columns(self, step: int) -> Columns:
        """The columns of the tokens made at `step`; completions are numbered by row."""
        owner = torch.where(self.slots >= 0, self.slots, PADDING)
        return Columns(owner, (self.prefix_length + step)[:, None].expand_as(owner))

    def positions(self, step: int) -> Tensor:
        """int64[3, B, A]"""
        return (self.next_position + step)[None, :, None].expand(3, *self.slots.shape)

    def completions(self) -> list[list[tuple[Tensor, Tensor]]]:
        lengths = self.length.tolist()
        tokens, logp = self.tokens.cpu(), self.logp.cpu()
        rows = [(tokens[r, :n], logp[r, :n]) for r, n in enumerate(lengths)]
        starts = [sum(self.sizes[:b]) for b in range(len(self.sizes))]
        return [rows[start : start + size] for start, size in zip(starts, self.sizes, strict=True)]


def draw(logits: Tensor, uniform: Tensor, how: Sampling) -> Tensor:
    """One token per row by inverting the cumulative distribution at `uniform`. f32[n, V], f32[n] in [0, 1) -> int64[n].

    The filters act on the tempered distribution: `top_k` first, then the smallest set whose mass reaches `top_p`.
    """
    probability, tokens = logits.softmax(-1), None
    if how.top_k or how.top_p < 1.0:
        probability, tokens = probability.sort(-1, descending=True)
        probability = probability[:, : how.top_k or None]
        mass_before = probability.cumsum(-1) - probability
        probability = torch.where(mass_before < how.top_p * probability.sum(-1, keepdim=True), probability, 0.0)
    cumulative = probability.cumsum(-1)
    total = cumulative[:, -1:]
    # Strictly below the total, so that rounding can never point past the last possible token.
    target = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    index = torch.searchsorted(cumulative, target, right=True)
    # A parallel cumulative sum (on a GPU) may also rise at a token of probability 0.
    index = torch.where(probability.gather(1, index) > 0, index, probability.argmax(-1, keepdim=True))
    return index[:, 0] if tokens is None else tokens.gather(1, index)[:, 0]
