"""`mmrl rewards check`: every defect it knows is found, a good reward passes, and the check always ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from data_pipelines.dataset import write_samples
from mmrl.cli import app
from mmrl.plugins import ConfigError
from mmrl.records import Media, Sample
from rewards.authoring import hostile, samples
from rewards.authoring.check import Trial, try_out
from rewards.authoring.findings import Finding, findings, passed, report


def printed(renderable, width: int = 100) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable, crop=False)
    return capture.get()


def test_the_battery_is_hostile():
    found = hostile.texts("(1, 2)")
    texts = [one.text for one in found]
    assert len({one.label for one in found}) == len(found) > 60
    assert "" in texts and max(map(len, texts)) >= 999_990
    assert all(
        re.search(pattern, "\n".join(texts)) for pattern in (r"\d{5000}", r"\[{50000}", "\u202e", "\ud83d", "\0")
    )
    assert any("(1, 2)" in one.text for one in found if one.right)
    assert Path(hostile.__file__).read_text(encoding="ascii")  # no lone surrogate, nothing that reorders the source


def test_the_battery_has_images_of_every_mode_that_travels():
    from rewards import wire

    modes = {image.mode for _, image in hostile.images()}
    assert modes == set(wire.PNG_MODES)
    assert (1, 1) in {image.size for _, image in hostile.images()}
    assert all(isinstance(frames, list) and frames for _, frames in hostile.videos())


# -- check ---------------------------------------------------------------------------------------------------------

PLUGIN = """
import os, random, time
from rewards import Score, reward

@reward(range=(0, 1), needs=("answer",))
def good(completion, sample, *, value: float = 1.0):
    from rewards.parsing import answer_or_text
    return value * (answer_or_text(completion) == str(sample.target["answer"]))

@reward(range=(0, 1))
def hangs(completion, sample):
    while completion.startswith("[["):
        time.sleep(0.1)
    return 1.0 * completion.startswith("<")

@reward(range=(0, 1))
def always_hangs(completion, sample):
    time.sleep(60)

@reward(range=(0, 1))
def dies(completion, sample):
    return os._exit(3) if "rm -rf" in completion else 1.0 * completion.startswith("<")

@reward(range=(0, 1))
def dice(completion, sample):
    return random.random()

@reward(range=(0, 1), scope="group")
def first(completions, sample):
    return [1.0] + [0.0] * (len(completions) - 1)

@reward(range=(0, 1), scope="batch")
def one_for_all(completions, samples):
    return [1.0]

@reward(range=(0, 1))
def too_high(completion, sample):
    return len(completion)

def undeclared(completion, sample):
    return float(sample.target["answer"] in completion)

@reward(range=(0, 1))
def gold_is_bad(completion, sample):
    return 0.0 if sample.target["answer"] in completion else 0.5

@reward(range=(0, 1), needs=("answer",))
def number(completion, sample):
    return float(float(sample.target["answer"]) == float(completion))

@reward(range=(0, 1))
def slow(completion, sample):
    time.sleep(1.1 * completion.startswith("1."))
    return None if completion.startswith("<") else 0.5

@reward(range=(0, 1), needs=("plan",))
def plan(completion, sample):
    return float(completion == sample.target["plan"])

@reward(range=(0, 255), reads="image")
def red(image, sample):
    return image.getpixel((0, 0))[0]

@reward(range=(0, 1), reads="video", scope="group")
def still(videos, sample):
    return [float(all(frame.tobytes() == frames[0].tobytes() for frame in frames)) for frames in videos]

@reward(range=(0, 1), reads="rollouts", scope="group")
def short_and_right(rows, *, of: str):
    return [float(right) / max(1, n) for right, n in zip(rows.scores[of].tolist(), rows.length.tolist())]

class Model:
    def __init__(self, *, path: str):
        raise OSError(f"no weights at {path}")
    def __call__(self, completion, sample):
        return 0.0
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("rewards") / "mine.py"
    path.write_text(PLUGIN)
    return path


def check(plugin: Path, name: str, data: Path | None = None, **settings) -> tuple[Trial, dict[str, Finding]]:
    trial = try_out({"name": f"{plugin}:{name}", "timeout": 10, **settings}, data=data)
    return trial, {finding.what: finding for finding in findings(trial)}


def test_a_good_reward_passes(plugin):
    trial, found = check(plugin, "good")
    assert {finding.state for finding in found.values()} <= {"ok", "-"}
    assert found["range"].detail == "0 to 1 seen; 0 to 1 declared"
    assert trial.per_second > 1000
    assert len(trial.results) == len(trial.again) > 70 and trial.not_tried == 0
    assert "mmrl rewards replay" in printed(report(trial, findings(trial)))


def test_settings_reach_the_reward(plugin):
    assert "0 to 0.5 seen" in check(plugin, "good", value=0.5)[1]["range"].detail
    with pytest.raises(ConfigError, match=r"vlaue is not a setting.*\n.*Did you mean value"):
        check(plugin, "good", vlaue=0.5)


