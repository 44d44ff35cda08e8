"""Rewards written for TRL, verl, EasyR1 and ms-swift run unchanged, and say so when they cannot."""

from __future__ import annotations

import asyncio
import functools
import math
import sys
import types
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmrl.plugins import ConfigError
from mmrl.records import Media, Rollouts, Sample
from rewards import Score, reward
from rewards.adapters import FORMS, adapt
from rewards.entry import Loaded
from rewards.registry import info_of
from rewards.scoring import RewardFailure, Rewards

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "other_trainers.py"
ASKED = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]})


def sample(identity="s", *, media=(), messages=ASKED, target=None, **meta) -> Sample:
    return Sample(identity, messages, tuple(media), {"answer": "4"} if target is None else target, meta)


def rollouts(*groups: tuple[Sample, list[str]], lengths=None) -> Rollouts:
    """Token ids count from 0 up; completions are as long as `lengths` says."""
    texts = [text for _, texts in groups for text in texts]
    group = torch.tensor([index for index, (_, texts) in enumerate(groups) for _ in texts])
    return Rollouts(
        samples=[one for one, _ in groups],
        prompts=[None] * len(groups),
        group=group,
        prompt=group,
        actions=torch.arange(len(texts) * 4).view(len(texts), 4),
        length=torch.tensor(lengths or [1] * len(texts)),
        mask=torch.ones(len(texts), 4, dtype=torch.bool),
        text=texts,
        origin=["policy"] * len(texts),
    )


@pytest.fixture
def scored(monkeypatch):
    """`scored(plugin, rollouts, **entry)`: the scores, NaN where a row has none; failures go to the notes."""

    def score(plugin, rolled, **entry):
        module = types.ModuleType("rewards_under_test")
        module.plugin = plugin
        monkeypatch.setitem(sys.modules, module.__name__, module)
        entry = {"name": f"{module.__name__}:plugin", "as": "x", **entry}
        Rewards.from_config([entry], where="recipe.yaml: rewards", max_failed=1.0).score(rolled, step=1, total=4)
        return rolled.scores["x"].tolist()

    return score


def parsed(rolled: Rollouts) -> list:
    return [notes.get("x", {}).get("parsed") for notes in rolled.notes]


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


# --- TRL


def test_trl_hands_over_messages_and_columns(scored):
    seen = {}

    def trl(prompts, completions, answer, task, solution, **kwargs):
        seen.update(locals())
        return [float(len(completion[0]["content"])) for completion in completions]

    rolled = rollouts((sample(task="math", answer="meta"), ["a", "bbb"]), (sample(target={}, task="code"), [""]))
    assert scored(trl, rolled) == [1, 3, 0]
    assert seen["completions"][1] == [{"role": "assistant", "content": "bbb"}]
    assert seen["prompts"] == [list(ASKED)] * 3
    assert seen["answer"] == ["4", "4", None]  # the target wins over meta
    assert seen["task"] == ["math", "math", "code"]
    assert seen["solution"] == seen["kwargs"]["ground_truth"] == ["4", "4", None]
    assert seen["kwargs"]["trainer_state"] is None
    assert {"images", "image", "completion_ids"}.isdisjoint(seen["kwargs"])


def test_a_solution_of_the_data_is_not_replaced_by_the_answer(scored):
    def trl(completions, solution, ground_truth):
        return [float(a == "s" and b == "g") for a, b in zip(solution, ground_truth, strict=True)]

    own = sample(target={"answer": "4", "solution": "s"}, ground_truth="g")
    assert scored(trl, rollouts((own, ["a"]), (sample(), ["b"]))) == [1, 0]


def test_trl_text_hands_over_strings(scored):
    def trl(prompts, completions, answer, **kwargs):
        assert prompts == ["2 + 2?"] * 2
        return [float(completion == gold) for completion, gold in zip(completions, answer, strict=True)]

    assert scored(trl, rollouts((sample(), ["4", "5"])), form="trl_text") == [1, 0]


def test_declared_strings_are_handed_over_as_strings(scored):
    def trl(completions: list[str], **kwargs) -> list[float]:
        return [float(len(completion)) for completion in completions]

    assert scored(trl, rollouts((sample(), ["1234", ""]))) == [4, 0]


@pytest.mark.parametrize(("form", "advice"), [(None, "form: trl_text"), ("trl_text", "form: trl`")])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failure_names_the_other_form(scored, form, advice, asynchronous):
    def trl(completions, **kwargs):
        reads = (lambda completion: completion[0]["content"]) if form else (lambda completion: completion.strip())
        return [float(reads(completion) == "") for completion in completions]

    async def later(completions, **kwargs):
        return trl(completions)

    rolled = rollouts((sample(), ["4"]))
    entry = {"form": form} if form else {}
    assert math.isnan(scored(later if asynchronous else trl, rolled, **entry)[0])
    assert advice in rolled.notes[0]["x"]["error"]


