"""A reward is a plain function with facts attached; a config finds it by name or by file."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from mmrl.plugins import ConfigError, build, load
from mmrl.records import Sample
from rewards import Score, reward
from rewards.registry import BUILTIN, RewardInfo, info_of


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
