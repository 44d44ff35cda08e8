"""Plugins: found by name or file, checked against their signature, and wrong uses answered with what to do."""

from __future__ import annotations

import pytest

from mmrl.plugins import ConfigError, build, load, nearest, needs
from mmrl.schedules import Schedule

REGISTRY = {
    "group_relative": "mmrl.advantages:group_relative",
    "clipped": "mmrl.losses:clipped",
    "kl": "mmrl.losses:kl",
}

PLUGIN = """
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mmrl.plugins import needs

if TYPE_CHECKING:
    from torch import Tensor
    from somewhere import Strange

LIMIT = 3


@needs("entropy", "logp_ref")
def bonus(logp: Tensor, rows: Strange, *, scale: float = 1.0, mode: Literal["a", "b"] = "a", odd: Strange | None = None,
          odder: Strange.Thing = 0, count: int = 1) -> Tensor:
    return logp * scale


def bare(logp, rows, *, scale=1.0):
    return logp * scale


def open_ended(logp, rows, *, scale: float = 1.0, **others):
    return logp, scale, others


@dataclass(kw_only=True)
class Sampler:
    size: int
    decay: float = 0.5
    strange: Strange | None = None
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugins") / "mine.py"
    path.write_text(PLUGIN)
    return path


def stage(file, name, **settings):
    return build({"name": f"{file}:{name}", **settings}, REGISTRY, kind="loss term", where="my.yaml: loss.terms.0")


def refuses(message, reference, **settings):
    with pytest.raises(ConfigError, match=message) as error:
        build({"name": reference, **settings}, REGISTRY, kind="loss term", where="my.yaml: loss.terms.0")
    assert str(error.value).startswith("my.yaml: loss.terms.0")


# -- finding -------------------------------------------------------------------------------------------------------


def test_a_registry_name_a_module_and_a_file_all_lead_to_the_object(file):
    from mmrl import losses

    assert load("clipped", REGISTRY, kind="loss term", where="x") is losses.clipped
    assert load("mmrl.losses:sapo", REGISTRY, kind="loss term", where="x") is losses.sapo
    mine = load(f"{file}:bonus", REGISTRY, kind="loss term", where="x")
    assert mine is load(f"{file}:bonus", REGISTRY, kind="loss term", where="x") and mine.__name__ == "bonus"


def test_a_relative_file_is_looked_up_from_the_working_directory(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert load("mine.py:LIMIT", {}, kind="loss term", where="x") == 3


def test_files_of_one_name_in_two_folders_do_not_collide(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rewards.py").write_text(f"name = {folder!r}")
    assert [load(f"{tmp_path}/{f}/rewards.py:name", {}, kind="reward", where="x") for f in "ab"] == ["a", "b"]


def test_a_file_that_fails_is_tried_again_after_it_was_mended(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import a_package_nobody_has")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="a_package_nobody_has"):  # the author's own error, untouched
            load(f"{broken}:x", {}, kind="reward", where="x")
    broken.write_text("x = 1  # mended")
    assert load(f"{broken}:x", {}, kind="reward", where="x") == 1


def test_unknown_references_say_what_to_do(file):
    refuses("no loss term named `cliped`.*\n.*Did you mean clipped", "cliped")
    refuses("path/to/file.py:name", "mine.py")
    refuses("no_such.py does not exist", "no_such.py:bonus")
    refuses("has no `bonsu`.*\n.*Did you mean bonus", f"{file}:bonsu")
    refuses("no module named no_such_package.losses; is its package installed", "no_such_package.losses:x")
    refuses("is a int; a loss term is a function or a class", f"{file}:LIMIT")


def test_nearest_guesses_only_what_is_near():
    assert nearest("cosin", ["linear", "cosine"]).startswith("Did you mean cosine? ")
    assert nearest("zzz", ["linear"]) == "(Known: linear.)"
    assert nearest("zzz", []) == "(Known: none.)"


# -- settings ------------------------------------------------------------------------------------------------------


def test_settings_reach_the_plugin_and_reserved_keys_do_not(file):
    spec = {"name": f"{file}:open_ended", "scale": 2, "coef": 0.5, "extra": "x"}
    made = build(spec, REGISTRY, kind="loss term", where="x", reserved=("coef",))
    assert made.at(0, 10)(1, 2) == (1, 2.0, {"extra": "x"})


def test_wrong_settings_are_refused():
    refuses(r"terms.0.clip_hi is not a setting of `clipped`.*\n.*Did you mean clip_high", "clipped", clip_hi=0.3)
    refuses("rows is not a setting", "clipped", rows=1)
    refuses("clip_high = 'wide': Input should be a valid number", "clipped", clip_high="wide")
    refuses("estimator = 'k4'", "kl", estimator="k4")
    refuses("estimator = {'schedule'.*Input should be", "kl", estimator={"schedule": "linear", "start": 1, "end": 0})
    refuses(
        "terms.0.clip_high: there is no schedule named", "clipped", clip_high={"schedule": "lin", "start": 1, "end": 0}
    )


def test_missing_settings_are_named(file):
    refuses("needs size", f"{file}:Sampler", decay=0.1)
    assert stage(file, "Sampler", size="4").at(0, 10).size == 4


def test_annotations_imported_for_type_checkers_only_do_not_matter(file):
    """Only what cannot be resolved goes unchecked; its neighbours are checked as ever."""
    made = stage(file, "bonus", scale=3, odd=object, odder="anything", count=2)
    assert made.at(0, 10)(2.0, None) == 6.0 and made.settings["odder"] == "anything"
    refuses("scale = 'x'", f"{file}:bonus", scale="x")
    refuses("mode = 'c'", f"{file}:bonus", mode="c")
    sampler = stage(file, "Sampler", size=2, strange="x").at(0, 10)
    assert (sampler.size, sampler.strange) == (2, "x")
    refuses("size = 'two'", f"{file}:Sampler", size="two")


@pytest.mark.parametrize("name", ["bonus", "bare"])
def test_a_number_may_be_a_schedule(file, name):
    """Annotated or not."""
    made = stage(file, name, scale={"schedule": "linear", "start": 1, "end": 3})
    assert isinstance(made.settings["scale"], Schedule)
    assert [made.at(step, 10)(1.0, None) for step in (0, 5, 10)] == [1.0, 2.0, 3.0]


def test_a_schedule_in_a_class_is_evaluated_when_it_is_made(file):
    made = stage(file, "Sampler", size=1, decay={"schedule": "linear", "start": 0, "end": 1})
    assert made.at(3, 10).decay == pytest.approx(0.3)


def test_declared_needs_are_seen(file):
    assert stage(file, "bonus").needs == ("entropy", "logp_ref") and stage(file, "bare").needs == ()
    assert needs("entropy")(lambda: None).needs == ("entropy",)
