"""What holds for every reward of the zoo: it reads anything, stays in its range, and stands in the documents."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import parsing
from rewards.authoring.battery import make_rollouts
from rewards.authoring.hostile import texts as hostile_texts
from rewards.authoring.samples import SETTINGS, TARGETS, own_samples, right_answers
from rewards.calling import attempt
from rewards.entry import Entry
from rewards.registry import BUILTIN, Score

ELSEWHERE = {"remote", "math_answer"}
"""A server, and a worker process per call; `test_remote.py` and `test_quantities.py` feed them."""
ENTRIES = {
    name: Entry.from_config({"name": name, **SETTINGS.get(name, {})}, where=name)
    for name, target in BUILTIN.items()
    if name not in ELSEWHERE and ".images." not in target
}
FOLDER = tempfile.TemporaryDirectory()
TARGET = {key: forms[0] for key, forms in TARGETS.items()} | {"answer": "B"}
IMAGE, FILM = (replace(own_samples([key], Path(FOLDER.name))[0], target=TARGET) for key in ("box", "span"))
READERS = {
    f"{module.name}.{name}": function
    for module in pkgutil.iter_modules(parsing.__path__)
    for name, function in vars(importlib.import_module(f"rewards.parsing.{module.name}")).items()
    if inspect.isfunction(function)
    and not name.startswith("_")
    and function.__module__.endswith(module.name)
    and [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty] == ["text"]
}
PIECES = [
    *("<answer>", "</answer>", "<think>", "</think>", "<action>", "</action>", "<glue>", "</glue>"),
    *("[", "]", "(", ")", "{", "}", '"', "'", ",", ":", ".", "-", "%", "$", "\n", " to ", "nan", "inf", "1e999", "-0"),
    *("12", "0.5", "3:25", "9" * 400, "٣", "\ud800", "A", "B.", "(C)", "answer is ", "'action': 'click'"),
    *('"coordinate": ', '"start_time": "1"', "\\boxed{", "\\frac{1}{0}"),
]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=12).map("".join)


ten_texts = st.lists(texts, min_size=10, max_size=10)


def check(name: str, texts: Sequence[str]) -> None:
    """No failure, every value finite and in the declared range; a reward of groups sees each text among others."""
    entry = ENTRIES[name]
    low, high = entry.info.range
    sample = FILM if "temporal" in BUILTIN[name] else IMAGE
    right = right_answers(sample, entry.info.needs)[:1]
    calls = [texts, texts[:1]] if entry.info.scope == "row" else [[text, *right, ""] for text in texts]
    function = entry.reward.bind(entry.stage.settings)
    for call in calls:
        read = make_rollouts(call, sample, entry.stage.settings) if entry.info.reads == "rollouts" else call
        for outcome in attempt(function, entry.info, read, [sample] * len(call)):
            assert outcome is None or (isinstance(outcome, Score) and low <= outcome.value <= high), (name, outcome)
            assert outcome is None or math.isfinite(outcome.value)


def test_the_readers_are_found():
    assert {"tags.last_answer", "coordinates.shapes", "quantities.quantity", "choices.option_letter"} <= READERS.keys()


@pytest.mark.slow
@settings(max_examples=1_000)
@given(ten_texts)
def test_every_reader_and_reward_survives_ten_thousand_texts(texts):
    for text in texts:
        for reader in READERS.values():
            reader(text)
    for name in ENTRIES:
        check(name, texts)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_reward_survives_the_hostile_completions(name):
    check(name, [hostile.text for hostile in hostile_texts()])


def test_every_reward_stands_in_the_table_of_the_documents():
    document = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()
    missing = [name for name in BUILTIN if f"| `{name}` |" not in document]
    assert not missing, "run: python benchmarks/reward_speed.py --write"
