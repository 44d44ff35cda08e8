"""Changes of rows that papers on video make: question-answer inversion, letter shuffling, noise on frames.

What a transform is: `data_pipelines/transform.py`. Which rows have options that can be changed: `options.py`.
"""

from __future__ import annotations

import hashlib
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from data_pipelines.reading import Problem, Row
from data_pipelines.video.options import find_options, letters_of, options_of, rewrite, with_letters
from data_pipelines.video.parts import LETTERS
from data_pipelines.video.prompts import FORMS
from data_pipelines.video.render import read_video, write_video
from mmrl.plugins import ConfigError

if TYPE_CHECKING:
    from numpy import ndarray

    from data_pipelines.media import LoadedMedia

_NEGATED = {
    "did": "didn't", "does": "doesn't", "do": "don't", "is": "isn't", "are": "aren't", "was": "wasn't",
    "were": "weren't", "will": "won't", "would": "wouldn't", "can": "can't", "could": "couldn't",
    "should": "shouldn't",
}  # fmt: skip
_ASKS = ("what", "which", "who", "whose", "where", "when", "why", "how")
_BOUND = re.compile(
    r"\b(?:all|none|both|neither|either|any|some)\b.*\b(?:above|below|these|those|them|options|answers)\b"
    r"|\(?\b[A-H]\)? (?:and|or|&) \(?[A-H]\b|\b(?:option|answer)s? \(?[A-H]\b",
    re.IGNORECASE,
)
"""An option that speaks about other options by place or letter."""


def invert_questions(row: Row, *, rng: Random, probability: float = 0.5, causes: bool = True) -> Row | Problem:
    """TW-GRPO's question-answer inversion: the question is negated, so that all wrong options become right.

    With `probability` a question with one right option is inverted; the others only get the wording that leaves open
    how many options are right, so that it does not give the inversion away. Of the options that become right a random
    number is kept, one at least; then all are shuffled. `meta.inverted` says what was done: the former question,
    options and answer, or False with `meta.not_inverted`, the reason. A question that cannot be negated keeps its
    answer (upstream negates its answer all the same). `causes=False` keeps questions with why and how as they are:
    "why didn't he" is asked as the paper does, but presupposes the contrary of what is seen.
    """
    try:
        options, right = options_of(row), letters_of(row)
        question = row["meta"].get("question")
        if not isinstance(question, str) or not question:
            raise ValueError("there is no `meta.question`")
    except ValueError as error:
        return Problem("", str(error), "no options")
    draw, negated, why = rng.random(), negate(question), ""
    if len(right) > 1:
        why = "several options are right"
    elif any(_BOUND.search(option) for option in options):
        why = "an option speaks about others"
    elif not causes and question.lower().startswith(("why", "how")):
        why = "it asks for a cause"
    elif negated is None:
        why = "the question could not be negated"
    elif draw >= probability:
        why = "not drawn"
    if why:
        changed = with_letters(row, right, options, inverted=False, not_inverted=why)
        question_now, options_now = question, options
    else:
        old = LETTERS.index(right[0])
        wrong = [place for place in range(len(options)) if place != old]
        kept = [old, *rng.sample(wrong, rng.randint(1, len(wrong)))]
        rng.shuffle(kept)
        question_now, options_now = negated or question, [options[place] for place in kept]
        before = {"question": question, "options": options, "answer": right[0]}
        now = [LETTERS[at] for at, place in enumerate(kept) if place != old]
        changed = with_letters(row, now, options_now, question=question_now, inverted=before, task="mcq_several")

    def text(found: str) -> str | None:
        listed = find_options(found, options)
        asked = found.rfind(question, 0, listed.start) if listed else -1
        if listed is None or asked < 0:
            return None
        between = found[asked + len(question) : listed.start]
        after = found[listed.end :]
        for form in ("one", "several"):
            after = after.replace(FORMS[form], FORMS["mixed"])
        if FORMS["mixed"] not in after:
            return None
        return found[:asked] + question_now + between + listed.write(options_now) + after

    if not rewrite(changed, text):
        needed = f"the question, its options and a known ending ({FORMS['mixed']!r}, say)"
        return Problem("", f"no text of the prompt holds {needed}", "unknown prompt")
    return changed


