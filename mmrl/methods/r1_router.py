"""R1-Router (arXiv 2505.22095): every hop of a chain of retrievals is a prompt of its own, rewarded by its kind.

Adds: the reward `retrieval_step` for hops that ask a retriever. Hops that answer have `token_recall`; `task` routes
them, and because a hop is a sample, `group_relative` compares completions of the same hop alone. Left out: the
retrievers themselves; hops are recorded ones. Differs from its code: a negative cosine counts as 0
(docs/methods/r1_router.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmrl.records import Sample
from rewards.parsing.tags import only_tags
from rewards.parsing.words import vqa_normalised
from rewards.registry import Score, reward

RETRIEVERS = ("text retriever", "text image retriever", "table retriever", "none")


@reward(range=(0, 1), needs=("query", "retriever"), scope="batch", source="R1-Router, arXiv 2505.22095")
class retrieval_step:
    """0.5 * cosine(query, gold query) + 0.5 if the one retriever named is `target.retriever`, else + 0.

    Of `<think>...</think><sub-question>query</sub-question><ret>text retriever</ret>`; 0 for another form, an unknown
    retriever, or `none` with others. `embedder`: a folder or hub name of a text encoder whose first token is the
    embedding (the paper: BAAI/bge-m3), or `words`: the cosine of word counts, without a model.
    """

    def __init__(
        self, *, embedder: str = "words", retrievers: tuple[str, ...] = RETRIEVERS, device: str = "cpu"
    ) -> None:
        self.retrievers, self.device = retrievers, device
        self.model: Any = None
        if embedder != "words":
            from transformers import AutoModel, AutoTokenizer

            self.tokenizer = AutoTokenizer.from_pretrained(embedder)
            self.model = AutoModel.from_pretrained(embedder).to(device).eval()

    def __call__(self, completions: Sequence[str], samples: Sequence[Sample]) -> list[Score]:
        steps = [self.read(completion) for completion in completions]
        asked = [(step[0], str(sample.target["query"])) for step, sample in zip(steps, samples, strict=True) if step]
        near = iter(self.cosines(asked))
        scores = []
        for step, sample in zip(steps, samples, strict=True):
            if step is None:
                scores.append(Score(0.0, why="no step of the asked form"))
                continue
            query, named = step
            cosine, right = max(0.0, min(1.0, next(near))), named == [sample.target["retriever"]]
            why = f"cosine {cosine:.2f}, retriever {'right' if right else 'wrong'}"
            scores.append(Score(0.5 * cosine + 0.5 * right, parsed={"query": query, "retriever": named}, why=why))
        return scores

    def read(self, completion: str) -> tuple[str, list[str]] | None:
        """The query and the retrievers, or None for a step that is none."""
        parts = only_tags(completion, "think", "sub-question", "ret")
        if parts is None:
            return None
        _, query, names = parts
        named = [name.strip().lower() for name in names.split(",")]
        if not set(named) <= set(self.retrievers) or ("none" in named and len(named) > 1):
            return None
        return query.strip(), named

    def cosines(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        if self.model is None:
            return [word_cosine(*pair) for pair in pairs]
        if not pairs:
            return []
        import torch

        with torch.no_grad():
            texts = [text for pair in pairs for text in pair]
            inputs = self.tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
            hidden = self.model(**inputs.to(self.device)).last_hidden_state[:, 0].float()
            first, second = torch.nn.functional.normalize(hidden, dim=1).view(-1, 2, hidden.shape[1]).unbind(1)
            cosines: list[float] = (first * second).sum(1).tolist()
        return cosines


def word_cosine(a: str, b: str) -> float:
    """Of the counts of normalised words; 0 for a text without a word."""
    first, second = (Counter(vqa_normalised(text).split()) for text in (a, b))
    size = math.sqrt(sum(n * n for n in first.values()) * sum(n * n for n in second.values()))
    return sum(n * second[word] for word, n in first.items()) / size if size else 0.0
