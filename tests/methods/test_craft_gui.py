"""CRAFT-GUI: which samples a stage of the curriculum draws from, and when it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrl.config import load_config
from mmrl.methods.craft_gui import Curriculum
from mmrl.plugins import ConfigError
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.records import Sample

ROOT = Path(__file__).parents[2]


def samples(difficulties, key="steps"):
    asked = ({"role": "user", "content": "?"},)
    return {f"s{i}": Sample(f"s{i}", asked, meta={key: value}) for i, value in enumerate(difficulties)}


def drawn(sampler, steps):
    return [sample_id for step in steps for sample_id, _ in sampler.plan(step)]


def test_stages_are_equal_parts_in_order_of_difficulty():
    sampler = Curriculum(samples([6, 1, 5, 2, 4, 3]), 2, 4, 0, key="steps", starts=[3, 6])
    assert sorted(drawn(sampler, [0])) == ["s1", "s3"] == sorted(drawn(sampler, [2]))
    assert sorted(drawn(sampler, [3])) == ["s4", "s5"]
    assert sorted(drawn(sampler, [6])) == ["s0", "s2"] == sorted(drawn(sampler, [99]))


def test_bounds_belong_to_the_easier_stage_and_the_last_stage_takes_the_rest():
    sampler = Curriculum(samples([4, 5, 6, 8, 9, 30]), 1, 4, 0, key="steps", starts=[2, 5], bounds=[5, 8])
    parts = [set(drawn(sampler, steps)) for steps in ([0, 1], [2, 3], [5, 6])]
    assert parts == [{"s0", "s1"}, {"s2", "s3"}, {"s4", "s5"}]


def test_a_low_share_of_right_answers_is_hard():
    sampler = Curriculum(samples([0.1, 0.9, 0.5]), 1, 4, 0, key="steps", starts=[1, 2], bounds=[0.8, 0.4], hard="low")
    assert drawn(sampler, [0, 1, 2]) == ["s1", "s2", "s0"]


def test_easier_samples_stay_if_wanted():
    sampler = Curriculum(samples([1, 2, 3, 4]), 4, 4, 0, key="steps", starts=[1], keep_easier=True)
    assert set(drawn(sampler, [0])) == {"s0", "s1"} and set(drawn(sampler, [1])) == {"s0", "s1", "s2", "s3"}


def test_an_epoch_begins_with_its_stage_and_the_plan_is_a_function_of_the_step():
    sampler = Curriculum(samples(range(6)), 1, 4, 0, key="steps", starts=[4])
    assert set(drawn(sampler, [4, 5, 6])) == {"s3", "s4", "s5"}  # though step 4 is in the middle of an epoch of 3
    again = Curriculum(samples(range(6)), 1, 4, 0, key="steps", starts=[4])
    assert drawn(again, range(9)) == drawn(sampler, range(9))
    assert sampler.plan(0, request=1)[0][1] == 4


def test_difficulty_as_a_model_measured_it():
    rows = samples([{"mean": 0.25}, {"mean": 0.75}], key="selection")
    sampler = Curriculum(rows, 1, 2, 0, key="selection.mean", starts=[1], hard="low")
    assert drawn(sampler, [0, 1]) == ["s1", "s0"]


def test_a_list_counts_by_its_length():
    sampler = Curriculum(samples([["a", "b"], ["a"]]), 1, 2, 0, key="steps", starts=[1])
    assert drawn(sampler, [0, 1]) == ["s1", "s0"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"key": "length"}, "meta.length is None.*There are: steps"),
        ({"starts": [3, 2]}, "rising order"),
        ({"starts": [0, 2]}, "above 0"),
        ({"bounds": [1]}, "as many bounds as starts"),
        ({"bounds": [8, 5]}, "from easy to hard"),
        ({"bounds": [90, 95]}, r"no samples \(3, 0, 0 by stage\)"),
        ({"starts": [1, 2, 3, 4]}, "no samples"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        Curriculum(samples([1, 2, 3]), 1, 4, 0, **{"key": "steps", "starts": [1, 2]} | settings)


def test_the_papers_recipe_is_whole():
    where = "configs/papers/craft_gui_aitz.yaml"
    recipe = make_recipe(load_config(ROOT / where), VLMPolicy, where=where)
    sampler = recipe.make_sampler(samples([3, 7, 12], key="episode_length"))
    assert [sampler.plan(step)[0][0] for step in (0, 100, 200)] == ["s0", "s1", "s2"]
