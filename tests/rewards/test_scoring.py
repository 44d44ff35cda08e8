"""What a reward answers is a number, "not applicable" or a failure, and the three are never mixed up."""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time

import numpy as np
import pytest
import torch
from reward_rows import rollouts, run, same

from mmrl.plugins import ConfigError
from mmrl.records import Sample
from rewards import Score
from rewards.registry import reward
from rewards.scoring import RewardFailure, Rewards, check_targets

PLUGIN = """
from rewards import Score, reward

def length(completion, sample):
    return len(completion)

@reward(name="share", scope="group")
def share_of_group(completions, sample):
    return [completions.count(text) / len(completions) for text in completions]

@reward(scope="batch", range=(0, 100))
def rank(completions, samples):
    assert len(completions) == len(samples)
    return [sorted(completions).index(text) for text in completions]
"""


def test_the_reward_is_the_weighted_sum_of_the_scores(config):
    def one(completion, sample):
        return len(completion)

    def two(completion, sample):
        return Score(2, parsed={"point": [1, 2]}, why="because")

    rolled = rollouts([["a", "bb"], ["ccc"]])
    metrics = run(config({"name": one}, {"name": two, "weight": -0.5}), rolled)
    assert same(rolled.scores["one"], [1, 2, 3])
    assert same(rolled.scores["two"], [2, 2, 2])
    assert same(rolled.reward, [0, 1, 2])
    assert rolled.reward.dtype == torch.float32
    assert rolled.notes[0] == {"two": {"parsed": {"point": [1, 2]}, "why": "because"}}
    assert metrics == {"score/one": 2, "failed/one": 0, "score/two": 2, "failed/two": 0}


def test_none_drops_out_of_the_sum_and_a_failure_makes_the_row_nan(config):
    def picky(completion, sample):
        return {"none": None, "fail": math.nan}.get(completion, 1)

    def always(completion, sample):
        return 10

    rolled = rollouts([["none", "fail", "ok"]])
    metrics = run(config({"name": picky}, {"name": always}, max_failed=0.5), rolled)
    assert same(rolled.scores["picky"], [math.nan, math.nan, 1])
    assert same(rolled.reward, [10, math.nan, 11])
    assert "error" not in rolled.notes[0].get("picky", {})
    assert "not finite" in rolled.notes[1]["picky"]["error"]
    assert (metrics["score/picky"], metrics["failed/picky"]) == (1, 1)


def test_a_row_to_which_nothing_applies_has_no_reward(config):
    def never(completion, sample):
        return None

    rolled = rollouts([["a"]])
    assert run(config({"name": never}), rolled) == {"failed/never": 0}
    assert same(rolled.reward, [math.nan])


def test_without_rewards_no_row_has_a_reward():
    rolled = rollouts([["a", "b"]])
    assert run(Rewards.from_config([], where="w"), rolled) == {}
    assert same(rolled.reward, [math.nan, math.nan])


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, 1e39, 2, -0.001, "1", [0.5], [], {"score": 1}, 1j, Score(math.nan),
     Score("1"), Score(None), torch.tensor([0.1, 0.2])],
    ids=repr,
)  # fmt: skip
def test_what_is_not_one_finite_number_in_range_is_a_failure_never_a_zero(config, value):
    @reward(range=(0, 1))
    def bad(completion, sample):
        return value

    rolled = rollouts([["a"]])
    metrics = run(config({"name": bad}, max_failed=1.0), rolled)
    assert same(rolled.scores["bad"], [math.nan])
    assert same(rolled.reward, [math.nan])
    assert rolled.notes[0]["bad"]["error"]
    assert metrics == {"failed/bad": 1}


@pytest.mark.parametrize("value", [math.inf, math.nan, 1e39, -1e39])
def test_without_bounds_a_value_must_still_be_finite_in_float32(config, value):
    rolled = rollouts([["a"]])
    run(config({"name": lambda completion, sample: value, "as": "x"}, max_failed=1.0), rolled)
    assert same(rolled.reward, [math.nan])
    assert "not finite" in rolled.notes[0]["x"]["error"]


@pytest.mark.parametrize("value", [1, True, np.float32(1), np.bool_(True), torch.tensor(1.0), Score(True)], ids=repr)
def test_any_single_number_is_a_number(config, value):
    rolled = rollouts([["a"]])
    run(config({"name": reward()(lambda completion, sample: value), "as": "x"}), rolled)
    assert same(rolled.reward, [1])


