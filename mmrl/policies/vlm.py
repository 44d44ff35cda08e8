"""The vision-language policy: a token is an action.

Loads a Qwen-VL model with transformers, encodes samples once (the same tensors serve generation and training),
and turns the engine of `shared_prefix.py` into the Policy of `stages.py`. Records in, records out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from data_pipelines.media import Budget, measured
from mmrl.config import ModelConfig
from mmrl.faults.room import out_of_memory, release
from mmrl.lockstep import Part
from mmrl.plugins import ConfigError
from mmrl.policies.divergence import divergence
from mmrl.policies.packing import how_many, packed
from mmrl.policies.pieces import Pieces
from mmrl.policies.pretrained import (
    adapters,
    add_lora,
    forbidden_tokens,
    load_pretrained,
    mixed_precision,
    prepare_for_training,
    stop_tokens,
)
from mmrl.policies.prompts import encode_prompt
from mmrl.policies.shared_prefix import Prompt, Sampling, SharedPrefix, pad_rows
from mmrl.randomness import earlier_occurrences, torch_generator
from mmrl.records import MicroBatch, Rollouts, Sample


class VLMPolicy:
    """A Qwen2-VL, Qwen2.5-VL or Qwen3-VL model that generates completions and scores them.

    `settings` says what is trained and where it runs; `budget` how large media may be and how long a prompt.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"entropy"})
    compares: ClassVar[frozenset[str]] = frozenset({"intra_group_divergence"})
    sampling: ClassVar[type] = Sampling
    makes: ClassVar[Literal["text", "image", "video"]] = "text"

    def __init__(self, model: Any, processor: Any, *, settings: ModelConfig, budget: Budget) -> None:
        self.processor, self.settings, self.budget = processor, settings, budget
        self.model = model
        prepare_for_training(model, settings)
        self.adapted = model
        if settings.adapter is not None:
            self.adapted = add_lora(model, settings)
        self.engine = SharedPrefix(
            model, forbidden=forbidden_tokens(model, processor), stops=stop_tokens(model, processor)
        )
        self._reference: SharedPrefix | None = None
        self._fitting: int | None = None
        self._pieces = Pieces(processor.tokenizer)

    @classmethod
    def load(cls, settings: ModelConfig, budget: Budget) -> VLMPolicy:
        model, processor = load_pretrained(settings)
        return cls(model, processor, settings=settings, budget=budget)

    @property
    def device(self) -> torch.device:
        return self.engine.device

    # -- prompts -------------------------------------------------------------------------------------------------

    def encode(self, sample: Sample, *, whole_chat: bool = False) -> tuple[Sample, Prompt]:
        """The sample with what the model sees of its media, and its prompt (`encode_prompt`)."""
        return encode_prompt(
            sample, model=self.model, processor=self.processor, budget=self.budget, whole_chat=whole_chat
        )

    # -- the Policy of stages.py ---------------------------------------------------------------------------------

    def check(self, how: Sampling, *, training: bool) -> None:
        """ConfigError for settings that leave nothing to learn from."""
        if how.max_new_tokens < 1:
            raise ConfigError(f"sampling.max_new_tokens = {how.max_new_tokens}: at least 1.")
        if how.temperature < 0:
            raise ConfigError(f"sampling.temperature = {how.temperature}: not negative.")
        if training and (how.temperature == 0 or how.top_k == 1):
            name = "temperature" if how.temperature == 0 else "top_k"
            raise ConfigError(
                f"sampling.{name} = {getattr(how, name)} takes the likeliest token: all completions of a prompt are "
                "the same, and nothing is learned. sampling.temperature = 1.0 is usual (evaluations have their own)."
            )

    def lacks(self, how: Sampling) -> Mapping[str, str]:
        """Nothing: every way of sampling has an entropy."""
        return {}

    def prepare(self, samples: Sequence[Sample], how: Sampling) -> None:
        """Nothing: prompts hold pixels, too many to keep."""

    def generate(
        self,
        samples: Sequence[Sample],
        sizes: Sequence[int],
        how: Sampling,
        *,
        seed: int,
        step: int,
        signals: Collection[str] = (),
    ) -> Rollouts:
        """`sizes[i]` completions of `samples[i]`, a function of (seed, step, sample) and not of the batch."""
        seen, prompts = zip(*[self.encode(sample) for sample in samples], strict=True)
        noise = [
            torch.rand(size, how.max_new_tokens, generator=torch_generator(seed, "completion", step, sample.id, before))
            for sample, size, before in zip(samples, sizes, earlier_occurrences(samples), strict=True)
        ]
        with self.generating():
            completions = self._complete(prompts, noise, how)
        rollouts = self.assemble(seen, prompts, [[tokens for tokens, _ in rows] for rows in completions])
        rollouts.temperature = how.temperature or 1.0
        rollouts.logp_rollout = torch.zeros(rollouts.actions.shape)
        rollouts.logp_rollout[rollouts.made] = torch.cat([logp for rows in completions for _, logp in rows])
        ended = torch.isin(rollouts.actions, self.engine.stops) & rollouts.made
        rollouts.signals["truncated"] = ~ended.any(1)
        return rollouts

    def assemble(
        self,
        samples: Sequence[Sample],
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[Tensor]],
        origin: str = "policy",
    ) -> Rollouts:
        """Rollouts from completion tokens, one list of rows per prompt."""
        rows = [tokens for group in completions for tokens in group]
        group = torch.arange(len(prompts)).repeat_interleave(torch.tensor([len(group) for group in completions]))
        length = torch.tensor([len(row) for row in rows])
        actions = pad_rows(rows, 0)
        return Rollouts(
            samples=list(samples),
            prompts=list(prompts),
            group=group,
            prompt=group.clone(),
            actions=actions,
            length=length,
            mask=torch.arange(actions.shape[1]) < length[:, None],
            text=self.processor.tokenizer.batch_decode(rows, skip_special_tokens=True),
            origin=[origin] * len(rows),
        )

    def pieces(self, rollouts: Rollouts) -> list[list[str]]:
        """Per row the text of each token."""
        lengths = rollouts.length.tolist()
        return [self._pieces(ids[:length]) for ids, length in zip(rollouts.actions.tolist(), lengths, strict=True)]

    def tokens_of(self, text: str) -> Tensor:
        """int64[n], a completion's tokens with the end-of-turn token, for completions that come from elsewhere."""
        # A special token's name in a text is text: vision tokens have no log-prob in a completion.
        ids = self.processor.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return torch.tensor([*ids, int(self.engine.stops[0])])

    def logp(self, rows: Rollouts, *, signals: Sequence[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """Log-probs of the completions, f32[n, T], zero on padding; `entropy` in nats, f32[n, T], on request."""
        with mixed_precision(self.device, self.settings):
            logp, entropy = self._score(self.engine, rows, entropy="entropy" in signals)
        return logp, {} if entropy is None else {"entropy": entropy}

    @torch.no_grad()
    def compare(self, rollouts: Rollouts, *, signals: Sequence[str], budget: int) -> dict[str, Tensor]:
        """`intra_group_divergence`, f32[N, T]: how much the next-token distributions of a group's rows differ at each
        position (`divergence.py`), the same for all of its rows, 0 beyond the longest."""
        assert set(signals) <= self.compares, signals
        result = torch.zeros(rollouts.mask.shape)
        for g in range(len(rollouts.samples)):
            rows = rollouts.rows_of(g)
            group = rollouts.select(rows)
            longest = int(group.length.max())
            hidden = None  # [G, longest, D], put together from parts of the group that fit the budget
            for part in self.micro_batches(group, budget=budget):
                some = group.part(part)
                with mixed_precision(self.device, self.settings):
                    states = self.engine.predicting(some.prompts, completions_of(some))
                if hidden is None:
                    hidden = states.new_zeros(len(rows), longest, states.shape[-1])
                places = torch.zeros(len(rows), longest, dtype=torch.bool)
                places[part.rows] = some.made[:, :longest]
                hidden[places.to(hidden.device)] = states
            assert hidden is not None
            with mixed_precision(self.device, self.settings):
                found = divergence(self.engine, hidden, group.length, temperature=group.temperature)
            result[rows, :longest] = found.cpu()
        return {"intra_group_divergence": result}

    @torch.no_grad()
    def reference_logp(self, rows: Rollouts) -> Tensor:
        """Under the model as it was before training: the adapter switched off, or a second copy of the weights."""
        with mixed_precision(self.device, self.settings):
            if self.settings.adapter is not None:
                with self.adapted.disable_adapter():
                    return self._score(self.engine, rows)[0]
            if self._reference is None:
                model = load_pretrained(self.settings)[0].requires_grad_(False).eval()
                self._reference = replace(self.engine, model=model)
            return self._score(self._reference, rows)[0]

    def micro_batches(self, rollouts: Rollouts, *, budget: int) -> list[MicroBatch]:
        """Rows in parts whose packed rows, padding included, hold at most `budget` tokens."""
        lengths, prompt = rollouts.length.tolist(), rollouts.prompt.tolist()
        rows: list[list[int]] = [[] for _ in rollouts.prompts]
        for row, its in enumerate(prompt):
            rows[its].append(row)
        return [MicroBatch(part) for part in packed(map(len, rollouts.prompts), rows, lengths, budget=budget)]

    @property
    def tolerance(self) -> float:
        return 1e-4 if self.engine.device.type == "cpu" or self.settings.dtype == "float32" else 0.05

    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def parts(self) -> list[Part]:
        """The vision tower, which text alone does not need, and the language model."""
        tower, language = self.model.model.visual, self.model.model.language_model
        side = int(tower.spatial_merge_size)
        patch = tower.config.in_channels * tower.config.temporal_patch_size * tower.config.patch_size**2

        def smallest(**values: Tensor) -> dict[str, Tensor]:
            return {
                name: value.to(self.device, self.model.dtype if value.is_floating_point() else value.dtype)
                for name, value in values.items()
            }

        def see() -> Any:
            return tower(
                **smallest(hidden_states=torch.zeros(side**2, patch), grid_thw=torch.tensor([[1, side, side]]))
            )

        def read() -> Any:
            embeds = torch.zeros(1, 1, language.config.hidden_size)
            return language(
                **smallest(inputs_embeds=embeds, position_ids=torch.zeros(3, 1, 1, dtype=torch.long)), use_cache=False
            )

        return [Part(tower, see), Part(language, read, joins="inputs_embeds")]

    def kept_whole(self) -> list[torch.nn.Module]:
        """The embeddings and the head: tokens go through the head in chunks, as many as there are. And adapters, which
        the reference does without."""
        return [self.model.get_input_embeddings(), self.model.get_output_embeddings(), *adapters(self.model)]

    def save(self, folder: Path) -> None:
        """A folder that transformers (or peft, for an adapter) loads as it is."""
        self.adapted.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def restore(self, folder: Path) -> None:
        """Put the weights of `save` back into this policy, bit for bit."""
        from safetensors.torch import load_file

        if self.settings.adapter is not None:
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.adapted, load_file(folder / "adapter_model.safetensors"))
            return
        saved = {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}
        own = self.model.state_dict()
        tied = set(own) - set(saved)
        unexpected = self.model.load_state_dict(saved, strict=False).unexpected_keys
        assert not unexpected and tied <= {"lm_head.weight"}, (unexpected, tied)

    # -- inside --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def generating(self) -> Iterator[None]:
        """Evaluation mode while generating: gradient checkpointing would switch the KV cache off."""
        was_training = self.model.training
        self.model.eval()
        try:
            with mixed_precision(self.device, self.settings):
                yield
        finally:
            self.model.train(was_training)

    def _score(self, engine: SharedPrefix, rows: Rollouts, *, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        flat, flat_entropy = engine.logp(
            rows.prompts, completions_of(rows), temperature=rows.temperature, entropy=entropy
        )
        made = rows.made.to(flat.device)

        def spread(values: Tensor) -> Tensor:
            return torch.zeros(made.shape, device=flat.device).masked_scatter(made, values)

        return spread(flat), None if flat_entropy is None else spread(flat_entropy)

    def _complete(
        self, prompts: Sequence[Prompt], noise: Sequence[Tensor], how: Sampling
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """Per prompt its rows (tokens, log-probs). Prompts that do not fit into memory together are halved, and
        `generation_tokens` with them."""
        made: list[list[tuple[Tensor, Tensor]]] = []
        width = [len(prompt) + len(rows) * how.max_new_tokens for prompt, rows in zip(prompts, noise, strict=True)]
        while len(made) < len(prompts):
            done = len(made)
            part = range(done, done + how_many(width[done:], budget=self.generation_tokens))
            try:
                made += self.engine.generate([prompts[i] for i in part], [noise[i] for i in part], how)
                continue
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not out_of_memory(error):
                    raise
            release()
            self.limit_generation(max(width[i] for i in part) * len(part) // 2)
        return made

    def limit_generation(self, tokens: int) -> None:
        """From now on, because more did not fit."""
        self._fitting = tokens

    @property
    def generation_tokens(self) -> int:
        """As configured, or what was found to fit."""
        return min(self.settings.generation_tokens, self._fitting or self.settings.generation_tokens)

    def largest(
        self, samples: Sequence[Sample], how: Sampling, *, group_size: int, prompts: int, budget: int
    ) -> Rollouts:
        """Rollouts as large as a step's can get, for a trial: the longest prompts, as many as the budget takes at once
        and a step has, each with its group of the longest completions, of one and the same token."""
        patch = int(self.processor.image_processor.patch_size)

        def tokens(sample: Sample) -> float:
            try:
                vision = sum(media.tokens for media in measured(sample, self.budget, patch_size=patch).media)
            except ValueError:  # a file that cannot be seen is no row of the run
                return 0.0
            return vision + len(str(sample.messages)) / 4

        order = sorted(samples, key=tokens, reverse=True)
        encoded = [self.encode(order[0])]
        columns = len(encoded[0][1]) + group_size * how.max_new_tokens
        encoded += [self.encode(sample) for sample in order[1 : min(prompts, max(1, budget // columns))]]
        row = torch.full((how.max_new_tokens,), int(self.tokens_of("a")[0]))
        seen, longest = zip(*encoded, strict=True)
        return self.assemble(seen, longest, [[row] * group_size] * len(encoded))


def completions_of(rows: Rollouts) -> list[list[Tensor]]:
    """Per prompt, the tokens of its completions."""
    completions: list[list[Tensor]] = [[] for _ in rows.prompts]
    for p, tokens, n in zip(rows.prompt.tolist(), rows.actions, rows.length.tolist(), strict=True):
        completions[p].append(tokens[:n])
    return completions
