"""The calls that `check` makes of a reward: right answers, ordinary and hostile completions, each in a call of its own.

A group or batch reward sees every completion among two ordinary ones, so that a failure names the completion that
caused it, and a few whole groups besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mmrl.records import Sample
from rewards.authoring.hostile import images, texts, videos
from rewards.authoring.samples import right_answers, written
from rewards.registry import RewardInfo

if TYPE_CHECKING:
    from mmrl.records import Rollouts

ORDINARY = (
    "<think>I look at it.</think><answer>something else</answer>",
    "I do not know.",
    "The answer is D.",
    "<answer>17</answer>",
    "(31, 17)",
    "<think>There it is.</think><answer>[30, 10, 60, 40]</answer>",
    "from 1.0 to 3.5 seconds",
    '{"answer": "something else", "box": [30, 10, 60, 40]}',
)
TOKENS = 4_096
"""Tokens at most of a completion in made-up rollouts."""
IN_GROUP = 12
"""Completions of the group whose order is changed."""

Role = Literal["right", "ordinary", "hostile"]


@dataclass(frozen=True)
class Call:
    """One call, made for the sake of its first completion."""

    label: str
    role: Role
    completions: tuple[Any, ...]
    samples: tuple[Sample, ...]
    """One per completion."""
    shown: str
    """The first completion in one short line."""
    paid_rightly: bool = False
    """Whether the first completion gives the right answer."""


def calls(info: RewardInfo, keys: Sequence[str], samples: Sequence[Sample], *, hostile: bool = True) -> list[Call]:
    """All calls; the hostile completions are those of the first sample. `keys` of the target are the right answer."""
    if info.reads in ("image", "video"):
        return _picture_calls(info, samples[0])
    made: list[Call] = []
    for sample in samples:
        right = right_answers(sample, keys)
        made += [_call(info, "the right answer", "right", text, sample, right) for text in right]
        made += [_call(info, "an ordinary completion", "ordinary", text, sample, right) for text in ORDINARY]
    return [*made, *_hostile_calls(info, keys, samples[0])] if hostile else made


def _hostile_calls(info: RewardInfo, keys: Sequence[str], sample: Sample) -> list[Call]:
    right = right_answers(sample, keys)
    made = []
    gold = next((form for key in keys for form in written(key, sample.target[key], sample)), "42")
    for found in texts(gold):
        made.append(_call(info, found.label, "hostile", found.text, sample, right, paid_rightly=found.right))
    if info.scope != "row":
        groups = {"alone": right[:1] or ["42"], "three times the same": [ORDINARY[0]] * 3, "three empty": [""] * 3}
        for label, group in groups.items():
            paid = label == "alone"
            of = (sample,) * len(group)
            made.append(Call(label, "right" if paid else "hostile", tuple(group), of, shown(group[0]), paid))
    return made


def whole_group(info: RewardInfo, made: Sequence[Call]) -> Call:
    """Up to `IN_GROUP` different completions of the first sample, one of them twice; hostile ones as far as short."""
    sample = made[0].samples[0]
    firsts = [call.completions[0] for call in made if call.samples[0] is sample and len(call.shown) < 200]
    if info.reads in ("image", "video"):
        chosen = firsts[:IN_GROUP]
    else:
        right = [call.completions[0] for call in made if call.samples[0] is sample and call.role != "hostile"]
        short = [text for text in firsts if len(text) < 200 and text not in right]
        chosen = [*right[: IN_GROUP // 2], *short[:: max(1, len(short) // (IN_GROUP // 2))]][:IN_GROUP]
    chosen = [*chosen, chosen[0]]
    return Call("a whole group", "ordinary", tuple(chosen), (sample,) * len(chosen), "")


def make_rollouts(
    texts: Sequence[str], sample: Sample, settings: Mapping[str, Any], *, images: Sequence[Any] | None = None
) -> Rollouts:
    """One group of completions with made-up token lengths, and every score that a reward's settings name.

    Those scores are 1 or 0 by the parity of a text's length: about half of the completions are right. `images` are what
    an image or video reward sees of the rows.
    """
    import torch

    from mmrl.records import Rollouts

    length = torch.tensor([min(TOKENS, len(text.split()) + 1) for text in texts])
    mask = torch.arange(int(length.max())) < length[:, None]
    group = torch.zeros(len(texts), dtype=torch.long)
    named = [name for value in settings.values() for name in (value if isinstance(value, list | tuple) else [value])]
    score = torch.tensor([float(len(text) % 2) for text in texts])
    return Rollouts(
        samples=[sample],
        prompts=[None],
        group=group,
        prompt=group,
        actions=torch.zeros(mask.shape, dtype=torch.long),
        length=length,
        mask=mask,
        text=list(texts),
        images=None if images is None else list(images),
        origin=["policy"] * len(texts),
        scores={name: score.clone() for name in named if isinstance(name, str)},
        reward=score,
        signals={"truncated": torch.zeros(len(texts), dtype=torch.bool)},
    )


def shown(text: str, length: int = 60) -> str:
    """A completion in one line, harmless to a terminal."""
    return repr(text) if len(text) <= length else f"{text[:length]!r}... ({len(text):,} characters)"


def _call(
    info: RewardInfo,
    label: str,
    role: Role,
    text: str,
    sample: Sample,
    right: Sequence[str],
    paid_rightly: bool = False,
) -> Call:
    among = () if info.scope == "row" else (*right[:1], *ORDINARY[:2])[:2]
    completions = (text, *among)
    paid = paid_rightly or role == "right"
    return Call(label, role, completions, (sample,) * len(completions), shown(text), paid)


def _picture_calls(info: RewardInfo, sample: Sample) -> list[Call]:
    pictures = images() if info.reads == "image" else videos()
    among = [] if info.scope == "row" else [picture for _, picture in pictures[:2]]
    return [
        Call(
            label,
            "ordinary" if label.startswith("noise") else "hostile",
            (picture, *among),
            (sample,) * (1 + len(among)),
            label,
        )
        for label, picture in pictures
    ]
