"""`mmrl data ...`: thin commands around the modules of this package, which they import when they are called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_pipelines.gui.capture_command import capture
from data_pipelines.terminal import console, counting, making, reading, report, told

if TYPE_CHECKING:
    from mmrl.records import Sample
    from mmrl.stages import Policy


app = typer.Typer(no_args_is_help=True, help="Make, convert, check and show datasets.")

Data = Annotated[
    str, typer.Argument(metavar="DATA", help="JSON Lines, Parquet, a folder of them, or a dataset of `datasets`.")
]
SettingList = Annotated[
    list[str] | None, typer.Argument(help="setting=value, for example count=500 seed=1", show_default=False)
]
Out = Annotated[Path, typer.Option(help="File to write: x.jsonl or x.parquet.", show_default=False)]
Strict = Annotated[bool, typer.Option("--strict", help="Exit status 1 if there is any problem.")]
Decode = Annotated[bool, typer.Option("--decode", help="Decode all media, not only their headers.")]
Recipe = Annotated[str, typer.Option(help="Recipe whose model, budget, sampling and rewards to use.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value of the recipe, for example sampling.temperature=0.7")
]
OtherModel = Annotated[str | None, typer.Option(help="A model or a run, instead of the recipe's.", show_default=False)]
Model = Annotated[str | None, typer.Option(help="Model or run whose processor counts the tokens.", show_default=False)]


@app.callback()
def limits(
    max_image_pixels: Annotated[
        int | None,
        typer.Option(min=1, help="Largest image or frame that is opened; else data.decode's.", show_default=False),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds that a reader of video may hang; else data.decode's.", show_default=False),
    ] = None,
) -> None:
    """How all commands open media; a recipe that is given says so itself."""
    if max_image_pixels is None and timeout is None:
        return
    from data_pipelines.media import Decoding, configure

    usual = Decoding()
    configure(replace(
        usual, max_image_pixels=max_image_pixels or usual.max_image_pixels, timeout=timeout or usual.timeout
    ))  # fmt: skip


@app.command(name="make", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def make(
    name: Annotated[str, typer.Argument(help="gui, gui-cold-start, digits, digits-cold-start, ...")],
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    settings: SettingList = None,
) -> None:
    """Make a dataset."""
    from data_pipelines.makers import MAKERS
    from mmrl.mappings import settings_from
    from mmrl.plugins import build, load

    where = "mmrl data make"
    given = settings_from(settings or [], load(name, MAKERS, kind="dataset", where=where))
    stage = build({**given, "name": name}, MAKERS, kind="dataset", where=where)
    with making():
        paths = stage.plugin(out, **stage.settings)
    made = 0
    for split, path in paths.items():
        with path.open("rb") as file:
            lines = sum(1 for _ in file)
        rows = path.suffix == ".jsonl"
        made += lines if rows else 0
        text = f"{split}: {path}: {lines:,} {'rows' if rows else 'problems'}"
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    if not made:
        raise typer.Exit(1)


@app.command(name="convert")
def convert(
    format: Annotated[str, typer.Argument(metavar="FORMAT", help="A reader's name, or path/to/file.py:function.")],
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Annotations to read, then setting=value of the reader.")
    ],
    out: Out,
    strict: Strict = False,
    decode: Decode = False,
) -> None:
    """Annotations of another format to a checked dataset; an interrupted conversion continues."""
    from data_pipelines.convert import convert as run
    from data_pipelines.makers import READERS
    from mmrl.mappings import settings_from
    from mmrl.plugins import ConfigError, build, load

    files, settings = apart(sources)
    if not files:
        raise ConfigError("mmrl data convert: no SOURCE is given, only settings.")
    where = "mmrl data convert"
    given = settings_from(settings, load(format, READERS, kind="format", where=where))
    stage = build({**given, "name": format}, READERS, kind="format", where=where)
    with counting("converting") as tick:
        progress = run(stage, files, out, decode=decode, tick=tick)
    report(progress, out, strict=strict)


@app.command(name="transform")
def transform(
    data: Data,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A transform's name, or path/to/file.py:function.")],
    out: Out,
    settings: SettingList = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    strict: Strict = False,
) -> None:
    """Change the rows of a dataset one by one."""
    from data_pipelines.makers import TRANSFORMS
    from data_pipelines.transform import WHERE
    from data_pipelines.transform import transform as run
    from mmrl.mappings import settings_from
    from mmrl.plugins import load

    given = settings_from(settings or [], load(name, TRANSFORMS, kind="transform", where=WHERE))
    with counting("transforming") as tick:
        progress = run(data, name, out, settings=given, seed=seed, tick=tick)
    report(progress, out, strict=strict)


@app.command(name="traces")
def traces(
    data: Data,
    model: Annotated[str, typer.Option(help="A model folder, a hub name, `tiny`, or a run: it writes the thoughts.")],
    out: Out,
    config: Annotated[str | None, typer.Option(help="Recipe whose media budget and model settings to use.")] = None,
    tag: Annotated[str, typer.Option(help="Of the answer after the thought.")] = "answer",
    attempts: Annotated[
        int, typer.Option(help="Completions per row, of which the first that is a thought counts.")
    ] = 4,
    max_new_tokens: Annotated[int, typer.Option(help="Of a thought; a longer one is none.")] = 256,
    temperature: Annotated[float, typer.Option(help="Of the attempts.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    strict: Strict = False,
) -> None:
    """Chats for `mmrl sft`: a model writes the thought that leads from each question to its gold (TON)."""
    from mmrl.methods.ton import convert_to_traces

    with counting("thinking") as tick:
        progress = convert_to_traces(
            data, out, model=model, config_file=config, seed=seed, tick=tick,
            tag=tag, attempts=attempts, max_new_tokens=max_new_tokens, temperature=temperature,
        )  # fmt: skip
    report(progress, out, strict=strict)


@app.command(name="select")
def select(
    data: Data,
    config: Recipe,
    out: Out,
    overrides: Overrides = None,
    model: OtherModel = None,
    completions: Annotated[int, typer.Option(help="Per row.", min=2)] = 8,
    spread: Annotated[float, typer.Option(help="Least standard deviation of a row that is kept.")] = 0.05,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A reward of the recipe; repeat for more. Default: all.", show_default=False),
    ] = None,
    strict: Strict = False,
) -> None:
    """Keep the rows on which a model's own completions differ in reward (Temporal-R1)."""
    from mmrl.methods.temporal_r1 import varied
    from mmrl.plugins import Stage
    from mmrl.survey import survey

    stage = Stage("select", varied, {"completions": completions, "spread": spread, "metrics": metric or []})
    with counting("selecting") as tick:
        progress = survey(
            stage, data, out, config_file=config, model=model, overrides=overrides or [], tick=tick, must_differ=True
        )
    report(progress, out, strict=strict)


