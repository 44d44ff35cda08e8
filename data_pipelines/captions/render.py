"""Paint a `Scene`, or a film of one moving figure, at any size of 24 pixels or more."""

from __future__ import annotations

from random import Random

from PIL import Image

from data_pipelines.captions.scenes import BACKGROUNDS, Figure, Scene
from data_pipelines.gui.shapes import COLOURS, Canvas, Painter, glyph, rectangle

SIDES = {"small": (0.24, 0.29), "large": (0.37, 0.43)}
"""Sides of a figure as shares of the picture's side."""
GAP, EDGE, DRIFT = 0.06, 0.03, 0.1
"""Between two figures, to the picture's edge, and how far the second may leave the axis of their relation."""
SMALLEST = 24


def paint(scene: Scene, rng: Random, *, size: int = 64) -> Image.Image:
    """An RGB picture of `size` x `size` pixels; places and exact sides, which no scene says, are drawn from `rng`."""
    if size < SMALLEST:
        raise ValueError(f"size = {size}; a scene needs at least {SMALLEST} pixels.")
    assert scene.background is not None
    canvas = Canvas(Image.new("RGB", (size, size), BACKGROUNDS[scene.background]))
    sides = [rng.uniform(*SIDES[figure.size or "large"]) for figure in scene.figures]
    for figure, side, (x, y) in zip(scene.figures, sides, _places(scene, sides, rng), strict=True):
        _put(canvas, figure, side, x, y)
    return canvas.image


def film(figure: Figure, heading: str, rng: Random, *, size: int, frames: int) -> list[Image.Image]:
    """A figure that crosses a white picture from edge to edge, to the left, right, up or down, at even speed; RGB."""
    side = rng.uniform(*SIDES[figure.size or "large"])
    start, end, across = EDGE, 1 - EDGE - side, rng.uniform(EDGE, 1 - EDGE - side)
    if heading in ("left", "up"):
        start, end = end, start
    pictures = []
    for index in range(frames):
        along = start + (end - start) * index / max(frames - 1, 1)
        x, y = (along, across) if heading in ("left", "right") else (across, along)
        canvas = Canvas(Image.new("RGB", (size, size), BACKGROUNDS["white"]))
        _put(canvas, figure, side, x, y)
        pictures.append(canvas.image)
    return pictures


def _put(canvas: Canvas, figure: Figure, side: float, x: float, y: float) -> None:
    """Paint a figure of that side with its top left corner at (x, y), all in shares of the picture's side."""
    size = canvas.image.width
    left, top, pixels = round(x * size), round(y * size), max(round(side * size), 4)
    canvas.paint((left, top, left + pixels, top + pixels), _painter(figure))


def _painter(figure: Figure) -> Painter:
    colour = COLOURS[figure.colour]
    return rectangle(colour) if figure.shape == "square" else glyph(figure.shape, colour)


def _places(scene: Scene, sides: list[float], rng: Random) -> list[tuple[float, float]]:
    """Top left corner of each figure, in shares of the picture's side."""
    if len(sides) == 1:
        return [(rng.uniform(EDGE, 1 - EDGE - sides[0]), rng.uniform(EDGE, 1 - EDGE - sides[0]))]
    # Along the axis: before, first figure, between, second figure, after; the spare room is shared out at random.
    first, second = sides if scene.relation in ("left of", "above") else sides[::-1]
    spare = 1 - 2 * EDGE - first - second - GAP
    cuts = sorted((rng.uniform(0, spare), rng.uniform(0, spare)))
    along = [EDGE + cuts[0], EDGE + cuts[1] + first + GAP]
    # Across it: their centres stay close.
    reach = max(first, second) / 2 + EDGE
    centre = rng.uniform(reach, 1 - reach)
    across = [centre - first / 2, centre - second / 2]
    across[1] = min(max(across[1] + rng.uniform(-DRIFT, DRIFT), EDGE), 1 - EDGE - second)
    places = list(zip(along, across, strict=True))
    if scene.relation in ("above", "below"):
        places = [(x, y) for y, x in places]
    return places if scene.relation in ("left of", "above") else places[::-1]
