"""What a picture shows and what a caption says, in the same words: a `Scene`.

A caption's scene leaves out what the caption does not mention (None). Painting is `render.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from data_pipelines.gui.shapes import COLOURS

SHAPES = ("circle", "square", "triangle", "star", "cross")
SIZES = ("small", "large")
BACKGROUNDS = {"white": (255, 255, 255), "gray": (128, 128, 128), "black": (0, 0, 0)}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
"""Where the first of two shapes is, seen from the second; and the other way round."""
NAMES = tuple(COLOURS)
HEADINGS = ("left", "right", "up", "down")
"""Where a figure of a film moves to."""


@dataclass(frozen=True)
class Figure:
    """One shape."""

    colour: str
    shape: str
    size: str | None

    def __str__(self) -> str:
        return " ".join(word for word in ("a", self.size, self.colour, self.shape) if word)


@dataclass(frozen=True)
class Scene:
    """One or two figures on a background. None: not mentioned."""

    figures: tuple[Figure, ...]
    relation: str | None
    """Of the first figure to the second; None if there is one figure."""
    background: str | None

    @property
    def caption(self) -> str:
        """`a red circle`, `a small red circle left of a blue star on a white background`."""
        shown = f" {self.relation} ".join(map(str, self.figures))
        return f"{shown} on a {self.background} background" if self.background else shown

    def turned(self) -> Scene:
        """The same scene, told from its other figure."""
        relation = OPPOSITE[self.relation] if self.relation else None
        return Scene(self.figures[::-1], relation, self.background)

    def describes(self, picture: Scene) -> bool:
        """Whether all that this scene says is so in the picture, and the picture has no further figure."""
        return self._fits(picture) or self._fits(picture.turned())

    def _fits(self, picture: Scene) -> bool:
        if len(self.figures) != len(picture.figures) or self.relation != picture.relation:
            return False
        if self.background not in (None, picture.background):
            return False
        return all(
            (own.colour, own.shape) == (its.colour, its.shape) and own.size in (None, its.size)
            for own, its in zip(self.figures, picture.figures, strict=True)
        )


def draw_scene(rng: Random, *, pairs: float = 0.5) -> Scene:
    """A random scene with everything mentioned, a share `pairs` of them with two figures that differ in name."""
    names = rng.sample([(colour, shape) for colour in NAMES for shape in SHAPES], 2 if rng.random() < pairs else 1)
    figures = tuple(Figure(colour, shape, rng.choice(SIZES)) for colour, shape in names)
    relation = rng.choice(tuple(OPPOSITE)) if len(figures) == 2 else None
    return Scene(figures, relation, rng.choice(tuple(BACKGROUNDS)))


def draw_description(rng: Random, picture: Scene) -> Scene:
    """A random true caption of a picture: sizes and background mentioned or not, told from either figure."""
    told = picture.turned() if rng.random() < 0.5 else picture
    figures = tuple(figure if rng.random() < 0.4 else replace(figure, size=None) for figure in told.figures)
    return replace(told, figures=figures, background=told.background if rng.random() < 0.4 else None)


def draw_mistake(rng: Random, description: Scene) -> Scene:
    """The description with one thing changed that it says: a colour, a shape, a size, the relation, the background."""
    at = rng.randrange(len(description.figures))
    figure = description.figures[at]
    kinds = ["colour", "shape"] * 2
    kinds += ["size"] if figure.size else []
    kinds += ["background"] if description.background else []
    kinds += ["relation"] * 2 if description.relation else []
    kind = rng.choice(kinds)
    if kind == "relation":
        others = [relation for relation in OPPOSITE if relation != description.relation]
        return replace(description, relation=rng.choice(others))
    if kind == "background":
        return replace(description, background=rng.choice([b for b in BACKGROUNDS if b != description.background]))
    known: dict[str, tuple[str, ...]] = {"colour": NAMES, "shape": SHAPES, "size": SIZES}
    wrong = rng.choice([value for value in known[kind] if value != getattr(figure, kind)])
    figures = list(description.figures)
    figures[at] = replace(figure, **{kind: wrong})
    return replace(description, figures=tuple(figures))