def negate(question: str) -> str | None:
    """The negated question, or None if it has no place for a negation or has one already.

    The verb is negated where it follows the word that asks (`what did the boy do`), or that word and a noun (`which
    object was taken`), or begins the question (`did she ...`), and in `what happened`. A place further on belongs to a
    clause (`what happened after he was ...`).
    """
    words = question.split(" ")
    low = [word.lower().strip(",.?!\u2019'\"") for word in words]
    if any(
        word.endswith(("n't", "n\u2019t")) or word in ("not", "never", "cannot", "unable", "except") for word in low
    ):
        return None
    if low[:2] in (["what", "happened"], ["what", "happens"]):
        auxiliary = "didn't" if low[1] == "happened" else "doesn't"
        return " ".join([words[0], auxiliary, "happen" + words[1][len(low[1]) :], *words[2:]])
    if low[:2] in (["how", "many"], ["how", "much"]) or len(words) < 3:
        return None
    places = [0] if low[0] in _NEGATED else [1]
    if low[0] in ("what", "which", "whose"):
        places.append(2)
    if places != [0] and low[0] not in _ASKS:
        return None
    for place in places:
        if low[place] in _NEGATED:
            changed = _NEGATED[low[place]]
            changed = changed.capitalize() if words[place][0].isupper() else changed
            return " ".join([*words[:place], changed, *words[place + 1 :]])
    return None


def shuffle_letters(row: Row, *, rng: Random) -> Row | Problem:
    """Put the options of a question into random order; letters in `target` follow.

    `meta.order` lists, for each new place, the former one, from 0. Options that speak about others (`all of the
    above`, `both A and C`) keep every option where it is.
    """
    try:
        options, right = options_of(row), letters_of(row)
    except ValueError as error:
        return Problem("", str(error), "no options")
    order = list(range(len(options)))
    if not any(_BOUND.search(option) for option in options):
        rng.shuffle(order)
    places = [LETTERS.index(letter) for letter in right]
    now = [LETTERS[at] for at, place in enumerate(order) if place in places]
    shuffled = [options[place] for place in order]
    changed = with_letters(row, now, shuffled, order=order)

    def text(found: str) -> str | None:
        listed = find_options(found, options)
        return None if listed is None else found[: listed.start] + listed.write(shuffled) + found[listed.end :]

    if not rewrite(changed, text):
        return Problem("", "no text of the prompt lists `meta.options` in order", "unknown prompt")
    return changed


def frame_noise(row: Row, *, rng: Random, out: Path, std: float = 25.0) -> Row | Problem:
    """Gaussian noise on every frame of a row's videos, DeepVideo-R1's way to make easy rows harder.

    `std` is in units of pixel values, 0 to 255. The noisy copies are stored in the folder `out`; `meta.noise` names
    `std`, the seed and the original. The paper lets the amount grow with how easy a row was in training; a fixed one
    is what can be done beforehand.
    """
    if std <= 0:
        raise ConfigError(f"std = {std}; it is a standard deviation in units of pixel values, above 0.")
    changed = deepcopy(row)
    seed, made = rng.getrandbits(32), []
    for message in changed["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else []:
            if part.get("type") != "video":
                continue
            source = Path(part["video"])
            digest = hashlib.sha256(f"{source} {std} {seed}".encode()).hexdigest()[:12]
            try:
                pixels, fps = read_video(source)
            except (OSError, ValueError) as error:
                return Problem("", str(error), "broken media")
            noised = noisy(pixels, std=std, seed=seed)
            stored = write_video(Path(out).absolute() / f"{source.stem}-{digest}.mp4", noised, fps)
            part["video"] = str(stored)
            made.append({"of": str(source), "std": std, "seed": seed})
    if not made:
        return Problem("", "there is no video in this row", "no video")
    changed.setdefault("meta", {})["noise"] = made
    return changed


def noisy(pixels: ndarray, *, std: float, seed: int) -> Any:
    """Pixel values 0 to 255, of any shape, with Gaussian noise of that standard deviation, and clipped: uint8."""
    import numpy as np

    noise = np.random.default_rng(seed).normal(0.0, std, pixels.shape).astype("float32")
    return np.clip(np.rint(pixels + noise), 0, 255).astype("uint8")


def with_noise(loaded: LoadedMedia, *, std: float, seed: int) -> LoadedMedia:
    """The frames a model is about to see with `noisy`'s noise, or the pictures where there is no video."""
    import numpy as np
    import torch
    from PIL import Image

    if loaded.videos:
        frames = [noisy(video.numpy(), std=std, seed=seed + i) for i, video in enumerate(loaded.videos)]
        return replace(loaded, videos=[torch.from_numpy(video).float() for video in frames])
    pictures = [noisy(np.asarray(image), std=std, seed=seed + i) for i, image in enumerate(loaded.images)]
    return replace(loaded, images=[Image.fromarray(picture) for picture in pictures])