@pytest.mark.parametrize("scope", ["group", "batch"])
@pytest.mark.parametrize(
    "values", [[0.5], [0.5] * 3, [], 0.5, None, "ab", {0: 0.5, 1: 0.5}], ids=repr
)  # fmt: skip
def test_a_wrong_list_fails_its_call_and_is_never_broadcast(config, scope, values):
    def bad(completions, sample):
        return values

    rolled = rollouts([["a", "b"]])
    run(config({"name": reward(scope=scope)(bad)}, max_failed=1.0), rolled)
    assert same(rolled.scores["bad"], [math.nan, math.nan])
    assert all(notes["bad"]["error"] for notes in rolled.notes)


@pytest.mark.parametrize("scope", ["group", "batch"])
@pytest.mark.parametrize("value", [math.nan, "1", [0.5], 1.5, OSError("truncated image")], ids=repr)
def test_a_wrong_value_in_a_list_fails_its_own_row_only(config, scope, value):
    def bad(completions, sample):
        return [0.5, value]

    rolled = rollouts([["a", "b"]])
    run(config({"name": reward(scope=scope)(bad)}, max_failed=0.5), rolled)
    assert same(rolled.reward, [0.5, math.nan])
    assert "bad" not in rolled.notes[0] and rolled.notes[1]["bad"]["error"]


def test_a_class_that_cannot_be_built_fails_its_rows_with_the_reason(config):
    class Model:
        def __init__(self):
            raise OSError("weights.pt is not there")

        def __call__(self, completion, sample): ...

    with pytest.raises(RewardFailure, match=r"weights\.pt is not there"):
        run(config({"name": Model}), rollouts([["a"]]))


def test_an_asynchronous_reward_is_awaited(config):
    async def slow(completion, sample):
        await asyncio.sleep(0)
        return len(completion)

    rolled = rollouts([["a", "bb"]])
    run(config({"name": slow}), rolled)
    assert same(rolled.reward, [1, 2])


def test_a_failing_group_leaves_the_other_groups_alone(config):
    @reward(scope="group")
    def voted(completions, sample):
        if sample.id == "s0":
            raise KeyError("gold")
        return np.array([0.25, 0.75])

    rolled = rollouts([["a", "b"], ["c", "d"]])
    run(config({"name": voted}, max_failed=0.5), rolled)
    assert same(rolled.reward, [math.nan, math.nan, 0.25, 0.75])
    assert rolled.notes[1]["voted"]["error"] == "KeyError: 'gold'"


def test_a_list_may_hold_none_for_rows_it_does_not_apply_to(config):
    @reward(scope="group")
    def some(completions, sample):
        return [None, 1.0]

    rolled = rollouts([["a", "b"]])
    run(config({"name": some}), rolled)
    assert same(rolled.reward, [math.nan, 1])
    assert rolled.notes[0] == {}


def test_too_many_failures_stop_the_run_and_say_where(config):
    def broken(completion, sample):
        if completion.startswith("x"):
            raise ZeroDivisionError("no area")
        return 1

    rolled = rollouts([["fine"] * 4, ["fine", "fine", "x" * 1000, "x"]])
    run(config({"name": broken}, max_failed=0.25), rolled)
    with pytest.raises(RewardFailure) as stop:
        run(config({"name": broken}, max_failed=0.24), rollouts([["fine"] * 4, ["fine", "fine", "x" * 1000, "x"]]))
    message = str(stop.value)
    for part in (
        "broken",
        __file__,
        "2 of 8",
        "step 0",
        "24%",
        "d.jsonl, row 1",
        "no area",
        "1000 characters",
    ):
        assert part in message
    assert len(message) < 1000
    assert isinstance(stop.value.__cause__, ZeroDivisionError)
    assert stop.value.__cause__.__traceback__ is not None


def test_the_share_of_failures_counts_only_rows_the_reward_applies_to(config):
    def broken(completion, sample):
        raise RuntimeError("always")

    samples = [Sample("rare", (), meta={"task": "rare"}), Sample("common", (), meta={"task": "common"})]
    with pytest.raises(RewardFailure, match="1 of 1"):
        run(config({"name": broken, "task": "rare"}), rollouts([["a"], ["b"] * 9], samples))


def test_a_reward_sees_copies_of_the_lists(config):
    @reward(scope="group")
    def greedy(completions, sample):
        values = [0.5] * len(completions)
        completions.clear()
        return values

    rolled = rollouts([["a", "b"]])
    run(config({"name": greedy}), rolled)
    assert rolled.text == ["a", "b"]
    assert same(rolled.reward, [0.5, 0.5])


