"""Full screens: an application window with a title, icons, navigation, a form and buttons, at desktop or phone size.

Widgets are drawn by one function each; `draw_full` lays them out. Every label is drawn from a list without
replacement, so names are unique. Tiny screens and the entry point are `render.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from PIL import Image

from data_pipelines.gui.shapes import (
    Box,
    Canvas,
    Colour,
    Theme,
    glyph,
    ink_on,
    label,
    layers,
    rectangle,
    text_width,
)

TITLES = ("Mail", "Photos", "Notes", "Calendar", "Music", "Travel", "Shop", "Weather", "Files", "Contacts")
LINKS = ("Inbox", "Drafts", "Archive", "Reports", "Gallery", "Team", "Orders", "History", "Billing", "Privacy", "Help")
FIELDS = ("Name", "Email", "Phone", "City", "Address", "Company", "Subject", "Password", "Card number", "Date")
OPTIONS = ("Remember me", "Send a copy", "Accept terms", "Show details", "Dark mode", "Notifications", "Wi-Fi",
           "Location", "Auto-save", "Airplane mode", "Weekly digest", "Share usage data")  # fmt: skip
BUTTONS = ("Save", "Cancel", "Submit", "Apply", "Delete", "Continue", "Back", "Sign in", "Print", "Export", "Reset")
ICONS = ("star", "heart", "home", "settings", "user", "bookmark", "download", "play", "arrow")

BAR = 40
"""Height of the title bar in pixels."""
TEXT = 15
"""Height of body text in pixels."""
GAP = 14
"""Space between widgets and around the content in pixels."""


@dataclass
class Screen:
    """A canvas, its theme, and the labels not yet used."""

    canvas: Canvas
    theme: Theme
    rng: Random
    labels: dict[str, list[str]]

    def pick(self, kind: str) -> str:
        return self.labels[kind].pop()

    def write(self, box: Box, text: str, colour: Colour, *, size: int = TEXT) -> None:
        """Text at the left of a box; not clickable."""
        self.canvas.paint(box, label(text, colour, size, anchor="lm", at=0.0))


def draw_full(rng: Random, size: tuple[int, int], theme: Theme) -> Canvas:
    """A full screen of `size` (width, height) in pixels: side navigation if it is wide, a bottom bar if it is tall."""
    width, height = size
    pools = {"link": LINKS, "field": FIELDS, "option": OPTIONS, "button": BUTTONS, "icon": ICONS}
    labels = {kind: rng.sample(pool, len(pool)) for kind, pool in pools.items()}
    screen = Screen(Canvas(Image.new("RGB", size, theme.page)), theme, rng, labels)
    _title_bar(screen, width)
    if width > height:
        left = _side_bar(screen, height)
        _content(screen, (left + GAP, BAR + GAP, width - GAP, height - GAP))
    else:
        _bottom_bar(screen, width, height)
        _content(screen, (GAP, BAR + GAP, width - GAP, height - 56 - GAP))
    return screen.canvas


def _title_bar(screen: Screen, width: int) -> None:
    canvas, theme = screen.canvas, screen.theme
    ink = ink_on(theme.bar)
    canvas.paint((0, 0, width, BAR), rectangle(theme.bar))
    _icon(screen, "menu", GAP, BAR // 2, ink, side=16)
    screen.write((GAP + 30, 0, width // 2, BAR), screen.rng.choice(TITLES), ink, size=17)
    right = width - GAP - 14
    for name in ("close", *(screen.pick("icon") for _ in range(screen.rng.randint(1, 3)))):
        _icon(screen, name, right, BAR // 2, ink, side=14 if name == "close" else 18)
        right -= 38


def _side_bar(screen: Screen, height: int) -> int:
    """Returns where the content may begin."""
    canvas, theme, width = screen.canvas, screen.theme, 140
    canvas.paint((0, BAR, width, height), rectangle(theme.card))
    canvas.paint((width, BAR, width + 1, height), rectangle(theme.line))
    for row in range(screen.rng.randint(3, 6)):
        top = BAR + GAP + row * 36
        if row == 0:
            canvas.paint((6, top - 3, width - 6, top + 27), rectangle(theme.bar, radius=0.2))
        name = screen.pick("link")
        ink = ink_on(theme.bar) if row == 0 else theme.ink
        canvas.paint((18, top + 8, 26, top + 16), glyph("circle", theme.accent if row else ink))
        words = (36, top, 36 + text_width(name, TEXT) + 2, top + 24)
        canvas.add(f'"{name}" link', "link", "text", (words, label(name, ink, TEXT, anchor="lm", at=0.0)))
    return width


def _bottom_bar(screen: Screen, width: int, height: int) -> None:
    canvas, theme = screen.canvas, screen.theme
    canvas.paint((0, height - 56, width, height), rectangle(theme.card))
    canvas.paint((0, height - 57, width, height - 56), rectangle(theme.line))
    count = screen.rng.randint(3, 5)
    for i in range(count):
        x = round((i + 0.5) * width / count) - 11
        _icon(screen, screen.pick("icon"), x, height - 28, theme.ink if i else theme.accent, side=22)


def _content(screen: Screen, area: Box) -> None:
    """A search field, a form as long as there is room, and buttons at the bottom right."""
    x1, y1, x2, y2 = area
    _search(screen, (x1, y1, min(x2, x1 + 360), y1 + 34))
    y = y1 + 34 + GAP
    screen.write((x1, y, x2, y + 26), screen.pick("link"), screen.theme.ink, size=20)
    y += 26 + GAP
    bottom = y2 - 36 - GAP
    rows = screen.rng.choices((_field, _checkbox, _switch, _paragraph), weights=(4, 2, 2, 2), k=40)
    for row in [_field, *rows]:
        needed = HEIGHTS[row]
        if y + needed > bottom or not (screen.labels["field"] and screen.labels["option"]):
            break
        row(screen, (x1, y, min(x2, x1 + 420), y + needed))
        y += needed + screen.rng.randint(GAP, 2 * GAP)
    for i in range(screen.rng.randint(2, 3)):
        name = screen.pick("button")
        wide = text_width(name, TEXT) + 36
        _button(screen, name, (x2 - wide, y2 - 36, x2, y2), filled=i == 0)
        x2 -= wide + GAP


def _icon(screen: Screen, name: str, x: int, middle: int, colour: Colour, *, side: int) -> None:
    box = (x, middle - side // 2, x + side, middle - side // 2 + side)
    screen.canvas.add(f"{name} icon", name, "icon", (box, glyph(name, colour)))


def _button(screen: Screen, name: str, box: Box, *, filled: bool) -> None:
    theme = screen.theme
    body = rectangle(theme.accent, radius=0.25) if filled else rectangle(theme.card, radius=0.25, outline=theme.line)
    words = label(name, ink_on(theme.accent if filled else theme.card), TEXT)
    screen.canvas.add(f'"{name}" button', "button", "text", (box, layers(body, words)))


def _search(screen: Screen, box: Box) -> None:
    theme = screen.theme
    lens = (box[0] + 12, box[1] + 10, box[0] + 26, box[1] + 24)
    words = (box[0] + 36, box[1], box[2] - 12, box[3])
    screen.canvas.add(
        "search field", "field", "text",
        (box, rectangle(theme.card, radius=0.5, outline=theme.line)),
        (lens, glyph("search", theme.line)),
        (words, label("Search", theme.line, TEXT, anchor="lm", at=0.0)),
    )  # fmt: skip


def _field(screen: Screen, box: Box) -> None:
    name, theme = screen.pick("field"), screen.theme
    screen.write((box[0], box[1], box[2], box[1] + 18), name, theme.ink, size=14)
    body = (box[0], box[1] + 22, box[2], box[3])
    screen.canvas.add(
        f'"{name}" field', "field", "text", (body, rectangle(theme.card, radius=0.15, outline=theme.line))
    )


def _checkbox(screen: Screen, box: Box) -> None:
    name, theme = screen.pick("option"), screen.theme
    x, y = box[0], box[1]
    ticked = screen.rng.random() < 0.5
    square = rectangle(theme.accent if ticked else theme.card, radius=0.25, outline=theme.line)
    words = (x + 28, y, x + 30 + text_width(name, TEXT), y + 20)
    pieces = [((x, y, x + 20, y + 20), square), (words, label(name, theme.ink, TEXT, anchor="lm", at=0.0))]
    if ticked:
        pieces.append(((x + 5, y + 5, x + 15, y + 15), glyph("tick", ink_on(theme.accent))))
    screen.canvas.add(f'"{name}" checkbox', "checkbox", "text", *pieces)


def _switch(screen: Screen, box: Box) -> None:
    """The words stand at the left, the switch itself (the element) at the right."""
    name, theme = screen.pick("option"), screen.theme
    on = screen.rng.random() < 0.5
    screen.write((box[0], box[1], box[2] - 60, box[3]), name, theme.ink)
    track = (box[2] - 44, box[1], box[2], box[1] + 24)
    knob_x = track[2] - 21 if on else track[0] + 3
    knob = (knob_x, track[1] + 3, knob_x + 18, track[1] + 21)
    screen.canvas.add(
        f'"{name}" switch', "switch", "icon",
        (track, rectangle(theme.accent if on else theme.line, radius=0.5)),
        (knob, glyph("circle", (255, 255, 255))),
    )  # fmt: skip


def _paragraph(screen: Screen, box: Box) -> None:
    """Lines in the place of text nobody has to read."""
    for line, share in enumerate((1.0, 0.94, screen.rng.uniform(0.3, 0.8))):
        top = box[1] + 13 * line
        right = box[0] + round(share * (box[2] - box[0]))
        screen.canvas.paint((box[0], top, right, top + 6), rectangle(screen.theme.line, radius=0.5))


HEIGHTS: dict[Callable[[Screen, Box], None], int] = {_field: 56, _checkbox: 20, _switch: 24, _paragraph: 32}
"""The rows of a form and their heights in pixels."""
