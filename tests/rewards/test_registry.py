"""A reward is a plain function with facts attached; a config finds it by name or by file."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from mmrl.plugins import ConfigError, build, load
from mmrl.records import Sample
from rewards import Score, reward
from rewards.registry import BUILTIN, RewardInfo, available, info_of
from rewards.scoring import Rewards


def test_a_decorated_function_is_returned_unchanged_and_stays_callable():
    def plain(completion, sample):
        return 0.5

    declared = reward(name="half", range=(-1, 1), needs=("box",), scope="row")(plain)
    assert declared is plain
    assert declared("anything", Sample("s", ())) == 0.5
    assert info_of(declared) == RewardInfo("half", (-1, 1), ("box",), "row")


def test_an_undecorated_function_is_a_row_reward_without_bounds():
    def plain(completion, sample):
        return 0.5

    assert info_of(plain) == RewardInfo("plain", (-math.inf, math.inf), (), "row")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"scope": "rows"}, "row, group, batch"),
        ({"range": (1, 0)}, "lowest, highest"),
        ({"range": (math.nan, 1)}, "lowest, highest"),
        ({"needs": "box"}, r'needs=\("box",\)'),
        ({"name": test_an_undecorated_function_is_a_row_reward_without_bounds}, "parentheses"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_is_written(facts, message):
    with pytest.raises((ValueError, TypeError), match=message):
        reward(**facts)


@pytest.mark.parametrize("name", BUILTIN)
def test_every_builtin_is_a_documented_reward_of_its_own_name(name):
    function = load(name, BUILTIN, kind="reward", where="test")
    assert info_of(function).name == name
    assert function.__doc__
    assert info_of(function).source


def test_settings_are_checked_against_the_signature():
    with pytest.raises(ConfigError, match="Did you mean limit"):
        build({"name": "length_penalty", "limits": 3}, BUILTIN, kind="reward", where="here")
    with pytest.raises(ConfigError, match="needs limit, buffer"):
        build({"name": "length_penalty"}, BUILTIN, kind="reward", where="here")
    with pytest.raises(ConfigError, match=r"here\.unit = 'pages'"):
        build(
            {"name": "length_penalty", "limit": 3, "buffer": 1, "unit": "pages"}, BUILTIN, kind="reward", where="here"
        )


def test_a_score_is_frozen():
    with pytest.raises(AttributeError):
        Score(1.0).value = 2.0


def test_importing_rewards_imports_no_torch():
    code = "import sys, rewards, rewards.scoring, rewards.boxes, rewards.text; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_reward_of_an_installed_package_is_found_by_its_name(tmp_path, monkeypatch):
    """What `pip install` leaves: a module, and a dist-info folder with entry points."""
    (tmp_path / "zoo_extension.py").write_text("def purr(completion, sample):\n    return 0.25\n")
    information = tmp_path / "zoo_extension-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-extension\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[mmrl.rewards]\npurr = zoo_extension:purr\ntiou = zoo_extension:purr\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert available()["purr"] == "zoo_extension:purr"
    assert available()["tiou"] == BUILTIN["tiou"], "a package cannot replace a built-in"
    (entry,) = Rewards.from_config([{"name": "purr"}], where="recipe.yaml").entries
    (outcome,) = entry.reward.attempt({}, ["meow"], [Sample("s", ())])
    assert outcome == Score(0.25)
