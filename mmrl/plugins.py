"""Find what a config names: a built-in by its registry name, or your own by `path/to/file.py:name`.

A registry is a plain dict from name to "module:attribute", so that listing names imports nothing. A plugin is a
function or a class; its keyword-only parameters are its settings, and their annotations are checked before anything
runs. Every number among them may be a schedule (see `schedules.py`).
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mmrl.schedules import Schedule, as_schedule


class ConfigError(ValueError):
    """A mistake in a config, a plugin reference or a data file; the message says what to do."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`Did you mean x? (Settings: ...)`, for messages about an unknown word."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]}? " if close else ""
    return f"{guess}(Known: {', '.join(names) or 'none'}.)"


def load(reference: str, registry: Mapping[str, str], *, kind: str, where: str) -> Any:
    """The object behind `reference`: a name of `registry`, `file.py:name`, or `package.module:name`.

    `kind` ("reward", "loss term", ...) and `where` (file and key) appear in the error messages.
    """
    target = registry.get(reference, reference)
    module_name, colon, attribute = target.rpartition(":")
    if not colon:
        raise ConfigError(f"{where}: there is no {kind} named `{reference}`.\n  {nearest(reference, registry)}\n"
                          f"  Your own goes in as path/to/file.py:name.")  # fmt: skip
    module = _load_file(module_name, where) if module_name.endswith(".py") else _load_module(module_name, where)
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ConfigError(f"{where}: {module_name} has no `{attribute}`.\n  {nearest(attribute, public)}")
    return getattr(module, attribute)


def _load_module(name: str, where: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            raise ConfigError(f"{where}: no module named {name}; is its package installed?") from error
        raise


def _load_file(path: str, where: str) -> Any:
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise ConfigError(f"{where}: {file} does not exist; plugin files are looked up from the working directory.")
    # A name of its own per path, so that two files called rewards.py do not collide and worker processes agree.
    name = "mmrl_plugin_" + "_".join(file.with_suffix("").parts[1:])
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@dataclass(frozen=True)
class Stage:
    """A plugin with its settings bound, as it stands in a config."""

    name: str
    plugin: Callable[..., Any]
    settings: dict[str, Any]

    @property
    def needs(self) -> tuple[str, ...]:
        """The signals it reads, declared with `@needs(...)`."""
        return tuple(getattr(self.plugin, "needs", ()))

    def settings_at(self, step: int, total: int, metrics: Mapping[str, float] | None = None) -> dict[str, Any]:
        """The settings with every schedule evaluated at this step."""
        return {
            key: value(step, total, metrics or {}) if isinstance(value, Schedule) else value
            for key, value in self.settings.items()
        }

    def at(self, step: int, total: int, metrics: Mapping[str, float] | None = None) -> Callable[..., Any]:
        """The plugin as a callable of its positional arguments, with every schedule evaluated at this step."""
        settings = self.settings_at(step, total, metrics)
        plugin: Any = self.plugin
        if isinstance(self.plugin, type):
            instance: Any = plugin(**settings)
            return instance

        def stage(*arguments: Any) -> Any:
            return plugin(*arguments, **settings)

        return stage


def needs(*signals: str) -> Callable[[Any], Any]:
    """Declare the signals a stage reads (`entropy`, `logp_ref`, ...), so that the trainer provides them. A rollout that
    reads `target` is refused where labels are withheld."""

    def mark(plugin: Any) -> Any:
        plugin.needs = signals
        return plugin

    return mark


def settings_of(plugin: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The settings of a plugin: the keyword-only parameters of a function or of a class's constructor."""
    parameters = inspect.signature(plugin).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}


def hint_of(plugin: Callable[..., Any], setting: str) -> Any:
    """The type of one setting. Any, that is no check, where it has none or where it cannot be resolved.

    Each annotation is resolved by itself: others may name what is imported under TYPE_CHECKING only.
    """
    function = plugin.__init__ if inspect.isclass(plugin) else inspect.unwrap(plugin)
    annotations = getattr(function, "__annotations__", {})
    alone = SimpleNamespace(__annotations__={key: hint for key, hint in annotations.items() if key == setting})
    try:
        return get_type_hints(alone, getattr(function, "__globals__", {}), include_extras=True).get(setting, Any)
    except (NameError, AttributeError, TypeError):
        return Any


def takes_text(hint: Any, value: Any) -> bool:
    """Whether a setting of this type is a text or a path, and this value, made of a word by YAML, is none of its other
    types."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    texts = [option for option in options if option in (str, Path) or _words(option)]
    others = [get_origin(option) or option for option in options if option not in texts]
    numbers = [int] if float in others else []
    return bool(texts) and not isinstance(value, tuple(kind for kind in others + numbers if isinstance(kind, type)))


def _words(hint: Any) -> bool:
    return get_origin(hint) is Literal and all(isinstance(word, str) for word in get_args(hint))


def build(
    spec: Mapping[str, Any],
    registry: Mapping[str, str],
    *,
    kind: str,
    where: str,
    reserved: Iterable[str] = (),
) -> Stage:
    """A stage from its config entry `{name: ..., setting: ...}`; `reserved` keys belong to the caller."""
    if not spec.get("name"):
        raise ConfigError(f"{where} has no `name`; its keys are {', '.join(map(str, spec)) or 'none'}.")
    name = spec["name"]
    plugin = load(name, registry, kind=kind, where=where)
    if not callable(plugin):
        raise ConfigError(f"{where}: {name} is a {type(plugin).__name__}; a {kind} is a function or a class.")
    given = {key: value for key, value in spec.items() if key != "name" and key not in reserved}
    return Stage(name, plugin, check_settings(plugin, given, name=name, where=where, reserved=reserved))


def check_settings(
    plugin: Callable[..., Any], given: Mapping[str, Any], *, name: str, where: str, reserved: Iterable[str] = ()
) -> dict[str, Any]:
    """`given`, checked against the plugin's signature: unknown, missing and wrongly typed settings are errors."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    known = settings_of(plugin)
    accepts_any = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(plugin).parameters.values())
    checked: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known and not accepts_any:
            raise ConfigError(f"{where}.{key} is not a setting of `{name}`.\n  {nearest(key, [*known, *reserved])}")
        hint = hint_of(plugin, key)
        schedule = as_schedule(value, where=f"{where}.{key}")
        if schedule is not None and hint in (float, int, float | None, int | None, Any):
            checked[key] = schedule
            continue
        try:
            config = None if dataclasses.is_dataclass(hint) else ConfigDict(arbitrary_types_allowed=True)
            checked[key] = TypeAdapter(hint, config=config).validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"{where}.{key} = {value!r}: {error.errors()[0]['msg']}.") from None
    missing = [key for key, p in known.items() if p.default is p.empty and key not in checked]
    if missing:
        raise ConfigError(f"{where}: `{name}` needs {', '.join(missing)}.")
    return checked


def describe(registry: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(name, first sentence of the docstring, settings with defaults) of everything in a registry."""
    rows = []
    for name in registry:
        plugin = load(name, registry, kind="plugin", where="registry")
        settings = [
            key if parameter.default is parameter.empty else f"{key}={parameter.default}"
            for key, parameter in settings_of(plugin).items()
        ]
        rows.append((name, (inspect.getdoc(plugin) or "").split("\n")[0], ", ".join(settings)))
    return rows
