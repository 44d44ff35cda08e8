"""Change the rows of a dataset one by one: `mmrl data transform x.jsonl NAME ... --out y.jsonl`.

A transform is a function of one row:

    def shuffle_letters(row: Row, *, rng: Random, keep: float = 0.0) -> Row | None | Problem:

It returns a changed copy (the row it was given stays as it is), None for a row that it leaves out on purpose, or a
`Problem` for one that it cannot change. Its keyword-only parameters are its settings; `rng` among them is not one: it
is derived from (seed, name of the transform, row id), so a row is changed in the same way wherever it stands. What it
drew belongs into `meta`, so that it can be undone or counted. Media paths in the row are absolute; what it writes is
named by the row's id. `TRANSFORMS` in `makers.py` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from data_pipelines.convert import Conversion, Items, Progress, digest
from data_pipelines.makers import TRANSFORMS
from data_pipelines.reading import Problem
from data_pipelines.rows import name_of, relative_to
from data_pipelines.sources import Rows, read_rows
from mmrl.plugins import ConfigError, Stage, check_settings, load, settings_of

WHERE = "mmrl data transform"


def transform(
    source: str,
    name: str,
    out: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    tick: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Write the rows of `source`, changed, to `out`; checked, reported and continued as a conversion is."""
    stage = bound(name, settings or {})
    drawn = drawing(stage.plugin)
    if Path(source).absolute() == out.absolute():
        raise ConfigError(f"--out {out} is the file to be read; name another one.")

    folder = Rows(source).folder

    def items() -> Items:
        for row in read_rows(Path(source)):
            if isinstance(row, Problem):
                yield row
                continue
            where = row.pop("where")
            known = name_of(row if row.get("id") is not None else relative_to(row, folder))
            try:
                changed = stage.plugin(row, **drawn(f"{seed}/{name}/{known}"), **stage.settings)
            except ConfigError:
                raise
            except (ValueError, LookupError, TypeError, ArithmeticError) as error:
                changed = Problem(where, f"{name} cannot change it ({type(error).__name__}: {error})", "not changed")
            if isinstance(changed, Problem):
                yield Problem(changed.where or where, changed.message, changed.kind)
            elif changed is None or isinstance(changed, dict):
                yield changed and {**changed, "where": where}
            else:
                raise ConfigError(f"{WHERE}: {name} returned a {type(changed).__name__}, not a row, None or a Problem.")

    return Conversion(out, digest(stage, [source], out, "transform", seed)).run(items, tick=tick)


def bound(name: str, settings: Mapping[str, Any]) -> Stage:
    """A transform with its settings, checked; `rng`, if it takes one, is filled in for every row."""
    if "rng" in settings:
        raise ConfigError(f"{WHERE}.rng is not a setting; --seed decides what is drawn.")
    plugin = load(name, TRANSFORMS, kind="transform", where=WHERE)
    if not callable(plugin):
        raise ConfigError(f"{WHERE}: {name} is a {type(plugin).__name__}; a transform is a function.")
    checked = check_settings(plugin, {**drawing(plugin)(""), **settings}, name=name, where=WHERE)
    return Stage(name, plugin, {key: value for key, value in checked.items() if key != "rng"})


def drawing(plugin: Callable[..., Any]) -> Callable[[str], dict[str, Random]]:
    """From a text, which seeds it, the `rng` of a transform; nothing for one that takes none."""
    if "rng" not in settings_of(plugin):
        return lambda text: {}
    return lambda text: {"rng": Random(text)}