def test_the_failure_itself_is_the_cause():
    def trl(completions, **kwargs):
        return kwargs["absent"]

    adapted, _ = adapt(trl, None, where="here")
    with pytest.raises(TypeError, match=r"KeyError: 'absent' \[.*trl_text") as failure:
        adapted(["a"], [sample()])
    assert isinstance(failure.value.__cause__, KeyError)


def test_a_missing_column_is_named_with_those_there_are(scored):
    def picky(completions, difficulty, hints=None):
        return [1.0] * len(completions)

    rolled = rollouts((sample(task="math"), ["a"]))
    scored(picky, rolled)
    assert rolled.notes[0]["x"]["error"] == (
        "ValueError: picky needs the column difficulty; the columns are the keys of the samples' target and meta: "
        "answer, ground_truth, solution, task."
    )


def test_trl_reads_token_ids(scored):
    def trl(completion_ids, **kwargs):
        assert kwargs["completions_ids"] == completion_ids == [[0, 1, 2], [4]]
        return torch.tensor([float(len(ids)) for ids in completion_ids])

    assert scored(trl, rollouts((sample(), ["a", "b"]), lengths=[3, 1])) == [3, 1]


def test_trl_sees_images_if_it_names_them(scored, tmp_path):
    Image.new("RGB", (3, 2), "red").save(tmp_path / "a.png")
    Image.new("RGB", (5, 2), "red").save(tmp_path / "b.png")
    media = [Media("image", str(tmp_path / name), name, (3, 2)) for name in ("a.png", "b.png")]
    film = Media("video", "film.mp4", "0", (3, 2))

    def all_images(completions, images):
        return [float(sum(image.width for image in row)) for row in images]

    def first_image(completions, **kwargs):
        return [None if image is None else float(image.width) for image in kwargs["image"]]

    def rolled():
        return rollouts((sample(media=[*media, film], image="a column"), ["a", "b"]), (sample(media=[film]), ["c"]))

    assert scored(all_images, rolled()) == [8, 8, 0]
    assert scored(first_image, rolled())[:2] == [3, 3]


def test_an_unreadable_image_does_not_hurt_functions_that_do_not_ask(scored):
    def blind(completions, **kwargs):
        return [float("images" in kwargs["answer"]) for _ in completions]  # the word alone makes it look at images

    def blinder(completions, **kwargs):
        return [1.0 for _ in completions]

    gone = Media("image", "/gone.png", "0", (3, 2))
    rolled = rollouts((sample(media=[gone]), ["a"]))
    scored(blind, rolled)
    assert "cannot be decoded" in rolled.notes[0]["x"]["error"]
    assert scored(blinder, rollouts((sample(media=[gone]), ["a"]))) == [1]


def test_what_trl_logs_stands_beside_the_score(scored):
    def trl(completions, log_extra=None, log_metric=None, **kwargs):
        log_extra("length", [len(completion[0]["content"]) for completion in completions])
        log_metric("mean", 2.0)
        return [None if completion[0]["content"] == "" else 1.0 for completion in completions]

    rolled = rollouts((sample(), ["a", "bbb", ""]))
    assert scored(trl, rolled)[:2] == [1, 1] and math.isnan(rolled.scores["x"][2])
    assert parsed(rolled) == [{"length": 1, "mean": 2.0}, {"length": 3, "mean": 2.0}, None]
    assert rolled.notes[2] == {}

    def short(completions, log_extra):
        log_extra("length", [1])
        return [1.0] * len(completions)

    rolled = rollouts((sample(), ["a", "b"]))
    scored(short, rolled)
    assert "log_extra('length') has 1 values for 2" in rolled.notes[0]["x"]["error"]


@pytest.mark.parametrize("returned", [[1.0], [], 1.0, None, {"a": 1}], ids=repr)
def test_a_wrong_list_is_refused_as_for_every_reward(scored, returned):
    def trl(completions, log_metric, **kwargs):
        log_metric("mean", 1)
        return returned

    rolled = rollouts((sample(), ["a", "b"]))
    assert all(math.isnan(value) for value in scored(trl, rolled))
    assert all("returned" in notes["x"]["error"] for notes in rolled.notes)


def test_trl_routes_tasks_with_none(scored):
    def math_only(prompts, completions, task, **kwargs):
        return [1.0 if one == "math" else None for one in task]

    rolled = rollouts((sample(task="math"), ["a"]), (sample(task="code"), ["b"]))
    assert scored(math_only, rolled)[0] == 1
    assert rolled.reward.isnan().tolist() == [False, True]


def test_asynchronous_functions_are_awaited(scored):
    async def trl(prompts, completions, log_extra, **kwargs):
        await asyncio.sleep(0)
        log_extra("seen", [True] * len(completions))
        return [1.0 if completion else 0.0 for completion in completions]

    async def compute_score(solution_str, ground_truth):
        await asyncio.sleep(0)
        return {"score": float(solution_str == ground_truth)}

    class Async:
        async def __call__(self, completions, **kwargs):
            await asyncio.sleep(0)
            return [float(len(completion)) for completion in completions]

    rolled = rollouts((sample(), ["4", "55"]))
    assert scored(trl, rolled) == [1, 1]
    assert parsed(rolled) == [{"seen": True}] * 2
    assert scored(compute_score, rolled) == [1, 0]
    assert scored(Async, rolled) == [1, 2]


