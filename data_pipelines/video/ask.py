"""Questions about a drawn clip, with answers computed from its script.

Each function lists every question of its task that the clip allows; `draw_question` takes one. A tiny clip is asked in
a few words and answered in one to a few tokens, a full one in the wording of the real data sets (`prompts.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from data_pipelines.gui.shapes import COLOURS
from data_pipelines.video.clips import Actor, Clip, Event, Scale
from data_pipelines.video.parts import LETTERS, letters
from data_pipelines.video.prompts import Kind, ask_for_answer, ask_for_highlights, ask_for_span, with_options

Task = Literal["grounding", "highlight", "count", "mcq", "mcq_several"]
TASKS: tuple[Task, ...] = ("grounding", "highlight", "count", "mcq", "mcq_several")
OPTIONS = 4
HIGHLIGHT_SECONDS: dict[Scale, int] = {"tiny": 1, "full": 2}
"""Length of the parts of a video that highlights are told apart by."""
HIGHLIGHT_QUERY = "a shape appears, leaves, changes its colour or hits another shape"


@dataclass(frozen=True)
class Question:
    task: Task
    text: str
    """As the model is asked."""
    answer: str
    """As the model should answer, without tags."""
    target: dict[str, Any]
    meta: dict[str, Any] = field(default_factory=dict)


def draw_question(rng: Random, clip: Clip, task: Task, scale: Scale) -> Question | None:
    """One of the clip's questions, or None if it allows none of this task."""
    made = {"grounding": grounding, "highlight": highlight, "count": count, "mcq": choice, "mcq_several": several}
    found = made[task](rng, clip, scale)
    return rng.choice(found) if found else None


def seconds(time: float, scale: Scale) -> str:
    """Tiny clips count whole seconds, each a token or two."""
    return f"{time:.0f}" if scale == "tiny" else f"{time:.2f}"


def grounding(rng: Random, clip: Clip, scale: Scale) -> list[Question]:
    """One question for every shape that is in view, moves or has another colour for a part of the clip."""
    found = []
    end = clip.form.seconds
    for actor in clip.actors:
        moments = []
        if actor.seen != (0, end):
            moments.append((f"is the {actor.name} there", f"the {actor.name} is in view", actor.seen))
        if actor.moving:
            moments.append((f"does the {actor.name} move", f"the {actor.name} moves", actor.moving))
        if actor.turns:
            turned = (actor.turns[0], float(end))
            colour = actor.turns[1]
            said = f"the {actor.kind} that is {actor.colour} at first is {colour}"
            moments.append((f"is the {actor.name} {colour}", said, turned))
        for short, query, span in moments:
            text = f"when {short}" if scale == "tiny" else ask_for_span(query, "answer")
            answer = " to ".join(seconds(time, scale) for time in span)
            found.append(Question("grounding", text, answer, {"span": [*span]}, {"query": query}))
    return found


