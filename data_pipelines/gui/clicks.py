"""The script of a capture: what to do on a page, as YAML.

    - page: form.html               # as on the command line, or the last part of it; one page needs none
      goal: Sign up as Ada
      steps:
        - click: {role: textbox, name: Full name}
        - type: Ada Lovelace        # where the last click left the cursor
        - click: Create account     # whatever its role
        - scroll: down              # up, down, left, right
        - back

There are these four actions, those of UI-R1 that a page has, and nothing in a script is ever run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from data_pipelines.rows import short
from mmrl.plugins import ConfigError, nearest

DIRECTIONS = ("up", "down", "left", "right")
ACTIONS = {"click": "click", "type": "input_text", "scroll": "scroll", "back": "navigate_back"}
"""What a script says -> UI-R1's name."""
LARGEST = 2**20
"""Bytes of a script."""
LONGEST = 1000
"""Characters typed at once, and of a goal."""


@dataclass(frozen=True)
class Step:
    """One action."""

    where: str
    action: str
    """One of UI-R1's names."""
    role: str = ""
    """Of a click; empty for whatever role."""
    value: str = ""
    """The name of what is clicked, the text typed, the direction scrolled."""

    @property
    def words(self) -> str:
        """As histories have it: without coordinates, as nobody knows yet what a model will see (`seen`)."""
        if self.action == "click":
            return f'click the "{self.value}" {self.role}'.rstrip()
        if self.action == "input_text":
            return f'input_text "{self.value}"'
        return f"{self.action} {self.value}".rstrip()


@dataclass(frozen=True)
class Task:
    """A goal on one page and the steps that reach it."""

    page: str
    """Empty for the only page there is."""
    goal: str
    steps: tuple[Step, ...]


def read_script(path: Path) -> list[Task]:
    """The tasks of a script. ConfigError names the task and the step that make no sense."""
    try:
        content = path.read_bytes()
        if len(content) > LARGEST:
            raise ConfigError(f"{path}: a script has at most {LARGEST:,} bytes; this has {len(content):,}.")
        tasks = yaml.safe_load(content.decode("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(tasks, list) or not tasks:
        raise ConfigError(f"{path}: a script is a list of tasks, each with `goal` and `steps`.")
    return [_task(task, f"{path}, task {number}") for number, task in enumerate(tasks, 1)]


def _task(task: Any, where: str) -> Task:
    if not isinstance(task, dict):
        _wrong(where, "a task has `goal`, `steps` and, with several pages, `page`", task)
    if unknown := [str(key) for key in task if key not in ("page", "goal", "steps")]:
        raise ConfigError(f"{where}: unknown key `{unknown[0]}`. {nearest(unknown[0], ('page', 'goal', 'steps'))}")
    steps = task.get("steps")
    if not isinstance(steps, list) or not steps:
        _wrong(where, "`steps` is a list of actions", steps)
    page = task.get("page", "")
    if not isinstance(page, str):
        _wrong(where, "`page` is a file or an address", page)
    goal = _text(task.get("goal"), where, "goal")
    return Task(page, goal, tuple(_step(step, f"{where}, step {number}") for number, step in enumerate(steps, 1)))


def _step(step: Any, where: str) -> Step:
    if step == "back":
        return Step(where, ACTIONS["back"])
    if not isinstance(step, dict) or len(step) != 1:
        _wrong(where, "a step is `back`, or one of `click: ...`, `type: ...`, `scroll: ...`", step)
    ((said, value),) = step.items()
    if said not in ("click", "type", "scroll"):
        raise ConfigError(f"{where}: there is no action `{said}`. {nearest(str(said), ACTIONS)}")
    if said == "scroll" and value not in DIRECTIONS:
        _wrong(where, f"a scroll goes {', '.join(DIRECTIONS)}", value)
    role = ""
    if said == "click" and isinstance(value, dict):
        if not set(value) <= {"role", "name"} or not isinstance(value.get("role", ""), str):
            _wrong(where, "a click names its element by `name` and, if it likes, `role`", value)
        role, value = value.get("role", ""), value.get("name")
    return Step(where, ACTIONS[said], role, _text(value, where, said))


def _text(value: Any, where: str, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not str(value).strip():
        _wrong(where, f"`{what}` is a text that is not empty", value)
    if len(str(value)) > LONGEST or not str(value).replace("\n", " ").isprintable():
        _wrong(where, f"`{what}` has at most {LONGEST} characters, all of them printable", value)
    return str(value)


def _wrong(where: str, expected: str, found: Any) -> NoReturn:
    raise ConfigError(f"{where}: {expected}; found {short(found)}.")