def test_parameters_with_a_default_are_settings(scored):
    def trl(completions, answer, scale: float = 1.0, task="none", log_extra=None, **kwargs):
        return [scale * (task[0] == "math") for _ in completions]

    def rolled():
        return rollouts((sample(task="math"), ["a"]))

    assert scored(trl, rolled()) == [1]
    assert scored(trl, rolled(), scale="2.5") == [2.5]
    assert scored(trl, rolled(), scale={"schedule": "linear", "start": 0, "end": 4}) == [1]
    for wrong, message in (({"scal": 1}, "Did you mean scale"), ({"scale": "x"}, r"rewards\.0\.scale = 'x'")):
        with pytest.raises(ConfigError, match=message):
            scored(trl, rolled(), **wrong)
    for never in ("answer", "completions", "log_extra"):
        with pytest.raises(ConfigError, match="not a setting"):
            scored(trl, rolled(), **{never: "x"})


# --- verl


def test_verl_is_called_row_by_row_with_the_gold(scored):
    seen = []

    def compute_score(data_source, solution_str, ground_truth, extra_info=None):
        seen.append((data_source, ground_truth, extra_info))
        return {"score": float(solution_str == ground_truth), "length": len(solution_str)}

    own = sample("s7", target={"answer": 4, "other": "55"}, source="made", split="train")
    rolled = rollouts((own, ["4", "55"]))
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
        return rollouts((sample(), ["4", "5"]))

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

    rolled = rollouts((sample(), ["good", "bad"]))
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
        return rollouts((sample(target={"answer": 4, "other": "5"}), ["4", "5"]), lengths=[3, 2])

    first = rolled()
    assert scored(plugin, first) == [0.5, 0]
    assert parsed(first) == [{"length": 3}, {"length": 2}]
    assert scored(plugin, rolled(), share=2, ground_truth="other") == [0, 2]
    with pytest.raises(ConfigError, match="cannot run in worker processes"):
        scored(plugin, rolled(), timeout=1)


def test_easyr1_fails_row_by_row_where_it_is_called_so(scored):
    rolled = rollouts((sample(), ["bad", "4"]))
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
        rolled = rollouts((sample(), ["a"]))
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

    rolled = rollouts((sample(), ["aab"]), (sample(), ["bb"]))
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

    assert scored(Length, rollouts((sample(), ["abc"])), form="trl") == [3]
    assert scored(Length(), rollouts((sample(), ["abc"]))) == [3]


# --- as any other reward


def test_an_adapted_reward_keeps_its_name_file_and_documentation():
    loaded = Loaded(f"{EXAMPLES}:compute_score", where="w")
    assert loaded.info.name == loaded.plugin.__name__ == "compute_score"
    rewards = Rewards.from_config([{"name": f"{EXAMPLES}:boxed_reward"}], where="w")
    with pytest.raises(RewardFailure, match=r"boxed_reward \(.*other_trainers\.py\) failed[\s\S]*trl_text") as failure:
        rewards.score(rollouts((sample(), ["a"])), step=0, total=1)
    assert isinstance(failure.value.__cause__, TypeError)


def test_the_examples_of_the_documentation(scored):
    texts = [r"<think>2 and 2</think><answer>\boxed{4}</answer>", "4", "5"]
    rolled = rollouts((sample(), texts), lengths=[9, 1, 3])
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
        together = rollouts((sample(), texts))
        loaded.score(together, step=0, total=1)
        for row, text in enumerate(texts):
            alone = rollouts((sample(), [text]))
            loaded.score(alone, step=0, total=1)
            assert alone.reward[0] == together.reward[row]


def test_an_adapted_score_is_not_a_native_one():
    assert adapt(lambda completions, **kwargs: 0, "native", where="w")[1].scope == "row"
    assert isinstance(adapt(lambda solution_str: {"score": 1}, None, where="w")[0]("a", sample()), Score)


def test_worker_processes_run_the_same_adapters():
    specs = [{"name": "format_reward"}, {"name": "boxed_reward", "form": "trl_text"}, {"name": "compute_score"}]
    specs = [{**spec, "name": f"{EXAMPLES}:{spec['name']}"} for spec in [*specs, {"name": "Keywords", "minimum": 2}]]
    here, there = (rollouts((sample(task="math"), [r"\boxed{4}", "4 and 4", "", "5"])) for _ in range(2))
    Rewards.from_config(specs, where="w").score(here, step=0, total=1)
    rewards = Rewards.from_config([{**spec, "timeout": 60} for spec in specs], where="w")
    try:
        rewards.score(there, step=0, total=1)
    finally:
        rewards.close()
    for name, values in here.scores.items():
        assert torch.equal(there.scores[name], values)
    assert there.notes == here.notes
