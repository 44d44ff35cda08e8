"""Every screen can be read and used without a mouse, without seeing it, in both themes and on a phone."""

from __future__ import annotations

import pytest
from real_pages import PATIENCE, SIZES

SCREENS = {
    "runs": "/",
    "curves": "/run/gui",
    "groups": "/run/gui?tab=groups&zero_spread=true",
    "completions": "/run/gui?tab=rows&q=1",
    "config": "/run/gui?tab=config",
    "events": "/run/gui?tab=events",
    "gui": "/run/gui/group/1/0/0?votes=true&colour=advantage",
    "video": "/run/video/group/1/0/0?row=0",
    "charts": "/run/charts/group/1/0/0?colour=logp_old",
    "dance": "/run/dance/group/1/0/0",
    "compare": "/?compare=gui&compare=uav",
}
CHARTS = ".plot .main-svg"
WAIT = {
    "runs": ".list", "curves": CHARTS, "compare": CHARTS, "config": ".code", "events": ".events",
    "groups": ".group-card, .empty", "completions": ".row-card",
}  # fmt: skip


@pytest.fixture(scope="module")
def screen(demo_runs, serve, chromium):
    """Shows a screen in a theme and at a width. Each is opened once and changed after that, as a window is."""
    home = serve(demo_runs)
    context = chromium.new_context(reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    pages = {}

    def show(name, *, size="laptop", theme="light"):
        if name not in pages:
            pages[name] = context.new_page()
            pages[name].set_viewport_size(SIZES["laptop"])
            pages[name].goto(home + SCREENS[name])
            pages[name].locator(WAIT.get(name, "article.row")).first.wait_for(state="attached")
            pages[name].wait_for_load_state("networkidle")
        pages[name].set_viewport_size(SIZES[size])
        pages[name].emulate_media(color_scheme=theme)
        return pages[name]

    yield show
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", SCREENS)
def test_text_stands_out_from_its_ground(screen, checks, name, theme):
    assert screen(name, theme=theme).evaluate(checks("faint")) == []


def test_the_measure_of_contrast_finds_faint_text(screen, checks):
    page = screen("runs")
    page.evaluate("document.documentElement.style.setProperty('--muted', '#a0a4aa')")
    assert page.evaluate(checks("faint"))
    page.evaluate("document.documentElement.style.removeProperty('--muted')")


@pytest.mark.parametrize("name", SCREENS)
def test_nothing_is_wider_than_a_phone(screen, until, name):
    until(screen(name, size="phone"), "document.documentElement.scrollWidth <= 390")


@pytest.mark.parametrize("name", SCREENS)
def test_the_accessibility_tree_has_landmarks_and_names(screen, name):
    page = screen(name)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    nodes = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    roles = [role for role, _ in nodes]
    assert roles.count("main") == 1 and roles.count("banner") == 1 and "navigation" in roles
    assert page.locator("h1").count() == 1
    needing = {
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "checkbox",
        "spinbutton",
        "image",
        "dialog",
        "region",
        "navigation",
    }
    assert [role for role, called in nodes if role in needing and not called.strip()] == []
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title().endswith("mmrl")
    levels = [
        int(tag[1]) for tag in page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(one => one.localName)")
    ]
    assert levels[0] == 1


@pytest.mark.parametrize("name", ["runs", "groups", "gui", "video", "dance"])
def test_everything_is_reached_by_the_keyboard_and_the_focus_is_seen(screen, checks, name):
    page = screen(name)
    assert page.evaluate(checks("unreachable")) == []
    page.locator("body").press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    unseen = []
    for _ in range(25):
        page.keyboard.press("Tab")
        unseen += page.evaluate(checks("unseenFocus"))
    assert unseen == []


def test_a_page_that_was_reached_by_a_link_has_the_focus_and_its_title_is_said(demo_runs, serve, open_page):
    page = open_page(serve(demo_runs))
    page.get_by_role("link", name="gui", exact=True).click()
    page.locator(".tabs").wait_for()
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.locator("#status").inner_text() == "gui"


def test_the_theme_is_chosen_and_remembered(demo_runs, serve, open_page):
    page = open_page(serve(demo_runs), theme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark theme").click()
    dark = page.evaluate(ground)
    page.reload()
    page.locator(".list").wait_for()
    assert light != dark == page.evaluate(ground)


def test_what_scripts_draw_has_the_colours_of_the_theme(demo_runs, serve, open_page):
    page = open_page(serve(demo_runs), theme="dark")
    colour = "async () => (await import('/js/theming.js')).colour('--ink')"
    assert page.evaluate(colour) == "rgb(232, 234, 237)"
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(colour) == "rgb(29, 32, 37)"


def test_the_page_of_the_interface_has_the_systems_theme_without_scripts(demo_runs, serve, open_page):
    address = f"{serve(demo_runs)}/api/docs"  # 404: it has no icon
    grounds = [
        open_page(address, theme=theme, expected=["404"]).evaluate("getComputedStyle(document.body).backgroundColor")
        for theme in ("light", "dark")
    ]
    assert grounds == ["rgb(250, 250, 248)", "rgb(19, 21, 24)"]
