"""Digits: no image is in both splits or in a cold start and the test split; the choices are fixed and fair."""

from __future__ import annotations

from collections import Counter

import pytest

from data_pipelines.dataset import read_samples
from data_pipelines.digits import LETTERS, TEST_IMAGES, make_digits, make_digits_cold_start
from data_pipelines.makers import MAKERS
from mmrl.plugins import load


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    paths = make_digits(tmp_path_factory.mktemp("digits"), size=16)
    return {split: read_samples(path) for split, path in paths.items()}


def digests(samples):
    return {sample.media[0].digest for sample in samples}


def test_every_image_is_in_one_split(splits):
    assert (len(splits["train"]), len(splits["test"])) == (1797 - TEST_IMAGES, TEST_IMAGES)
    assert len(digests(splits["train"]) | digests(splits["test"])) == 1797


def test_questions_list_their_choices_and_no_letter_is_favoured(splits):
    for sample in splits["test"]:
        choices = sample.meta["options"]
        listed = " ".join(f"{letter} {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
        assert sample.messages[0]["content"][1]["text"] == f"which digit? {listed}"
        assert len(set(choices)) == 4
        assert sample.media[0].size == (16, 16)
    counts = Counter(sample.target["answer"] for sample in splits["train"])
    assert all(0.2 < counts[letter] / len(splits["train"]) < 0.3 for letter in LETTERS)


def test_the_seed_orders_the_choices_and_leaves_the_split(splits, tmp_path):
    other = read_samples(make_digits(tmp_path, seed=1, size=16)["test"])
    assert digests(other) == digests(splits["test"])
    assert [sample.target for sample in other] != [sample.target for sample in splits["test"]]


@pytest.mark.parametrize(("seed", "noise"), [(0, 0.0), (5, 0.4)])
def test_a_cold_start_answers_wrong_at_the_noise_rate_and_sees_no_test_image(splits, tmp_path, seed, noise):
    path = make_digits_cold_start(tmp_path, count=250, seed=seed, noise=noise, size=16)["cold_start"]
    chats = read_samples(path, need_target=False)
    assert not digests(chats) & digests(splits["test"])
    digit_of = {s.media[0].digest: s.meta["options"][LETTERS.index(s.target["answer"])] for s in splits["train"]}
    wrong = []
    for chat in chats:
        for question, answer in zip(chat.messages[::2], chat.messages[1::2], strict=True):
            words = question["content"][-1]["text"].split()
            wrong.append(words[words.index(answer["content"]) + 1] != digit_of[chat.media[0].digest])
    assert len(wrong) == 1000
    assert abs(sum(wrong) / len(wrong) - noise) < (0.05 if noise else 1e-9)


def test_a_noise_that_is_no_share_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"noise = 1.5"):
        make_digits_cold_start(tmp_path, noise=1.5)


@pytest.mark.parametrize("name", MAKERS)
def test_every_maker_exists_and_takes_a_seed_if_it_draws(name):
    make = load(name, MAKERS, kind="data set", where="test")
    draws = name != "figures"  # which lists all prompts
    assert (make.__kwdefaults__ or {}).get("seed", "none") == (0 if draws else "none")
