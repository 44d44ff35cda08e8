"""Procedural screens: `draw_screen` paints one and returns every clickable element with its exact box.

Two scales. A tiny screen (64x64, say) holds three to five flat shapes told apart by colour and
kind, large enough for a model of a million parameters. A full screen (`full.py`) is laid out like an application,
with readable labels. No element overlaps another, and no two of a screen share a name.
"""

from __future__ import annotations

from random import Random

from PIL import Image, ImageDraw

from data_pipelines.gui.full import draw_full
from data_pipelines.gui.shapes import (
    COLOURS,
    THEMES,
    Box,
    Canvas,
    Colour,
    Element,
    Painter,
    Theme,
    glyph,
    ink_on,
    layers,
    overlap,
    rectangle,
)

TINY, FULL = (64, 128), (320, 4096)
"""Short sides of tiny and of full screens in pixels, both ends included."""
TINY_KINDS = ("button", "circle", "cross", "diamond", "menu", "triangle")
TINY_BAR = 7
"""Height of a tiny title bar in pixels."""
SMALLEST, LARGEST = 12, 26
"""Sides of a tiny element in pixels; buttons may be up to 28 wide."""


def draw_screen(
    rng: Random, size: tuple[int, int], theme: str, *, elements: tuple[int, int] = (3, 5)
) -> tuple[Image.Image, list[Element]]:
    """An RGB screen of `size` (width, height) in pixels, in one of `THEMES`; the same `rng` state draws the same.

    `elements` is the least and the largest number of elements of a tiny screen.
    """
    if theme not in THEMES:
        raise ValueError(f"there is no theme {theme!r}; themes are {', '.join(THEMES)}.")
    if TINY[0] <= min(size) <= TINY[1]:
        canvas = _draw_tiny(rng, size, THEMES[theme], elements)
    elif FULL[0] <= min(size) <= FULL[1]:
        canvas = draw_full(rng, size, THEMES[theme])
    else:
        raise ValueError(f"no screen of {size[0]}x{size[1]} pixels: the short side is {TINY[0]} to {TINY[1]} (tiny) "
                         f"or {FULL[0]} to {FULL[1]} (full).")  # fmt: skip
    return canvas.image, canvas.elements


def _draw_tiny(rng: Random, size: tuple[int, int], theme: Theme, elements: tuple[int, int]) -> Canvas:
    canvas = Canvas(Image.new("RGB", size, theme.page))
    canvas.paint((0, 0, size[0], TINY_BAR), rectangle(theme.bar))
    for i in range(3):
        canvas.paint((2 + 4 * i, 2, 5 + 4 * i, 5), glyph("circle", ink_on(theme.bar)))
    names = rng.sample([(colour, kind) for colour in COLOURS for kind in TINY_KINDS], elements[1])
    boxes = _scatter(rng, size, [kind for _, kind in names[: rng.randint(*elements)]])
    for (colour, kind), box in zip(names, boxes, strict=False):
        canvas.add(
            f"{colour} {kind}", kind, "text" if kind == "button" else "icon", (box, _shape(kind, COLOURS[colour]))
        )
    return canvas


def _shape(kind: str, colour: Colour) -> Painter:
    if kind != "button":
        return glyph(kind, colour)

    def caption(draw: ImageDraw.ImageDraw, w: float, h: float) -> None:
        draw.rounded_rectangle((0.24 * w, 0.4 * h, 0.76 * w, 0.6 * h), 0.1 * h, fill=(255, 255, 255))

    return layers(rectangle(colour, radius=0.3), caption)


def _scatter(rng: Random, size: tuple[int, int], kinds: list[str]) -> list[Box]:
    """One box per kind at random places under the title bar, at least two pixels apart.

    Sizes shrink with every failed try; where even the smallest finds no room, all are placed anew.
    """
    while True:
        placed: list[Box] = []
        for kind in kinds:
            for largest in range(LARGEST, SMALLEST - 1, -1):
                width = height = rng.randint(SMALLEST, largest)
                if kind == "button":
                    width, height = min(28, round(width * 1.4)), max(SMALLEST, round(height * 0.75))
                x, y = rng.randint(1, size[0] - width - 1), rng.randint(TINY_BAR + 2, size[1] - height - 1)
                box = (x, y, x + width, y + height)
                if not any(overlap(box, other, margin=2) for other in placed):
                    placed.append(box)
                    break
        if len(placed) == len(kinds):
            return placed
