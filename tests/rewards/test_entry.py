"""The keys of an entry: weight, task, threshold, `as`, settings, and what a reward reads; wrong ones are refused."""

from __future__ import annotations

import math
import os

import pytest
import torch
from PIL import Image
from reward_rows import rollouts, run, same

from mmrl.plugins import ConfigError
from mmrl.records import Sample
from rewards.registry import reward
from rewards.scoring import Rewards, check_targets

PLUGIN = """
def length(completion, sample, *, factor: float = 1.0):
    return factor * len(completion)

def three(completion, sample, extra):
    return 0
"""


def test_a_threshold_makes_a_score_binary(config):
    @reward(range=(0, 10))
    def length(completion, sample):
        return None if completion == "none" else len(completion)

    rewards = config({"name": length, "threshold": 2})
    rolled = rollouts([["a", "bb", "ccc", "none"]])
    run(rewards, rolled)
    assert same(rolled.scores["length"], [0, 1, 1, math.nan])
    assert rolled.notes[0]["length"]["why"] == "1 against the threshold 2"
    assert rewards.halfway(rolled)[0] == 0.5


def test_a_class_is_built_once_and_is_given_the_device(config):
    built = []

    class Model:
        def __init__(self, *, size: int, device: str = "nowhere"):
            built.append((size, device))

        def __call__(self, completion, sample):
            return len(completion)

    rewards = config({"name": Model, "size": 3})
    for _ in range(2):
        rolled = rollouts([["a", "bb"]])
        run(rewards, rolled)
        assert same(rolled.reward, [1, 2])
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    assert built == [(3, device)]
    with pytest.raises(ConfigError, match="built once, so its settings have no schedule"):
        config({"name": Model, "size": {"schedule": "linear", "start": 1, "end": 2}})


def test_an_image_reward_sees_images_and_refuses_texts(config):
    @reward(reads="image", range=(0, 255))
    def brightest(image, sample):
        return image.getextrema()[1]

    rolled = rollouts([["", ""]])
    with pytest.raises(ConfigError, match="reads images; these completions are texts"):
        run(config({"name": brightest}), rolled)
    rolled.images = [Image.new("L", (2, 2), 7), Image.new("L", (2, 2), 9)]
    run(config({"name": brightest}), rolled)
    assert same(rolled.reward, [7, 9])


def test_a_reward_that_reads_rollouts_sees_lengths_and_the_scores_before_it(config):
    def correct(completion, sample):
        return float(completion == "right")

    @reward(scope="group", reads="rollouts", range=(-math.inf, math.inf))
    def shorter(rows):
        return (rows.scores["correct"] / rows.length).tolist()

    rolled = rollouts([["right", "wrong"], ["right"]])
    rolled.length = torch.tensor([4, 4, 2])
    run(config({"name": correct, "weight": 2}, {"name": shorter}), rolled)
    assert same(rolled.reward, [2.25, 0, 2.5])
    assert rolled.weights == {"correct": 2, "shorter": 1}
    with pytest.raises(ConfigError, match="reads rollouts, so it cannot run in worker processes"):
        config({"name": shorter, "timeout": 1})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"timeout": 0}, "timeout is a positive number of seconds"),
        ({"timeout": "soon"}, "timeout is a number"),
        ({"threshold": True}, "threshold is a number"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_wrong_entry_keys_are_refused(config, entry, message):
    with pytest.raises(ConfigError, match=message):
        config({"name": lambda completion, sample: 1, "as": "x", **entry})


def test_a_task_that_no_sample_has_is_refused():
    rewards = Rewards.from_config([{"name": "think_format", "task": "boxs"}], where="w")
    with pytest.raises(ConfigError, match=r"applies to no sample: its task is boxs, .* are box"):
        check_targets(rewards, [Sample("s", (), meta={"task": "box"})])


def test_rewards_are_routed_by_task(config):
    seen = []

    @reward(scope="batch")
    def grounding(completions, samples):
        seen.append([sample.id for sample in samples])
        return [1.0] * len(completions)

    def choice(completion, sample):
        return 2.0

    samples = [Sample(name, (), meta={"task": name}) for name in ("point", "letter", "box")]
    samples.append(Sample("none", ()))
    rolled = rollouts([["a", "a"], ["b"], ["c"], ["d"]], samples)
    run(config({"name": grounding, "task": ["point", "box"]}, {"name": choice, "task": "letter"}), rolled)
    assert seen == [["point", "point", "box"]]
    assert same(rolled.reward, [1, 1, 2, 1, math.nan])


def test_a_batch_reward_that_applies_to_no_row_is_not_called(config):
    @reward(scope="batch")
    def never(completions, samples):
        raise AssertionError

    run(config({"name": never, "task": "other"}), rollouts([["a"]]))


def test_a_reward_of_your_own_comes_from_a_file_with_settings_alias_and_schedules(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    falling = {"schedule": "linear", "start": 1.0, "end": 0.0}
    spec = {"name": f"{tmp_path}/mine.py:length", "factor": 3.0, "as": "long", "weight": falling}
    rewards = Rewards.from_config([spec, {"name": f"{tmp_path}/mine.py:length", "factor": falling}], where="w")
    rolled = rollouts([["ab"]])
    rewards.score(rolled, step=5, total=10)
    assert same(rolled.scores["long"], [6])
    assert same(rolled.scores["length"], [1])
    assert same(rolled.reward, [0.5 * 6 + 1])
    assert set(rewards.metrics(rolled)) == {"score/long", "failed/long", "score/length", "failed/length"}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([{"name": "box_iou"}, {"name": "box_iou", "weight": 2}], r"rewards\.1: a second reward named box_iou.*as:"),
        ([{"name": "box_iou"}, {"name": "point_in_box", "as": "box_iou"}], "second reward named box_iou"),
        ([{"name": "box_iuo"}], "Did you mean box_iou"),
        ([{"name": "point_distance", "scael": 1.0}], r"rewards\.0\.scael.*\n.*Did you mean scale"),
        ([{"name": "box_iou", "weight": "heavy"}], r"weight is a number or a schedule; found 'heavy'"),
        ([{"name": "box_iou", "weight": math.nan}], "weight is a number"),
        ([{"name": "box_iou", "task": 3}], "task is a task or a list"),
        ([{"name": "box_iou", "task": []}], "task is a task or a list"),
        ([{"name": "MINE:three"}], r"cannot be called as a row reward.*\n.*def three\(completion, sample"),
    ],
)
def test_a_mistake_in_the_config_says_what_to_do(tmp_path, specs, message):
    (tmp_path / "mine.py").write_text(PLUGIN)
    specs = [{**spec, "name": spec["name"].replace("MINE", f"{tmp_path}/mine.py")} for spec in specs]
    with pytest.raises(ConfigError, match=message):
        Rewards.from_config(specs, where="recipe.yaml: rewards")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "rouge", "threshold": 5}, "threshold = 5: rouge lies between 0 and 1"),
        ({"name": "rouge", "threshold": math.nan}, "threshold = nan"),
        ({"name": "rouge", "workers": 2}, "workers needs a `timeout`"),
        ({"name": "rouge", "as": "a/b"}, "a name without a slash"),
        ({"nme": "rouge"}, "has no `name`; its keys are nme"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(entry, message):
    with pytest.raises(ConfigError, match=message):
        Rewards.from_config([entry], where="w")
