"""What `mmrl reproduce` makes of numbers: intervals, verdicts, and a page that says what the numbers do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_experiments import experiment, run, write

from mmrl.plugins import ConfigError
from mmrl.replication.experiment import Expectation, read_experiment
from mmrl.replication.measures import of_evaluation
from mmrl.replication.page import anchor, escaped, outcome, page_text
from mmrl.replication.statistics import Verdict, interval, judge
from mmrl.runs.files import atomic_write

# -- numbers ------------------------------------------------------------------------------------------------------


def test_intervals_are_those_of_the_t_tables() -> None:
    # Sample of a textbook: mean 5, s = 1, n = 3; t(0.975, 2) = 4.302653, half width 4.302653 / sqrt(3).
    assert interval([4.0, 5.0, 6.0]) == pytest.approx((5.0, 2.515863, 7.484137), abs=1e-6)
    # n = 2: t(0.975, 1) = 12.706205, s = sqrt(2) / 2.
    assert interval([1.0, 2.0]) == pytest.approx((1.5, 1.5 - 6.3531024, 1.5 + 6.3531024), abs=1e-6)
    assert interval([0.3]) == (0.3, 0.3, 0.3)


@pytest.mark.parametrize(
    ("arm", "over", "asked", "holds"),
    [
        ([0.7, 0.8, 0.9], [0.5, 0.6, 0.7], {"by": 0.2}, True),  # pairs all differ by the same
        ([0.7, 0.8, 0.9], [0.5, 0.6, 0.7], {"by": 0.21}, False),  # too little
        ([0.5, 0.9, 1.3], [0.5, 0.6, 0.7], {"by": 0.2}, False),  # enough on average, but not sure
        ([3.0, 3.1, 2.9], [10.0, 10.1, 9.9], {"by": "-70 %"}, True),
        ([3.1, 3.2, 3.0], [10.0, 10.1, 9.9], {"by": "-70 %"}, False),
        ([0.7, 0.8, 0.9], [0.5], {"by": 0.01}, True),  # against a model as it is; 0.3 +- 0.248
        ([0.50, 0.51, 0.49], [0.51, 0.52, 0.50], {"within": 0.02}, True),
        ([0.50, 0.61, 0.49], [0.51, 0.52, 0.50], {"within": 0.02}, False),  # might be a loss
    ],
)
def test_verdicts(arm: list[float], over: list[float], asked: dict[str, Any], holds: bool) -> None:
    expected = Expectation(measure="m", arm="a", over="b", **asked)
    assert judge(expected, arm, over).holds is holds


def test_two_models_as_they_are_differ_over_prompts() -> None:
    expected = Expectation(measure="m", arm="vote", over="greedy", by=0.05)

    def judged(low: float, high: float) -> Verdict:
        return judge(expected, [0.5], [0.4], prompts=((low, high), (0.36, 0.44)))

    assert judged(0.47, 0.53).difference == pytest.approx((0.1, 0.05, 0.15)) and judged(0.47, 0.53).holds
    assert not judged(0.35, 0.65).holds and not judge(expected, [0.5], [0.4]).holds, "nothing is known of the prompts"


def test_numbers_of_an_evaluation_are_the_votes_where_there_is_one(place: Path) -> None:
    content = {
        "reward": {"score": 0.1}, "scores": {"point_in_box": 0.2}, "length": 7.5,
        "metrics": {"accuracy": {"mean": 0.4, "low": 0.3, "high": 0.5}}, "voted": {},
        "pass_at": {"accuracy": {"8": {"mean": 0.9}}},
    }  # fmt: skip
    measure = read_experiment(write(experiment())).measures[0]

    def read(name: str, **more: Any) -> float:
        with atomic_write(Path("e.json")) as file:
            file.write_text(json.dumps(content | more))
        return of_evaluation(Path("e.json"), type(measure)(name="m", source="evaluation", metric=name)).number

    assert [read(name) for name in ("reward", "point_in_box", "length", "accuracy")] == [0.1, 0.2, 7.5, 0.4]
    assert read("accuracy", voted={"accuracy": {"mean": 0.6}}) == 0.6
    assert read("metrics.accuracy", voted={"accuracy": {"mean": 0.6}}) == 0.4 and read("pass_at.accuracy.8") == 0.9
    with pytest.raises(ConfigError, match=r"no number called acuracy.\n  Did you mean accuracy\?"):
        read("acuracy")


# -- the page -----------------------------------------------------------------------------------------------------


def made_up(**changes: Any) -> dict[str, Any]:
    return {
        "name": "mini", "method": "grpo", "title": "Mini", "claim": "a | b <b>", "tried": "", "seeds": [0, 1],
        "prepare": ["mmrl data make x"], "arms": ["GRPO", "`odd` | <i>"],
        "commands": {"GRPO": ["mmrl train x 'a=```'"], "`odd` | <i>": ["mmrl train y"]},
        "measures": ["score_a*"], "values": {"score_a*": {"GRPO": [0.1, 0.2], "`odd` | <i>": [0.4, 0.5]}},
        "not_reached": {"score_a*": {"GRPO": 1}}, "bounds": {},
        "expect": [{"measure": "score_a*", "arm": "`odd` | <i>", "over": "GRPO", "by": 0.1, "within": None}],
        "curve": "reward", "curves": {"GRPO": [[[0, 1], [0.1, 0.2]]] * 2},
        "seconds": {"mmrl data make x": 60.0, "y": 30},
        "machine": {"processor": "C_P_U", "cores": 2, "torch": "2", "mmrl": "1", "date": "2026-01-01"},
    } | changes  # fmt: skip


def test_the_page_says_what_the_numbers_do() -> None:
    page = page_text([made_up()], "reproduce")
    assert "**Shown.**" in page and "| holds |" in page and "+0.300 (+0.300 to +0.300)" in page
    assert "0.150 (-0.485 to 0.785); 1 of 2 never" in page and "1.5 minutes of one core, 1.0 of them" in page
    reverse = made_up()
    reverse["expect"][0] |= {"arm": "GRPO", "over": "`odd` | <i>"}
    both = made_up(expect=[*made_up()["expect"], *reverse["expect"]])
    assert outcome(both) == "1 of 2 shown" and "**1 of 2 shown.**" in page_text([both], "reproduce")
    assert outcome(reverse) == "not shown" and "**Not shown.**" in page_text([reverse], "reproduce")


def test_text_on_the_page_is_no_markup() -> None:
    page = page_text([made_up()], "reproduce")
    assert r"a \| b \<b\>" in page and r"\`odd\` \| \<i\>" in page and r"score\_a\*" in page
    for line in page.splitlines():
        if line.startswith("| ") and "odd" in line and "0.450" in line:
            assert line.replace(r"\|", "").count("|") == 3
    assert "````bash" in page, "a fence longer than what it holds"
    assert escaped("two\nlines | $x$") == r"two lines \| \$x\$"
    assert anchor(r"TW-GRPO \(x\_y\)") == "tw-grpo-x_y"


def test_sections_of_experiments_that_are_not_run_stay(place: Path) -> None:
    folder = Path("docs/reproduce")
    folder.mkdir(parents=True)
    (folder / "other.json").write_text(json.dumps(made_up(name="other", title="Other")))
    run("mini", page_only=True)
    page = Path("docs/reproduce.md").read_text()
    assert "## Other (other)" in page and "mini" not in page.replace("miniature", "")
    out = Path("runs/reproduce/mini")
    out.mkdir(parents=True)
    (out / "results.json").write_text(json.dumps(made_up()))
    run("mini", page_only=True)
    page = Path("docs/reproduce.md").read_text()
    assert page.index("## Mini (mini)") < page.index("## Other (other)")
    run(page_only=True)
    assert Path("docs/reproduce.md").read_text() == page, "the page is a function of the results"


def test_broken_results_are_named(place: Path) -> None:
    folder = Path("docs/reproduce")
    folder.mkdir(parents=True)
    (folder / "other.json").write_text('{"name": "other"}')
    with pytest.raises(ConfigError, match=r"docs/reproduce/other\.json is no results"):
        run(page_only=True)
