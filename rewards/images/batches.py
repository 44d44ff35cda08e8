"""What rows of pictures have in common: the caption of a sample, a picture made RGB, and models that read batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mmrl.records import Sample

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from rewards.images.towers import Towers

Row = TypeVar("Row")


def caption_of(sample: Sample) -> str:
    """What the picture should show: `target.caption` if the sample has one, else the text of the last user message."""
    caption = sample.target.get("caption")
    if caption is None:
        caption = sample.prompt
    if not isinstance(caption, str):
        raise TypeError(f"target.caption is a text; found {caption!r}")
    if not caption.strip():
        raise ValueError(f"there is no caption: target.caption and the last user message are empty; found {caption!r}")
    return caption


def rgb(picture: Any) -> Image:
    """The completion as an RGB picture. TypeError if it is something else, OSError if it cannot be decoded."""
    from PIL.Image import Image

    if not isinstance(picture, Image):
        raise TypeError(f"this reward reads pictures (PIL images); the completion is a {type(picture).__name__}")
    if 0 in picture.size:
        raise ValueError(f"the picture is empty: {picture.width} x {picture.height} pixels")
    return picture.convert("RGB")


def score_in_batches(
    pictures: Sequence[Any],
    samples: Sequence[Sample],
    prepare: Callable[[Any, Sample], Row],
    score: Callable[[list[Row]], Sequence[Any]],
    *,
    batch_size: int,
) -> list[Any]:
    """One value per row from `score`, at most `batch_size` rows at a time.

    A row that `prepare` raises for gets that exception as its value; the others are scored without it.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is a number of pictures, at least 1; found {batch_size}")
    outcomes: list[Any] = [None] * len(pictures)
    for rows, prepared in _batches(pictures, samples, prepare, outcomes, batch_size):
        for row, value in zip(rows, score(prepared), strict=True):
            outcomes[row] = value
    return outcomes


def _batches(
    pictures: Sequence[Any],
    samples: Sequence[Sample],
    prepare: Callable[[Any, Sample], Row],
    outcomes: list[Any],
    batch_size: int,
) -> Iterator[tuple[list[int], list[Row]]]:
    """Numbers of rows and the rows prepared; a failure goes to `outcomes`."""
    rows: list[int] = []
    prepared: list[Row] = []
    for row, (picture, sample) in enumerate(zip(pictures, samples, strict=True)):
        try:
            prepared.append(prepare(picture, sample))
        except Exception as error:
            outcomes[row] = error
            continue
        rows.append(row)
        if len(rows) == batch_size:
            yield rows, prepared
            rows, prepared = [], []
    if rows:
        yield rows, prepared


class Batched(ABC):
    """A batch reward whose model reads pictures several at a time: rows are prepared singly and scored together."""

    batch_size: int
    """Rows that are scored at once, at most."""

    def __call__(self, images: Sequence[Any], samples: Sequence[Sample]) -> list[Any]:
        return score_in_batches(images, samples, self._prepare, self._score, batch_size=self.batch_size)

    @abstractmethod
    def _prepare(self, image: Any, sample: Sample) -> Any:
        """What is scored of a row. What it raises is the failure of that row alone."""

    @abstractmethod
    def _score(self, rows: list[Any]) -> Sequence[Any]:
        """The values of prepared rows."""


class CaptionCosine(Batched):
    """The cosine of a picture and its caption in the space of `towers`."""

    towers: Towers

    def _prepare(self, image: Any, sample: Sample) -> tuple[Tensor, str]:
        return self._pixels(rgb(image)), caption_of(sample)

    def _pixels(self, picture: Image) -> Tensor:
        """f32[3, side, side] of an RGB picture, as the model sees it."""
        return self.towers.prepare(picture)

    def _score(self, rows: list[tuple[Tensor, str]]) -> list[float]:
        return self.towers.cosines([pixels for pixels, _ in rows], [caption for _, caption in rows])
