"""A run that grows, breaks or goes away while it is looked at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from viewed_runs import rollouts, sample

from mmrl.records import Rollouts
from mmrl.runs.writer import RunWriter


def say(text: str) -> Rollouts:
    return rollouts([sample("one", "say something")], [[text]], [[0.0]])


@pytest.fixture
def runs(tmp_path: Path, demo_runs: Path) -> Path:
    """A copy of a demo run that a test may break."""
    shutil.copytree(demo_runs / "gui", tmp_path / "runs" / "gui")
    return tmp_path / "runs"


def test_a_running_training_appears_and_grows_without_a_reload(tmp_path, serve, open_page, until):
    folder = tmp_path / "runs"
    folder.mkdir()
    page = open_page(serve(folder))
    assert "no run here yet" in page.locator(".empty").inner_text()
    writer = RunWriter.create(folder / "growing", "steps: 3\n")
    writer.record(0, say("first"), {"reward": 0.25})
    page.get_by_role("link", name="growing").wait_for()
    page.get_by_role("link", name="growing").click()
    page.locator(".plot .main-svg").first.wait_for()
    assert "running" in page.locator(".facts").inner_text() and "1 of 3" in page.locator(".facts").inner_text()
    listing = open_page(f"{page.url}?tab=rows")
    listing.locator(".row-card", has_text="first").wait_for()
    writer.record(1, say("second"), {"reward": 0.75})
    until(page, "document.querySelector('.facts').innerText.includes('2 of 3')")
    until(page, "document.querySelector('.chart .last').innerText.includes('0.75')")
    listing.locator(".row-card", has_text="second").wait_for()


def test_a_truncated_file_is_named_and_the_rest_is_shown(runs, serve, open_page):
    broken = sorted((runs / "gui" / "rollouts").glob("*.parquet"))[-1]
    broken.write_bytes(broken.read_bytes()[:200])
    page = open_page(f"{serve(runs)}/run/gui?tab=groups")
    page.locator(".group-card").first.wait_for()
    assert page.locator(".group-card").count() == 8, "the groups of the other step"
    page.reload()
    page.locator(".problems").wait_for()
    assert broken.name in page.locator(".problems").inner_text()


def test_a_picture_that_is_gone_is_said_to_be(runs, serve, open_page):
    shutil.rmtree(runs / "gui" / "media")
    page = open_page(f"{serve(runs)}/run/gui/group/0/0/0", expected=["404"])
    page.locator("article.row").first.wait_for()
    page.locator(".missing").wait_for()
    assert "is not there" in page.locator(".missing").inner_text()


def test_a_run_that_is_deleted_while_it_is_viewed_is_said_to_be_gone(runs, serve, open_page):
    page = open_page(f"{serve(runs)}/run/gui", expected=["404"])
    page.locator(".plot .main-svg").first.wait_for()
    shutil.rmtree(runs / "gui")
    page.get_by_role("link", name="Groups").click()
    page.get_by_role("alert").wait_for()
    assert "gui" in page.get_by_role("alert").inner_text()
    page.get_by_role("link", name="mmrl").click()
    page.get_by_text("no run here yet").wait_for()


def test_an_address_that_leads_nowhere_says_so(demo_runs, serve, open_page):
    page = open_page(f"{serve(demo_runs)}/run/gui/group/77/0/0", expected=["404"])
    assert "77" in page.get_by_role("alert").inner_text()
