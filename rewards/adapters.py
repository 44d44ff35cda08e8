"""Rewards written for TRL, verl, EasyR1 and ms-swift, called in their own form.

`adapt` wraps a function or class so that the rest of mmrl sees a reward of its own: (completion, sample) and so on go
in, what `calling.py` reads comes out, further parameters are keyword-only settings. The form is recognised by the
names of the parameters, or given as the entry's `form`. How mmrl's own rewards are written is `registry.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from inspect import Parameter
from types import CodeType, SimpleNamespace
from typing import Any

from mmrl.plugins import ConfigError, hint_of
from mmrl.records import Rollouts, Sample
from rewards.registry import RewardInfo, Score, info_of

FORMS = {
    "native": "reward(completion, sample); with @reward also groups, batches, images (rewards/registry.py)",
    "trl": "reward(prompts, completions, **columns) -> list; prompts and completions are chat messages",
    "trl_text": "the same, prompts and completions are strings",
    "verl": "compute_score(data_source, solution_str, ground_truth, extra_info=None) -> number or dict with `score`",
    "easyr1": "compute_score(reward_inputs) -> list of dicts with `overall`, or compute_score(reward_input) -> dict",
    "swift": "a class with __call__(completions, **columns) -> list; completions are strings",
}
TOKENS = ("completion_ids", "completions_ids", "response_token_ids")
"""The token ids of the completions, as TRL's code, TRL's documentation and ms-swift call them."""
RESERVED = ("prompts", "completions", *TOKENS, "trainer_state", "log_extra", "log_metric", "environments")
"""What a trainer hands over besides columns: never a setting."""

Parameters = Mapping[str, Parameter]


def adapt(plugin: Callable[..., Any], form: str | None, *, where: str) -> tuple[Callable[..., Any], RewardInfo]:
    """The plugin in mmrl's form, and its facts. `form` is a key of `FORMS`, or None to find it out without a call.

    Raises ConfigError, with `where` in it, for an unknown form and for a plugin that has none of them.
    """
    if form is not None and form not in FORMS:
        raise ConfigError(f"{where}.form is one of {', '.join(FORMS)}; found {form!r}.")
    info = info_of(plugin)
    parameters = _parameters(plugin)
    form = form or _form_of(plugin, parameters)
    if form is None:
        known = "\n".join(f"    {name:<9} {written}" for name, written in FORMS.items())
        raise ConfigError(
            f"{where}: cannot tell how to call {info.name}({', '.join(parameters)}). A reward has one of these forms "
            f"(`form:` says which):\n{known}"
        )
    if form == "native":
        return plugin, info
    if form == "verl":
        return _verl(plugin, parameters, info), replace(info, scope="row", reads="text")
    if form == "easyr1":
        return _easyr1(plugin, parameters, info, where=where), replace(info, scope="batch", reads="rollouts")
    named = parameters.keys() | _keys_read(plugin, parameters)
    adapted = _of_columns(plugin, parameters, named, info, chat=form == "trl")
    # Only rollouts have token ids; a reward of texts can run in worker processes.
    return adapted, replace(info, scope="batch", reads="text" if named.isdisjoint(TOKENS) else "rollouts")


def _parameters(plugin: Any) -> Parameters:
    """What the plugin is called with; for a class, what its instances are called with."""
    is_class = inspect.isclass(plugin)
    try:
        parameters = list(inspect.signature(plugin.__call__ if is_class else plugin).parameters.items())
    except (TypeError, ValueError):
        return {}
    return dict(parameters[1:] if is_class else parameters)


def _form_of(plugin: Callable[..., Any], parameters: Parameters) -> str | None:
    names = list(parameters)
    if hasattr(plugin, "reward_info") or names[1:2] in (["sample"], ["samples"]):
        return "native"
    if "solution_str" in names:
        return "verl"
    if names[:1] in (["reward_input"], ["reward_inputs"]):
        return "easyr1"
    if parameters.keys().isdisjoint(("completions", "prompts", *TOKENS)):
        return None
    if inspect.isclass(plugin):
        return "swift"
    declared = str(parameters["completions"].annotation) if "completions" in names else ""
    return "trl_text" if declared.removeprefix("typing.") in ("list[str]", "List[str]") else "trl"


def _keys_read(plugin: Any, parameters: Parameters) -> set[str]:
    """The texts in the code of a function with **columns: what it may take out of them by name."""
    if not _takes_any(parameters):
        return set()
    function = inspect.unwrap(getattr(plugin, "func", plugin))
    code = getattr(function if inspect.isroutine(function) else function.__call__, "__code__", None)

    def texts(code: CodeType) -> Iterator[str]:
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from texts(constant)
            elif isinstance(constant, str):
                yield constant

    return set(texts(code)) if code else set()


def _takes_any(parameters: Parameters) -> bool:
    return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())


# TRL and ms-swift: one call for all rows, every argument a list with one value per row.


def _of_columns(
    plugin: Callable[..., Any], parameters: Parameters, named: set[str], info: RewardInfo, *, chat: bool
) -> Callable[..., Any]:
    def ask(function: Callable[..., Any], rows: tuple[Any, ...], settings: Mapping[str, Any]) -> Any:
        """Rows are (completions, samples), or (rollouts,)."""
        logged: dict[str, list[Any]] = {}
        offered = {**_columns(rows, named), **_given(rows, logged, chat=chat)}
        arguments = {key: value for key, value in offered.items() if key in parameters or _takes_any(parameters)}
        _check_given(info, parameters, {**arguments, **settings}, offered)
        call = partial(function, **{**arguments, **settings})
        return _called(call, partial(_noted, logged=logged, count=len(offered["completions"])), hint=hint)

    kinds = ("chat messages (the text is completion[0]['content'])", "trl_text") if chat else ("strings", "trl")
    hint = "completions were given as {}; if it takes the other kind, write `form: {}`".format(*kinds)
    if not inspect.isclass(plugin):

        def function(*rows: Any, **settings: Any) -> Any:
            return ask(plugin, rows, settings)

        optional = {key: one for key, one in parameters.items() if one.default is not one.empty}
        return _signed(function, plugin, {key: one for key, one in optional.items() if key not in RESERVED})

    constructor = inspect.signature(plugin).parameters

    class Built:
        def __init__(self, **settings: Any) -> None:
            if "args" in constructor:  # ms-swift's command line
                settings["args"] = SimpleNamespace(**settings) if settings else None
            self.reward = plugin(**settings)

        def __call__(self, *rows: Any) -> Any:
            return ask(self.reward, rows, {})

    return _signed(Built, plugin, {key: one for key, one in constructor.items() if key != "args"})


def _columns(rows: tuple[Any, ...], named: set[str]) -> dict[str, list[Any]]:
    """Every key of target and meta (target wins), None in rows without it.

    `solution` and `ground_truth`, the usual names of the gold, are `target.answer` in rows without them. `images` (a
    list per row) and `image` (the first one, or None) are opened if the function names them.
    """
    samples = _samples(rows)
    filled = []
    for sample in samples:
        gold = dict.fromkeys(("solution", "ground_truth"), sample.target.get("answer"))
        filled.append({**(gold if "answer" in sample.target else {}), **sample.meta, **sample.target})
    keys = dict.fromkeys(key for row in filled for key in row)
    columns = {key: [row.get(key) for row in filled] for key in keys}
    if not named.isdisjoint(("image", "images")):
        from data_pipelines.media import open_image

        paths = [[media.path for media in sample.media if media.kind == "image"] for sample in samples]
        opened = {path: open_image(path) for path in dict.fromkeys(path for row in paths for path in row)}
        columns["images"] = [[opened[path] for path in row] for row in paths]
        columns["image"] = [row[0] if row else None for row in columns["images"]]
    return columns


def _given(rows: tuple[Any, ...], logged: dict[str, list[Any]], *, chat: bool) -> dict[str, Any]:
    """What a trainer hands over besides columns; what the function logs arrives in `logged`."""
    rollouts = rows[0] if isinstance(rows[0], Rollouts) else None
    texts = list(rows[0] if rollouts is None else rollouts.text)

    def log_extra(column: str, values: Sequence[Any]) -> None:
        if len(values) != len(texts):
            raise ValueError(f"log_extra({column!r}) has {len(values)} values for {len(texts)} completions")
        logged[column] = list(values)

    def log_metric(name: str, value: Any) -> None:
        logged[name] = [value] * len(texts)

    given: dict[str, Any] = {"trainer_state": None, "log_extra": log_extra, "log_metric": log_metric}
    if chat:
        given["prompts"] = [list(sample.messages) for sample in _samples(rows)]
        given["completions"] = [[{"role": "assistant", "content": text}] for text in texts]
    else:
        given["prompts"] = [sample.prompt for sample in _samples(rows)]
        given["completions"] = texts
    if rollouts is not None:
        padded = zip(rollouts.actions.tolist(), rollouts.length.tolist(), strict=True)
        ids = [row[:length] for row, length in padded]
        given |= dict.fromkeys(TOKENS, ids)
    return given


def _samples(rows: tuple[Any, ...]) -> list[Sample]:
    """One per row."""
    first, *rest = rows
    return [first.sample_of(row) for row in range(len(first))] if isinstance(first, Rollouts) else list(rest[0])


def _check_given(
    info: RewardInfo, parameters: Parameters, arguments: Mapping[str, Any], offered: Mapping[str, Any]
) -> None:
    variadic = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    required = [key for key, one in parameters.items() if one.default is one.empty and one.kind not in variadic]
    missing = [key for key in required if key not in arguments]
    if missing:
        there = ", ".join(sorted(offered.keys() - RESERVED)) or "none"
        raise ValueError(
            f"{info.name} needs the column {', '.join(missing)}; the columns are the keys of the samples' target and "
            f"meta: {there}."
        )


def _noted(returned: Any, *, logged: Mapping[str, list[Any]], count: int) -> Any:
    """The returned list with what was logged beside each value; anything else as it is, for `calling.py` to refuse."""
    values = returned.tolist() if hasattr(returned, "tolist") else returned
    if not logged or not isinstance(values, list | tuple) or len(values) != count:
        return values
    beside = [{key: column[row] for key, column in logged.items()} for row in range(count)]
    return [None if value is None else Score(value, parsed) for value, parsed in zip(values, beside, strict=True)]


# verl and EasyR1: the gold is one key of the target, named by the setting `ground_truth`; a dict may come back.


def _verl(plugin: Callable[..., Any], parameters: Parameters, info: RewardInfo) -> Callable[..., Any]:
    def function(completion: str, sample: Sample, *, ground_truth: str = "answer", **settings: Any) -> Any:
        about = {"id": sample.id, "prompt": sample.prompt, "media": [media.path for media in sample.media]}
        offered = {
            "data_source": sample.meta.get("data_source", sample.meta.get("source", "")),
            "solution_str": completion,
            "ground_truth": _gold(sample, ground_truth, info),
            "extra_info": {**about, **sample.meta, **sample.target},
        }
        arguments = {key: value for key, value in offered.items() if key in parameters or _takes_any(parameters)}
        return _called(partial(plugin, **arguments, **settings), partial(_part, key="score"))

    given = ("data_source", "solution_str", "ground_truth", "extra_info")
    return _signed(function, plugin, {key: one for key, one in parameters.items() if key not in given}, gold=True)


def _easyr1(plugin: Callable[..., Any], parameters: Parameters, info: RewardInfo, *, where: str) -> Callable[..., Any]:
    first = next(iter(parameters), "")
    kind = {"reward_inputs": "batch", "reward_input": "sequential"}.get(first)
    kind = getattr(inspect.getmodule(plugin), "REWARD_TYPE", kind)
    if kind not in ("batch", "sequential"):
        raise ConfigError(
            f"{where}: does {info.name} take one dict or a list of them? Set REWARD_TYPE in its module to `sequential` "
            "or `batch`, or name its first parameter reward_input or reward_inputs."
        )

    def function(rollouts: Rollouts, *, ground_truth: str = "answer", **settings: Any) -> Any:
        golds = [_gold(rollouts.sample_of(row), ground_truth, info) for row in range(len(rollouts))]
        inputs = [
            {"response": text, "response_length": length, "ground_truth": gold}
            for text, length, gold in zip(rollouts.text, rollouts.length.tolist(), golds, strict=True)
        ]
        if kind == "batch":
            returned = plugin(inputs, **settings)
        else:
            returned = [_attempted(partial(plugin, one, **settings)) for one in inputs]
        return [_part(one, key="overall") for one in returned] if isinstance(returned, list | tuple) else returned

    return _signed(function, plugin, {key: one for key, one in parameters.items() if key != first}, gold=True)


def _attempted(call: Callable[[], Any]) -> Any:
    """What it returns, or the exception: a row that fails leaves the others alone."""
    try:
        return call()
    except Exception as error:
        return error


def _part(returned: Any, *, key: str) -> Any:
    """The value at `key` of a returned dict, the rest beside it; anything else as it is."""
    if not isinstance(returned, dict):
        return returned
    if key not in returned:
        return ValueError(f"returned a dict without {key!r}; its keys: {', '.join(map(str, returned)) or 'none'}")
    return Score(returned[key], parsed={name: value for name, value in returned.items() if name != key} or None)


def _gold(sample: Sample, key: str, info: RewardInfo) -> Any:
    """`target.<key>`, a number as the text that both trainers hand over."""
    if key not in sample.target:
        there = ", ".join(sorted(sample.target)) or "none"
        raise ValueError(f"{info.name} needs target.{key} (its setting ground_truth); the target's keys: {there}")
    gold = sample.target[key]
    return str(gold) if isinstance(gold, int | float) and not isinstance(gold, bool) else gold


# Common to all forms.


def _called(call: Callable[[], Any], finish: Callable[[Any], Any], *, hint: str = "") -> Any:
    """`finish` of what `call` returns, awaited if it is asynchronous."""
    with _explained(hint):
        returned = call()
    if not inspect.isawaitable(returned):
        return finish(returned)

    async def wait(awaitable: Awaitable[Any]) -> Any:
        with _explained(hint):
            value = await awaitable
        return finish(value)

    return wait(returned)


@contextmanager
def _explained(hint: str) -> Iterator[None]:
    """Add the hint to the failures that come from completions of another form."""
    try:
        yield
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        if not hint:
            raise
        what = str(error) if isinstance(error, TypeError) else f"{type(error).__name__}: {error}"
        raise TypeError(f"{what} [{hint}]") from error


def _signed(
    adapted: Any, plugin: Callable[..., Any], settings: Parameters, *, gold: bool = False
) -> Callable[..., Any]:
    """The adapted reward with the plugin's name and module, and the settings as its keyword-only parameters."""
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        if hasattr(plugin, attribute):
            setattr(adapted, attribute, getattr(plugin, attribute))
    hints = {key: hint_of(plugin, key) for key in settings}
    keywords = [
        one if one.kind is Parameter.VAR_KEYWORD else one.replace(kind=Parameter.KEYWORD_ONLY)
        for one in settings.values()
        if one.kind is not Parameter.VAR_POSITIONAL
    ]
    if gold:
        hints["ground_truth"] = str
        keywords.insert(0, Parameter("ground_truth", Parameter.KEYWORD_ONLY, default="answer", annotation=str))
    is_class = inspect.isclass(adapted)
    rows = [] if is_class else [Parameter("rows", Parameter.VAR_POSITIONAL)]
    adapted.__signature__ = inspect.Signature([*rows, *keywords])
    (adapted.__init__ if is_class else adapted).__annotations__ = hints
    signed: Callable[..., Any] = adapted
    return signed
