"""Rewards written for TRL, verl, EasyR1 and ms-swift run unchanged, and say so when they cannot.

What is TRL's alone: `test_adapters_trl.py`.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import pytest
import torch
from reward_rows import grouped, parsed, question

from mmrl.plugins import ConfigError
from rewards import Score, reward
from rewards.adapters import FORMS, adapt
from rewards.entry import Loaded
from rewards.registry import info_of
from rewards.scoring import RewardFailure, Rewards

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "other_trainers.py"


# --- the forms are recognised by their parameters


class Orm:
    def __call__(self, completions, **kwargs): ...


class NativeModel:
    def __call__(self, completion, sample): ...


@pytest.mark.parametrize(
    "plugin",
    [
        lambda completion, sample: 0,
        lambda completion, sample, extra: 0,
        lambda image, sample, *, size=3: 0,
        NativeModel,
        NativeModel(),
        reward(scope="group")(lambda completions, sample: 0),
        reward(reads="rollouts", scope="batch")(lambda completions, **columns: 0),
    ],
)
def test_a_native_reward_is_left_as_it_is(plugin):
    assert adapt(plugin, None, where="here") == (plugin, info_of(plugin))


@pytest.mark.parametrize(
    ("plugin", "scope", "reads"),
    [
        (lambda completions, **kwargs: 0, "batch", "text"),
        (lambda prompts, completions, answer: 0, "batch", "text"),
        (lambda completions, completion_ids: 0, "batch", "rollouts"),
        (lambda completion_ids, **kwargs: 0, "batch", "rollouts"),
        (lambda completions_ids, **kwargs: 0, "batch", "rollouts"),
        (lambda completions, **kwargs: kwargs["completion_ids"], "batch", "rollouts"),
        (lambda completions, **kwargs: [kwargs.get("response_token_ids") for _ in ""], "batch", "rollouts"),
        (Orm, "batch", "text"),
        (Orm(), "batch", "text"),
        (functools.partial(lambda completions, n, **kwargs: 0, n=1), "batch", "text"),
        (lambda data_source, solution_str, ground_truth, extra_info=None: 0, "row", "text"),
        (lambda solution_str, ground_truth: 0, "row", "text"),
        (lambda reward_inputs, factor=1: 0, "batch", "rollouts"),
        (lambda reward_input: 0, "batch", "rollouts"),
    ],
)
def test_other_forms_are_recognised_by_their_parameters(plugin, scope, reads):
    adapted, info = adapt(plugin, None, where="here")
    assert (info.scope, info.reads) == (scope, reads)
    assert adapted is not plugin


@pytest.mark.parametrize(
    "plugin", [lambda: 0, lambda text: 0, lambda a, b: 0, lambda **kwargs: 0, int, object, math.sqrt]
)
def test_what_has_no_form_is_refused_with_the_forms(plugin):
    with pytest.raises(ConfigError, match=r"recipe\.yaml: cannot tell how to call") as refusal:
        adapt(plugin, None, where="recipe.yaml")
    assert all(f"    {form}" in str(refusal.value) for form in FORMS)


def test_an_unknown_form_is_refused():
    with pytest.raises(ConfigError, match=r"here\.form is one of native, trl, .*; found 'openrlhf'"):
        adapt(Orm, "openrlhf", where="here")


def test_a_declaration_keeps_its_range_and_needs_in_another_form():
    declared = reward(name="mine", range=(0, 2), needs=("box",))(lambda completions, **kwargs: [1])
    _, info = adapt(declared, "trl_text", where="here")
    assert (info.name, info.range, info.needs, info.scope) == ("mine", (0, 2), ("box",), "batch")


# --- verl


def test_verl_is_called_row_by_row_with_the_gold(scored):
    seen = []

    def compute_score(data_source, solution_str, ground_truth, extra_info=None):
        seen.append((data_source, ground_truth, extra_info))
        return {"score": float(solution_str == ground_truth), "length": len(solution_str)}

    own = question("s7", target={"answer": 4, "other": "55"}, source="made", split="train")
    rolled = grouped((own, ["4", "55"]))
    assert scored(compute_score, rolled) == [1, 0]
    assert parsed(rolled) == [{"length": 1}, {"length": 2}]
    about = {
        "id": "s7",
        "prompt": "2 + 2?",
        "media": [],
        "source": "made",
        "split": "train",
        "answer": 4,
        "other": "55",
    }
    assert seen == [("made", "4", about)] * 2
    assert scored(compute_score, rolled, ground_truth="other") == [0, 1]
    scored(compute_score, rolled, ground_truth="box")
    assert (
        "compute_score needs target.box (its setting ground_truth); the target's keys: answer, other"
        in (rolled.notes[0]["x"]["error"])
    )


def test_verls_reward_kwargs_are_settings(scored):
    def strict(solution_str, ground_truth, factor: float, bonus=0.0):
        return factor * (solution_str == ground_truth) + bonus

    def anything(solution_str, **kwargs):
        return kwargs["factor"] * (solution_str == kwargs["ground_truth"])

    def rolled():
        return grouped((question(), ["4", "5"]))

    assert scored(strict, rolled(), factor=2) == [2, 0]
    assert scored(strict, rolled(), factor=2, bonus=0.5) == [2.5, 0.5]
    assert scored(anything, rolled(), factor=3) == [3, 0]
    with pytest.raises(ConfigError, match="needs factor"):
        scored(strict, rolled())
    with pytest.raises(ConfigError, match="not a setting"):
        scored(strict, rolled(), factor=1, solution_str="x")


def test_a_dict_without_its_score_is_a_failure_of_its_row(scored):
    def compute_score(solution_str, ground_truth):
        return {"acc": 1.0} if solution_str == "bad" else {"score": 1.0}

    rolled = grouped((question(), ["good", "bad"]))
    assert scored(compute_score, rolled)[0] == 1
    assert "without 'score'; its keys: acc" in rolled.notes[1]["x"]["error"]
    assert parsed(rolled)[0] is None


# --- EasyR1


def batch_of_dicts(reward_inputs, share: float = 0.5):
    assert all(one.keys() == {"response", "response_length", "ground_truth"} for one in reward_inputs)
    return [
        {"overall": share * (one["response"] == one["ground_truth"]), "length": one["response_length"]}
        for one in reward_inputs
    ]


def one_dict(reward_input, share: float = 0.5):
    return batch_of_dicts([reward_input], share)[0] if reward_input["response"] != "bad" else {}


@pytest.mark.parametrize("plugin", [batch_of_dicts, one_dict])
def test_easyr1(scored, plugin):
    def rolled():
        return grouped((question(target={"answer": 4, "other": "5"}), ["4", "5"]), lengths=[3, 2])

    first = rolled()
    assert scored(plugin, first) == [0.5, 0]
    assert parsed(first) == [{"length": 3}, {"length": 2}]
    assert scored(plugin, rolled(), share=2, ground_truth="other") == [0, 2]
    with pytest.raises(ConfigError, match="cannot run in worker processes"):
        scored(plugin, rolled(), timeout=1)


def test_easyr1_fails_row_by_row_where_it_is_called_so(scored):
    rolled = grouped((question(), ["bad", "4"]))
    assert scored(one_dict, rolled)[1] == 0.5
    assert "without 'overall'; its keys: none" in rolled.notes[0]["x"]["error"]

    def raises(reward_input):
        return {"overall": 1 / (reward_input["response"] != "bad")}

    assert scored(raises, rolled)[1] == 1
    assert "ZeroDivisionError" in rolled.notes[0]["x"]["error"]

    def one_short(reward_inputs):
        return [{"overall": 1.0}]

    assert all(math.isnan(value) for value in scored(one_short, rolled))
    assert "1 values for 2" in rolled.notes[1]["x"]["error"]


def test_easyr1s_module_says_whether_it_takes_a_list(tmp_path):
    body = "def compute_score(inputs): return {'overall': 1.0} if isinstance(inputs, dict) else [{'overall': 2.0}]\n"
    for kind, value in (("sequential", 1), ("batch", 2)):
        file = tmp_path / f"{kind}.py"
        file.write_text(f'REWARD_TYPE = "{kind}"\n{body}')
        rolled = grouped((question(), ["a"]))
        entry = {"name": f"{file}:compute_score", "form": "easyr1"}
        Rewards.from_config([entry], where="w").score(rolled, step=0, total=1)
        assert rolled.reward.tolist() == [value]
    file = tmp_path / "silent.py"
    file.write_text(body)
    with pytest.raises(ConfigError, match=r"rewards\.0: does compute_score take one dict or a list"):
        Rewards.from_config([{"name": f"{file}:compute_score", "form": "easyr1"}], where="rewards")


# --- ms-swift


def test_an_orm_class_is_built_once_with_its_settings(scored):
    built = []

    class Base:
        def __init__(self, args=None, **kwargs):
            built.append((args, kwargs))

    class Count(Base):
        def __init__(self, args=None, letter: str = "a", **kwargs):
            super().__init__(args, **kwargs)
            self.letter = letter

        def __call__(self, completions, solution, **kwargs):
            return [float(completion.count(self.letter)) for completion in completions]

    rolled = grouped((question(), ["aab"]), (question(), ["bb"]))
    assert scored(Count, rolled) == [2, 0]
    assert built == [(None, {})]
    assert scored(Count, rolled, letter="b", other=3) == [1, 2]
    args, kwargs = built[1]
    assert (args.letter, args.other, kwargs) == ("b", 3, {"other": 3})
    assert len(built) == 2

    class Plain:
        def __init__(self, limit: int):
            self.limit = limit

        def __call__(self, completions, **kwargs):
            return [float(len(completion) > self.limit) for completion in completions]

    assert scored(Plain, rolled, limit=2) == [1, 0]
    for wrong, message in (
        ({}, "needs limit"),
        ({"limit": 1, "l": 2}, "not a setting"),
        ({"limit": "x"}, "limit = 'x'"),
    ):
        with pytest.raises(ConfigError, match=message):
            scored(Plain, rolled, **wrong)


def test_a_class_and_an_instance_may_be_written_for_trl(scored):
    class Length:
        def __call__(self, completions, **kwargs):
            return [float(len(completion[0]["content"])) for completion in completions]

    assert scored(Length, grouped((question(), ["abc"])), form="trl") == [3]
    assert scored(Length(), grouped((question(), ["abc"]))) == [3]


# --- as any other reward


def test_an_adapted_reward_keeps_its_name_file_and_documentation():
    loaded = Loaded(f"{EXAMPLES}:compute_score", where="w")
    assert loaded.info.name == loaded.plugin.__name__ == "compute_score"
    rewards = Rewards.from_config([{"name": f"{EXAMPLES}:boxed_reward"}], where="w")
    with pytest.raises(RewardFailure, match=r"boxed_reward \(.*other_trainers\.py\) failed[\s\S]*trl_text") as failure:
        rewards.score(grouped((question(), ["a"])), step=0, total=1)
    assert isinstance(failure.value.__cause__, TypeError)


def test_the_examples_of_the_documentation(scored):
    texts = [r"<think>2 and 2</think><answer>\boxed{4}</answer>", "4", "5"]
    rolled = grouped((question(), texts), lengths=[9, 1, 3])
    specs = [
        {"name": "format_reward"},
        {"name": "boxed_reward", "form": "trl_text"},
        {"name": "compute_score", "as": "verl_exact", "partial_credit": 0.2},
        {"name": "brevity_and_accuracy", "length_weight": 0.1},
        {"name": "Keywords", "minimum": 1},
    ]
    for spec in specs:
        assert f"other_trainers.py:{spec['name']}" in EXAMPLES.read_text()
        spec["name"] = f"{EXAMPLES}:{spec['name']}"
    Rewards.from_config(specs, where="w").score(rolled, step=0, total=1)
    expected = {
        "format_reward": [1, 0, 0],
        "boxed_reward": [1, 0, 0],
        "verl_exact": [0.2, 1, 0],
        "brevity_and_accuracy": [0.91, 0.95, 0.025],
        "Keywords": [1, 1, 0],
    }
    for name, values in expected.items():
        assert rolled.scores[name].tolist() == pytest.approx(values)
    assert rolled.notes[0]["boxed_reward"]["parsed"] == {"boxed": "4"}
    assert rolled.notes[1]["verl_exact"]["parsed"] == {"exact": True}
    assert rolled.notes[2]["brevity_and_accuracy"]["parsed"] == {"accuracy": 0, "brevity": 0.25}


def test_a_row_is_scored_alike_whatever_stands_beside_it():
    texts = ["4", r"\boxed{4}", "", "4 or 4"]
    for name, form in (("boxed_reward", "trl_text"), ("compute_score", None), ("brevity_and_accuracy", None)):
        loaded = Rewards.from_config([{"name": f"{EXAMPLES}:{name}", **({"form": form} if form else {})}], where="w")
        together = grouped((question(), texts))
        loaded.score(together, step=0, total=1)
        for row, text in enumerate(texts):
            alone = grouped((question(), [text]))
            loaded.score(alone, step=0, total=1)
            assert alone.reward[0] == together.reward[row]


def test_an_adapted_score_is_not_a_native_one():
    assert adapt(lambda completions, **kwargs: 0, "native", where="w")[1].scope == "row"
    assert isinstance(adapt(lambda solution_str: {"score": 1}, None, where="w")[0]("a", question()), Score)


def test_worker_processes_run_the_same_adapters():
    specs = [{"name": "format_reward"}, {"name": "boxed_reward", "form": "trl_text"}, {"name": "compute_score"}]
    specs = [{**spec, "name": f"{EXAMPLES}:{spec['name']}"} for spec in [*specs, {"name": "Keywords", "minimum": 2}]]
    here, there = (grouped((question(task="math"), [r"\boxed{4}", "4 and 4", "", "5"])) for _ in range(2))
    Rewards.from_config(specs, where="w").score(here, step=0, total=1)
    rewards = Rewards.from_config([{**spec, "timeout": 60} for spec in specs], where="w")
    try:
        rewards.score(there, step=0, total=1)
    finally:
        rewards.close()
    for name, values in here.scores.items():
        assert torch.equal(there.scores[name], values)
    assert there.notes == here.notes
