"""`mmrl methods`: what recipes, scripts and pages say about each method, read from the files themselves."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from mmrl.catalogue import catalogue, detail, listing, method
from mmrl.plugins import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def methods():
    return {found.name: found for found in catalogue(ROOT)}


def test_every_recipe_belongs_to_one_method(methods):
    recipes = [recipe for found in methods.values() for recipe in found.recipes]
    there = [f for kind in ("methods", "papers", "diffusion") for f in (ROOT / "configs" / kind).glob("*.yaml")]
    assert sorted(recipes) == sorted(file.relative_to(ROOT) for file in there)


def test_every_script_of_a_paper_belongs_to_a_method(methods):
    scripts = {script for found in methods.values() for script in found.scripts}
    there = {file.relative_to(ROOT) for file in (ROOT / "scripts").glob("train_*.sh")}
    assert there - scripts == {Path("scripts/train_gui_3b.sh")}


def test_every_method_has_a_paper_and_a_page(methods):
    assert [name for name, found in methods.items() if not re.fullmatch(r"\d{4}\.\d{5}", found.paper)] == []
    assert [name for name, found in methods.items() if found.page is None] == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("grpo", {}),
        ("arpo", {"rollout": ["success_replay"], "loss": ["clipped 0.2/0.3"], "data": ["select"]}),
        ("craft_gui", {"sampler": ["curriculum"]}),
        ("dr_grpo", {"advantage": ["group_relative std=none"], "loss": ["sums, constant"]}),
        ("ton", {"advantage": ["skip_ratio"], "data": ["drop-thoughts", "cold start"]}),
        ("ui_r1", {"reward": ["ui_action", "answer_format", "dast"]}),
    ],
)
def test_what_a_method_changes(methods, name, changes):
    assert methods[name].changes == changes


def test_a_moving_setting_is_a_schedule(methods):
    assert methods["othink_mr1"].changes["schedule"] == ["kl coef"]


def test_show_prints_the_composition(monkeypatch):
    monkeypatch.chdir(ROOT)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(detail("geometryzero"))
    shown = console.export_text()
    for piece in ("with_and_without", "contrastive_mask", "eps=0.1", "2506.07160", "scripts/train_geometryzero"):
        assert piece in shown
    console.print(listing())
    assert "tempsamp" in console.export_text()
    with pytest.raises(ConfigError, match="Did you mean arpo"):
        method("arppo")
