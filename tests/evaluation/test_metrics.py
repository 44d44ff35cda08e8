"""Which metrics fit which rows, what goes wrong loudly, votes, and what is written."""

from __future__ import annotations

import json
import math

import pytest
from rich.console import Console

from mmrl import registry
from mmrl.evaluation import Evaluation
from mmrl.evaluation.estimates import Estimate
from mmrl.evaluation.metrics import TASKS, choose, made
from mmrl.evaluation.table import table, write_json
from mmrl.evaluation.votes import decide, majority
from mmrl.plugins import ConfigError, Stage, load
from mmrl.records import Sample
from rewards.registry import available

ASK = ({"role": "user", "content": "?"},)


def sample(task, **target):
    return Sample(f"{task}{target}", ASK, target=target, meta={"task": task}, where=f"row of {task}")


MIXED = [
    sample("grounding", span=[2.0, 6.0]), sample("mcq", answer="B"), sample("count", count=3, answer="3"),
    sample("chart_number", answer="200"), sample("something", answer="x"), sample("count", answer="4"),
]  # fmt: skip
TEXTS = ["2 to 6", "<answer>B</answer>", "2", "204", "x", "4"]


@pytest.fixture
def answered(make_rollouts):
    rollouts = make_rollouts([0.0] * len(MIXED), range(len(MIXED)))
    rollouts.samples, rollouts.text = MIXED, TEXTS
    return rollouts


def measured(metrics, rollouts):
    return {name: values.tolist() for metric in metrics for name, values in metric.measure(rollouts).items()}


def test_without_names_every_task_has_its_own(answered):
    found = measured(choose([], MIXED), answered)
    counted = {name: {row: v for row, v in enumerate(values) if not math.isnan(v)} for name, values in found.items()}
    assert counted["grounding/mIoU"] == {0: 1}
    assert counted["letter_choice"] == {1: 1}
    assert counted["counting/error"] == {2: 1}  # the last row has no target.count
    assert counted["relaxed_accuracy"] == {3: 1}
    assert "exact_match" not in counted
    assert choose([], [sample("something", answer="x")]) == []


def test_what_is_asked_for_is_measured_wherever_it_fits(answered):
    assert measured(choose(["counting", "thoughts"], MIXED), answered)["thoughts/thought"] == [0] * 6
    (found,) = measured(choose(["relaxed_accuracy,tolerance=0.01"], MIXED[1:5]), answered.select(range(1, 5))).values()
    assert found == [1, 0, 0, 1]


def test_a_metric_of_yours(tmp_path, answered):
    (tmp_path / "mine.py").write_text("def words(completion, sample):\n    return {'words': len(completion.split())}\n")
    (found,) = measured(choose([f"{tmp_path}/mine.py:words"], MIXED), answered).values()
    assert found == [3, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("groundng", "no metric and no reward of this name.*Did you mean grounding"),
        ("aitz", "needs target.action, which no row has.*row of grounding.*target: span"),
        ("grounding,limit=3", "limit is not a setting"),
        ("box_iou", "needs target.box"),
        ("majority_vote", "compares completions"),
    ],
)
def test_what_cannot_be_measured_is_said(name, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        choose([name], MIXED)


def test_every_name_leads_somewhere():
    for names in (registry.METRICS, registry.VOTES):
        assert all(callable(load(name, names, kind="metric", where="test")) for name in names)
    for name in TASKS.values():
        assert name.partition(",")[0] in {**registry.METRICS, **available()}
        made(name)


# -- votes ---------------------------------------------------------------------------------------------------------


def test_the_majority_is_the_first_of_the_most_common_answers():
    asked = sample("mcq", answer="A")
    vote = majority(["<answer>B</answer>", "A.", "<answer>A</answer>", "?"], asked)
    assert vote.text == "A." and vote.why == "2 of 4 agree"
    assert majority(["7 cubes", "7", "8"], asked, answer="number").text == "7 cubes"
    assert majority(["?", ""], asked).text == ""


def test_a_vote_is_one_row_per_prompt_and_noted_at_all_of_its_completions(policies, mixed_samples):
    from mmrl.policies.shared_prefix import Sampling

    policy = policies["qwen3_vl"]
    rollouts = policy.generate(mixed_samples[:2], [3, 2], Sampling(max_new_tokens=4), seed=0, step=0)
    rollouts.text = ["<answer>A</answer>", "B", "B", "?", "?"]
    votes = decide(policy, rollouts, Stage("majority", majority, {}))
    assert votes.text == ["B", ""]
    assert votes.origin == ["vote", "vote"]
    assert [s.id for s in votes.samples] == ["one", "two"]
    assert [notes["vote"]["why"] for notes in rollouts.notes] == ["2 of 3 agree"] * 3 + [
        "no answer that could vote"
    ] * 2


# -- what is printed and written -----------------------------------------------------------------------------------


def test_the_table_and_the_file_hold_every_number(tmp_path, answered):
    one, vote, nothing = (
        Estimate(0.5, 0.4, 0.6, 6),
        Estimate(0.75, 0.7, 0.8, 6),
        Estimate(math.nan, math.nan, math.nan, 0),
    )
    result = Evaluation(
        0.5, 0.4, 0.6, 6, {"r": math.nan}, answered, {"a": one, "b": nothing}, {"a": vote}, {"a": {2: vote}}
    )
    console = Console(width=120, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    console.print(table(result, samples=2))
    text = console.export_text()
    assert (
        "0.500 (0.40 to 0.60)" in text and "0.750 (0.70 to 0.80)" in text and "pass@2" in text and "vote of 2" in text
    )
    write_json(tmp_path / "x.json", result, target="tiny", samples=2)
    stored = json.loads((tmp_path / "x.json").read_text())
    assert stored["metrics"]["a"] == {"mean": 0.5, "low": 0.4, "high": 0.6, "prompts": 6}
    assert stored["metrics"]["b"]["mean"] is None and stored["scores"] == {"r": None}
    assert stored["voted"]["a"]["mean"] == stored["pass_at"]["a"]["2"]["mean"] == 0.75
    assert (stored["target"], stored["length"]) == ("tiny", 3.0)
    assert table(Evaluation(0.5, 0.4, 0.6, 6, {}, answered), samples=1) is None
