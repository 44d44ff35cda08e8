"""Headless Chromium with a page in it that nobody trusts: opening, looking, clicking. Rows are made in `capture.py`.

What a page may do: an http(s) page loads http(s) only; a file loads files of its own folder and below, and nothing from
the network. Downloads, dialogs, pop-ups, service workers and websockets of files are refused. Everything has a time
limit. Boxes are measured by one constant function in a world of its own, which the page's scripts cannot reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from data_pipelines.coordinates import Size
from data_pipelines.gui.elements import Element, find_elements
from mmrl.plugins import ConfigError

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page, Playwright, Route

NAMES = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
FLAGS = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
)  # fmt: skip
SCHEMES = ("http", "https", "file")
WITHOUT_NETWORK = ("data", "blob", "about")
SETTLE = 0.3
"""Seconds after loading and after every action, for scripts and styles to do their work."""
TRIES = 3
CLOSING = 10.0
"""Seconds to close a page in; then the browser goes with it."""


class PageError(ValueError):
    """What went wrong with a page; the run goes on without it."""


@dataclass(frozen=True)
class Address:
    """What is opened."""

    given: str
    """As on the command line."""
    url: str
    folder: Path | None
    """Of a file: the only place it may load from."""

    @property
    def name(self) -> str:
        """Last part of the path, or the host."""
        parts = urlsplit(self.url)
        return Path(url2pathname(parts.path)).name or parts.hostname or "page"

    def allows(self, url: str) -> bool:
        """Whether a page opened here may load `url`."""
        scheme = url.partition(":")[0].lower()
        if scheme in WITHOUT_NETWORK:
            return True
        if self.folder is None:
            return scheme in ("http", "https")
        return scheme == "file" and _file_of(url, self.folder) is not None


def address_of(given: str) -> Address:
    """ConfigError for a scheme other than http, https and file, and for a file that is not there."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", given)
    if scheme and not Path(given).is_file():
        if scheme[1].lower() not in SCHEMES:
            raise ConfigError(f"{given}: pages are opened by {', '.join(SCHEMES)}, and this is {scheme[1]}:.")
        if scheme[1].lower() != "file":
            if not urlsplit(given).hostname:
                raise ConfigError(f"{given}: there is no host in this address.")
            return Address(given, given, None)
        path = Path(url2pathname(urlsplit(given).path))
    else:
        path = Path(given)
    if not path.is_file():
        raise ConfigError(f"{given}: there is no such file; a page of the web begins with http:// or https://.")
    path = path.resolve()
    return Address(given, path.as_uri(), path.parent)


