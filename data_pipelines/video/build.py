"""Video data sets from drawn clips: rows for reinforcement learning, and noisy chats for a cold start.

A row of `make_video` is one clip and one question, with its exact answer as the target. A row of
`make_video_cold_start` is one tiny clip and several questions with answers, the spans among them deliberately wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from data_pipelines.dataset import write_samples
from data_pipelines.drawing import counted
from data_pipelines.video.ask import TASKS, Question, Task, draw_question, grounding
from data_pipelines.video.clips import Clip, Form, Scale, draw_clip, form_of
from data_pipelines.video.render import frames, write_video
from mmrl.plugins import ConfigError

DEFAULT_TASKS: dict[Scale, tuple[Task, ...]] = {"tiny": ("grounding",), "full": TASKS}
NOISE = 1.5
"""Default label noise: the standard deviation of every start and end in seconds. Noisy spans of tiny clips have a mean
temporal IoU of 0.59 with the true ones (0.5: 0.85, 1: 0.69, 2: 0.53)."""
EXTRA = 2
"""Questions of other tasks in a cold-start chat."""


def make_video(
    out: str | Path,
    *,
    count: int = 2048,
    test_count: int = 256,
    seed: int = 0,
    scale: Scale = "tiny",
    tasks: Sequence[Task] | None = None,
    size: tuple[int, int] | None = None,
    fps: int | None = None,
    seconds: int | None = None,
) -> dict[str, Path]:
    """Draw clips and write `train.jsonl` (`count` rows) and `test.jsonl` (`test_count` rows) with their mp4 files.

    Tiny clips are 32x32 pixels, 8 seconds at 2 frames per second, and ask for moments unless `tasks` says otherwise;
    full ones are 448x336, 12 seconds at 8, with all tasks in turn. `size` is (width, height) in pixels. One clip serves
    one row. Returns the path per split.
    """
    out, form = Path(out), form_of(scale, size=size, fps=fps, seconds=seconds)
    wanted = tuple(tasks or DEFAULT_TASKS[scale])
    if unknown := set(wanted) - set(TASKS):
        raise ConfigError(f"tasks: there is no {min(unknown)!r}; tasks are {', '.join(TASKS)}.")
    return {
        split: write_samples(out / f"{split}.jsonl", _questions(out, split, rows, seed, scale, form, wanted))
        for split, rows in (("train", count), ("test", test_count))
    }


def make_video_cold_start(
    out: str | Path, *, count: int = 4096, seed: int = 0, noise: float = NOISE, seconds: int | None = None
) -> dict[str, Path]:
    """Draw tiny clips and write `cold_start.jsonl`: `count` chats with all the clip's moments and `EXTRA` other
    questions, in random order.

    Every start and end of a moment is moved by Gaussian noise of `noise` seconds and rounded; other answers are right.
    """
    if noise < 0:
        raise ConfigError(f"noise = {noise}; it is a standard deviation in seconds, 0 or more.")
    out, form = Path(out), form_of("tiny", seconds=seconds)
    return {"cold_start": write_samples(out / "cold_start.jsonl", _chats(out, count, seed, form, noise))}


def _questions(
    out: Path, split: str, count: int, seed: int, scale: Scale, form: Form, tasks: Sequence[Task]
) -> Iterator[dict[str, Any]]:
    for index in counted(range(count), split, count):
        rng = Random(f"video/{seed}/{split}/{index}")
        task = tasks[index % len(tasks)]
        question = None
        while question is None:
            clip = draw_clip(rng, form)
            question = draw_question(rng, clip, task, scale)
        yield {
            "id": f"video-{split}-{index:06d}",
            "messages": [{"role": "user", "content": [_stored(out, split, index, clip), _text(question.text)]}],
            "target": question.target,
            "meta": {"task": task, "source": "video", "split": split, **question.meta, **_about(clip, scale)},
        }


def _chats(out: Path, count: int, seed: int, form: Form, noise: float) -> Iterator[dict[str, Any]]:
    for index in counted(range(count), "cold_start", count):
        rng = Random(f"video/{seed}/cold_start/{index}")
        clip = draw_clip(rng, form)
        # Shapes that collide move at the same time: asked for both, a model could copy its earlier answer.
        questions = list({tuple(q.target["span"]): q for q in grounding(rng, clip, "tiny")}.values())
        others = [
            draw_question(rng, clip, task, "tiny") for task in rng.sample(TASKS, len(TASKS)) if task != "grounding"
        ]
        questions += [question for question in others if question][:EXTRA]
        rng.shuffle(questions)
        messages: list[dict[str, Any]] = []
        for turn, question in enumerate(questions):
            content = [_stored(out, "cold_start", index, clip)] if turn == 0 else []
            answer = noisy_answer(rng, question, noise=noise, seconds=form.seconds)
            messages += [
                {"role": "user", "content": [*content, _text(question.text)]},
                {"role": "assistant", "content": answer},
            ]
        meta = {"task": "video", "source": "video", "split": "cold_start", **_about(clip, "tiny")}
        yield {"id": f"video-cold-{index:06d}", "messages": messages, "meta": meta}


def noisy_answer(rng: Random, question: Question, *, noise: float, seconds: int) -> str:
    """The answer, a span with noise of that standard deviation; it stays a span of whole seconds within the clip."""
    if question.task != "grounding" or not noise:
        return question.answer
    while True:
        start, end = (min(max(round(rng.gauss(time, noise)), 0), seconds) for time in question.target["span"])
        if start < end:
            return f"{start} to {end}"


def _stored(out: Path, split: str, index: int, clip: Clip) -> dict[str, str]:
    path = write_video(out.absolute() / split / f"{index:06d}.mp4", frames(clip), clip.form.fps)
    return {"type": "video", "video": str(path)}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _about(clip: Clip, scale: Scale) -> dict[str, Any]:
    """The script of a clip, for `meta`."""
    return {
        "scale": scale,
        "duration": clip.form.seconds,
        "background": clip.background,
        "actors": [
            {"name": actor.name, "seen": actor.seen, "moves": actor.moving, "turns": actor.turns}
            for actor in clip.actors
        ],
        "hits": [
            {"time": time, "actors": [clip.actors[a].name, clip.actors[b].name]} for time, a, b in clip.hits
        ],
    }  # fmt: skip
