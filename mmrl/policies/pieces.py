"""Tokens as text, one piece each, such that the pieces of a completion together read as the completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Pieces:
    """Of one tokenizer. A token's text is remembered; most completions then cost a dictionary look-up per token."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._alone: dict[int, str] = {}

    def __call__(self, ids: Sequence[int]) -> list[str]:
        """One text per token; joined they are the decoded completion, special tokens by their names.

        Where tokens read differently beside others than alone (a character of several tokens, blanks between words)
        they are read together: a character is the piece of the token that completes it.
        """
        alone = [self._text(token) for token in ids]
        return alone if "".join(alone) == self._decode(ids) else self._together(ids)

    def _together(self, ids: Sequence[int]) -> list[str]:
        """Decodes each token behind the last complete ones only, so the time stays linear."""
        pieces: list[str] = []
        begin = done = 0
        for end in range(1, len(ids) + 1):
            before, after = self._decode(ids[begin:done]), self._decode(ids[begin:end])
            if after.endswith("\ufffd") and end < len(ids):  # half a character so far
                pieces.append("")
                continue
            pieces.append(after[len(before) :])
            begin, done = done, end
        return pieces

    def _text(self, token: int) -> str:
        if token not in self._alone:
            self._alone[token] = self._decode([token])
        return self._alone[token]

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
