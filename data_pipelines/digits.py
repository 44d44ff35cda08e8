"""Handwritten digits as four-choice questions: real images, no download.

The images are scikit-learn's 8x8 digits (1,797, from the UCI test set), enlarged. Which of them are for testing
depends on nothing but the constant below, so a cold start never sees a test image, whatever its seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from data_pipelines.dataset import write_samples

if TYPE_CHECKING:
    from numpy import ndarray

LETTERS = "ABCD"
TEST_IMAGES = 360
"""Images kept for testing, out of 1,797."""
TURNS = 4
"""Questions about one image in a cold-start chat."""


def make_digits(out: str | Path, *, seed: int = 0, size: int = 64) -> dict[str, Path]:
    """Write `train.jsonl` and `test.jsonl`, one row per image, and the images as `size` x `size` RGB PNGs.

    The question is `which digit? A 3 B 7 C 1 D 9`, the target `{"answer": "C"}`; the
    order of the options (`meta.options`) is drawn once, from `seed`. Returns the path per split.
    """
    out = Path(out)
    return {
        split: write_samples(out / f"{split}.jsonl", _questions(out, split, seed, size)) for split in ("train", "test")
    }


def make_digits_cold_start(
    out: str | Path, *, count: int = 4096, seed: int = 0, noise: float = 0.45, size: int = 64
) -> dict[str, Path]:
    """Write `cold_start.jsonl`: `count` chats of four questions and answers about training images.

    With probability `noise` an answer is one of the three wrong letters, drawn anew for every question.
    """
    out = Path(out)
    if not 0 <= noise <= 1:
        raise ValueError(f"noise = {noise}; it is the share of wrong answers, 0 to 1.")
    return {"cold_start": write_samples(out / "cold_start.jsonl", _chats(out, count, seed, noise, size))}


def _questions(out: Path, split: str, seed: int, size: int) -> Iterator[dict[str, Any]]:
    for index, (path, digit) in _stored(out, split, size).items():
        text, choices, answer = _question(Random(f"digits/{seed}/{index}"), digit)
        yield {
            "id": f"digits-{index:04d}",
            "messages": [_user(text, path)],
            "target": {"answer": answer},
            "meta": {"task": "digits", "coordinates": "pixel", "options": choices},
        }


def _chats(out: Path, count: int, seed: int, noise: float, size: int) -> Iterator[dict[str, Any]]:
    images = list(_stored(out, "train", size).values())
    for row in range(count):
        rng = Random(f"digits/cold_start/{seed}/{row}")
        path, digit = rng.choice(images)
        messages = []
        for turn in range(TURNS):
            text, _, answer = _question(rng, digit)
            if rng.random() < noise:
                answer = rng.choice([letter for letter in LETTERS if letter != answer])
            messages += [_user(text, path if turn == 0 else None), {"role": "assistant", "content": answer}]
        meta = {"task": "digits", "coordinates": "pixel"}
        yield {"id": f"digits-cold-{row:05d}", "messages": messages, "meta": meta}


def _question(rng: Random, digit: str) -> tuple[str, list[str], str]:
    """The text, the four choices in order, and the letter of the right one."""
    choices = [digit, *rng.sample([other for other in "0123456789" if other != digit], len(LETTERS) - 1)]
    rng.shuffle(choices)
    listed = " ".join(f"{letter} {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
    return f"which digit? {listed}", choices, LETTERS[choices.index(digit)]


def _user(text: str, image: str | None) -> dict[str, Any]:
    parts = [{"type": "image", "image": image}] if image else []
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def _stored(out: Path, split: str, size: int) -> dict[int, tuple[str, str]]:
    """Write the PNGs of a split; index in scikit-learn's set -> (absolute path, digit)."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = list(range(len(pixels)))
    Random("digits/split").shuffle(order)
    chosen = sorted(order[:TEST_IMAGES] if split == "test" else order[TEST_IMAGES:])
    folder = out.absolute() / split
    folder.mkdir(parents=True, exist_ok=True)
    stored = {}
    for index in chosen:
        path = folder / f"{index:04d}.png"
        _enlarge(pixels[index].reshape(8, 8), size).save(path)
        stored[index] = (str(path), str(labels[index]))
    return stored


def _enlarge(pixels: ndarray, size: int) -> Any:
    """f64[8, 8] in 0..16 -> a PIL RGB image, white on black, `size` pixels a side."""
    from PIL import Image

    small = Image.fromarray((pixels * (255 / 16)).round().astype("uint8"))
    return small.resize((size, size), Image.Resampling.BICUBIC).convert("RGB")