@app.command(name="reject")
def reject(
    data: Data,
    config: Recipe,
    out: Out,
    wrong: Annotated[Path, typer.Option(help="File for the rows without a right completion.", show_default=False)],
    overrides: Overrides = None,
    model: OtherModel = None,
    completions: Annotated[int, typer.Option(help="Per row; the first right one is taken.", min=1)] = 1,
    metric: Annotated[
        str | None, typer.Option(help="The reward that says what is right. Default: the sum.", show_default=False)
    ] = None,
    at_least: Annotated[float, typer.Option(help="Its value from which on a completion is right.")] = 1.0,
    strict: Strict = False,
) -> None:
    """Rejection sampling: a model's own right completions as chats for `mmrl sft` (UnifiedReward-Think)."""
    from mmrl.methods.unified_reward_think import reject as run

    with counting("completing") as tick:
        progress = run(
            data, out, wrong, config_file=config, model=model, overrides=overrides or [], tick=tick,
            completions=completions, metric=metric, at_least=at_least,
        )  # fmt: skip
    report(progress, out, strict=strict)


@app.command(name="check")
def check(
    data: Data,
    config: Annotated[
        str | None, typer.Option(help="Recipe: also measure the prompts and check targets against its rewards.")
    ] = None,
    model: Model = None,
    decode: Decode = False,
    limit: Annotated[int, typer.Option(help="Problems to print.")] = 20,
    problems: Annotated[Path | None, typer.Option(help="JSON Lines file for all of them.", show_default=False)] = None,
) -> None:
    """Read every row as training would; exit status 1 if there are problems."""
    from contextlib import ExitStack

    from data_pipelines.check import check as run
    from data_pipelines.check import summary
    from data_pipelines.reading import Problem
    from data_pipelines.sources import atomic, problem_line

    how = by_recipe(config, model) if config is not None else By(measure=by_model(model))
    with ExitStack() as stack:
        file = stack.enter_context(stack.enter_context(atomic(problems)).open("wb")) if problems else None
        printed = 0

        def say(problem: Problem) -> None:
            nonlocal printed
            if file is not None:
                file.write(problem_line(problem))
            if printed < limit:
                console.print(told(f"{problem.where}: {problem.message.rstrip('.')}."), soft_wrap=True)
            printed += 1

        with reading("checking") as tick:
            found = run(data, decode=decode, **vars(how), say=say, tick=tick)
    if printed > limit:
        console.print(f"... and {printed - limit:,} more problems.", highlight=False)
    console.print(summary(found))
    if not found.passed:
        raise typer.Exit(1)


