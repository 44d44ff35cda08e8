"""What a screen is made of: colours, themes, glyphs, and a canvas that knows the exact box of all it draws.

Where things go is `render.py`. Everything is drawn at four times its size and reduced, so edges are smooth; a box is
measured from the pixels that were painted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]
Painter = Callable[[ImageDraw.ImageDraw, float, float], None]
"""Paints into (0, 0)..(width, height) of the enlarged layer."""

SHARPNESS = 4
"""Enlargement while drawing."""

COLOURS: dict[str, Colour] = {
    "red": (228, 44, 48),
    "green": (34, 162, 70),
    "blue": (40, 98, 232),
    "yellow": (250, 200, 20),
    "purple": (152, 58, 200),
    "cyan": (24, 190, 208),
}
"""Six names no eye confuses; tiny screens describe elements by them."""


@dataclass(frozen=True)
class Theme:
    """The neutral colours of a screen."""

    page: Colour
    """Background of the content."""
    bar: Colour
    """Title bars and side bars."""
    card: Colour
    """Text fields and panels."""
    line: Colour
    """Borders and unreadable placeholder text."""
    ink: Colour
    """Text and glyphs."""
    accent: Colour
    """Filled buttons, ticks, switches."""


THEMES: dict[str, Theme] = {
    "light": Theme((247, 248, 250), (222, 226, 232), (255, 255, 255), (186, 193, 203), (38, 44, 54), (45, 105, 225)),
    "dark": Theme((30, 33, 40), (49, 54, 65), (42, 46, 56), (90, 97, 112), (232, 235, 240), (92, 128, 246)),
    "blue": Theme((222, 233, 248), (58, 92, 150), (246, 250, 255), (146, 170, 206), (24, 42, 76), (34, 82, 168)),
    "sand": Theme((245, 236, 218), (206, 186, 150), (255, 250, 240), (198, 178, 142), (70, 54, 34), (176, 92, 40)),
    "night": Theme((16, 20, 44), (38, 44, 84), (28, 34, 66), (80, 88, 138), (226, 228, 246), (132, 106, 240)),
    "mint": Theme((230, 244, 238), (150, 196, 178), (250, 255, 252), (142, 184, 168), (22, 60, 48), (16, 126, 98)),
}


@dataclass(frozen=True)
class Element:
    """Something to click on."""

    name: str
    """What an instruction calls it, unique within a screen: `red circle`, `"Save" button`."""
    kind: str
    """`button`, `circle`, `field`, ..."""
    type: str
    """`text` or `icon`, as in ScreenSpot."""
    box: Box
    """(x1, y1, x2, y2) in pixels, tight; x2 and y2 are one past the last painted pixel."""

    @property
    def centre(self) -> tuple[int, int]:
        """The pixel at the centre of the box; always inside it."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) // 2, (y1 + y2) // 2


def overlap(a: Box, b: Box, margin: int = 0) -> bool:
    """Whether two boxes come closer than `margin` pixels."""
    return a[0] < b[2] + margin and b[0] < a[2] + margin and a[1] < b[3] + margin and b[1] < a[3] + margin


@dataclass
class Canvas:
    """An image and the elements drawn on it so far."""

    image: Image.Image
    elements: list[Element] = field(default_factory=list)

    def paint(self, box: Box, painter: Painter) -> Box:
        """Paint decoration into a box; returns the tight box of what was painted."""
        width, height = (box[2] - box[0]) * SHARPNESS, (box[3] - box[1]) * SHARPNESS
        layer = Image.new("RGBA", (width, height), (0, 0, 0, 0))
        painter(ImageDraw.Draw(layer), width, height)
        # Premultiplied while reducing: transparent pixels must not darken the edges.
        layer = layer.convert("RGBa").reduce(SHARPNESS).convert("RGBA")
        tight = layer.getchannel("A").getbbox()
        assert tight is not None, "nothing was painted"
        self.image.paste(layer, box[:2], layer)
        return box[0] + tight[0], box[1] + tight[1], box[0] + tight[2], box[1] + tight[3]

    def add(self, name: str, kind: str, type: str, *pieces: tuple[Box, Painter]) -> None:
        """Paint an element piece by piece and remember it with the tight box around all pieces."""
        boxes = [self.paint(box, painter) for box, painter in pieces]
        box = tuple(pick(side) for pick, side in zip((min, min, max, max), zip(*boxes, strict=True), strict=True))
        assert not any(overlap(box, other.box) or name == other.name for other in self.elements), name
        self.elements.append(Element(name, kind, type, box))


@lru_cache(maxsize=64)
def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """PIL's built-in font, `size` in pixels of the enlarged layer."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Width in screen pixels of a text of that size, rounded up."""
    return math.ceil(font(size * SHARPNESS).getlength(text) / SHARPNESS)


def rectangle(fill: Colour, *, radius: float = 0.0, outline: Colour | None = None, stroke: int = 1) -> Painter:
    """A painter that fills the box; `radius` as a share of the shorter side, `stroke` in screen pixels."""

    def painter(draw: ImageDraw.ImageDraw, w: float, h: float) -> None:
        edge = stroke * SHARPNESS if outline else 0
        draw.rounded_rectangle((0, 0, w - 1, h - 1), radius * min(w, h), fill=fill, outline=outline, width=edge)

    return painter


