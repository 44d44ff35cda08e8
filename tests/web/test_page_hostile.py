"""Completions, prompts, names and files that want to be markup or code: they are shown as text, and nothing runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from mmrl.records import Media, Rollouts, Sample
from mmrl.runs.writer import RunWriter

HIT = "window.hit=1"
MARKUP = [
    f"<script>{HIT}</script>",
    f"<img src=x onerror={HIT}>",
    f"</div></article><svg onload={HIT}><foreignObject><iframe srcdoc='<script>parent.{HIT}</script>'></iframe></svg>",
    f'<a href="javascript:{HIT}">click</a> [click](javascript:{HIT}) javascript:{HIT}',
    f"<style>*{{display:none}}</style><base href=//evil.example>"
    f"<meta http-equiv=refresh content='0;url=javascript:{HIT}'>",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= 1 %> &lt;b&gt; &#60;b&#62;",
    "left \u202edesrever\u202c right \u2066isolated\u2069 zero\u200bwidth \x1b[31mred\x00",
    "long " + "x" * 1_000_000,
]
BIDI = "U+202E"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A run whose every name and text is hostile; its sample has a picture with a hostile name."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("hostile")
    file = folder / f'"><img src=x onerror={HIT}>.png'
    Image.new("RGB", (64, 48), "white").save(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    media = Media("image", str(file), digest, (64, 48), (64, 48), ())
    runs = folder / "runs"
    count = len(MARKUP)
    scores = {f"<b onclick={HIT}>score": torch.arange(count) / count, "__proto__": torch.ones(count)}
    sample = Sample(
        id=f"<img src=x onerror={HIT}>\u202eid",
        messages=(
            {"role": f"<script>{HIT}</script>", "content": [{"type": "text", "text": "\u202e" + MARKUP[0]}]},
            {"role": "user", "content": [{"type": "image", "image": str(file)}, {"type": "text", "text": MARKUP[1]}]},
        ),
        media=(media,),
        target={"box": [1, 2, 30, 40], "answer": MARKUP[1], f"<script>{HIT}</script>": MARKUP[2]},
        meta={"task": MARKUP[1], "source": f"javascript:{HIT}"},
    )
    rollouts = Rollouts(
        samples=[sample],
        prompts=[None],
        group=torch.zeros(count, dtype=torch.long),
        prompt=torch.zeros(count, dtype=torch.long),
        actions=torch.ones(count, 3, dtype=torch.long),
        length=torch.full((count,), 3),
        mask=torch.ones(count, 3, dtype=torch.bool),
        text=MARKUP,
        origin=[MARKUP[0]] + ["policy"] * (count - 1),
        logp_old=torch.full((count, 3), -0.5),
        scores=scores,
        reward=torch.arange(count) / count,
        advantage=torch.ones(count, 3),
        notes=[
            {name: {"parsed": MARKUP[3], "why": text[:300], MARKUP[1]: MARKUP[2]} for name in scores} for text in MARKUP
        ],
    )
    writer = RunWriter.create(runs / f"<img src=x onerror={HIT}>", f"steps: 2\nname: '<script>{HIT}<!-- '\n")
    for step in range(2):
        writer.record(
            step,
            rollouts,
            {"reward": 0.5 + step, f"score/<b onclick={HIT}>": 0.5, "<img src=x>": 1.0, "__proto__": 1.0},
        )
    writer.event("warning", text=MARKUP[0] + MARKUP[6])
    writer.event("finished", steps=2)
    return runs


def nothing_ran(page, checks) -> None:
    assert page.evaluate("window.hit") is None
    strange = page.evaluate(checks("strange"))
    assert strange == []


@pytest.mark.parametrize("tab", ["", "curves", "groups", "rows", "config", "events"])
def test_hostile_names_and_texts_are_text_in_every_list(hostile, serve, open_page, checks, tab):
    page = open_page(serve(hostile))
    name = f"<img src=x onerror={HIT}>"
    assert name in page.locator("tbody th a").first.inner_text()
    if tab:
        page.get_by_role("link", name=name).click()
        page.locator(".tabs").wait_for()
        page.goto(f"{page.url.split('?')[0]}?tab={tab}")
        place = {
            "curves": ".plot .main-svg",
            "groups": ".group-card",
            "rows": ".row-card",
            "config": ".code",
            "events": ".events",
        }
        page.locator(place[tab]).first.wait_for()
        assert page.locator("h1").inner_text() == name
    nothing_ran(page, checks)


def test_a_group_of_hostile_completions_shows_them_letter_by_letter(hostile, serve, open_page, checks):
    page = open_page(serve(hostile))
    page.get_by_role("link", name="onerror").click()
    page.locator(".tabs").wait_for()
    page.goto(page.url.split("?")[0] + "/group/1/0/0?q=script")
    page.locator("article.row").first.wait_for()
    shown = page.locator("article.row .completion").all_text_contents()
    for text in MARKUP[:6]:
        assert text in shown
    page.locator(".known summary").click()
    for summary in page.locator(".score summary").all():
        summary.click()
    page.mouse.click(700, 400)
    page.keyboard.press("j")
    page.get_by_role("button", name="advantage", exact=True).click() if page.get_by_role(
        "button", name="advantage", exact=True
    ).count() else None
    nothing_ran(page, checks)


def test_characters_that_reorder_or_hide_text_are_named(hostile, serve, open_page):
    page = open_page(serve(hostile))
    page.get_by_role("link", name="onerror").click()
    page.locator(".tabs").wait_for()
    page.goto(page.url.split("?")[0] + "/group/1/0/0")
    page.locator("article.row").first.wait_for()
    text = next(text for text in page.locator("article.row .completion").all_text_contents() if "desrever" in text)
    for code in (BIDI, "U+202C", "U+2066", "U+2069", "U+200B", "U+001B", "U+0000"):
        assert code in text
    assert "\u202e" not in page.locator("body").inner_text() and "\u202e" not in page.title()
    assert BIDI in page.locator("h1").inner_text()
    row = page.locator("article.row", has_text="desrever").locator(".completion")
    assert row.evaluate("element => getComputedStyle(element).unicodeBidi") in (
        "isolate",
        "isolate-override",
        "plaintext",
    )


def test_a_line_of_a_megabyte_is_cut_and_the_rest_is_there_on_demand(hostile, serve, open_page):
    page = open_page(serve(hostile))
    page.get_by_role("link", name="onerror").click()
    page.locator(".tabs").wait_for()
    page.goto(page.url.split("?")[0] + "/group/1/0/0")
    page.locator("article.row").first.wait_for()
    long = page.locator("article.row", has_text="long xxx").locator(".completion")
    assert len(long.text_content()) < 21_000
    long.get_by_role("button", name="more characters").click()
    assert 200_000 <= len(long.text_content()) < 210_000
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the line is wrapped"


def test_the_builder_of_elements_refuses_what_could_run(demo_runs, serve, open_page, checks):
    page = open_page(serve(demo_runs))
    refused = page.evaluate(checks("refused"))
    assert refused == ["refused"] * 13
