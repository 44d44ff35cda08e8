"""The `mmrl` command. Every sub-command is thin: it imports what it calls when it is called."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_pipelines.commands import app as data
from rewards.commands import app as rewards

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Reinforcement-learning fine-tuning of multimodal and vision models.")  # fmt: skip
runs = typer.Typer(no_args_is_help=True, help="Look at runs.")
methods = typer.Typer(no_args_is_help=True, help="The methods there are.")
app.add_typer(runs, name="runs")
app.add_typer(data, name="data")
app.add_typer(rewards, name="rewards")
app.add_typer(methods, name="methods")

console = Console(soft_wrap=False)

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, for example steps=50, or a YAML file to lay over the recipe")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the latest checkpoint.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what it would take, stop.")]
RunsFolder = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]


ON_RANKS = ("train", "sft", "eval")
"""Commands whose processes share the work; each of the others would do all of it in every process."""


@app.callback()
def processes(context: typer.Context) -> None:
    """Meet the other ranks, or refuse to work N times."""
    from mmrl import distributed
    from mmrl.plugins import ConfigError

    if not distributed.launched():
        return
    if context.invoked_subcommand in ON_RANKS:
        distributed.start()
        return
    if int(os.environ.get("RANK", 0)) > 0:
        sys.exit(2)  # the first one says it
    command = f"mmrl {context.invoked_subcommand}"
    raise ConfigError(
        f"`{command}` works in one process, and {os.environ['WORLD_SIZE']} were started, each of which would do all of "
        f"it (WORLD_SIZE).\n  Start it without the launcher; where the variable comes from elsewhere: "
        f"env -u WORLD_SIZE {command} ...\n  On several processes run {', '.join(ON_RANKS)}."
    )


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="A YAML recipe.")],
    overrides: Overrides = None,
    resume: Resume = False,
    dry_run: DryRun = False,
) -> None:
    """Reinforcement learning by a recipe."""
    from mmrl.launch import run_training

    run_training(config, overrides or [], resume=resume, console=console, dry_run=dry_run)


@app.command()
def sft(
    config: Annotated[str, typer.Argument(help="A YAML file.")],
    overrides: Overrides = None,
    resume: Resume = False,
    dry_run: DryRun = False,
) -> None:
    """Supervised fine-tuning on the assistant turns of a dataset: a cold start."""
    from mmrl.config import SftConfig, load_config
    from mmrl.sft import sft as run

    run(load_config(config, overrides or [], kind=SftConfig), console, resume=resume, dry_run=dry_run)


@app.command(name="eval")
def evaluate(
    target: Annotated[str, typer.Argument(help="A run directory, a model folder, a hub name, or `tiny`.")],
    data: Annotated[str, typer.Argument(help="A JSON Lines dataset.")],
    config: Annotated[
        str | None, typer.Option(help="Recipe whose rewards and media budget to use; a run has its own.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Completions per prompt.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    limit: Annotated[int | None, typer.Option(help="Rows to use.")] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="grounding, aitz, a reward, ...; repeat for more. Default: by meta.task.", show_default=False
        ),
    ] = None,
    vote: Annotated[
        str | None, typer.Option(help="Decide several completions into one: region, majority.", show_default=False)
    ] = None,
    json: Annotated[Path | None, typer.Option(help="File for all numbers.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the completions, read like a run's.")] = None,
) -> None:
    """Held-out score, with the training's media path and rewards, and the metrics of the data's tasks."""
    from mmrl import distributed
    from mmrl.config import EvaluateConfig
    from mmrl.evaluation.table import check_new, table, write_completions, write_json
    from mmrl.launch import run_evaluation

    if out is not None:
        check_new(out)
    settings = EvaluateConfig(samples=samples, temperature=temperature, limit=limit)
    result = run_evaluation(
        target, data, config_file=config, settings=settings, console=console, metrics=metrics or [], vote=vote
    )
    console.print(
        f"{target}: reward [bold]{result.score:.3f}[/] "
        f"(95 % {result.low:.3f} to {result.high:.3f}, {result.prompts} prompts)",
        highlight=False,
    )
    for name, score in result.scores.items():
        console.print(f"  {name} {score:.3f}", highlight=False)
    if (grid := table(result, samples=samples)) is not None:
        console.print(grid)
    if json is not None:
        if distributed.rank() == 0:
            write_json(json, result, target=target, data=data, samples=samples, temperature=temperature, vote=vote)
        console.print(f"{json}", highlight=False, soft_wrap=True)
    if out is not None:
        write_completions(out, result)
        console.print(f"completions: {out}")


@app.command()
def adapt(
    model: Annotated[str, typer.Argument(help="A model folder, a hub name, `tiny`, or a run.")],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Images, or one dataset; key=value sets the recipe, as steps=50."),
    ],
    question: Annotated[str | None, typer.Option(help="What to ask about every image.")] = None,
    answer: Annotated[
        str | None, typer.Option(help="How a vote is read: choice (a letter), number or text.", show_default="choice")
    ] = None,
    config: Annotated[str | None, typer.Option(help="Recipe to use instead of TTRV's.")] = None,
    out: Annotated[Path, typer.Option(help="Run directory to write, with predictions.jsonl.")] = Path("runs/adapted"),
    resume: Resume = False,
) -> None:
    """Train on inputs without labels, by votes of the model's own answers, and answer them."""
    from mmrl.adaptation import adapt as run

    settings = [word for word in inputs if "=" in word and not Path(word).exists()]
    files = [Path(word) for word in inputs if word not in settings]
    result = run(model, files, out, question=question, answer=answer, recipe_file=config, overrides=settings,
                 resume=resume, console=console)  # fmt: skip
    console.print(result.table)
    for name, path in (("model", result.model), ("predictions", result.predictions)):
        console.print(f"{name}: {path}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def generate(
    target: Annotated[
        str, typer.Argument(metavar="MODEL|RUN", help="A folder with an image or video model, or a run.")
    ],
    prompts: Annotated[
        list[str],
        typer.Argument(
            metavar="PROMPT...",
            help="What to make; key=value sets the sampling, as steps=20 (a space in front makes it a prompt).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures and grid.png.")] = Path("generated"),
    count: Annotated[int, typer.Option(help="Pictures to keep of each prompt.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    best_of: Annotated[int | None, typer.Option(help="Make so many of each prompt, keep the best.")] = None,
    reward: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME,key=value,...; repeat for a sum.", show_default=False)
    ] = None,
    compare: Annotated[str | None, typer.Option(help="Model or run to show beside; a run's start by default.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="To start from: one for all prompts, or one each.", show_default=False)
    ] = None,
    temperature: Annotated[float, typer.Option(help="Noise between the steps; 1 is a run's own.")] = 0.0,
    fps: Annotated[float, typer.Option(help="Frames per second of videos.")] = 8,
) -> None:
    """Images or videos of prompts in files, with a grid; the best of several by any reward."""
    from mmrl.generation import SETTING, Request
    from mmrl.generation import generate as run

    settings = [word for word in prompts if SETTING.match(word)]
    request = Request(count=count, best_of=best_of, rewards=tuple(reward or ()), settings=tuple(settings),
                      temperature=temperature, images=tuple(image or ()), seed=seed, fps=fps)  # fmt: skip
    wanted = [word for word in prompts if word not in settings]
    result = run(target, wanted, out, request, compare=compare, console=console)
    if result.table is not None:
        console.print(result.table)
    for file in [*result.files, result.grid]:
        console.print(f"{file}", highlight=False, markup=False, soft_wrap=True)


@runs.command(name="list")
def runs_list(folder: RunsFolder = Path("runs")) -> None:
    """All runs, newest first."""
    from mmrl.runs.reader import list_runs
    from mmrl.runs.summary import runs_table

    console.print(runs_table(list_runs(folder)))


@runs.command(name="show")
def runs_show(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    step: Annotated[int | None, typer.Option(help="Step whose completions to show; default the last.")] = None,
    limit: Annotated[int, typer.Option(help="Prompts to show.")] = 4,
) -> None:
    """A run's summary, and completions of a step."""
    from mmrl.runs.summary import show_run, summary

    console.print(summary(run))
    console.print(show_run(run, step, limit=limit))


@runs.command(name="plot")
def runs_plot(
    run: Annotated[list[Path], typer.Argument(help="One run directory, or several for one figure.")],
    out: Annotated[Path | None, typer.Option(help="PNG file; default learning_curve.png in the run.")] = None,
) -> None:
    """The learning curve as a PNG."""
    from mmrl.runs.plot import plot_run, plot_runs

    path = plot_run(run[0], out) if len(run) == 1 else plot_runs(run, out or Path("learning_curves.png"))
    console.print(f"{path}")


@methods.command(name="list")
def methods_list() -> None:
    """Methods with their papers and files, and the stages a recipe can name."""
    from mmrl import registry
    from mmrl.catalogue import listing

    console.print(listing())
    for kind in ("samplers", "rollouts", "advantages", "losses"):
        print_plugins(kind, getattr(registry, kind.upper()))


@methods.command(name="show")
def methods_show(name: Annotated[str, typer.Argument(help="As `mmrl methods list` has it.")]) -> None:
    """What one method is composed of."""
    from mmrl.catalogue import detail

    console.print(detail(name))


def print_plugins(title: str, names: dict[str, str]) -> None:
    from mmrl.plugins import describe

    table = Table("name", "what", "settings", title=title, title_justify="left")
    for name, what, settings in describe(names):
        table.add_row(name, Text(what), Text(settings))
    console.print(table)


@app.command()
def view(
    subject: Annotated[
        Path, typer.Argument(metavar="[RUNS|RUN|DATA]", help="A folder of runs, one run, or a data set.")
    ] = Path("runs"),
    host: Annotated[str, typer.Option(help="Address to listen on; all but this machine's own ask for a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8100,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Show runs, or a data set, in a browser: groups, media, scores, tokens."""
    from mmrl.viewer.serve import serve

    serve(subject, host=host, port=port, browser=browser, console=console)


@app.command()
def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Of configs/reproduce/; default all.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes at a time, of one thread each.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for runs and results; what is done there is kept.")] = Path(
        "runs/reproduce"
    ),
    page: Annotated[Path, typer.Option(help="Page to write; results and pictures lie beside it.")] = Path(
        "docs/reproduce.md"
    ),
    page_only: Annotated[bool, typer.Option("--page-only", help="Run nothing; write the page anew.")] = False,
) -> None:
    """The claims of papers in miniature: methods against GRPO over seeds, with intervals and a page."""
    from mmrl.replication.reproduce import reproduce as run

    run(names or [], jobs=jobs, out=out, page=page, page_only=page_only, console=console)


@app.command()
def doctor(
    runs: RunsFolder = Path("runs"),
    train: Annotated[bool, typer.Option("--train", help="Train the tiny model for two steps, here.")] = False,
    processes: Annotated[
        int | None, typer.Option(help="Of --train; default one for each GPU.", show_default=False)
    ] = None,
    strategy: Annotated[str, typer.Option(help="Of --train: ddp, zero1, zero2 or zero3.")] = "ddp",
) -> None:
    """Versions, accelerators, and what is missing and what that disables; exit status 1 if mmrl cannot train."""
    from mmrl.doctor import examine
    from mmrl.doctor.findings import show
    from mmrl.plugins import ConfigError

    if not train and (processes is not None or strategy != "ddp"):
        raise ConfigError("--processes and --strategy are about `mmrl doctor --train`, the self-test.")
    if not train:
        sound = show(examine(runs), console)
    else:
        from mmrl.doctor.selftest import selftest

        sound = show(selftest(processes=processes, strategy=strategy), console)
    if not sound:
        raise typer.Exit(1)


def main(command: Callable[[], Any] = app) -> None:
    """Errors that a user can mend are printed without a traceback; everything else shows one.

    A reward that failed too often shows the traceback of its first failure, which is of the reward's own code. Of
    several ranks each says what no other has said.
    """
    from mmrl import distributed
    from mmrl.plugins import ConfigError

    try:
        command()
    except SystemExit as ended:
        if not ended.code:
            distributed.stop()
        raise
    except ConfigError as error:
        say(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("interrupted before the first step, or outside of a training")
        sys.exit(130)
    except Exception as error:
        from data_pipelines.decoding import BadMedia
        from mmrl.faults.endings import Ending, Stopped, leave
        from rewards.scoring import RewardFailure

        if "mmrl.faults.peers" in sys.modules:  # a training
            error = sys.modules["mmrl.faults.peers"].before_the_run(error) or error
        if isinstance(error, Ending):
            if not error.quiet:
                style = "" if isinstance(error, Stopped) else "red"
                words = str(error) if isinstance(error, Stopped) else f"error: {error}"
                Console(stderr=True).print(Text(words, style=style), soft_wrap=True)
            leave(error)
        if isinstance(error, BadMedia):
            say(f"error: {error}")
            sys.exit(2)
        if isinstance(error, RewardFailure):
            say(f"error: {error}", of=error.__cause__)
        elif distributed.size() == 1:
            raise
        else:
            say(f"error: {type(error).__name__}: {error}", of=error)
        sys.exit(1)


def say(message: str, *, of: BaseException | None = None) -> None:
    """Print an error, after the traceback of what it comes from; not if another rank has printed the same."""
    from mmrl import distributed

    if not distributed.first_to_say(message):
        return
    if of is not None:
        traceback.print_exception(of)
    rank = f"rank {distributed.rank()}: " if distributed.size() > 1 else ""
    Console(stderr=True).print(Text(f"{rank}{message}", style="red"), soft_wrap=True)


if __name__ == "__main__":
    main()
