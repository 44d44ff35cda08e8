"""Config files over each other: how mappings merge, and when two methods contradict each other.

A file over the one that it extends replaces what it says. Files *beside* each other, which are all laid over the same
base (`mmrl train RECIPE a.yaml b.yaml`, or the second and further parents of `extends`), may each change another stage:

    sampler, rollout     one of a run: both files may set it if they name the same stage
    rewards, loss.terms  a list of which nothing can be left out: the same names in the same order
    advantages           a chain with one comparison in it (`COMPARISONS`), which must be the same one; what each file
                         has before and after its comparison is put together, in the order of the files

Anything else is refused, with both files and the key, and so is a setting that is a schedule in only one of them, or
another `std` than the group's own. Other settings of a stage that both name, and all other keys, are the later file's.
What is decided above the files (`key=value`, or the file that extends them) is no matter for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from mmrl.plugins import ConfigError

COMPARISONS = {
    "group_relative", "group_relative_each", "leave_one_out", "length_weighted_baseline", "best_only", "per_prompt",
    "anchor_off_policy",
}  # fmt: skip
"""Advantage stages that make advantages of rewards; others shape the reward before, or weigh tokens and rows after."""
STAGES = ("sampler", "rollout", "rewards", "advantages", "loss.terms")


class Contradiction(ValueError):
    """Two layers give different answers to one question."""


Layer = tuple[str, dict[str, Any]]
"""A file's name, for messages, and what it says."""


def merge_keys(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return below | {key: merge(below[key], value) if key in below else value for key, value in above.items()}


def merge(below: Any, above: Any) -> Any:
    """Mappings merge key by key, but a stage of another name keeps nothing of the one below."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    if "name" in below and above.get("name", below["name"]) != below["name"]:
        return above
    return merge_keys(below, above)


def lay_over(base: dict[str, Any], layers: Iterable[Layer], *, decided: Collection[str] = ()) -> dict[str, Any]:
    """`base` with all layers over it. `decided` are keys that something above the layers sets as a whole.

    ConfigError where two layers contradict each other.
    """
    together: dict[str, Any] = {}
    first: dict[str, str] = {}
    """Stage -> the layer that set it."""
    contradictions = []
    for file, layer in layers:
        merged = merge_keys(together, layer)
        for key in STAGES:
            below, above = at(together, key), at(layer, key)
            if below and above and key not in decided and key.partition(".")[0] not in decided:
                try:
                    put(merged, key, combine(key, below, above))
                except Contradiction as error:
                    contradictions.append(f"{file} and {first[key]} contradict each other: {error}")
            if above:
                first.setdefault(key, file)
        together = merged
    if contradictions:
        raise ConfigError("\n".join(contradictions) + "\n  Leave one of the files out, or say the key as a key=value.")
    return merge_keys(base, together)


def at(raw: Any, key: str) -> Any:
    """What stands at `loss.terms`; None if nothing does."""
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


def put(raw: dict[str, Any], key: str, value: Any) -> None:
    section, _, inner = key.partition(".")
    raw[section] = {**raw[section], inner: value} if inner else value


def combine(key: str, below: Any, above: Any) -> Any:
    """What two layers make of a stage, or of a list of stages, together. Contradiction if they cannot."""
    if isinstance(below, dict) and isinstance(above, dict):  # one without a name is settings for the other's
        one = {**below, **above}
        names = {stage["name"] for stage in (below, above) if "name" in stage}
        if len(names) > 1:
            raise Contradiction(f"{key} is {above['name']} in the one and {below['name']} in the other; a run has one.")
        return one
    if not (isinstance(below, list) and isinstance(above, list)) or not all(map(is_stage, [*below, *above])):
        return above  # no list of stages: refused where the whole config is checked
    if names_of(below) == names_of(above):
        for lower, upper in zip(below, above, strict=True):
            agree(key, lower, upper)
        return [{**lower, **upper} for lower, upper in zip(below, above, strict=True)]
    compared = [[stage["name"] for stage in chain if stage["name"] in COMPARISONS] for chain in (below, above)]
    if key == "advantages" and len(compared[0]) == 1 and compared[0] == compared[1]:
        return joined(below, above, compared[0][0])
    why = "a chain compares completions once" if key == "advantages" else "nothing can be left out of either"
    lists = [f"[{', '.join(names_of(stages))}]" for stages in (above, below)]
    raise Contradiction(f"{key} is {lists[0]} in the one and {lists[1]} in the other; {why}.")


def agree(key: str, below: dict[str, Any], above: dict[str, Any]) -> None:
    """Most settings are numbers, of which the later file's count. Contradiction where one is what a method is about: a
    schedule where the other has a number, or a comparison with another spread than the group's own."""
    for name in (below.keys() & above.keys()) - {"name"}:
        one, other = below[name], above[name]
        scheduled = isinstance(one, dict) != isinstance(other, dict)
        if scheduled or (name == "std" and one != other and any(value in ("none", "batch") for value in (one, other))):
            stage = f"{below['name']}.{name}"
            raise Contradiction(f"{key} is not one thing: {stage} is {other} in the one and {one} in the other.")


def joined(below: list[Any], above: list[Any], comparison: str) -> list[Any]:
    """Both chains around their comparison; a link of both stands once, with the settings of both."""
    places = [names_of(chain).index(comparison) for chain in (below, above)]
    agree("advantages", below[places[0]], above[places[1]])
    settings: dict[str, dict[str, Any]] = {}
    for stage in [*below, *above]:
        settings[stage["name"]] = settings.get(stage["name"], {}) | stage
    before = [*below[: places[0]], *above[: places[1]]]
    after = [*below[places[0] + 1 :], *above[places[1] + 1 :]]
    order = dict.fromkeys([*names_of(before), comparison, *names_of(after)])
    return [settings[name] for name in order]


def is_stage(spec: Any) -> bool:
    return isinstance(spec, dict) and "name" in spec


def names_of(stages: list[Any]) -> list[str]:
    return [str(stage["name"]) for stage in stages]
