"""The experiments of `mmrl reproduce`: mistakes in them are named, and the repository's may run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from small_experiments import ROOT, experiment, write

from mmrl.config import load_config
from mmrl.launch import check_gold
from mmrl.plugins import ConfigError
from mmrl.policies import policy_class
from mmrl.recipe import make_recipe
from mmrl.replication.experiment import find_experiments, read_experiment
from mmrl.replication.running import check_plans, make_plan

ARMS = experiment()["arms"]
MEASURES = experiment()["measures"]
EXPECT = experiment()["expect"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"clam": "x"}, r"clam is not a setting.\n  Did you mean claim"),
        ({"arms": [*ARMS, {"name": "x", "trian": "y"}]}, r"arms\.3\.trian is not a setting.\n  Did you mean train"),
        ({"arms": [*ARMS, {"name": "x"}]}, r"arms\.3 \(x\) needs exactly one of train, runs_of, model"),
        ({"arms": [*ARMS, {"name": "x", "runs_of": "GRP"}]}, r"runs_of: no arm `GRP` is trained. Did you mean GRPO"),
        ({"arms": [*ARMS, {"name": "Grpo", "train": "y"}]}, r"arms\.3 \(Grpo\): another arm has the same name"),
        ({"arms": [*ARMS, {"name": "x", "train": "a 'b"}]}, r"arms\.3 \(x\)\.train = .*No closing quotation"),
        ({"seeds": 1}, r"seeds = 1: at least 2"),
        ({"seeds": [3, 3]}, r"seeds = \[3, 3\]: at least 2 that differ"),
        ({"evaluate": {}}, r"measures\.0 \(held-out reward\) reads an evaluation, and `evaluate` is not set"),
        ({"measures": [{**MEASURES[0], "data": "tset"}]}, r"measures\.0 .*data: Did you mean test"),
        ({"measures": [{**MEASURES[1], "reach": 1}]}, r"measures\.0 \(length\) needs exactly one of over .* and reach"),
        ({"measures": [{**MEASURES[0], "source": "evalution"}]}, r"measures\.0\.source: .*found 'evalution'"),
        ({"expect": EXPECT | {"over": "GRP"}}, r"expect\.0\.over: there is no `GRP`. Did you mean GRPO"),
        ({"expect": EXPECT | {"by": "much"}}, r"expect\.0\.by = 'much': a number, or a share such as -70 %"),
        ({"expect": EXPECT | {"within": 0.1}}, r"expect\.0 needs exactly one of by and within"),
        ({"expect": EXPECT | {"measure": "length", "over": "before"}}, r"`before` has no training to measure `length`"),
    ],
)
def test_mistakes_are_named_with_file_and_key(place: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        read_experiment(write(experiment(**changes)))
    assert "configs/reproduce/mini.yaml" in str(error.value)


def test_an_unknown_experiment_is_named(place: Path) -> None:
    assert list(find_experiments([])) == ["mini"]
    with pytest.raises(ConfigError, match=r"no experiment named `min`\.\n  Did you mean mini"):
        find_experiments(["min"])


def test_the_experiments_of_the_repository_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    plans = [make_plan(name, read_experiment(file), Path("out")) for name, file in find_experiments([]).items()]
    check_plans(plans)
    assert plans


@pytest.mark.parametrize("file", sorted((ROOT / "configs/reproduce").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_arm_is_a_recipe_that_may_train(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for arm in read_experiment(file).arms:
        if arm.train is not None:
            recipe, *more = shlex.split(arm.train)
            config = load_config(recipe, [*more, "model.path=tiny"])
            check_gold(make_recipe(config, policy_class("tiny"), where=recipe), [], where=recipe)
