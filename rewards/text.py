"""Rewards that compare an answer with the gold text, and one that compares it with a reference by another reward.

The answer is the completion's last answer tag, else the whole text. Numbers in charts: `quantities.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from mmrl.plugins import ConfigError
from mmrl.records import Sample
from rewards import parsing
from rewards.calling import Outcome
from rewards.entry import RESERVED, Entry
from rewards.parsing.words import vqa_normalised
from rewards.registry import Score, reward

MOST_WORDS = 2000
"""ROUGE-L takes time and memory quadratic in the number of words."""


@reward(range=(0, 1), needs=("answer",), source="mmrl; vqa: VQA, arXiv 1505.00468, and HRVQA, arXiv 2301.09460")
def exact_match(completion: str, sample: Sample, *, normalise: Literal["plain", "vqa"] = "plain") -> Score:
    """1 if the answer (the last answer tag, else the whole text) is `target.answer`, else 0.

    Both are normalised. `plain`: case, blanks and a final full stop do not count. `vqa`: neither do punctuation and
    articles, and number words are digits (`parsing.words.vqa_normalised`); HRVQA's evaluator leaves the gold as it is.
    """
    if normalise not in ("plain", "vqa"):
        raise ValueError(f"normalise is plain or vqa; found {normalise!r}")
    clean = vqa_normalised if normalise == "vqa" else parsing.normalised
    answer = clean(parsing.answer_or_text(completion))
    return Score(float(answer == clean(gold_text(sample)) != ""), parsed=answer)


@reward(range=(0, 1), source="DocVQA, arXiv 2007.00398; ST-VQA, arXiv 1905.13648")
def anls(completion: str, sample: Sample, *, threshold: float = 0.5) -> Score:
    """1 - d / max(length) for the edit distance d of answer and gold, 0 where that is `threshold` or less.

    Normalised Levenshtein similarity in characters, case and blanks normalised; the best over `target.answers`, or of
    `target.answer`. `threshold` is in [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is a similarity in [0, 1); found {threshold}")
    answer = _folded(parsing.answer_or_text(completion))
    best = max(_similarity(answer, _folded(gold), above=threshold) for gold in gold_texts(sample))
    return Score(best, parsed=answer)


@reward(range=(0, 1), source="ROUGE, Lin 2004 (ACL W04-1013)")
def rouge(completion: str, sample: Sample, *, kind: Literal["rouge1", "rouge2", "rougeL"] = "rougeL") -> Score:
    """ROUGE F1 of the answer with the gold text: unigrams, bigrams or the longest common subsequence (`rougeL`).

    The best over `target.answers`, or of `target.answer`; words are runs of the letters a to z and digits, not
    stemmed, and only the first 2,000 of a text count.
    """
    from rouge_score import rouge_scorer

    if kind not in ("rouge1", "rouge2", "rougeL"):
        raise ValueError(f"kind is rouge1, rouge2 or rougeL; found {kind!r}")
    golds = [_words(gold) for gold in gold_texts(sample)]
    if not all(golds):
        raise ValueError(f"target.answer has no word of the letters a to z and digits: {gold_texts(sample)!r}")
    scorer = rouge_scorer.RougeScorer([kind], tokenizer=_Split())
    answer = _words(parsing.answer_or_text(completion))
    best = max(scorer.score(" ".join(gold), " ".join(answer))[kind].fmeasure for gold in golds)
    return Score(best, why="" if answer else "no word in the answer")


@reward(range=(0, 1), source="R1-Router, arXiv 2505.22095")
def token_recall(completion: str, sample: Sample) -> Score:
    """Share of the gold's words that are in the answer; for a gold of up to 5 words, or several golds, all or nothing.

    Words are those of VQA's normalisation (`parsing.words.vqa_normalised`), each counted as often as it stands. Of
    several `target.answers` the one with the best F1 counts. A long answer costs nothing.
    """
    golds = gold_texts(sample)
    answer = Counter(vqa_normalised(parsing.answer_or_text(completion)).split())
    found = []
    for gold in golds:
        words = Counter(vqa_normalised(gold).split())
        if not words:
            raise ValueError(f"target.answer has no word: {gold!r}")
        shared = (answer & words).total()
        found.append((2 * shared / (answer.total() + words.total()), shared / words.total(), gold))
    _, recall, gold = max(found, key=lambda scores: scores[0])
    graded = len(golds) == 1 and len(gold.split()) > 5
    return Score(recall if graded else float(recall == 1), why=f"recall {recall:.2f} of {gold[:80]!r}")


@reward(range=(0, 1), needs=("reference",), scope="batch", source="VLAA-Thinking, arXiv 2504.11468")
class better_than_reference:
    """1 - exp(-beta * (S(answer) - S(reference))) if S(answer) > S(reference), else 0; S is another reward, `scorer`.

    `scorer` is written like an entry of the list of rewards: `{name: remote, url: ...}`, `{name: rouge}`, or your own;
    it scores texts and has row or batch scope. It receives the answer (the last answer tag, else the whole text), and
    `target.reference` in its place. An empty answer is worth 0. Where the scorer fails the row fails. The paper takes
    InternLM-XComposer2.5-Reward and does not give `beta`.
    """

    def __init__(self, *, scorer: dict[str, Any], beta: float = 1.0) -> None:
        where = "better_than_reference.scorer"
        if not 0 < beta < math.inf:
            raise ConfigError(f"better_than_reference.beta is a positive number; found {beta!r}.")
        if not isinstance(scorer, Mapping) or "name" not in scorer:
            raise ConfigError(f"{where} is a reward with its settings, {{name: ..., ...}}; found {scorer!r}.")
        extra = [key for key in scorer if key in RESERVED and key != "form"]
        if extra:
            raise ConfigError(f"{where}.{extra[0]} belongs to the entry itself, not to its scorer.")
        entry = Entry.from_config(scorer, where=where)
        if entry.info.reads not in ("text", "any") or entry.info.scope == "group" or entry.timeout is not None:
            raise ConfigError(f"{where}: {entry.name} cannot be a scorer: one reads texts, has row or batch scope, "
                              "and needs no worker process.")  # fmt: skip
        self.beta = beta
        self.entry = entry

    def __call__(self, completions: list[str], samples: list[Sample]) -> list[Score | Exception | None]:
        asked = {id(sample): sample for sample in samples}
        scored = self._score([gold_text(sample, "reference") for sample in asked.values()], list(asked.values()))
        references = dict(zip(asked, scored, strict=True))
        answers = [parsing.answer_or_text(completion) for completion in completions]
        scores = self._score(answers, samples)
        return [
            self._compare(answer, score, references[id(sample)])
            for answer, score, sample in zip(answers, scores, samples, strict=True)
        ]

    def _compare(self, answer: str, score: Outcome, reference: Outcome) -> Score | Exception | None:
        for outcome in (reference, score):
            if not isinstance(outcome, Score):
                return outcome
        assert isinstance(score, Score) and isinstance(reference, Score)
        why = f"{score.value:.4g} against the reference's {reference.value:.4g}"
        if not answer:
            return Score(0.0, why="no answer")
        ahead = max(0.0, score.value - reference.value)
        return Score(-math.expm1(-self.beta * ahead), why=why)

    def _score(self, texts: list[str], samples: list[Sample]) -> list[Outcome]:
        reward, settings = self.entry.reward, self.entry.stage.settings
        if self.entry.info.scope == "batch":
            return reward.attempt(settings, texts, samples)
        return [reward.attempt(settings, [text], [sample])[0] for text, sample in zip(texts, samples, strict=True)]


def gold_text(sample: Sample, key: str = "answer") -> str:
    """`target.<key>` as text. Raises TypeError unless it is a text or a number, ValueError if it is blank."""
    return as_text(sample.target.get(key), f"target.{key}")


def gold_texts(sample: Sample) -> list[str]:
    """`target.answers`, the alternatives, or else `target.answer` alone; errors as `gold_text`."""
    answers = sample.target.get("answers")
    if answers is None:
        return [gold_text(sample)]
    if not isinstance(answers, list | tuple) or not answers:
        raise TypeError(f"target.answers is a list of texts; found {answers!r}")
    return [as_text(answer, "target.answers") for answer in answers]


def as_text(gold: Any, where: str) -> str:
    """One gold as text; `where` is its name in the error."""
    if not isinstance(gold, str | int | float):
        raise TypeError(f"{where} is a text or a number; found {gold!r}")
    try:
        text = str(gold)
    except ValueError:  # of an integer beyond Python's limit of digits
        raise ValueError(f"{where} has more digits than a number can have") from None
    if not text.strip():
        raise ValueError(f"{where} is empty; found {gold!r}")
    return text


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _similarity(a: str, b: str, *, above: float) -> float:
    """1 - levenshtein / longest if that is more than `above`, else 0. One of the texts is not empty."""
    longest = max(len(a), len(b))
    if min(len(a), len(b)) <= above * longest:  # no more similar than the lengths are
        return 0.0
    similarity = 1 - levenshtein(a, b) / longest
    return similarity if similarity > above else 0.0


def levenshtein(a: str, b: str) -> int:
    """Insertions, deletions and replacements of characters that turn `a` into `b`.

    Myers 1999 in Hyyrö's form: a column of the table is held as two bit masks (where it goes up, where down), so the
    time is len(longer) * len(shorter) / 64 or so.
    """
    if len(a) > len(b):
        a, b = b, a
    if not a:
        return len(b)
    places: dict[str, int] = {}
    for index, character in enumerate(a):
        places[character] = places.get(character, 0) | 1 << index
    full, last = (1 << len(a)) - 1, 1 << len(a) - 1
    up, down, distance = full, 0, len(a)
    for character in b:
        equal = places.get(character, 0)
        diagonal = (((equal & up) + up) ^ up) | equal | down
        right_up = down | ~(diagonal | up) & full
        right_down = up & diagonal
        distance += bool(right_up & last) - bool(right_down & last)
        right_up = (right_up << 1 | 1) & full
        right_down = right_down << 1 & full
        up, down = right_down | ~(diagonal | right_up) & full, right_up & diagonal
    return distance


def _words(text: str) -> list[str]:
    from rouge_score import tokenize

    return tokenize.tokenize(text, None)[:MOST_WORDS]


class _Split:
    """The tokenizer that rouge_score is handed: the words are already made."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()