def highlight(rng: Random, clip: Clip, scale: Scale) -> list[Question]:
    """The parts of the clip in which something happens; the saliency, 1 to 5, is one more than how much happens."""
    length = HIGHLIGHT_SECONDS[scale]
    happened: dict[int, int] = {}
    for event in clip.events():
        if event.what != "moves" and event.time < clip.form.seconds:
            part = int(event.time // length) * length
            happened[part] = happened.get(part, 0) + 1
    if not happened:
        return []
    pairs = [[time, min(5, 1 + number)] for time, number in sorted(happened.items())]
    times, scores = (", ".join(str(pair[i]) for pair in pairs) for i in (0, 1))
    if scale == "tiny":
        text, answer = "highlight timestamps and saliency", f"timestamps {times} saliency {scores}"
    else:
        text = ask_for_highlights(HIGHLIGHT_QUERY, "answer")
        answer = f"The highlight timestamps are in the {times} seconds. Their saliency scores are {scores}."
    return [Question("highlight", text, answer, {"highlights": pairs}, {"query": HIGHLIGHT_QUERY})]


def count(rng: Random, clip: Clip, scale: Scale) -> list[Question]:
    """How many are in view, and how often each kind of thing happens."""
    second = _quiet_second(rng, clip)
    if scale == "tiny":  # nothing changes within a second of a tiny clip
        numbers = {f"how many at second {second}": len(clip.in_view(second))}
    else:
        events = clip.events()
        happens = {
            what: sum(event.what == what for event in events) for what in ("appears", "leaves", "changes", "hits")
        }
        numbers = {
            f"How many shapes are in view {second} seconds after the beginning?": len(clip.in_view(second)),
            "How many shapes are seen in the whole video?": len(clip.actors),
            "How many shapes appear after the video has begun?": happens["appears"],
            "How many shapes leave before the video ends?": happens["leaves"],
            "How many shapes change their colour?": happens["changes"],
            "How many times do two shapes hit each other?": happens["hits"],
            "How many shapes move?": sum(actor.moving is not None for actor in clip.actors),
        }
    return [
        Question("count", _open(text, "number", scale), str(number), {"count": number, "answer": str(number)})
        for text, number in numbers.items()
    ]


def choice(rng: Random, clip: Clip, scale: Scale) -> list[Question]:
    """Questions with one right option."""
    found = []
    appearing = [event for event in clip.events() if event.what == "appears"]
    if len(appearing) > 1 and appearing[0].time < appearing[1].time:
        names = [event.actor.name for event in appearing]
        text = "which is first?" if scale == "tiny" else "Which of these shapes appears first?"
        found.append((text, names[0], names[1:]))
    moving = [actor.name for actor in clip.actors if actor.moving]
    rest = [actor.name for actor in clip.actors if not actor.moving]
    if len(moving) == 1 and rest:
        found.append(("which moves?" if scale == "tiny" else "Which shape moves?", moving[0], rest))
    for actor in clip.actors if scale == "full" else ():
        if actor.turns:
            text = f"Which colour does the {actor.name} have at the end?"
            found.append((text, actor.turns[1], [colour for colour in COLOURS if colour != actor.turns[1]]))
    if scale == "full":
        for _, a, b in clip.hits:
            first, second = clip.actors[a], clip.actors[b]
            others = [actor.name for actor in clip.actors if actor not in (first, second)]
            if others:
                found.append((f"Which shape does the {first.name} hit?", second.name, others))
        first_of = _one_at_a_time(clip.events())
        if len(first_of) > 2:
            said = [_sentence(event) for event in first_of]
            found.append(("Which of these happens first?", said[0], said[1:]))
    return [_choice(rng, text, [right], wrong, "mcq", scale) for text, right, wrong in found]


def several(rng: Random, clip: Clip, scale: Scale) -> list[Question]:
    """Questions with one or more right options, and one or more wrong ones."""
    found = []
    second = _quiet_second(rng, clip)
    steady = [actor for actor in clip.actors if not actor.turns]  # the name of the others is no longer true later
    there = [actor.name for actor in steady if actor.in_view(second)]
    if there:
        others = [actor.name for actor in steady if not actor.in_view(second)]
        colours = {colour for actor in clip.actors for colour in (actor.colour, actor.turns and actor.turns[1])}
        never = [f"{colour} {kind}" for colour in COLOURS if colour not in colours for kind in clip.form.kinds]
        rng.shuffle(never)
        text = f"which are there at second {second}?"
        if scale == "full":
            text = f"Which of these shapes are in view {second} seconds after the beginning?"
        if others or never:
            found.append((text, there, [*others, *never]))
    if scale == "full":
        true = {_sentence(event) for event in clip.events()}
        false = sorted({sentence for sentence in _sentences(clip) if sentence not in true})
        if true and false:
            found.append(("Which of these things happen in the video?", sorted(true), false))
    return [_choice(rng, text, right, wrong, "mcq_several", scale) for text, right, wrong in found]


def _choice(rng: Random, text: str, right: list[str], wrong: list[str], task: Task, scale: Scale) -> Question:
    """`OPTIONS` options at most, in random order. The wrong ones come first come, first served, after a shuffle."""
    most = min(OPTIONS, len(right) + len(wrong))
    number = 1 if task == "mcq" else rng.randint(1, min(len(right), most - 1))
    kept = rng.sample(right, number)
    options = [*kept, *rng.sample(wrong, min(len(wrong), most - number))]
    rng.shuffle(options)
    chosen = letters(options.index(option) for option in kept)
    if scale == "tiny":
        asked = " ".join([text, *(f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=False))])
    else:
        kind: Kind = "one" if task == "mcq" else "mixed"
        asked = ask_for_answer(with_options(text, options), kind, "answer")
    answer = ",".join(chosen)
    meta = {"question": text, "options": options}
    return Question(task, asked, answer, {"answer": answer, "choices": chosen}, meta)


def _open(text: str, kind: Kind, scale: Scale) -> str:
    return text if scale == "tiny" else ask_for_answer(text, kind, "answer")


def _quiet_second(rng: Random, clip: Clip) -> int:
    """A second at which nothing appears or leaves, if there is one."""
    busy = {event.time for event in clip.events() if event.what in ("appears", "leaves")}
    every = range(clip.form.seconds)
    return rng.choice([second for second in every if second not in busy] or every)


def _one_at_a_time(events: list[Event]) -> list[Event]:
    """Events of which no two happen at the same time."""
    times = [event.time for event in events]
    return [event for event in events if times.count(event.time) == 1]


def _sentence(event: Event) -> str:
    return _said(event.what, event.actor, event.other)


def _said(what: str, actor: Actor, other: Actor | None = None, colour: str = "") -> str:
    if what == "changes":
        return f"the {actor.name} turns {colour or (actor.turns[1] if actor.turns else '')}"
    if what == "hits" and other:
        return f"the {actor.name} and the {other.name} hit each other"
    return f"the {actor.name} {what if what != 'moves' else 'begins to move'}"


def _sentences(clip: Clip) -> list[str]:
    """What could happen to the shapes of a clip, most of which does not."""
    found = []
    met = {frozenset((a, b)) for _, a, b in clip.hits}
    for number, actor in enumerate(clip.actors):
        found += [_said(what, actor) for what in ("appears", "leaves", "moves")]
        found += [_said("changes", actor, colour=colour) for colour in COLOURS if colour != actor.colour]
        for other in range(number + 1, len(clip.actors)):
            if frozenset((number, other)) not in met:  # a collision said the other way round is as true
                found.append(_said("hits", actor, clip.actors[other]))
    return found
