"""Pages in the real Chromium: which elements are seen and where, what the rows say, what a page may not do."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.check import check
from data_pipelines.dataset import read_samples
from data_pipelines.gui.browser import NAMES, address_of, find_browser
from data_pipelines.gui.capture import capture, parse_size
from data_pipelines.gui.clicks import read_script
from mmrl.plugins import ConfigError
from rewards.actions import ui_action
from rewards.boxes import point_in_box

PAGES = Path(__file__).parent / "pages"
NAMED = ("dialog.html", "form.html", "scrolled.html")

try:
    find_browser(None)
    import playwright.async_api  # noqa: F401

    MISSING = ""
except (ConfigError, ImportError) as error:
    MISSING = str(error)
browser = pytest.mark.skipif(bool(MISSING), reason=f"no page can be opened: {MISSING}")


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    out = tmp_path_factory.mktemp("capture")
    made = capture([str(PAGES / name) for name in NAMED], out, clicks=PAGES / "clicks.yaml", seconds=120)
    assert not made.problems
    return out, made


def elements_of(made, page, number=0):
    screens = [screen for screen in made.screens if screen["page"] == page]
    return {(e["role"], e["name"]): e for e in screens[number]["elements"]}


@browser
def test_visible_elements_have_their_role_name_and_box(captured):
    found = elements_of(captured[1], "form.html")
    assert list(found) == [
        ("link", "Home"), ("link", "Help"), ("button", "Settings"), ("textbox", "Full name"), ("textbox", "Email"),
        ("combobox", "Country"), ("checkbox", "I accept the terms"),
        ("link", "a link whose text is so long that it goes on in the next line of this narrow column of text"),
        ("button", "Create account"), ("button", "Import"), ("clickable", "Pick a city"),
    ]  # fmt: skip
    assert found["clickable", "Pick a city"]["box"] == (560, 90, 760, 130)
    assert found["button", "Settings"]["box"] == (1220, 10, 1256, 46)
    assert found["button", "Settings"]["type"] == "icon" and found["link", "Home"]["type"] == "text"
    assert found["button", "Import"]["disabled"]
    x1, y1, x2, y2 = found["textbox", "Full name"]["box"]
    assert (x2 - x1, y2 - y1) == (420, 34)
    assert found["textbox", "Email"]["box"][0::2] == (x1, x2)


@browser
def test_a_box_is_where_the_pixels_are(captured):
    """The two coloured boxes of the pages, measured in the screenshots themselves."""
    out, made = captured
    for page, name, colour in (
        ("form.html", "Pick a city", (255, 233, 168)),
        ("scrolled.html", "Picture", (0, 128, 128)),
    ):
        screen = next(screen for screen in made.screens if screen["page"] == page)
        pixels = np.asarray(Image.open(out / screen["image"]).convert("RGB"))
        assert pixels.shape == (800, 1280, 3)
        rows, columns = np.nonzero((pixels == colour).all(axis=-1))
        (box,) = (e["box"] for e in screen["elements"] if e["name"] == name)
        assert (columns.min(), rows.min(), columns.max() + 1) == (box[0], box[1], box[2])
        assert 0 <= box[3] - (rows.max() + 1) <= 6  # a picture stands on the line of its link's text


@browser
def test_what_is_covered_is_left_out(captured):
    made = captured[1]
    (screen,) = (screen for screen in made.screens if screen["page"] == "dialog.html")
    names = [(e["role"], e["name"]) for e in screen["elements"]]
    assert ("button", "Keep it") in names and ("button", "Share report.pdf") in names
    assert not any("notes.txt" in name or "budget.csv" in name for _, name in names)
    assert names.count(("button", "Delete")) == 2  # of five; three lie under the dialog
    asked = [row["meta"]["name"] for row in made.grounding if row["meta"]["page"] == "dialog.html"]
    assert "Keep it" in asked and "Delete" not in asked  # two are called so: nobody could tell which is meant


@browser
def test_scrolled_clipped_and_hidden_elements(captured):
    found = elements_of(captured[1], "scrolled.html")
    names = {name for _, name in found}
    assert names == {
        "One",
        "Two",
        "Three",
        "Top",
        "a link",
        "Picture",
        "Inline picture",
        "In the shadow",
        "<|image_pad|>",
    }
    assert found["button", "Three"]["box"] == (29, 133, 229, 171)  # its lower edge is cut by the list
    assert found["button", "In the shadow"]["box"] == (20, 320, 140, 356)
    x1, y1, x2, y2 = found["link", "Inline picture"]["box"]
    assert x2 - x1 == 40 and 50 <= y2 - y1 <= 56


@browser
def test_grounding_rows_pass_the_check_and_their_centres_are_hits(captured):
    made = captured[1]
    report = check(made.files["grounding"], decode=True, need_target=True)
    assert report.passed and report.rows == len(made.grounding) > 15
    for sample in read_samples(made.files["grounding"]):
        x, y = sample.target["point"]
        assert point_in_box(f"({x}, {y})", sample).value == 1
        assert "<|" not in sample.prompt
    row = next(row for row in made.grounding if row["meta"]["name"] == "Full name")
    assert row["messages"][0]["content"][1]["text"] == (
        'In this screenshot, where do you click for: the "Full name" text field? '
        "Answer with the point (x, y) in pixels."
    )
    assert {"task": "gui", "source": "capture", "coordinates": "pixel", "page": "form.html"}.items() <= row[
        "meta"
    ].items()
    asked = [row["meta"]["name"] for row in made.grounding]
    assert "Import" not in asked and "<|image_pad|>" not in asked
    assert len({row["id"] for row in made.grounding}) == len(made.grounding)


@browser
def test_steps_of_a_script_are_rows_over_the_screen_before_each(captured):
    made = captured[1]
    report = check(made.files["actions"], decode=True, need_target=True)
    assert report.passed and report.rows == 9
    rows = [row for row in made.actions if row["meta"]["page"] == "form.html"]
    assert [row["target"]["action"] for row in rows] == [
        "click", "input_text", "click", "click", "click", "navigate_back",
    ]  # fmt: skip
    assert [row["meta"]["step"] for row in rows] == list(range(6)) and len({r["meta"]["episode"] for r in rows}) == 1
    assert rows[1]["target"] == {"action": "input_text", "value": "Ada Lovelace"}
    text = rows[4]["messages"][0]["content"][1]["text"]
    assert "the command 'Create an account for Ada Lovelace'" in text
    assert 'Step0: click the "Full name" text field\nStep1: input_text "Ada Lovelace"\n' in text
    assert 'Step2: click the "I accept the terms" checkbox\n' in text and "Step4" not in text
    boxes = [elements_of(made, "form.html", number) for number in range(1, 7)]
    assert ("link", "Start here") not in boxes[3] and ("link", "Start here") in boxes[4]
    assert rows[4]["target"]["box"] == list(boxes[4]["link", "Start here"]["box"])
    for row, sample in zip(made.actions, read_samples(made.files["actions"]), strict=True):
        x, y = row["target"].get("point", (0, 0))
        answer = (
            f"<think>so</think><answer>[{{'action': '{row['target']['action']}', 'coordinate': [{x}, {y}]}}]</answer>"
        )
        assert ui_action(answer, sample).value == 3


@browser
def test_scrolling_brings_what_was_below(captured):
    last = [row for row in captured[1].actions if row["meta"]["page"] == "scrolled.html"][-1]
    assert last["meta"]["name"] == "Deep" and last["target"]["box"][1] == 1500 - 2 * 640


@browser
def test_the_same_page_makes_the_same_rows(captured, tmp_path):
    out, made = captured
    again = capture([str(PAGES / NAMED[0])], tmp_path, seconds=120)
    for name in ("screens", "grounding"):
        rows = again.files[name].read_text().splitlines()
        assert rows and rows == made.files[name].read_text().splitlines()[: len(rows)]
    image = again.screens[0]["image"]
    assert np.array_equal(Image.open(tmp_path / image), Image.open(out / image))
    assert list(tmp_path.glob(".*")) == []


@browser
def test_the_size_and_the_convention_are_those_asked_for(tmp_path):
    made = capture([str(PAGES / "dialog.html")], tmp_path, size=(420, 600), coordinates="norm1000")
    assert Image.open(tmp_path / made.screens[0]["image"]).size == (420, 600)
    assert all(0 <= e["box"][0] < e["box"][2] <= 420 for e in made.screens[0]["elements"])
    (sample, *_) = read_samples(made.files["grounding"])
    assert sample.coordinates == "norm1000" and "from 0 to 1000" in sample.prompt
    x, y = sample.target["point"]
    assert point_in_box(f"({x / 0.42:.2f}, {y / 0.6:.2f})", sample).value == 1


# -- pages that nobody trusts ----------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A server on this machine that counts what is asked of it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status = {"/gone": 404, "/away": 302}.get(self.path, 200)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", (PAGES / "form.html").as_uri())
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>Served</title><button>Served button</button>" if status == 200 else b"none")

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@browser
def test_bad_pages_are_problems_and_the_rest_is_captured(tmp_path, server):
    host, asked = server
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "secret.html").write_text("<button>secret</button>")
    (tmp_path / "secret.js").write_text("document.title = 'READ'")
    (site / "inside.js").write_text(
        "document.body.append(Object.assign(document.createElement('button'), {textContent: 'Mine'}))"
    )
    pages = {
        "reader.html": f"""<title>Reader</title><body><iframe src="../secret.html"></iframe>
            <script src="inside.js"></script><script src="../secret.js"></script><img src="{host}/image"><script>
            fetch("../secret.html").then(a => a.text()).then(a => document.title = "READ " + a, () => {{}});
            fetch("{host}/fetch").catch(() => {{}}); navigator.sendBeacon("{host}/beacon", "x");
            new WebSocket("{host}/socket".replace("http", "ws")).onerror = () => {{}};</script>""",
        "talker.html": """<button>Still here</button><script>
            alert(1); confirm(2); prompt(3); window.open("about:blank");
            onbeforeunload = () => "stay"; const a = document.createElement("a"); a.download = "evil.bin";
            a.href = "data:application/octet-stream,abc"; document.body.append(a); a.click();</script>""",
        "leaver.html": '<meta http-equiv=refresh content="0;url=../secret.html"><button>B</button>',
        "empty.html": "",
    }
    for name, text in pages.items():
        (site / name).write_text(text)
    addresses = [
        *(str(site / name) for name in pages),
        f"{host}/gone",
        f"{host}/away",
        f"{host}/",
        "http://127.0.0.1:9/",
    ]
    made = capture(addresses, tmp_path / "out", seconds=60)
    screens = {screen["page"].removeprefix(host): screen for screen in made.screens}
    assert set(screens) == {"reader.html", "talker.html", "empty.html", "/"}
    assert screens["reader.html"]["title"] == "Reader"
    assert [e["name"] for e in screens["reader.html"]["elements"]] == ["Mine"]
    assert [e["name"] for e in screens["talker.html"]["elements"]] == ["Still here"]
    assert [e["name"] for e in screens["/"]["elements"]] == ["Served button"]
    assert screens["empty.html"]["elements"] == []
    said = {problem.where: problem.message for problem in made.problems}
    assert "which it may not open" in said[str(site / "leaver.html")]
    assert "404" in said[f"{host}/gone"] and "ERR_" in said["http://127.0.0.1:9/"]
    assert f"{host}/away" in said and len(said) == 4
    assert set(asked) <= {"/gone", "/away", "/", "/favicon.ico"}
    assert not list((Path.home() / "Downloads").glob("evil*"))
    assert read_samples(made.files["grounding"])


@browser
def test_a_page_that_hangs_costs_its_time_and_no_more(tmp_path):
    (tmp_path / "looper.html").write_text("<button>B</button><script>setTimeout(() => { while (true); }, 50)</script>")
    made = capture([str(tmp_path / "looper.html"), str(PAGES / "dialog.html")], tmp_path / "out", seconds=12)
    (problem,) = made.problems
    assert problem.where.endswith("looper.html") and problem.message == "not done after 12 seconds"
    assert [screen["page"] for screen in made.screens] == ["dialog.html"]


@browser
def test_a_step_that_fits_nothing_ends_its_task_and_leaves_no_row(tmp_path):
    script = tmp_path / "clicks.yaml"
    script.write_text("- {goal: share, steps: [{click: Keep it}, {click: Share notes.text}]}\n"
                      "- {goal: delete, steps: [{click: Delete}]}\n- {goal: back, steps: [back]}\n")  # fmt: skip
    made = capture([str(PAGES / "dialog.html")], tmp_path / "out", clicks=script, seconds=60)
    assert made.actions == [] and len(made.screens) == 1
    first, second, third = (f"{problem.where}: {problem.message}" for problem in made.problems)
    assert "task 1, step 2: no visible element fits" in first and "Share notes.txt" in first
    assert "task 2, step 1: 2 visible elements fit" in second
    assert "no page to go back to" in third
    assert json.loads(made.files["actions"].read_text() or "null") is None


# -- without a browser -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    ["ftp://example.org/a.html", "javascript:alert(1)", "data:text/html,x", "chrome://version", "about:blank",
     "view-source:http://example.org", "https:", "file:///nowhere/a.html", "nowhere.html", "/etc", ""],
)  # fmt: skip
def test_other_addresses_are_refused(page, tmp_path):
    with pytest.raises(ConfigError):
        capture([page], tmp_path)


def test_a_file_page_may_load_its_folder_only(tmp_path):
    (tmp_path / "site/sub").mkdir(parents=True)
    for name in ("site/a.html", "site/sub/b.js", "c.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "site/link.txt").symlink_to(tmp_path / "c.txt")
    address = address_of(str(tmp_path / "site/a.html"))
    base = (tmp_path / "site").as_uri()
    for url in (f"{base}/a.html", f"{base}/sub/b.js?x=1", "data:text/plain,x", "about:blank"):
        assert address.allows(url), url
    for url in (f"{base}/../c.txt", f"{base}/%2e%2e/c.txt", f"{base}/link.txt", f"{base}/", f"{base}/sub", "file:///etc/hosts",
                "http://a.b/", "https://a.b/", "ftp://a.b/", f"file://host{tmp_path}/site/a.html"):  # fmt: skip
        assert not address.allows(url), url
    web = address_of("https://example.org/x")
    assert web.allows("http://other.org/") and not web.allows("file:///etc/hosts") and not web.allows("ftp://a.b/")


@pytest.mark.parametrize("size", ["1280", "axb", "1280x", "63x800", "800x5000", "-1x4", "1280 x 800 x 3"])
def test_sizes_that_make_no_screen(size, tmp_path):
    with pytest.raises(ConfigError, match="size"):
        capture([str(PAGES / "form.html")], tmp_path, size=parse_size(size))


def test_a_browser_that_is_not_there_is_said(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no program nochrome"):
        capture([str(PAGES / "form.html")], tmp_path, browser="nochrome")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=f"none of {NAMES[0]}.*apt-get install chromium"):
        find_browser(None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a list of tasks"),
        ("a: b: c", "cannot be read as YAML"),
        ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        ("- 3", "task 1: a task has `goal`"),
        ("- {goal: g, steps: []}", "`steps` is a list"),
        ("- {steps: [back]}", "`goal` is a text"),
        ("- {goal: g, steps: [back], evil: 1}", "unknown key `evil`"),
        ("- {goal: g, steps: [forward]}", "a step is `back`"),
        ("- {goal: g, steps: [{evaluate: 'alert(1)'}]}", "there is no action `evaluate`"),
        ("- {goal: g, steps: [{scroll: sideways}]}", "a scroll goes"),
        ("- {goal: g, steps: [{click: {selector: '#a'}}]}", "names its element"),
        ("- {goal: g, steps: [{click: {role: button}}]}", "`click` is a text"),
        ("- {goal: g, steps: [{type: ''}]}", "`type` is a text"),
        ('- {goal: g, steps: [{type: "a\\u001b[2J"}]}', "printable"),
        ("- {goal: g, steps: [{click: a, type: b}]}", "a step is `back`"),
    ],
)
def test_a_script_that_makes_no_sense_is_refused(tmp_path, text, said):
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_script(path)


def test_a_task_says_which_page_it_is_for(tmp_path):
    path = tmp_path / "script.yaml"
    pages = [str(PAGES / name) for name in NAMED]
    for page, said in (("", "says which is its `page`"), ("page: from.html, ", "is none of the pages")):
        path.write_text(f"- {{{page}goal: g, steps: [back]}}")
        with pytest.raises(ConfigError, match=said):
            capture(pages, tmp_path, clicks=path)
