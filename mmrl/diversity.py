"""How different the completions of one prompt are: self-BLEU and distinct-n, on tokens without padding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

UNSEEN = 0.1
"""What BLEU counts in place of no match at all (smoothing method 1 of Chen and Cherry, ACL W14-3346)."""


def ngrams(tokens: Sequence[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def distinct(rows: Sequence[Sequence[int]], *, n: int = 3) -> float:
    """Different n-grams / all n-grams of the rows together, in (0, 1]; where a row is shorter than n, by its length."""
    n = min(n, *map(len, rows))
    counts: Counter[tuple[int, ...]] = Counter()
    for row in rows:
        counts.update(ngrams(row, n))
    return len(counts) / counts.total()


def self_bleu(rows: Sequence[Sequence[int]], *, longest: int = 3) -> float:
    """Mean BLEU of every row with all others as its references, n-grams of 1 to `longest` tokens with equal weights.

    From 0, no token in common, to 1, all the same: where a row is shorter than `longest`, its length is the longest,
    or equal short rows would not be. Takes two rows or more, none empty. Linear in tokens: how often an n-gram stands
    in any other row at most is one of the two largest counts it has.
    """
    longest = min(longest, *map(len, rows))
    logs = [0.0] * len(rows)
    for n in range(1, longest + 1):
        counts = [ngrams(row, n) for row in rows]
        largest: dict[tuple[int, ...], tuple[int, int]] = {}
        for counted in counts:
            for gram, count in counted.items():
                first, second = largest.get(gram, (0, 0))
                largest[gram] = (max(first, count), max(second, min(first, count)))
        for i, counted in enumerate(counts):
            matches = 0
            for gram, count in counted.items():
                first, second = largest[gram]
                matches += min(count, second if count == first else first)
            share = (matches or UNSEEN) / counted.total()
            logs[i] += math.log(share) / longest if matches or n > 1 else -math.inf
    for i, row in enumerate(rows):
        others = [len(other) for j, other in enumerate(rows) if j != i]
        nearest = min(others, key=lambda length: (abs(length - len(row)), length))
        logs[i] += min(0.0, 1 - nearest / len(row))  # brevity
    return math.fsum(map(math.exp, logs)) / len(rows)
