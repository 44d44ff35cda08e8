"""The policy with completions from servers: it encodes prompts as ever, so that training sees what it always sees, and
computes all log-probs itself; only the tokens come from elsewhere.

Evaluations within a run generate in process (`in_process`): their weights may be a moving average, which no server has.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmrl.plugins import ConfigError
from mmrl.policies.prompts import prompt_messages
from mmrl.policies.shared_prefix import Prompt, Sampling, pad_rows
from mmrl.policies.vlm import VLMPolicy
from mmrl.randomness import derive, earlier_occurrences
from mmrl.records import Rollouts, Sample
from mmrl.serving import dialects
from mmrl.serving.client import Request, Servers
from mmrl.serving.settings import ABILITIES, ServerConfig
from mmrl.serving.weights import Weights

if TYPE_CHECKING:
    from mmrl.config import Config

ABSURD = 1.0
"""Nats between the server's log-probs and the trainer's, on average, that no precision explains: other weights, another
prompt or another temperature. A run ends at it; what is less is reported (`importance.py`)."""


def serve(policy: Any, config: Config, folder: Path) -> tuple[ServedPolicy, list[str]]:
    """The policy with completions from the servers of `config`, and the urls where nobody answers yet. `folder` is the
    run's."""
    if not isinstance(policy, VLMPolicy):
        raise ConfigError(
            f"rollout.engine = server: {config.model.path} makes {policy.makes}, and servers complete chats. "
            "Set rollout.engine=in_process."
        )
    assert config.server is not None
    served = ServedPolicy(policy, config, folder)
    return served, served.servers.ping()


