"""Web pages to GUI data: `mmrl data capture form.html https://... --out folder [--clicks script.yaml]`.

Each page is opened in headless Chromium (`browser.py`); its visible interactive elements (`elements.py`) become
grounding rows, and the steps of a script (`clicks.py`) become action rows, one per step with the screenshot before it.

    screens/0000-form-00.png ...   screenshots
    screens.jsonl                  per screenshot: page, title, size, all elements; no samples
    grounding.jsonl                one row per element that its role and name tell from all others on the screen
    actions.jsonl                  one row per step of the script, in UI-R1's form
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from data_pipelines.coordinates import Size
from data_pipelines.dataset import write_samples
from data_pipelines.gui import browser as chromium_of
from data_pipelines.gui.browser import Address, Chromium, Look, PageError, Screen, address_of, find_browser
from data_pipelines.gui.clicks import Step, Task, read_script
from data_pipelines.gui.elements import LONGEST_NAME, Element
from data_pipelines.gui.prompts import ask_for_action, ask_for_click
from data_pipelines.reading import Problem, Row
from data_pipelines.rows import RESERVED
from data_pipelines.sources import atomic
from mmrl.plugins import ConfigError, nearest

SIDES = (64, 4096)
"""Width and height of a screen in pixels, both ends included."""
WORDS = {
    "textbox": "text field", "searchbox": "search field", "combobox": "drop-down list", "radio": "radio button",
    "spinbutton": "number field", "menuitem": "menu item", "menuitemcheckbox": "menu item",
    "menuitemradio": "menu item", "treeitem": "tree item", "disclosure": "disclosure", "colour": "colour field",
    "date": "date field", "time": "time field", "clickable": "area",
}  # fmt: skip
"""Role -> what an instruction calls it, where that is another word."""
PLACEHOLDER = re.compile(r"<(image|video)>")


@dataclass
class Captured:
    """What a capture made."""

    files: dict[str, Path] = field(default_factory=dict)
    """`screens`, `grounding` and, with a script, `actions`."""
    screens: list[dict[str, Any]] = field(default_factory=list)
    grounding: list[Row] = field(default_factory=list)
    actions: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """Pages and tasks that failed."""


def capture(
    pages: Sequence[str],
    out: str | Path,
    *,
    clicks: Path | None = None,
    size: Size = (1280, 800),
    coordinates: str = "pixel",
    browser: str | None = None,
    seconds: float = 30.0,
) -> Captured:
    """Capture pages (files, or addresses of http, https or file) into the folder `out`; files there are replaced.

    `coordinates` is the convention of the model's answers; `browser` a Chromium that is not in PATH; `seconds` the
    time for a page or a task of the script, after which it is a problem and the next one begins. ConfigError for an
    address, script, size or browser that cannot be used.
    """
    ask_for_click("", coordinates)
    if not all(SIDES[0] <= side <= SIDES[1] for side in size):
        raise ConfigError(f"size {size[0]}x{size[1]}: each side has {SIDES[0]} to {SIDES[1]} pixels.")
    if not seconds > 0:
        raise ConfigError(f"seconds = {seconds}: the time for a page, above 0.")
    addresses = [address_of(page) for page in pages]
    if not addresses:
        raise ConfigError("capture needs a page: a file, or an address of http, https or file.")
    tasks = _placed(read_script(clicks), addresses, clicks) if clicks else {}
    executable = find_browser(browser)
    work = _Work(Path(out).absolute(), size, coordinates, seconds)
    asyncio.run(work.run(executable, addresses, tasks))
    return work.finish(with_actions=clicks is not None)


def parse_size(text: str) -> Size:
    """`1280x800` as width and height."""
    sides = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text.strip())
    if not sides:
        raise ConfigError(f"--size {text}: width and height in pixels, as 1280x800.")
    return int(sides[1]), int(sides[2])


def _placed(tasks: Sequence[Task], addresses: Sequence[Address], script: Path) -> dict[int, list[Task]]:
    """Place in `addresses` -> tasks."""
    places: dict[int, list[Task]] = {}
    for number, task in enumerate(tasks, 1):
        where = f"{script}, task {number}"
        if not task.page and len(addresses) > 1:
            raise ConfigError(f"{where}: with several pages a task says which is its `page`.")
        fits = [i for i, address in enumerate(addresses) if task.page in ("", address.given, address.name)]
        if len(fits) != 1:
            known = nearest(task.page, [address.given for address in addresses])
            found = "fits several pages" if fits else "is none of the pages"
            raise ConfigError(f"{where}: `page` {task.page} {found} that are captured. {known}")
        places.setdefault(fits[0], []).append(task)
    return places


class _Work:
    """A capture on its way."""

    def __init__(self, out: Path, size: Size, coordinates: str, seconds: float) -> None:
        self.out, self.size, self.coordinates, self.seconds = out, size, coordinates, seconds
        self.captured = Captured()
        self.asked: set[tuple[int, Element]] = set()
        self.where = ""
        """Page, and step of a script, that is being worked on."""

    async def run(self, executable: str, addresses: Sequence[Address], tasks: dict[int, list[Task]]) -> None:
        async with chromium_of.chromium(executable) as chromium:
            for place, address in enumerate(addresses):
                for task in (None, *tasks.get(place, ())):
                    self.where = address.given
                    try:
                        await asyncio.wait_for(self.visit(chromium, place, address, task), self.seconds)
                    except (asyncio.TimeoutError, TimeoutError):
                        self.problem(f"not done after {self.seconds:g} seconds", "too slow")
                    except PageError as error:
                        self.problem(str(error), "not there")
                    except _playwright_error() as error:
                        self.problem(chromium_of.reason(error), "page failed")

    async def visit(self, chromium: Chromium, place: int, address: Address, task: Task | None) -> None:
        async with chromium.page(address, self.size, seconds=self.seconds) as screen:
            if task is None:
                self.keep(await screen.look(), place, address)
            else:
                await self.perform(screen, place, address, task)

    async def perform(self, screen: Screen, place: int, address: Address, task: Task) -> None:
        """The rows of a task whose steps all worked; a task that fails leaves none behind."""
        rows: list[Row] = []
        looks: list[Look] = []
        done: list[str] = []
        for number, step in enumerate(task.steps):
            self.where = f"{address.given}, {step.where}"
            look = await screen.look()
            target, element = self.target(step, look)
            looks.append(look)
            rows.append(self.action_row(task, number, done, target, element))
            done.append(step.words if element is None else f"click {_called(element)}")
            if element is not None:
                await screen.click(*element.point)
            elif step.action == "input_text":
                await screen.type(step.value)
            elif step.action == "scroll":
                await screen.scroll(step.value)
            else:
                await screen.back()
        last = await screen.look()
        for row, look in zip(rows, looks, strict=True):
            entry = self.keep(look, place, address)
            name = Path(entry["image"]).stem
            row["id"] = f"action-{name}"
            row["messages"][0]["content"].insert(0, {"type": "image", "image": str(self.out / entry["image"])})
            row["meta"] |= {"page": entry["page"], "episode": rows[0]["id"]}
            self.captured.actions.append(row)
        self.keep(last, place, address, after=task.goal)

    def target(self, step: Step, look: Look) -> tuple[dict[str, Any], Element | None]:
        if step.action != "click":
            return {"action": step.action} | ({"value": step.value} if step.value else {}), None
        there = [one for one in look.elements if one.name == step.value and step.role in ("", one.role)]
        if len(there) != 1:
            names = [f"{one.name} ({one.role})" for one in look.elements if one.name][:30]
            found = f"{len(there)} visible elements fit" if there else "no visible element fits"
            raise PageError(f"{found} `{step.words}`. {nearest(step.value, names)}")
        element = there[0]
        return {"action": "click", "box": list(element.box), "point": list(element.point)}, element

    def action_row(
        self, task: Task, number: int, done: Sequence[str], target: dict[str, Any], element: Element | None
    ) -> Row:
        question = ask_for_action(task.goal, self.coordinates, history=done)
        meta = {"task": "ui_action", "source": "capture", "coordinates": self.coordinates, "goal": task.goal,
                "step": number, "steps": len(task.steps)}  # fmt: skip
        if element is not None:
            meta |= {"role": element.role, "name": element.name, "data_type": element.type}
        return {
            "id": "",
            "messages": [{"role": "user", "content": [{"type": "text", "text": question}]}],
            "target": target,
            "meta": meta,
        }

    def keep(self, look: Look, place: int, address: Address, **more: Any) -> dict[str, Any]:
        """Store a screenshot with its elements, and ask for those that have not been asked for on this page."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(address.name).stem).strip("-").lower()[:40] or "page"
        number = sum(screen["number"] == place for screen in self.captured.screens)
        name = f"{place:04d}-{slug}-{number:02d}"
        path = self.out / "screens" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(look.png)
        entry = {
            "image": f"screens/{name}.png",
            "number": place,
            "page": _shown(address),
            "title": look.title,
            "size": list(self.size),
            "elements": [asdict(element) for element in look.elements],
        } | more
        self.captured.screens.append(entry)
        common = Counter((element.role, element.name) for element in look.elements)
        for index, element in enumerate(look.elements):
            if common[element.role, element.name] == 1 and _askable(element) and (place, element) not in self.asked:
                self.asked.add((place, element))
                self.captured.grounding.append(self.grounding_row(f"{name}-{index:03d}", path, entry, element))
        return entry

    def grounding_row(self, name: str, path: Path, entry: dict[str, Any], element: Element) -> Row:
        question = ask_for_click(_called(element), self.coordinates)
        return {
            "id": f"capture-{name}",
            "messages": [{"role": "user", "content": [
                {"type": "image", "image": str(path)}, {"type": "text", "text": question},
            ]}],
            "target": {"box": list(element.box), "point": list(element.point)},
            "meta": {"task": "gui", "source": "capture", "coordinates": self.coordinates, "page": entry["page"],
                     "role": element.role, "name": element.name, "data_type": element.type},
        }  # fmt: skip

    def problem(self, message: str, kind: str) -> None:
        self.captured.problems.append(Problem(self.where, message, kind))

    def finish(self, *, with_actions: bool) -> Captured:
        captured = self.captured
        captured.files["screens"] = _write_screens(self.out / "screens.jsonl", captured.screens)
        captured.files["grounding"] = write_samples(self.out / "grounding.jsonl", captured.grounding)
        if with_actions:
            captured.files["actions"] = write_samples(self.out / "actions.jsonl", captured.actions)
        return captured


def _called(element: Element) -> str:
    return f'the "{element.name}" {WORDS.get(element.role, element.role)}'


def _askable(element: Element) -> bool:
    """Whether a prompt can name it: the page wrote the name, and may have written anything."""
    name = element.name
    return bool(
        name and not element.disabled and len(name) <= LONGEST_NAME and name.isprintable()
        and not RESERVED.search(name) and not PLACEHOLDER.search(name)
    )  # fmt: skip


def _shown(address: Address) -> str:
    """A file by its name, an address without user and password."""
    if address.folder is not None:
        return address.name
    parts = urlsplit(address.url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _write_screens(path: Path, screens: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as unfinished:
        unfinished.write_text("".join(json.dumps(screen, ensure_ascii=False) + "\n" for screen in screens), "utf-8")
    return path


def _playwright_error() -> type[Exception]:
    from playwright.async_api import Error

    return Error