def _file_of(url: str, folder: Path) -> Path | None:
    """The file behind a file: address if it lies in the folder or below, links followed."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        return None
    try:
        path = Path(url2pathname(parts.path)).resolve()
    except (OSError, ValueError):
        return None
    return path if path.is_relative_to(folder.resolve()) and path.is_file() else None


def find_browser(executable: str | None) -> str:
    """The browser that is asked for, or the first of `NAMES` in PATH. ConfigError says how to get one."""
    for name in [executable] if executable else NAMES:
        if found := shutil.which(name):
            return found
    missing = f"there is no program {executable}" if executable else f"there is none of {', '.join(NAMES)} in PATH"
    raise ConfigError(f"capture needs Chromium: {missing}. Install it (Debian: apt-get install chromium) or name it.")


@contextlib.asynccontextmanager
async def chromium(executable: str) -> AsyncIterator[Chromium]:
    """A started browser with a fresh profile, gone at the end whatever hangs."""
    try:
        from playwright.async_api import Error, async_playwright
    except ImportError:
        raise ConfigError(
            "capture needs the package playwright, of the extra `capture`: scripts/setup.sh dev."
        ) from None
    async with async_playwright() as playwright:
        chromium = Chromium(playwright, executable)
        try:
            await chromium.start()
        except Error as error:
            raise ConfigError(f"{executable} does not start ({str(error).strip().splitlines()[0]}).") from None
        try:
            yield chromium
        finally:
            await chromium.stop()


class Chromium:
    """A browser that is started anew if a page takes it down."""

    def __init__(self, playwright: Playwright, executable: str) -> None:
        self.playwright, self.executable = playwright, executable
        self.browser: Browser | None = None

    async def start(self) -> None:
        self.browser = await self.playwright.chromium.launch(
            executable_path=self.executable, headless=True, args=list(FLAGS), chromium_sandbox=os.geteuid() != 0
        )

    async def stop(self) -> None:
        if self.browser is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.browser.close(), CLOSING)
        self.browser = None

    @contextlib.asynccontextmanager
    async def page(self, address: Address, size: Size, *, seconds: float) -> AsyncIterator[Screen]:
        """A page opened in a context of its own: fixed size, language, time zone, light, no motion."""
        if self.browser is None or not self.browser.is_connected():
            await self.start()
        assert self.browser is not None
        context = await self.browser.new_context(
            viewport={"width": size[0], "height": size[1]}, device_scale_factor=1, locale="en-US", timezone_id="UTC",
            color_scheme="light", reduced_motion="reduce", accept_downloads=False, service_workers="block",
        )  # fmt: skip
        try:
            context.set_default_timeout(seconds * 1000)
            yield await _open(context, address, size)
        finally:
            try:
                await asyncio.wait_for(context.close(), CLOSING)
            except Exception:
                await self.stop()


async def _open(context: BrowserContext, address: Address, size: Size) -> Screen:
    async def check(route: Route) -> None:
        if address.allows(route.request.url):
            await route.continue_()
        else:
            await route.abort("blockedbyclient")

    await context.route("**/*", check)
    if address.folder is not None:
        await context.route_web_socket("**/*", lambda socket: socket.close())
    page = await context.new_page()

    async def close(other: Page) -> None:
        if other is not page:
            await other.close()

    context.on("page", close)
    page.on("dialog", lambda dialog: dialog.dismiss())
    answer = await page.goto(address.url, wait_until="load")
    if answer is not None and answer.status >= 400:
        raise PageError(f"the server answers {answer.status} {answer.status_text}".rstrip())
    return Screen(page, address, size)


@dataclass(frozen=True)
class Look:
    """A screenshot and what was on it."""

    png: bytes
    title: str
    url: str
    elements: list[Element]


class Screen:
    """An open page."""

    def __init__(self, page: Page, address: Address, size: Size) -> None:
        self.page, self.address, self.size = page, address, size

    async def look(self) -> Look:
        """The screenshot with the visible interactive elements, in the order of the document.

        Elements are measured before and after the screenshot; one that moved, came or went is left out. A page that
        goes elsewhere meanwhile is looked at once more there.
        """
        for _ in range(TRIES):
            await self.settle()
            url = self.page.url
            session = await self.page.context.new_cdp_session(self.page)
            before = await find_elements(session, self.size)
            png = await self.page.screenshot(animations="allow", caret="hide")
            after = set(await find_elements(session, self.size))
            await session.detach()
            title = " ".join((await self.page.title()).split())
            if not self.address.allows(self.page.url):
                raise PageError(f"the page went to {title[:200] or self.page.url}, which it may not open")
            if self.page.url == url:
                return Look(png, title, url, [element for element in before if element in after])
        raise PageError(f"the page went elsewhere {TRIES} times while it was looked at")

    async def settle(self) -> None:
        await asyncio.sleep(SETTLE)
        await self.page.wait_for_load_state("load")

    async def click(self, x: float, y: float) -> None:
        await self.page.mouse.click(x, y)

    async def type(self, text: str) -> None:
        await self.page.keyboard.type(text)

    async def scroll(self, direction: str) -> None:
        """Four fifths of the screen, with the mouse in its middle."""
        width, height = self.size
        x, y = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}[direction]
        await self.page.mouse.move(width / 2, height / 2)
        await self.page.mouse.wheel(x * 0.8 * width, y * 0.8 * height)

    async def back(self) -> None:
        session = await self.page.context.new_cdp_session(self.page)
        history = await session.send("Page.getNavigationHistory")
        await session.detach()
        before = history["entries"][: history["currentIndex"]]
        if not before or before[-1]["url"] == "about:blank":  # where every page of ours comes from
            raise PageError("there is no page to go back to")
        await self.page.go_back()


def reason(error: BaseException) -> str:
    """Why a page failed, in one line."""
    lines: Any = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