class ServedPolicy:
    """`inner`, but completions come from servers. Everything else is `inner`'s."""

    def __init__(self, inner: VLMPolicy, config: Config, folder: Path) -> None:
        settings = config.server
        assert settings is not None
        self.inner, self.server = inner, settings
        self.servers = Servers(
            settings.urls, settings.concurrency, settings.timeout, settings.retries, key=api_key(settings)
        )
        self.weights = Weights(self.servers, settings, inner, folder / "served", name=config.name)
        self._in_process = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def tolerance(self) -> float:
        """Of weights that are not given from here any distance is possible: a run that resumes has learned already."""
        return math.inf if self.server.weights == "none" else ABSURD

    def encode(self, sample: Sample) -> tuple[Sample, Prompt]:
        """As `inner`; refuses videos, of which a server would choose frames of its own."""
        if any(media.kind == "video" for media in sample.media) and not self._in_process:
            raise ConfigError(
                f"{place_of(sample)}: a video. A server chooses its frames by itself, and the trainer "
                "could not learn from the same ones.\n  Set rollout.engine=in_process, or give the frames as images."
            )
        return self.inner.encode(sample)

    def check(self, how: Sampling, *, training: bool) -> None:
        self.inner.check(how, training=training)
        if how.top_k and self.server.kind == "openai":
            raise ConfigError(
                f"sampling.top_k = {how.top_k}: OpenAI's requests have no such setting. "
                "Set sampling.top_k=0, or server.kind to what the server is."
            )

    def close(self) -> None:
        """Give up requests under way and delete the weights that were lent to the servers."""
        self.servers.stop()
        self.weights.close()

    @contextmanager
    def in_process(self) -> Iterator[None]:
        """Inside, `generate` is `inner`'s: with the weights it has now, without servers."""
        self._in_process = True
        try:
            yield
        finally:
            self._in_process = False

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
        """`sizes[i]` completions of `samples[i]`. Each asks with a seed of its own, a function of (seed, step, sample);
        whether the same seed gives the same completion is up to the server.

        Signals: `truncated`; `staleness`, steps from the weights that wrote a row to those that learn from it at
        `step`; from a server that gives text alone `token_drift`, how many tokens it wrote more than the text has when
        it is split anew.
        """
        if self._in_process:
            return self.inner.generate(samples, sizes, how, seed=seed, step=step, signals=signals)
        seen, prompts = zip(*[self.encode(sample) for sample in samples], strict=True)
        requests = [
            self._request(sample, prompt, chat, how, derive(seed, "completion", step, sample.id, before, row))
            for sample, prompt, chat, size, before in zip(
                samples, prompts, map(self._chat, samples), sizes, earlier_occurrences(samples), strict=True
            )
            for row in range(size)
        ]
        answers = self.servers.ask(requests)
        rows = [self._row(answer, how) for answer in answers]
        tokens = iter(row.tokens for row in rows)
        rollouts = self.inner.assemble(seen, prompts, [list(islice(tokens, size)) for size in sizes])
        rollouts.temperature = how.temperature or 1.0
        rollouts.signals["truncated"] = torch.tensor([row.truncated for row in rows])
        rollouts.signals["staleness"] = torch.tensor([float(step - answer.version) for answer in answers])
        if ABILITIES[self.server.kind].tokens:
            rollouts.logp_rollout = pad_rows([torch.tensor(answer.logp) for answer in answers], 0)
        else:
            rollouts.signals["token_drift"] = torch.tensor([row.drift for row in rows])
        self._check_staleness(rollouts)
        return rollouts

    def _check_staleness(self, rollouts: Rollouts) -> None:
        oldest = float(rollouts.signals["staleness"].max())
        if oldest > self.server.staleness:
            raise RuntimeError(
                f"completions are {oldest:g} steps older than the weights that would learn from them; "
                f"server.staleness allows {self.server.staleness}."
            )

    # -- inside --------------------------------------------------------------------------------------------------

    def _chat(self, sample: Sample) -> list[dict[str, Any]]:
        patch = int(self.inner.processor.image_processor.patch_size)
        return dialects.chat(prompt_messages(sample), self.inner.budget, patch_size=patch)

    def _request(
        self, sample: Sample, prompt: Prompt, chat: list[dict[str, Any]], how: Sampling, seed: int
    ) -> Request[dialects.Completion]:
        forbidden, stops = self.inner.engine.forbidden.tolist(), self.inner.engine.stops.tolist()
        asked: list[int] = []

        def body() -> dict[str, Any]:
            model, version = self.weights.current
            asked.append(version)
            return dialects.request(
                self.server.kind, how, chat, model=model, seed=seed % 2**31, forbidden=forbidden, stops=stops
            )

        def read(answer: Any) -> dialects.Completion:
            return dialects.read(
                answer,
                self.server.kind,
                how,
                prompt_tokens=len(prompt),
                vocabulary=self.inner.model.config.get_text_config().vocab_size,
                forbidden=forbidden,
                stops=stops,
                version=asked[-1],
            )

        return Request(
            where=place_of(sample),
            path=dialects.PATH,
            body=body,
            read=read,
            most_bytes=dialects.most_bytes(how),
        )

    def _row(self, answer: dialects.Completion, how: Sampling) -> Row:
        if answer.tokens is not None:
            return Row(torch.tensor(answer.tokens), truncated=not answer.ended)
        tokens = self.inner.tokens_of(answer.text)
        if not answer.ended and len(tokens) > 1:  # nothing but special tokens: the end-of-turn is all there is left
            tokens = tokens[:-1]
        drift = float("nan") if answer.count is None else float(answer.count - len(tokens))
        cut = tokens[: how.max_new_tokens]
        return Row(cut, truncated=not answer.ended or len(cut) < len(tokens), drift=drift)


@dataclass(frozen=True)
class Row:
    """One completion as the trainer sees it."""

    tokens: Tensor
    """int64[n]"""
    truncated: bool
    drift: float = 0.0


def place_of(sample: Sample) -> str:
    """For messages; what was read from a file says its id there."""
    return sample.where or f"a prompt (id {sample.id})"


def api_key(settings: ServerConfig) -> str:
    key = os.environ.get(settings.api_key_env, "") if settings.api_key_env else ""
    if settings.api_key_env and not key:
        raise ConfigError(f"server.api_key_env: the environment variable {settings.api_key_env} is empty.")
    return key