def label(text: str, colour: Colour, size: int, *, anchor: str = "mm", at: float = 0.5) -> Painter:
    """A painter of one line of text, vertically centred, anchored at a share `at` of the width."""

    def painter(draw: ImageDraw.ImageDraw, w: float, h: float) -> None:
        draw.text((at * w, h / 2), text, fill=colour, font=font(size * SHARPNESS), anchor=anchor)

    return painter


def layers(*painters: Painter) -> Painter:
    """Painters one over the other."""

    def painter(draw: ImageDraw.ImageDraw, w: float, h: float) -> None:
        for paint in painters:
            paint(draw, w, h)

    return painter


def glyph(name: str, colour: Colour) -> Painter:
    """A painter of one of `GLYPHS`, as large as the box."""

    def painter(draw: ImageDraw.ImageDraw, w: float, h: float) -> None:
        if name in OUTLINES:
            draw.polygon([(x * (w - 1), y * (h - 1)) for x, y in OUTLINES[name]], fill=colour)
        else:
            STROKED[name](draw, w - 1, h - 1, colour)

    return painter


def _fit(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points stretched to the unit square."""
    (left, right), (top, bottom) = ((min(side), max(side)) for side in zip(*points, strict=True))
    return [((x - left) / (right - left), (y - top) / (bottom - top)) for x, y in points]


def _ring(radii: list[float]) -> list[tuple[float, float]]:
    """Points around a centre at equal angles, starting at the top."""
    turn = 2 * math.pi / len(radii)
    return _fit([(r * math.sin(i * turn), -r * math.cos(i * turn)) for i, r in enumerate(radii)])


def _heart() -> list[tuple[float, float]]:
    angles = [2 * math.pi * i / 48 for i in range(48)]
    return _fit([
        (16 * math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)))
        for t in angles
    ])  # fmt: skip


OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": _ring([1.0] * 64),
    "triangle": [(0.5, 0), (1, 1), (0, 1)],
    "diamond": [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)],
    "star": _ring([1.0, 0.45] * 5),
    "cross": [(0.33, 0), (0.67, 0), (0.67, 0.33), (1, 0.33), (1, 0.67), (0.67, 0.67),
              (0.67, 1), (0.33, 1), (0.33, 0.67), (0, 0.67), (0, 0.33), (0.33, 0.33)],
    "arrow": [(0, 0.36), (0.52, 0.36), (0.52, 0.06), (1, 0.5), (0.52, 0.94), (0.52, 0.64), (0, 0.64)],
    "play": [(0.12, 0), (1, 0.5), (0.12, 1)],
    "home": [(0.5, 0), (1, 0.48), (0.86, 0.48), (0.86, 1), (0.6, 1), (0.6, 0.66), (0.4, 0.66), (0.4, 1), (0.14, 1),
             (0.14, 0.48), (0, 0.48)],
    "heart": _heart(),
    "tick": [(0, 0.52), (0.16, 0.36), (0.38, 0.6), (0.84, 0.1), (1, 0.26), (0.38, 0.92)],
    "bookmark": [(0.18, 0), (0.82, 0), (0.82, 1), (0.5, 0.72), (0.18, 1)],
    "download": [(0.36, 0), (0.64, 0), (0.64, 0.5), (0.96, 0.5), (0.5, 1), (0.04, 0.5), (0.36, 0.5)],
}  # fmt: skip
"""Filled shapes as corners in the unit square."""


def _menu(draw: ImageDraw.ImageDraw, w: float, h: float, colour: Colour) -> None:
    for top in (0.0, 0.39, 0.78):
        draw.rectangle((0, top * h, w, (top + 0.22) * h), fill=colour)


def _search(draw: ImageDraw.ImageDraw, w: float, h: float, colour: Colour) -> None:
    draw.ellipse((0, 0, 0.72 * w, 0.72 * h), outline=colour, width=max(1, round(0.13 * w)))
    draw.line((0.62 * w, 0.62 * h, 0.93 * w, 0.93 * h), fill=colour, width=max(1, round(0.16 * w)))


def _settings(draw: ImageDraw.ImageDraw, w: float, h: float, colour: Colour) -> None:
    for height, knob in ((0.14, 0.7), (0.5, 0.3), (0.86, 0.6)):
        draw.rectangle((0, (height - 0.05) * h, w, (height + 0.05) * h), fill=colour)
        draw.ellipse(((knob - 0.14) * w, (height - 0.14) * h, (knob + 0.14) * w, (height + 0.14) * h), fill=colour)


def _user(draw: ImageDraw.ImageDraw, w: float, h: float, colour: Colour) -> None:
    draw.ellipse((0.26 * w, 0, 0.74 * w, 0.48 * h), fill=colour)
    draw.pieslice((0.04 * w, 0.56 * h, 0.96 * w, 1.44 * h), 180, 360, fill=colour)


def _close(draw: ImageDraw.ImageDraw, w: float, h: float, colour: Colour) -> None:
    inset = 0.1
    for start, end in ((inset, 1 - inset), (1 - inset, inset)):
        draw.line((start * w, inset * h, end * w, (1 - inset) * h), fill=colour, width=max(1, round(0.18 * w)))


STROKED: dict[str, Callable[[ImageDraw.ImageDraw, float, float, Colour], None]] = {
    "menu": _menu,
    "search": _search,
    "settings": _settings,
    "user": _user,
    "close": _close,
}
GLYPHS = (*OUTLINES, *STROKED)


def ink_on(background: Colour) -> Colour:
    """Near-black or white, whichever reads better on a background."""
    red, green, blue = background
    return (30, 34, 42) if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else (255, 255, 255)
