"""Tokens as text: whatever the tokens, their pieces are as many and read together as the completion does."""

from __future__ import annotations

import random

import pytest

from mmrl.policies.pieces import Pieces
from mmrl.policies.shared_prefix import Sampling


class Bytes:
    """A tokenizer whose tokens are bytes, so that most characters take several; 256 is a special token."""

    def decode(self, ids, *, skip_special_tokens, clean_up_tokenization_spaces):
        assert not skip_special_tokens and not clean_up_tokenization_spaces
        runs, text = bytearray(), ""
        for token in ids:
            if token == 256:
                text, runs = text + runs.decode("utf-8", "replace") + "<end>", bytearray()
            else:
                runs.append(token)
        return text + runs.decode("utf-8", "replace")


class Words:
    """A tokenizer that writes blanks between words."""

    def decode(self, ids, **_):
        return " ".join(f"word{token}" for token in ids)


@pytest.mark.parametrize(
    "text", ["plain", "é", "日本語", "a 🎬 film", "👩\u200d👩\u200d👧", "", "half \u00e9"], ids=range(7)
)
def test_a_character_of_several_tokens_is_the_piece_of_its_last(text):
    ids = [*text.encode(), 256]
    pieces = Pieces(Bytes())(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == f"{text}<end>"
    assert not any("\ufffd" in piece for piece in pieces)


def test_pieces_are_as_many_as_tokens_and_read_as_the_completion():
    chance = random.Random(0)
    tokenizer = Bytes()
    for _ in range(300):
        ids = [chance.choice([*range(256), 256]) for _ in range(chance.randrange(12))]
        pieces = Pieces(tokenizer)(ids)
        assert len(pieces) == len(ids)
        expected = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert "".join(pieces) == expected


def test_blanks_between_words_belong_to_the_pieces():
    assert Pieces(Words())([1, 2, 3]) == ["word1", " word2", " word3"]


def test_text_that_does_not_end_in_a_whole_character_is_all_there():
    assert "".join(Pieces(Bytes())([*b"ab", "é".encode()[0]])) == "ab\ufffd"


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_a_policy_gives_the_text_of_what_it_wrote(policies, mixed_samples, family):
    policy = policies[family]
    rollouts = policy.generate(mixed_samples, [2, 1, 2, 1], Sampling(max_new_tokens=6), seed=0, step=0)
    pieces = policy.pieces(rollouts)
    assert [len(row) for row in pieces] == rollouts.length.tolist()
    special = policy.processor.tokenizer.all_special_tokens
    for row, text in zip(pieces, rollouts.text, strict=True):
        assert "".join(piece for piece in row if piece.strip() not in special) == text