@pytest.mark.parametrize(
    ("name", "what", "detail"),
    [
        ("dies", "completions", r"1 of \d+ failed"),
        ("dice", "same twice", "a reward is a function of its arguments"),
        ("first", "order", "change when it is shuffled"),
        ("one_for_all", "completions", r"\d+ of \d+ failed"),
        ("too_high", "range", "values outside; 0 to 1 declared"),
        ("number", "completions", "failed"),
    ],
)
def test_defects_are_found(plugin, name, what, detail):
    trial, found = check(plugin, name)
    assert found[what].state == "fails"
    assert re.search(detail, found[what].detail)
    assert not passed(list(found.values()))
    assert "Mend what fails" in printed(report(trial, list(found.values())))


def test_a_reward_that_hangs_is_a_finding_and_the_check_ends(plugin):
    trial, found = check(plugin, "hangs", timeout=0.5)
    assert found["time"].state == found["completions"].state == "fails"
    assert "over 0.5 s on nested brackets" in found["time"].detail
    trial, found = check(plugin, "always_hangs", timeout=0.3)
    assert len(trial.results) == 3 and trial.not_tried > 60
    assert found["speed"].state == "-"


def test_an_error_is_shown_once_with_its_line_and_a_completion(plugin):
    trial, found = check(plugin, "number")
    text = printed(report(trial, list(found.values())), width=200)
    line = next(i for i, line in enumerate(PLUGIN.split("\n"), 1) if "float(completion)" in line)
    assert text.count("could not convert string to float") == 1
    assert f"mine.py, line {line}" in text and "'<answer>42</answer>'" in text
    assert trial.results[0].call.samples[0].target == {"answer": "42"}  # of the forms of an answer the one it takes


def test_the_report_is_one_of_plain_characters(plugin):
    trial, found = check(plugin, "number")
    text = printed(report(trial, list(found.values())))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)


def test_what_is_not_declared_is_worth_a_look(plugin):
    _, found = check(plugin, "undeclared")
    assert found["range"].state == found["needs"].state == "look"
    assert "target.answer" in found["needs"].detail and "none declared" in found["range"].detail
    assert "the right answer denied" in found["right answer"].detail
    assert passed(list(found.values()))


def test_a_right_answer_that_earns_less_is_worth_a_look(plugin):
    _, found = check(plugin, "gold_is_bad")
    assert found["right answer"].state == "look" and "earns 0 at most" in found["right answer"].detail


def test_slow_calls_and_rows_it_does_not_apply_to(plugin):
    _, found = check(plugin, "slow")
    assert found["time"].state == "look"
    assert "digits and dots (1.1 s)" in found["time"].detail and "timeout: 5" in found["time"].detail
    assert "got None" in found["completions"].detail and found["completions"].state == "ok"


def test_images_videos_and_rollouts_are_checked_too(plugin):
    trial, found = check(plugin, "red")
    assert found["completions"].state == "fails"  # grey pixels are no tuples
    assert {result.call.label for result in trial.results} == {label for label, _ in hostile.images()}
    trial, found = check(plugin, "still")
    assert found["completions"].state == found["order"].state == "ok"
    trial = try_out({"name": f"{plugin}:short_and_right", "of": "box_iou"})
    assert passed(findings(trial)) and trial.per_second is not None


def test_unknown_targets_ask_for_data(plugin, tmp_path):
    with pytest.raises(ConfigError, match=r"target\.plan.*\n.*--data FILE\.jsonl"):
        check(plugin, "plan")
    message = {"role": "user", "content": "what next?"}
    rows = [{"messages": [message], "target": {"plan": f"plan {i}"}, "id": str(i)} for i in range(3)]
    data = write_samples(tmp_path / "data.jsonl", rows)
    trial, found = check(plugin, "plan", data)
    assert found["right answer"].state == "ok"
    assert {result.call.samples[0].target["plan"] for result in trial.results} == {"plan 0", "plan 1", "plan 2"}
    with pytest.raises(ConfigError, match=r"row 1.*needs target\.answer"):
        check(plugin, "good", data)


def test_a_model_that_cannot_be_loaded_says_so(plugin):
    with pytest.raises(ConfigError, match="cannot be loaded: OSError: no weights at x"):
        check(plugin, "Model", path="x")


def test_exit_status(plugin):
    invoke = CliRunner().invoke
    assert invoke(app, ["rewards", "check", f"{plugin}:good", "value=0.5"]).exit_code == 0
    assert invoke(app, ["rewards", "check", f"{plugin}:too_high"]).exit_code == 1


@pytest.mark.parametrize("convention", ["pixel", "seen", "norm1", "norm1000"])
def test_right_answers_are_right_in_every_convention(convention):
    from rewards.boxes import box_iou, point_in_box

    media = (Media("image", "a.png", "0", (400, 300), seen=(200, 100)),)
    gold = {"box": [100, 30, 200, 60], "point": [150, 45]}
    sample = Sample("s", (), media, gold, {"coordinates": convention})
    for completion in samples.right_answers(sample, ["box"])[:2]:
        assert box_iou(completion, sample).value == pytest.approx(1, abs=0.01) or "{" in completion
    assert point_in_box(samples.right_answers(sample, ["point"])[0], sample).value == 1
