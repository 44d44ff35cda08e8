"""From the list of runs to a token and back, in the real browser, for every kind of run that the demo recipes make."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

KINDS = ("gui", "video", "charts", "uav", "dance")


def overlays_of_gui(page, until):
    assert page.locator(".overlay .gold rect.line").count() == 1
    assert page.locator(".overlay .predicted path.line").count() > 0
    canvas, image = page.locator(".overlay").bounding_box(), page.locator(".stage img").bounding_box()
    assert canvas == pytest.approx(image, abs=1), "what is drawn lies on the picture"
    page.get_by_role("button", name="Votes").click()
    assert page.locator("canvas.heat").is_visible()
    assert "votes=true" in page.url
    page.get_by_role("button", name="Gold").click()
    assert not page.locator(".overlay .gold").is_visible()
    before = page.locator(".stage img").bounding_box()["width"]
    page.get_by_role("button", name="Zoom in").click()
    assert page.locator(".stage img").bounding_box()["width"] == pytest.approx(1.5 * before, rel=0.01)


def overlays_of_video(page, until):
    frames = page.locator(".strip img")
    assert frames.count() == 16
    until(page, "[...document.querySelectorAll('.strip img')].every(image => image.naturalWidth > 0)")
    assert page.locator(".strip .time").nth(3).inner_text() == "1.5 s"
    assert page.locator("video.player").count() == 1
    assert page.locator(".timeline .span.gold").count() == 1
    predicted = page.locator(".timeline button.time-row")
    assert predicted.count() > 0
    shown = predicted.first.locator("b").inner_text()
    row = page.locator(f".row[data-row='{predicted.first.get_attribute('data-row')}']")
    assert row.locator(".score b").inner_text() == shown, "the page's tIoU is the reward's"


def overlays_of_charts(page, until):
    assert "gold" in page.locator(".answers p").inner_text()
    counts = [int(text) for text in page.locator(".votes .number").all_inner_texts()]
    assert sum(counts) == page.locator("article.row").count()


def overlays_of_uav(page, until):
    overlays_of_charts(page, until)
    page.locator(".stage").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    assert "scale(1.5)" in page.locator(".stage-inside").get_attribute("style")
    page.keyboard.press("0")
    assert "scale(1)" in page.locator(".stage-inside").get_attribute("style")


def overlays_of_dance(page, until):
    tiles = page.locator(".grid .tile")
    assert tiles.count() == 6
    until(page, "[...document.querySelectorAll('.tile img')].every(image => image.naturalWidth === 32)")
    rewards = [float(text.replace("\u2212", "-")) for text in page.locator(".tile-text b").all_inner_texts()]
    assert rewards == sorted(rewards, reverse=True)
    tiles.nth(2).click()
    assert page.locator("article.row.current .rank").inner_text() == "#3"


@pytest.mark.parametrize("kind", KINDS)
def test_from_the_runs_to_a_token_and_the_same_again_in_a_second_page(kind, demo_runs, serve, open_page, until):
    home = serve(demo_runs)
    page = open_page(home)
    page.get_by_role("link", name=kind, exact=True).click()

    # A point of a curve leads to the groups of its step.
    plot = page.locator(".chart", has_text="Reward and scores").locator(".nsewdrag")
    plot.wait_for()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    page.wait_for_url(re.compile(r"tab=groups&step=1"))
    cards = page.locator(".group-card")
    cards.first.wait_for()
    assert cards.count() == 8
    assert all("step 1" in text for text in page.locator(".group-card .meta").all_inner_texts())
    cards.nth(1).get_by_role("link").click()

    # The group: its completions, what is drawn on its media.
    page.wait_for_url(re.compile(rf"/run/{kind}/group/1/0/\d+"))
    page.locator("article.row").first.wait_for(state="attached")
    globals()[f"overlays_of_{kind}"](page, until)

    # Tokens, by their advantage.
    page.get_by_role("button", name="advantage", exact=True).click()
    token = page.locator("article.row .token").first
    token.wait_for(state="attached")
    assert "colour=advantage" in page.url
    if kind != "dance":
        page.keyboard.press("j")
        until(page, "document.querySelector('article.row.current')")

    # The address is the state: a second page shows the same.
    second = open_page(page.url)
    second.locator("article.row.current").wait_for()
    for what in ("article.row.current .row-head", "h1", ".choice button[aria-pressed=true]"):
        assert second.locator(what).first.inner_text() == page.locator(what).first.inner_text()
    for toggle in ("gold", "predicted", "votes"):
        if (button := page.locator(f".toggle-{toggle}")).count():
            assert second.locator(f".toggle-{toggle}").get_attribute("aria-pressed") == button.get_attribute(
                "aria-pressed"
            )

    # Search, from the keyboard.
    page.keyboard.press("/")
    page.wait_for_url(re.compile("tab=rows"))
    page.locator(".row-card").first.wait_for()
    asked = "purple" if kind == "dance" else page.locator(".row-card .said").first.inner_text().strip()[:3]
    page.keyboard.press("/")
    page.keyboard.type(asked)
    page.wait_for_url(lambda url: "q=" in urlsplit(url).query)
    until(page, "!document.querySelector('.row-cards[aria-busy]')")
    page.locator(".row-card").first.wait_for()
    assert page.locator(".row-card").count() > 0
    third = open_page(page.url)
    third.locator(".row-card").first.wait_for()
    assert third.locator(".count").inner_text() == page.locator(".count").inner_text()
    assert third.locator("[name=q]").input_value() == asked


def test_going_back_shows_what_was_there(demo_runs, serve, open_page):
    page = open_page(f"{serve(demo_runs)}/run/gui?tab=groups&sort=reward&descending=true")
    page.locator(".group-card").first.wait_for()
    first = page.locator(".group-card").first.inner_text()
    page.locator(".group-card a").first.click()
    page.locator("article.row").first.wait_for()
    page.go_back()
    page.locator(".group-card").first.wait_for()
    assert page.locator(".group-card").first.inner_text() == first
    assert page.locator("[name=sort]").input_value() == "reward"
    assert page.locator("[name=descending]").is_checked()


def test_filters_ask_the_server_and_stand_in_the_address(demo_runs, serve, open_page, until):
    page = open_page(f"{serve(demo_runs)}/run/gui?tab=rows")
    page.locator(".row-card").first.wait_for()
    page.locator(".more-filters summary").click()
    page.locator("[name=reward_min]").fill("1")
    page.wait_for_url(re.compile("reward_min=1"))
    until(page, "!document.querySelector('.row-cards[aria-busy]')")
    assert set(page.locator(".row-card .badges b").all_inner_texts()) <= {"1"}
    page.get_by_label("point_in_box to").fill("0.5")
    page.get_by_label("point_in_box to").press("Enter")
    page.wait_for_url(re.compile(r"score=point_in_box%3A%3A0\.5"))
    page.get_by_text("Nothing matches").wait_for()


def test_keys_move_through_completions_groups_and_steps(demo_runs, serve, open_page):
    page = open_page(f"{serve(demo_runs)}/run/gui/group/0/0/1")
    page.locator("article.row").first.wait_for()
    for key, rank in (("j", "#1"), ("j", "#2"), ("k", "#1")):
        page.keyboard.press(key)
        assert page.locator("article.row.current .rank").inner_text() == rank
    assert re.search(r"row=\d+", page.url)
    from playwright.sync_api import expect

    page.keyboard.press("]")
    page.wait_for_url(re.compile("/group/1/0/1"))
    expect(page).to_have_title(re.compile(r"step 1\b"))  # the address changes before the page does
    page.keyboard.press("[")
    page.wait_for_url(re.compile("/group/0/0/1"))
    expect(page).to_have_title(re.compile(r"step 0\b"))
    page.keyboard.press("n")
    page.wait_for_url(re.compile("/group/0/0/2"))
    page.locator("article.row").first.wait_for()
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog", name="Keys").is_visible()


def test_runs_are_compared_in_the_same_charts(demo_runs, serve, open_page):
    page = open_page(serve(demo_runs))
    page.get_by_label("Compare gui").check()
    page.get_by_label("Compare charts").check()
    page.get_by_role("link", name="Compare 2 runs").click()
    page.locator(".plot .main-svg").first.wait_for()
    assert page.locator(".chart").first.locator(".entry").count() == 2
    differing = page.locator("tbody th code").all_inner_texts()
    assert "data.train" in differing and "group_size" not in differing


def test_a_star_and_a_note_are_kept_and_a_group_is_saved(demo_runs, serve, open_page, tmp_path):
    page = open_page(f"{serve(demo_runs)}/run/uav/group/0/0/0")
    page.get_by_role("button", name="Star completion 1").click()
    page.get_by_text("Kept").wait_for(state="attached")
    page.get_by_role("button", name="Note on completion 2").click()
    page.get_by_label("The note on completion 2").fill("<b>odd</b>")
    page.get_by_label("The note on completion 2").blur()
    page.wait_for_timeout(500)
    page.reload()
    page.locator("article.row").first.wait_for()
    assert page.get_by_role("button", name="Star completion 1").get_attribute("aria-pressed") == "true"
    assert page.get_by_label("The note on completion 2").input_value() == "<b>odd</b>"
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as JSONL").click()
    saving.value.save_as(tmp_path / "saved")
    assert (tmp_path / "saved").stat().st_size > 0


def test_a_data_set_is_shown_before_any_training(demo_runs, serve, open_page):
    page = open_page(serve(demo_runs.parent / "data" / "gui" / "train.jsonl"))
    page.locator(".group-card").first.wait_for()
    assert page.locator(".count").inner_text() == "12 samples"
    page.locator(".group-card a").first.click()
    page.locator(".overlay .gold rect.line").wait_for()
    assert page.locator("article.row").count() == 0
