"""`mmrl reproduce`: an experiment runs as real processes, is kept and continued; its page says what its numbers do."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from mmrl.config import load_config
from mmrl.launch import check_gold
from mmrl.plugins import ConfigError
from mmrl.policies import policy_class
from mmrl.recipe import make_recipe
from mmrl.replication.commands import Command, Runner, output_of, together
from mmrl.replication.experiment import Expectation, find_experiments, read_experiment
from mmrl.replication.measures import of_evaluation
from mmrl.replication.page import anchor, escaped, outcome, page_text
from mmrl.replication.progress import Progress, last_line
from mmrl.replication.reproduce import reproduce
from mmrl.replication.running import check_plans, make_plan
from mmrl.replication.statistics import Verdict, interval, judge
from mmrl.runs.files import atomic_write

ROOT = Path(__file__).parent.parent


def experiment(**changes: Any) -> dict[str, Any]:
    """Two arms, two seeds, two steps on four screens."""
    task = "configs/reproduce/tasks/mini.yaml"
    return {
        "method": "grpo",
        "claim": "A larger step moves further.",
        "prepare": ["data make gui data/mini count=4 test_count=3"],
        "arms": [
            {"name": "GRPO", "train": task},
            {"name": "fast | GRPO", "train": f"{task} optimizer.learning_rate=1e-3"},
            {"name": "before", "model": "tiny", "config": task},
        ],
        "seeds": 2,
        "evaluate": "data/mini/test.jsonl",
        "measures": [
            {"name": "held-out reward", "source": "evaluation", "metric": "reward"},
            {"name": "length", "source": "training", "metric": "length", "over": "all"},
            {"name": "steps to 2", "source": "training", "reach": 2.0},
        ],
        "expect": {"measure": "held-out reward", "arm": "fast | GRPO", "over": "GRPO", "by": 0.5},
        "tried": "Nothing else.",
    } | changes


TASK = {
    "extends": str(ROOT / "configs/base/grpo"),
    "steps": 2,
    "prompts_per_step": 2,
    "group_size": 4,
    "model": {"path": "tiny"},
    "data": {"train": "data/mini/train.jsonl"},
    "sampling": {"max_new_tokens": 8},
    "rewards": ["point_in_box"],
    "checkpoint": {"every": 1},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the experiment `mini`, as the working directory; processes find mmrl from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "configs/reproduce/tasks").mkdir(parents=True)
    (tmp_path / "configs/reproduce/tasks/mini.yaml").write_text(yaml.safe_dump(TASK))
    write(experiment())
    return tmp_path


def write(content: Any) -> Path:
    file = Path("configs/reproduce/mini.yaml")
    file.write_text(yaml.safe_dump(content))
    return file


def quiet() -> Console:
    return Console(quiet=True)


def run(*names: str, page_only: bool = False, console: Console | None = None) -> None:
    reproduce(
        names, jobs=2, out=Path("runs/reproduce"), page=Path("docs/reproduce.md"), page_only=page_only,
        console=console or quiet(),
    )  # fmt: skip


def records(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted((folder / "runs/reproduce").rglob("records/*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


# -- the whole ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_miniature_experiment_runs_is_kept_and_continues(place: Path) -> None:
    run()
    first, results = records(place), json.loads(Path("docs/reproduce/mini.json").read_text())
    assert len(first) == 4 + 5 and all(record["finished"] for record in first.values())
    assert [len(results["values"]["held-out reward"][arm]) for arm in results["arms"]] == [2, 2, 1]
    assert results["values"]["steps to 2"]["GRPO"] == [2, 2] and results["not_reached"]["steps to 2"]["GRPO"] == 2
    assert all(0 <= value <= 1 for values in results["values"]["held-out reward"].values() for value in values)
    assert [len(run[0]) for run in results["curves"]["GRPO"]] == [2, 2] and sum(results["seconds"].values()) > 1
    page = Path("docs/reproduce.md").read_text()
    assert "not shown" in page and r"fast \| GRPO" in page and "mmrl data make gui data/mini" in page
    assert str(place) not in page and Path("docs/reproduce/mini.png").read_bytes()[1:4] == b"PNG"

    folder = Path("runs/reproduce/mini")
    uninterrupted = numbers(folder / "runs/grpo-seed1")
    assert len({line["reward_std"] for line in uninterrupted}) == 2, "otherwise equality would say little"
    before = (folder / "runs/grpo-seed0/metrics.jsonl").stat().st_mtime_ns
    cut_off(folder, "grpo-seed1")
    run("mini")
    assert (folder / "runs/grpo-seed0/metrics.jsonl").stat().st_mtime_ns == before, "what is done is kept"
    assert "resumed" in (folder / "runs/grpo-seed1/events.jsonl").read_text()
    assert numbers(folder / "runs/grpo-seed1") == uninterrupted
    again = records(place)
    assert {name for name in first if first[name]["seconds"] != again[name]["seconds"]} == {"train-grpo-seed1"}


def cut_off(folder: Path, name: str) -> None:
    """As a training that was killed after its first checkpoint."""
    record = folder / f"records/train-{name}.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    shutil.rmtree(sorted((folder / "runs" / name / "checkpoints").iterdir())[-1])


def numbers(run: Path) -> list[dict[str, Any]]:
    """What a run recorded, but how long it took."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith(("seconds", "time", "memory"))}
            for line in lines]  # fmt: skip