@app.command(name="show")
def show(
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="PNG file; default NAME.sheet.png beside DATA.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="Rows to show.", min=1)] = 12,
    seed: Annotated[int | None, typer.Option(help="Draw the rows; else the first.", show_default=False)] = None,
) -> None:
    """A contact sheet: media with gold boxes, points and spans, questions and answers."""
    from data_pipelines.show import choose, sheet
    from data_pipelines.sources import atomic

    folder, rows = choose(data, limit=limit, seed=seed)
    place = Path(data.partition(":")[0])
    name = place.resolve().name if place.is_dir() else place.stem
    path = out or (folder if place.exists() else Path()) / f"{name}.sheet.png"
    with atomic(path) as unfinished:
        sheet(folder, rows).save(unfinished, format="PNG")
    console.print(f"{path}", highlight=False, soft_wrap=True)


@app.command(name="split")
def split(
    data: Data,
    test: Annotated[float, typer.Option(help="Share of the second part, between 0 and 1.")] = 0.1,
    by: Annotated[str, typer.Option(help="media: rows that share a file stay together; or id.")] = "media",
    seed: Annotated[int, typer.Option(help="Of the division.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder; default the data's.", show_default=False)] = None,
) -> None:
    """Two parts, NAME.train and NAME.test, with no media in common."""
    from data_pipelines.sources import Rows
    from data_pipelines.split import split as run
    from mmrl.plugins import ConfigError

    if by not in ("media", "id"):
        raise ConfigError(f"--by {by}: media or id is expected.")
    folder = out or Rows(data).folder
    with reading("splitting") as tick:
        parts = run(data, folder, test=test, by="media" if by == "media" else "id", seed=seed, tick=tick)
    for path, count in parts.values():
        console.print(f"{path}: {count:,} rows", highlight=False, soft_wrap=True)


@app.command(name="stats")
def stats(data: Data, model: Model = None) -> None:
    """Rows per task and source, sizes, tokens, targets and the distribution of answers."""
    from data_pipelines.stats import statistics, tables

    with reading("counting") as tick:
        found = statistics(data, measure=by_model(model), tick=tick)
    console.print(tables(found))


app.command(name="capture")(capture)


def apart(words: list[str]) -> tuple[list[str], list[str]]:
    """What is named (files, and all words before one) and the `setting=value`s at the end."""
    files = [word for word in words if "=" not in word or Path(word).exists()]
    return files, [word for word in words if word not in files]


@dataclass(frozen=True)
class By:
    """How rows are checked: the arguments of `check` that a recipe or a model decides."""

    need_target: bool = False
    roots: list[str] = field(default_factory=list)
    measure: Callable[[Sample], int | None] | None = None
    whole: Callable[[], Iterable[str]] = tuple


def by_recipe(config_file: str, model: str | None) -> By:
    """As training by this recipe would read them: its rewards look at the target, its model (or another one) and budget
    at the prompt. What makes images or videos needs no target but those its rewards ask for."""
    from data_pipelines.media import configure
    from mmrl.config import Config, load_config
    from mmrl.loading import resolve
    from mmrl.policies import policy_class
    from mmrl.recipe import make_recipe
    from rewards.scoring import lacking, unapplied

    config: Config = load_config(config_file)
    configure(config.data.decode)
    settings, _ = resolve(model or config.model.path, config.model)  # what was trained changes no prompt
    kind = policy_class(settings.path)
    rewards = make_recipe(config, kind, where=config_file).rewards
    policy = kind.load(settings, config.data.budget)

    tasks: dict[str, Any] = {}

    def tokens(sample: Sample) -> int | None:
        task = sample.meta.get("task")
        tasks[str(task)] = task
        if missing := lacking(rewards, sample):
            raise ValueError("; ".join(missing))
        return tokens_of(policy, sample)

    def whole() -> list[str]:
        return unapplied(rewards, [*tasks.values()]) if tasks else []

    return By(need_target=kind.makes == "text", roots=config.data.roots, measure=tokens, whole=whole)


def by_model(model: str | None) -> Callable[[Sample], int | None] | None:
    """The tokens of a prompt by a model alone, without a limit."""
    if model is None:
        return None
    from data_pipelines.media import Budget
    from mmrl.config import ModelConfig
    from mmrl.loading import load_policy

    policy = load_policy(model, ModelConfig(), Budget(max_tokens=sys.maxsize))
    return lambda sample: tokens_of(policy, sample)


def tokens_of(policy: Policy, sample: Sample) -> int | None:
    """Of the prompt, where the model that reads it counts them. ValueError if the policy cannot take the sample."""
    try:
        encoded = policy.encode(sample)
    except ValueError as error:
        raise ValueError(str(error).removeprefix(f"{sample.where}: ")) from None
    return len(encoded[1].ids) if policy.makes == "text" else None
