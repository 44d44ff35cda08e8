"""Rewards written for TRL: messages or strings, columns, images, token ids, what they log, and awaiting."""

from __future__ import annotations

import asyncio
import math

import pytest
import torch
from PIL import Image
from reward_rows import ASKED, grouped, parsed, question

from mmrl.plugins import ConfigError
from mmrl.records import Media
from rewards.adapters import adapt


def test_trl_hands_over_messages_and_columns(scored):
    seen = {}

    def trl(prompts, completions, answer, task, solution, **kwargs):
        seen.update(locals())
        return [float(len(completion[0]["content"])) for completion in completions]

    rolled = grouped((question(task="math", answer="meta"), ["a", "bbb"]), (question(target={}, task="code"), [""]))
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

    own = question(target={"answer": "4", "solution": "s"}, ground_truth="g")
    assert scored(trl, grouped((own, ["a"]), (question(), ["b"]))) == [1, 0]


def test_trl_text_hands_over_strings(scored):
    def trl(prompts, completions, answer, **kwargs):
        assert prompts == ["2 + 2?"] * 2
        return [float(completion == gold) for completion, gold in zip(completions, answer, strict=True)]

    assert scored(trl, grouped((question(), ["4", "5"])), form="trl_text") == [1, 0]


def test_declared_strings_are_handed_over_as_strings(scored):
    def trl(completions: list[str], **kwargs) -> list[float]:
        return [float(len(completion)) for completion in completions]

    assert scored(trl, grouped((question(), ["1234", ""]))) == [4, 0]


@pytest.mark.parametrize(("form", "advice"), [(None, "form: trl_text"), ("trl_text", "form: trl`")])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failure_names_the_other_form(scored, form, advice, asynchronous):
    def trl(completions, **kwargs):
        reads = (lambda completion: completion[0]["content"]) if form else (lambda completion: completion.strip())
        return [float(reads(completion) == "") for completion in completions]

    async def later(completions, **kwargs):
        return trl(completions)

    rolled = grouped((question(), ["4"]))
    entry = {"form": form} if form else {}
    assert math.isnan(scored(later if asynchronous else trl, rolled, **entry)[0])
    assert advice in rolled.notes[0]["x"]["error"]


def test_the_failure_itself_is_the_cause():
    def trl(completions, **kwargs):
        return kwargs["absent"]

    adapted, _ = adapt(trl, None, where="here")
    with pytest.raises(TypeError, match=r"KeyError: 'absent' \[.*trl_text") as failure:
        adapted(["a"], [question()])
    assert isinstance(failure.value.__cause__, KeyError)


def test_a_missing_column_is_named_with_those_there_are(scored):
    def picky(completions, difficulty, hints=None):
        return [1.0] * len(completions)

    rolled = grouped((question(task="math"), ["a"]))
    scored(picky, rolled)
    assert rolled.notes[0]["x"]["error"] == (
        "ValueError: picky needs the column difficulty; the columns are the keys of the samples' target and meta: "
        "answer, ground_truth, solution, task."
    )


def test_trl_reads_token_ids(scored):
    def trl(completion_ids, **kwargs):
        assert kwargs["completions_ids"] == completion_ids == [[0, 1, 2], [4]]
        return torch.tensor([float(len(ids)) for ids in completion_ids])

    assert scored(trl, grouped((question(), ["a", "b"]), lengths=[3, 1])) == [3, 1]


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
        return grouped((question(media=[*media, film], image="a column"), ["a", "b"]), (question(media=[film]), ["c"]))

    assert scored(all_images, rolled()) == [8, 8, 0]
    assert scored(first_image, rolled())[:2] == [3, 3]


def test_an_unreadable_image_does_not_hurt_functions_that_do_not_ask(scored):
    def blind(completions, **kwargs):
        return [float("images" in kwargs["answer"]) for _ in completions]  # the word alone makes it look at images

    def blinder(completions, **kwargs):
        return [1.0 for _ in completions]

    gone = Media("image", "/gone.png", "0", (3, 2))
    rolled = grouped((question(media=[gone]), ["a"]))
    scored(blind, rolled)
    assert "cannot be decoded" in rolled.notes[0]["x"]["error"]
    assert scored(blinder, grouped((question(media=[gone]), ["a"]))) == [1]


def test_what_trl_logs_stands_beside_the_score(scored):
    def trl(completions, log_extra=None, log_metric=None, **kwargs):
        log_extra("length", [len(completion[0]["content"]) for completion in completions])
        log_metric("mean", 2.0)
        return [None if completion[0]["content"] == "" else 1.0 for completion in completions]

    rolled = grouped((question(), ["a", "bbb", ""]))
    assert scored(trl, rolled)[:2] == [1, 1] and math.isnan(rolled.scores["x"][2])
    assert parsed(rolled) == [{"length": 1, "mean": 2.0}, {"length": 3, "mean": 2.0}, None]
    assert rolled.notes[2] == {}

    def short(completions, log_extra):
        log_extra("length", [1])
        return [1.0] * len(completions)

    rolled = grouped((question(), ["a", "b"]))
    scored(short, rolled)
    assert "log_extra('length') has 1 values for 2" in rolled.notes[0]["x"]["error"]


@pytest.mark.parametrize("returned", [[1.0], [], 1.0, None, {"a": 1}], ids=repr)
def test_a_wrong_list_is_refused_as_for_every_reward(scored, returned):
    def trl(completions, log_metric, **kwargs):
        log_metric("mean", 1)
        return returned

    rolled = grouped((question(), ["a", "b"]))
    assert all(math.isnan(value) for value in scored(trl, rolled))
    assert all("returned" in notes["x"]["error"] for notes in rolled.notes)


def test_trl_routes_tasks_with_none(scored):
    def math_only(prompts, completions, task, **kwargs):
        return [1.0 if one == "math" else None for one in task]

    rolled = grouped((question(task="math"), ["a"]), (question(task="code"), ["b"]))
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

    rolled = grouped((question(), ["4", "55"]))
    assert scored(trl, rolled) == [1, 1]
    assert parsed(rolled) == [{"seen": True}] * 2
    assert scored(compute_score, rolled) == [1, 0]
    assert scored(Async, rolled) == [1, 2]


def test_parameters_with_a_default_are_settings(scored):
    def trl(completions, answer, scale: float = 1.0, task="none", log_extra=None, **kwargs):
        return [scale * (task[0] == "math") for _ in completions]

    def rolled():
        return grouped((question(task="math"), ["a"]))

    assert scored(trl, rolled()) == [1]
    assert scored(trl, rolled(), scale="2.5") == [2.5]
    assert scored(trl, rolled(), scale={"schedule": "linear", "start": 0, "end": 4}) == [1]
    for wrong, message in (({"scal": 1}, "Did you mean scale"), ({"scale": "x"}, r"rewards\.0\.scale = 'x'")):
        with pytest.raises(ConfigError, match=message):
            scored(trl, rolled(), **wrong)
    for never in ("answer", "completions", "log_extra"):
        with pytest.raises(ConfigError, match="not a setting"):
            scored(trl, rolled(), **{never: "x"})
