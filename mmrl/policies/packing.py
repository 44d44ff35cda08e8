"""Which rows and prompts go through the model together, so that they fit a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def packed(
    prompts: Iterable[int], rows: Sequence[Sequence[int]], lengths: Sequence[int], *, budget: int
) -> list[list[int]]:
    """Rows in parts for the training pass, where the rows of a prompt share one packed row with it.

    `prompts[p]` tokens has a prompt, `rows[p]` are its rows, `lengths[row]` tokens of completion has a row. The packed
    rows of a part, padding included, hold at most `budget` tokens, or the part is one row. A group stays whole where it
    fits; a larger one is split and its prefix repeated. Long and short groups are kept apart, so that little is spent
    on padding.
    """
    pieces: list[tuple[int, list[int]]] = []  # (columns of the packed row, its rows)
    for prefix, group in zip(prompts, rows, strict=True):
        width, piece = prefix, list[int]()
        # Longest first: no two pieces of a split group are then short enough to share a batch, where they would be
        # packed as one row.
        for row in sorted(group, key=lambda row: -lengths[row]):
            if piece and width + lengths[row] > budget:
                pieces.append((width, piece))
                width, piece = prefix, []
            width += lengths[row]
            piece.append(row)
        pieces.append((width, piece))
    pieces.sort(key=lambda item: (-item[0], item[1][0]))
    parts: list[list[int]] = []
    widest = packed_rows = 0
    for width, piece in pieces:
        if not parts or widest * (packed_rows + 1) > budget:
            parts.append([])
            widest, packed_rows = width, 0
        parts[-1] += piece
        packed_rows += 1
    return [sorted(part) for part in parts]  # rows in their original order, so that groups stay adjacent


def how_many(widths: Sequence[int], *, budget: int) -> int:
    """The first so many prompts, at least one, that are completed together: each takes the columns of the widest in the
    KV cache, at most `budget` in all."""
    widest = 0
    for count, width in enumerate(widths):
        widest = max(widest, width)
        if count and widest * (count + 1) > budget:
            return count
    return len(widths)
