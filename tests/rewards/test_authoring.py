"""The tools for authors, used as an author does; the tutorial page is run as it stands.

Checking and replaying have files of their own: test_authoring_check.py, test_authoring_replay.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm_mmrl
import yaml
from rich.console import Console
from typer.testing import CliRunner

from data_pipelines.gui.build import make_gui
from mmrl.cli import app
from mmrl.plugins import ConfigError
from mmrl.runs.reader import read_metrics
from rewards import registry
from rewards.authoring import show, template
from rewards.entry import Entry
from rewards.registry import BUILTIN

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/rewards_tutorial.md"


def printed(renderable, width: int = 100) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable, crop=False)
    return capture.get()


def shell(command: str, folder: Path) -> str:
    """Run a command of the docs in an author's folder; what it printed."""
    environment = warm_mmrl.environment() | {"COLUMNS": "100"}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# -- new -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", template.SCOPES)
def test_a_new_reward_passes_its_test_and_its_check(scope, tmp_path):
    """In a folder of its own, whose name has a blank, and with a name in which the template's own name occurs."""
    name = f"my_{scope}_reward"
    file, test = template.write(name, scope=scope, out=tmp_path / "some where" / "mine.py")
    assert f"def {name}(" in file.read_text() and "from mine import" in test.read_text()
    run_test, check, _, _ = template.next_commands(name, file, test)
    assert " passed" in shell(run_test, tmp_path)
    assert "fails" not in shell(check, tmp_path)


def test_new_says_what_comes_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["rewards", "new", "mine"])
    assert result.exit_code == 0
    for command in template.next_commands("mine", Path("mine.py"), Path("test_mine.py")):
        assert command in result.output.split("\n  ")[1:] or f"  {command}\n" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"mine.py", "test_mine.py"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1st", "cannot be a name"),
        ("my-reward", "cannot be a name"),
        ("class", "cannot be a name"),
        ("", "cannot be a name"),
        ("../x", "cannot be a name"),
        ("test_mine", "pytest would take it"),
        ("tiou", "reward that exists"),
        ("json", "installed module"),
    ],
)
def test_new_refuses_names_that_would_not_work(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        template.write(name)
    assert not list(tmp_path.iterdir())


def test_new_overwrites_nothing(tmp_path):
    for existing in ("mine.py", "test_mine.py"):
        (tmp_path / existing).write_text("precious")
        with pytest.raises(ConfigError, match=f"{existing} exists"):
            template.write("mine", out=tmp_path / "mine.py")
        assert [path.name for path in tmp_path.iterdir()] == [existing]
        assert (tmp_path / existing).read_text() == "precious"
        (tmp_path / existing).unlink()


# -- list and show -------------------------------------------------------------------------------------------------


def test_the_list_names_every_reward_and_fits_100_columns():
    text = printed(show.listing())
    assert max(map(len, text.split("\n"))) <= 100
    listed = [line.split()[0] for line in text.split("\n") if line.startswith("  ") and line[2] != " "]
    assert listed == [*BUILTIN]
    assert "cannot be loaded" not in text


def test_the_list_loads_no_torch():
    code = "import sys; from rewards.authoring import show; show.lines(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_row_of_the_docs_table_has_its_cells():
    rows = show.markdown().split("\n")
    assert len(rows) == 2 + len(BUILTIN)
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {8}


def test_installed_rewards_are_listed_and_broken_ones_say_why(monkeypatch):
    class Point:
        def __init__(self, name: str, value: str) -> None:
            self.name, self.value = name, value

    points = [Point("theirs", "rewards.boxes:box_iou"), Point("gone", "no_such_package.rewards:x")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    lines = {line.name: line for line in show.lines()}
    assert lines["theirs"].family == "rewards (installed)" and lines["theirs"].info.range == (0, 1)
    assert lines["gone"].info is None and "no_such_package" in lines["gone"].what
    assert "no_such_package" in printed(show.listing()) and "no_such_package" in show.markdown()


def test_show_gives_settings_facts_and_a_recipe_that_loads():
    text = printed(show.detail("point_distance"))
    for part in ("max(0, 1 - d", "0 to 1", "target.box", "scale", "float", "0.5", "rewards/boxes.py:"):
        assert part in text
    for name in ("point_distance", f"{ROOT}/docs/examples/my_plugins.py:near_the_centre"):
        [spec] = yaml.safe_load(re.search(r"(rewards: .*)", printed(show.detail(name), width=200))[1])["rewards"]
        assert Entry.from_config({"name": spec}, where="x").reward.name == name
    assert "{name: length_penalty, limit: <int>, buffer: <int>}" in printed(show.detail("length_penalty"))


# -- the tutorial --------------------------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TUTORIAL.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_tutorial_from_nothing_to_a_training_run(tmp_path, monkeypatch):
    for part in ("configs", "pyproject.toml"):  # the page says to work in the repository's folder
        (tmp_path / part).symlink_to(ROOT / part)
    make_gui(tmp_path / "data/gui", count=64, test_count=8)
    smaller = "steps=2 prompts_per_step=4 group_size=4 evaluate.every=0"
    shell(f"mmrl train configs/demo/gui.yaml {smaller}", tmp_path)

    new, test, check, replay_gui, train, replay_back = [block.strip() for block in blocks("bash")]
    edited, edited_test = blocks("python")
    check_output, replay_output = blocks("text")

    told = shell(new, tmp_path)
    commands = [test, check, re.sub(" --steps .*", "", replay_gui), train]
    assert [line.strip() for line in told.split("\n") if line.strip() in commands] == commands
    assert " passed" in shell(test, tmp_path)  # the template, as it stands

    (tmp_path / "bullseye.py").write_text(edited)
    (tmp_path / "test_bullseye.py").write_text(edited_test)
    assert " passed" in shell(test, tmp_path)

    def pattern(text: str) -> list[str]:
        """What does not depend on the machine and the run: states and questions, words without numbers."""
        lines = [re.sub(r"[\d.,]+", "#", " ".join(line.split())) for line in text.split("\n")]
        return [line for line in lines if line and "time" not in line]

    assert pattern(shell(check, tmp_path)) == pattern(check_output)
    told = shell(re.sub("--steps .*", "", replay_gui), tmp_path)
    for line in replay_output.strip().split("\n")[2:]:
        assert line.split("  ")[0] in told

    shell(f"{train} {smaller}", tmp_path)
    metrics = read_metrics(tmp_path / "runs/bullseye")
    assert len(metrics) == 2 and all(0 < line["score/bullseye"] < 1 for line in metrics)
    assert "point_in_box" in shell(re.sub("--steps .*", "", replay_back), tmp_path)
    [recipe] = blocks("yaml")
    specs = [spec if isinstance(spec, dict) else {"name": spec} for spec in yaml.safe_load(recipe)["rewards"]]
    monkeypatch.chdir(tmp_path)
    assert [Entry.from_config(spec, where="x").name for spec in specs] == ["point_in_box", "bullseye"]
