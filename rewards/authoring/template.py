"""`mmrl rewards new NAME`: a reward to start from, with its test. Templates are real files, tested as they are."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
from pathlib import Path

from rich.text import Text

from mmrl.plugins import ConfigError
from rewards.registry import available

TEMPLATES = Path(__file__).parent / "templates"
SCOPES = ("row", "group")


def write(name: str, *, scope: str = "row", out: Path | None = None) -> tuple[Path, Path]:
    """Write the reward `name` to `out` (default `<name>.py`) and its test beside it; the two paths.

    ConfigError for a name that cannot be one, and when either file exists.
    """
    if scope not in SCOPES:
        raise ConfigError(f"--scope {scope}: there is a template for {' and one for '.join(SCOPES)}.")
    file = out or Path(f"{name}.py")
    _check_name(name, file)
    test = file.with_name(f"test_{file.name}")
    for path in (file, test):
        if path.exists():
            raise ConfigError(f"{path} exists; choose another name, or another file with --out.")
    file.parent.mkdir(parents=True, exist_ok=True)
    for path, template in ((file, f"{scope}_reward"), (test, f"test_{scope}_reward")):
        text = (TEMPLATES / f"{template}.py").read_text(encoding="utf-8")
        path.write_text(_renamed(text, f"{scope}_reward", name, file), encoding="utf-8")
    return file, test


def next_commands(name: str, file: Path, test: Path) -> list[str]:
    """What an author types next, in order."""
    reference = shlex.quote(f"{file}:{name}")
    run_test = f"python -m pytest {shlex.quote(test.name)}"
    if file.parent != Path():
        run_test = f"(cd {shlex.quote(str(file.parent))} && {run_test})"
    return [
        run_test,
        f"mmrl rewards check {reference}",
        f"mmrl rewards replay runs/gui {reference}",
        f"mmrl train configs/demo/gui.yaml {shlex.quote(f'rewards=[{file}:{name}]')} name={name}",
    ]


def farewell(name: str, file: Path, test: Path) -> Text:
    """What was written and what to type next; the run and the recipe are the demo's."""
    edit, check, replay, train = next_commands(name, file, test)
    text = Text(f"Wrote {file} and {test}. Edit them, then:\n")
    for command, why in (
        (edit, "does it what it should"),
        (check, "does it survive what a policy writes"),
        (replay, "what would it have changed in a run you have"),
        (train, "learn from it"),
    ):
        text.append(f"\n  # {why}\n", style="dim").append(f"  {command}\n", style="bold")
    return text.append(
        "\nThe last two name the demo's run and recipe, whose targets are boxes; yours go in their place."
    )


def _renamed(text: str, template: str, name: str, file: Path) -> str:
    """The template's text with its own name replaced: where it is a file, a module to import, the function."""
    pattern = re.compile(rf"(?P<file>{template}\.py)|(?P<module>(?<=from ){template})|{template}")
    new = {"file": file.name, "module": file.stem, None: name}
    return pattern.sub(lambda match: new[match.lastgroup], text)


def _check_name(name: str, file: Path) -> None:
    for word in (name, file.stem):
        if not word.isidentifier() or keyword.iskeyword(word):
            raise ConfigError(f"{word!r} cannot be a name in Python: letters, digits and _, for example my_reward.")
        if word.startswith("test"):
            raise ConfigError(f"{word}: pytest would take it for a test; choose a name without `test` in front.")
    if file.suffix != ".py":
        raise ConfigError(f"--out {file}: the file of a reward ends in .py.")
    if name in available():
        raise ConfigError(f"{name} is the name of a reward that exists (`mmrl rewards show {name}`); choose another.")
    # The test imports the file by its name, so that must not be the name of something installed.
    if not file.exists() and importlib.util.find_spec(file.stem) is not None:
        raise ConfigError(f"{file.stem} is the name of an installed module; choose another.")
