"""`mmrl rewards list` and `show`: what rewards there are, as they describe themselves."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmrl.plugins import ConfigError, hint_of, load, settings_of
from rewards.entry import Loaded
from rewards.registry import BUILTIN, RewardInfo, available

WIDTH = 100
"""Columns of the list where no terminal says how many there are."""


@dataclass(frozen=True)
class Line:
    """One reward of the list."""

    name: str
    family: str
    info: RewardInfo | None
    what: str
    """First sentence of its docstring; why it cannot be used, where `info` is None."""


def lines() -> list[Line]:
    """Every reward a config can name without a path: built-ins by family, then installed ones by package."""
    found = [_line(name, target) for name, target in available().items()]
    built_in = {line.name: line for line in found if line.name in BUILTIN}
    installed = sorted((line for line in found if line.name not in BUILTIN), key=lambda line: (line.family, line.name))
    return [*(built_in[name] for name in BUILTIN), *installed]


def listing() -> Group:
    """The table of `mmrl rewards list`."""
    table = Table("name", "range", "scope", "needs", "what it is, and where it comes from", box=None, padding=(0, 1))
    for column in table.columns[:3]:
        column.no_wrap = True
    table.columns[-1].overflow = "fold"
    for family, members in groupby(lines(), key=lambda line: line.family):
        table.add_row(Text(family, style="bold"))
        for line in members:
            table.add_row(*_cells(line))
        table.add_section()
    end = "Your own: mmrl rewards new NAME. One in full: mmrl rewards show NAME (or path/to/file.py:function)."
    return Group(table, Text(f"\n{end}", style="dim"))


def markdown() -> str:
    """The table of the docs' page."""
    rows = [["reward", "range", "scope", "needs", "what", "source"], ["---"] * 6]
    for line in lines():
        facts = ["", "", ""] if line.info is None else _facts(line.info, apart=", ")
        rows.append([f"`{line.name}`", *facts, line.what, line.info.source if line.info else ""])
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def detail(reference: str) -> Group:
    """`mmrl rewards show`: everything about one reward."""
    reward = Loaded(reference, where="mmrl rewards show")
    info = reward.info
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for key, value in (
        ("range", _range(info)),
        ("scope", f"{info.scope}: {_RECEIVES[info.scope]}"),
        ("reads", _READS[info.reads]),
        ("needs", ", ".join(f"target.{key}" for key in info.needs) or "no target"),
        ("source", info.source or "-"),
        ("time limit", f"{info.timeout:g} s a call" if info.timeout else ""),
        ("file", _place(as_written(reward))),
        ("in a recipe", f"rewards: [{_example(reference, reward.plugin)}]"),
    ):
        if value:
            facts.add_row(key, Text(value))
    settings = Table("setting", "type", "default", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name, parameter in settings_of(reward.plugin).items():
        default = "must be given" if parameter.default is parameter.empty else repr(parameter.default)
        settings.add_row(Text(name), Text(_type(reward.plugin, name)), Text(default))
    parts: list[RenderableType] = [Text(reference, style="bold"), Text(_paragraphs(reward.plugin)), Text(), facts]
    if settings.rows:
        parts += [Text(), settings]
    return Group(*parts)


_RECEIVES = {
    "row": "one completion at a time",
    "group": "the completions of one prompt together",
    "batch": "all completions of a step together",
}
_READS = {
    "text": "text",
    "image": "images",
    "video": "videos, each a list of frames",
    "any": "whatever the policy makes: text, images or videos",
    "rollouts": "rollouts: texts, token lengths and the scores of rewards listed before it",
}


def _line(name: str, target: str) -> Line:
    module, _, _ = target.partition(":")
    family = module.removeprefix("rewards.") if name in BUILTIN else f"{module.split('.')[0]} (installed)"
    try:
        reward = Loaded(name, where=name)
    except (ImportError, ConfigError) as error:
        reason = str(error).removeprefix(f"{name}: ").split("\n")[0]
        return Line(name, family, None, f"cannot be loaded: {reason}")
    return Line(name, family, reward.info, _first_sentence(reward.plugin))


def _cells(line: Line) -> Iterator[Text]:
    yield Text(f" {line.name}")
    if line.info is None:
        yield from (Text(), Text(), Text(), Text(line.what, style="red"))
        return
    yield from map(Text, _facts(line.info, apart="\n"))
    yield Text(line.what).append(f"\n{line.info.source}" if line.info.source else "", style="dim")


def _facts(info: RewardInfo, *, apart: str) -> list[str]:
    """Range, scope with what it reads, needs."""
    reads = [] if info.reads == "text" else [info.reads]
    return [_range(info), apart.join([info.scope, *reads]), apart.join(info.needs)]


def _range(info: RewardInfo) -> str:
    low, high = info.range
    return "any" if math.isinf(low) and math.isinf(high) else f"{low:g} to {high:g}"


def _first_sentence(plugin: Any) -> str:
    """Of the docstring: its lines up to the first that ends in a full stop (`Eq. 13` has one inside)."""
    taken: list[str] = []
    for line in (inspect.getdoc(plugin) or "(no docstring)").split("\n\n")[0].split("\n"):
        taken.append(line)
        if line.endswith("."):
            break
    return " ".join(taken)


def _paragraphs(plugin: Any) -> str:
    """The docstring with the lines of a paragraph joined, so that the terminal breaks them; indented ones stay."""
    blocks = (inspect.getdoc(plugin) or "(no docstring)").split("\n\n")
    return "\n\n".join(block if "\n " in f"\n{block}" else block.replace("\n", " ") for block in blocks)


def _type(plugin: Any, setting: str) -> str:
    """Its annotation, names of types resolved where they can be."""
    hint = hint_of(plugin, setting)
    written = settings_of(plugin)[setting].annotation if hint is Any else hint
    if written is inspect.Parameter.empty:
        return "any"
    return written if isinstance(written, str) else inspect.formatannotation(written).replace("typing.", "")


def _example(reference: str, plugin: Any) -> str:
    """The reward as a recipe names it, with a placeholder for every setting that must be given."""
    required = [key for key, parameter in settings_of(plugin).items() if parameter.default is parameter.empty]
    if not required:
        return reference
    settings = ", ".join(f"{key}: {_PLACEHOLDER.get(hint_of(plugin, key), '<...>')}" for key in required)
    return f"{{name: {reference}, {settings}}}"


_PLACEHOLDER = {int: "<int>", float: "<number>", str: "<text>", bool: "<true or false>"}


def as_written(reward: Loaded) -> Any:
    """The function or class itself; `reward.plugin` is another one where it was written for another trainer."""
    return load(reward.name, available(), kind="reward", where=reward.name)


def source_file(plugin: Any) -> str:
    """Where it is written, empty if that is unknown."""
    try:
        return inspect.getsourcefile(inspect.unwrap(plugin)) or ""
    except TypeError:
        return ""


def _place(plugin: Any) -> str:
    file = source_file(plugin)
    try:
        line = inspect.getsourcelines(inspect.unwrap(plugin))[1]
    except (OSError, TypeError):
        return file or "unknown"
    path = Path(file)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"
