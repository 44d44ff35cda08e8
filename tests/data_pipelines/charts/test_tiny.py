"""Tiny charts: every answer worked out again from the pixels, one token each, the same files from a seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from PIL import Image

from data_pipelines.charts.tiny import QUESTIONS, draw_bars, make_charts_cold_start, make_charts_tiny, paint_bars
from data_pipelines.dataset import check_samples, read_samples
from data_pipelines.gui.shapes import COLOURS, THEMES
from mmrl.plugins import ConfigError
from mmrl.policies.tiny import make_tokenizer


def measured(image):
    """{colour: height} from left to right, by looking: pixels of the colour, over the width of their columns."""
    pixels = np.asarray(image)
    found = {}
    for colour, rgb in COLOURS.items():
        rows, columns = np.nonzero((pixels == rgb).all(-1))
        if len(rows):
            assert len(rows) == len(set(rows)) * len(set(columns))  # a full rectangle
            assert rows.max() == 59  # on the axis
            found[columns.min()] = colour, len(set(rows)) / 6
    return {colour: height for _, (colour, height) in sorted(found.items())}


def answer(question, values):
    """By the words of the question and what was measured."""
    words = question.rstrip("?").split()
    if words[:2] == ["which", "bar"]:
        return {"highest": max, "lowest": min}[words[-1]](values, key=values.get)
    if question == "how many bars?":
        return str(len(values))
    if words[:4] == ["how", "many", "bars", "above"]:
        return str(sum(value > int(words[4]) for value in values.values()))
    if words[0] == "value":
        return f"{values[words[3]]:.0f}"
    if words[0] == "difference":
        return f"{abs(values[words[2]] - values[words[4]]):.0f}"
    assert words[0] == "is" and words[2] == "above" and values[words[1]] != values[words[3]]
    return "yes" if values[words[1]] > values[words[3]] else "no"


@pytest.mark.parametrize("theme", THEMES)
def test_bars_are_as_high_as_their_values_in_every_theme(theme):
    for seed in range(60):
        bars = draw_bars(Random(seed))
        image = paint_bars(bars, theme, grid=seed % 2 == 0)
        assert image.size == (64, 64)
        assert measured(image) == {bar.colour: bar.value for bar in bars}
        assert all(a.right < b.left for a, b in pairwise(bars))
        values = [bar.value for bar in bars]
        assert values.count(max(values)) == values.count(min(values)) == 1


def test_every_answer_follows_from_the_pixels_and_is_one_token(tmp_path):
    tokenizer = make_tokenizer()
    paths = make_charts_tiny(tmp_path, count=300, test_count=60)
    rows = {split: read_samples(path) for split, path in paths.items()}
    assert {split: len(samples) for split, samples in rows.items()} == {"train": 300, "test": 60}
    check_samples(rows["test"])
    kinds, said = Counter(), Counter()
    for sample in rows["train"] + rows["test"]:
        image, question = sample.messages[0]["content"]
        values = measured(Image.open(image["image"]))
        assert sample.target["answer"] == answer(question["text"], values)
        assert len(tokenizer(sample.target["answer"])["input_ids"]) == 1
        assert sample.meta["task"] == "chart_text"
        kinds[sample.meta["question"]] += 1
        said[sample.target["answer"]] += 1
    assert set(kinds) == set(QUESTIONS)
    assert 0.25 < said["yes"] / (said["yes"] + said["no"]) < 0.75
    assert max(said.values()) < 0.2 * sum(said.values())
    assert not {s.media[0].digest for s in rows["train"]} & {s.media[0].digest for s in rows["test"]}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", [make_charts_tiny, make_charts_cold_start])
def test_the_same_seed_makes_the_same_files_and_a_longer_set_begins_with_the_shorter(tmp_path, make):
    for name, count, seed in (("a", 4, 0), ("b", 4, 0), ("c", 4, 1), ("d", 9, 0)):
        make(tmp_path / name, count=count, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")
    (file,) = (tmp_path / "a").glob("[tc][ro]*.jsonl")
    assert (tmp_path / "d" / file.name).read_text().startswith(file.read_text())


def turns(sample):
    for place in range(0, len(sample.messages), 2):
        asked, told = sample.messages[place : place + 2]
        parts = asked["content"]
        assert [part["type"] for part in parts] == (["image", "text"] if place == 0 else ["text"])
        yield parts[-1]["text"], told["content"]


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_cold_start_chats_are_wrong_as_often_as_they_say(tmp_path, noise):
    chats = read_samples(make_charts_cold_start(tmp_path, count=200, noise=noise)["cold_start"], need_target=False)
    wrong = []
    for chat in chats:
        values = measured(Image.open(chat.media[0].path))
        told = list(turns(chat))
        assert len({question for question, _ in told}) == len(told) == 6
        wrong += [said != answer(question, values) for question, said in told]
    assert abs(np.mean(wrong) - noise) < (0.05 if noise else 1e-9)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_one_kind_of_question_alone(tmp_path, kind):
    for sample in read_samples(make_charts_tiny(tmp_path, count=5, test_count=1, questions=[kind])["train"]):
        assert sample.meta["question"] == kind
    path = make_charts_cold_start(tmp_path, count=2, questions=[kind])["cold_start"]
    (chat, *_) = read_samples(path, need_target=False)
    assert 1 <= len(list(turns(chat))) <= 6


@pytest.mark.parametrize(
    "settings", [{"noise": 1.5}, {"noise": -0.1}, {"turns": 0}, {"questions": ["tallest"]}, {"questions": []}]
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        make_charts_cold_start(tmp_path, count=1, **settings)