def test_permuting_groups_and_rows_permutes_row_and_group_scores(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    rewards = Rewards.from_config(
        [{"name": f"{tmp_path}/mine.py:{name}"} for name in ("length", "share_of_group", "rank")], where="w"
    )
    shuffle = random.Random(0)
    texts = [[shuffle.choice("abc") * shuffle.randint(1, 3) for _ in range(size)] for size in (4, 1, 3, 5)]
    whole = rollouts(texts)
    run(rewards, whole)
    for _ in range(5):
        groups = shuffle.sample(range(len(texts)), len(texts))
        order = [row for g in groups for row in shuffle.sample(whole.rows_of(g), len(texts[g]))]
        moved = whole.select(order)
        moved.scores = {}
        run(rewards, moved)
        for name, values in whole.scores.items():
            assert torch.equal(moved.scores[name], values[order])
        assert torch.equal(moved.reward, whole.reward[order])


def test_a_row_reward_does_not_depend_on_the_batch(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    rewards = Rewards.from_config([{"name": f"{tmp_path}/mine.py:length"}], where="w")
    whole = rollouts([["a", "bb"], ["ccc", ""]])
    run(rewards, whole)
    for row, text in enumerate(whole.text):
        alone = rollouts([[text]])
        run(rewards, alone)
        assert alone.reward[0] == whole.reward[row]


def test_samples_without_the_needed_target_are_named_before_the_run():
    rewards = Rewards.from_config(
        [{"name": "box_iou", "task": "box"}, {"name": "letter_choice", "as": "mcq"}], where="w"
    )
    good = Sample("g", (), target={"box": [0, 0, 1, 1], "answer": "B"}, meta={"task": "box"})
    check_targets(rewards, [good])
    bad = [Sample(f"b{row}", (), meta={"task": "box"}, where=f"d.jsonl, row {row}") for row in range(4)]
    unrouted = Sample("u", (), target={"answer": "A"}, meta={"task": "text"})
    with pytest.raises(ConfigError) as error:
        check_targets(rewards, [good, *bad, unrouted])
    lines = str(error.value).splitlines()
    assert lines[:2] == [
        "d.jsonl, row 0: reward box_iou needs target.box",
        "d.jsonl, row 0: reward mcq needs target.answer",
    ]
    assert len(lines) == 6
    assert lines[-1] == "... and 3 more."
    with pytest.raises(ConfigError, match="sample x: reward mcq"):
        check_targets(rewards, [Sample("x", (), target={"answer": None})])


def test_a_reward_that_changes_the_gold_of_the_others_stops_the_run(config):
    def cheat(completion, sample):
        sample.target["answer"] = completion
        return 1.0

    rolled = rollouts([["a"]], [Sample("s", (), target={"answer": "b"})])
    with pytest.raises(RewardFailure, match=r"cheat changed sample\.target"):
        run(config({"name": cheat}), rolled)


def test_exit_and_numbers_beyond_floats_are_failures_of_their_rows(config):
    @reward(scope="batch", range=(-math.inf, math.inf))
    def huge(completions, samples):
        return [0.5] * (len(completions) - 1) + [10**400]

    def leave(completion, sample):
        if completion == "c":
            sys.exit(3)
        return 0.0

    rolled = rollouts([["a", "b", "c"]])
    run(config({"name": huge}, {"name": leave}, max_failed=0.5), rolled)
    assert same(rolled.reward, [0.5, 0.5, math.nan])
    assert "no number for float()" in rolled.notes[2]["huge"]["error"]
    assert rolled.notes[2]["leave"]["error"] == "RuntimeError: called exit(3)"


def test_what_cannot_be_loaded_is_said_before_the_first_completion(config):
    class Model:
        def __init__(self):
            raise OSError("weights.pt is not there")

        def __call__(self, completion, sample): ...

    with pytest.raises(ConfigError, match=r"reward Model cannot be loaded: OSError: weights\.pt is not there"):
        config({"name": Model}).load()


def test_a_reward_that_takes_long_is_named(config, monkeypatch, capsys):
    monkeypatch.setattr("rewards.scoring.SLOW", 0.05)

    def slow(completion, sample):
        time.sleep(0.3)
        return 0.0

    run(config({"name": slow}), rollouts([["a"]]))
    assert "step 0: still waiting for reward slow" in capsys.readouterr().err