# -- processes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def progress() -> Iterator[Progress]:
    with Progress(quiet(), total=1) as progress:
        yield progress


def command(*words: str, output: str) -> Command:
    return Command(words, Path(output), Path("records/x.json"), "try: x").after()


def run_commands(progress: Progress, *commands: Command) -> list[float]:
    async def all_of_them() -> list[float]:
        runner = Runner(jobs=2, progress=progress)
        return await together(runner.run(command) for command in commands)

    return asyncio.run(all_of_them())


def test_a_failed_command_is_shown_with_its_last_output(place: Path, progress: Progress) -> None:
    bad = command("data", "make", "gui", "data/x", "count=4", "cuont=3", output="data/x")
    with pytest.raises(ConfigError) as error:
        run_commands(progress, bad)
    told = str(error.value)
    assert "try: x failed with status 2" in told and "mmrl data make gui data/x count=4 cuont=3" in told
    assert "Did you mean count?" in told and "records/x.log" in told
    assert json.loads(bad.record.read_text())["finished"] is False


def test_a_command_without_its_output_failed(place: Path, progress: Progress) -> None:
    with pytest.raises(ConfigError, match=r"ended well, but data/elsewhere is not there"):
        run_commands(progress, command("data", "make", "gui", "data/x", "count=1", output="data/elsewhere"))


def test_what_somebody_else_made_is_left_alone(place: Path, progress: Progress) -> None:
    Path("data/x").mkdir(parents=True)
    Path("data/x/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no record"):
        run_commands(progress, command("data", "make", "gui", "data/x", "count=1", output="data/x"))
    assert Path("data/x/mine.txt").read_text() == "mine"


def test_a_command_that_two_experiments_share_runs_once(place: Path, progress: Progress) -> None:
    shared = command("data", "make", "gui", "data/x", "count=1", "test_count=1", output="data/x")
    first, second = run_commands(progress, shared, shared)
    assert first == pytest.approx(second, abs=0.01)
    made = Path("data/x/train.jsonl").stat().st_mtime_ns
    Path("data/x/extra").touch()
    run_commands(progress, shared)
    assert Path("data/x/train.jsonl").stat().st_mtime_ns == made and Path("data/x/extra").exists()
    run_commands(progress, command("data", "make", "gui", "data/x", "count=2", "test_count=1", output="data/x"))
    assert len(Path("data/x/train.jsonl").read_text().splitlines()) == 2, "other words, other content"
    assert not Path("data/x/extra").exists(), "nothing of the older one stays"


def test_two_experiments_may_not_make_one_output_differently(place: Path) -> None:
    other = read_experiment(write(experiment(prepare=["data make gui data/mini count=5"])))
    plans = [make_plan("a", read_experiment(write(experiment())), Path("out")), make_plan("b", other, Path("out"))]
    with pytest.raises(ConfigError, match=r"(?s)data/mini is made by two commands.*a: .*count=4.*b: .*count=5"):
        check_plans(plans)


def test_a_key_changes_with_whatever_the_words_name(place: Path) -> None:
    task = Path("configs/reproduce/tasks/mini.yaml")
    Path("mine.py").write_text("def half(completion, sample): return 0.5")

    def key(*before: str) -> str:
        words = ("train", str(task), "rewards=[mine.py:half]")
        return Command(words, Path("o"), Path("r.json"), "x").after(*before).key

    keys = [key(), key("data")]
    task.write_text(yaml.safe_dump(TASK | {"steps": 3}))
    keys.append(key())
    Path("mine.py").write_text("def half(completion, sample): return 0.6")
    keys.append(key())
    assert len(set(keys)) == 4 and key() == keys[-1]


def test_outputs_are_known_of_what_prepares(place: Path) -> None:
    Path("sft.yaml").write_text(
        yaml.safe_dump({"out": "models/x", "steps": 1, "batch_size": 1, "data": {"train": "d"}})
    )
    assert output_of(["sft", "sft.yaml", "out=models/y"], "w") == Path("models/y")
    assert output_of(["data", "transform", "a.jsonl", "name", "--out", "b.jsonl"], "w") == Path("b.jsonl")
    with pytest.raises(ConfigError, match=r"mini: prepare\.0: doctor: what does it write"):
        output_of(["doctor"], "mini: prepare.0")


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("first\n 7/80 reward 0.1\n\n")
    assert last_line(tmp_path / "log") == "7/80 reward 0.1" and last_line(tmp_path / "none") == ""


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


# -- configs ------------------------------------------------------------------------------------------------------

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
