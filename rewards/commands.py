"""`mmrl rewards ...`: thin commands around `authoring/` and `server.py`, which they import when they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="See, write and check rewards.")
console = Console(soft_wrap=False)

Reward = Annotated[str, typer.Argument(help="A reward's name, or path/to/file.py:function.")]
Settings = Annotated[
    list[str] | None, typer.Argument(help="setting=value of the reward, for example scale=0.2", show_default=False)
]


@app.command(name="list")
def list_all(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of the docs.")] = False,
) -> None:
    """Every reward a recipe can name, with its range, scope, target and source."""
    from rewards.authoring import show

    if markdown:
        typer.echo(show.markdown())
    else:
        Console(width=max(console.width, show.WIDTH) if not console.is_terminal else None).print(show.listing())


@app.command(name="show")
def show(reward: Reward) -> None:
    """One reward in full: what it computes, its settings, where it is written, how a recipe names it."""
    from rewards.authoring.show import detail

    console.print(detail(reward))


@app.command(name="new")
def new(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    scope: Annotated[str, typer.Option(help="row sees one completion at a time, group all of a prompt.")] = "row",
    out: Annotated[Path | None, typer.Option(help="File to write; default NAME.py.", show_default=False)] = None,
) -> None:
    """Write a reward of your own to start from, with its test."""
    from rewards.authoring.template import farewell, write

    console.print(farewell(name, *write(name, scope=scope, out=out)), soft_wrap=True)


@app.command(name="check")
def check(
    reward: Reward,
    settings: Settings = None,
    data: Annotated[Path | None, typer.Option(help="JSON Lines whose samples to use; else made-up ones.")] = None,
    limit: Annotated[int, typer.Option(help="Rows of the data to use.")] = 8,
) -> None:
    """Try a reward on right, ordinary and hostile completions; exit status 1 if something fails."""
    from rewards.authoring.check import try_out
    from rewards.authoring.findings import findings, passed, report

    trial = try_out(_entry(reward, settings), data=data, limit=limit)
    found = findings(trial)
    console.print(report(trial, found), crop=False)
    if not passed(found):
        raise typer.Exit(1)


@app.command(name="replay")
def replay(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    reward: Reward,
    settings: Settings = None,
    steps: Annotated[str | None, typer.Option(help="a:b (b excluded), a: or one step; default all.")] = None,
    against: Annotated[str, typer.Option(help="Stored score to compare with; default the combined reward.")] = "reward",
) -> None:
    """Score the stored completions of a run with another reward: what would have changed?"""
    from rewards.authoring.replay import replay, report

    spec = _entry(reward, settings)
    result = replay(run, spec, steps=steps, against=against)
    console.print(report(result, run, spec, against=against), crop=False)


@app.command(name="serve")
def serve(
    names: Annotated[list[str], typer.Argument(help="Rewards, by name or path/to/file.py:function.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    settings: Annotated[
        list[str] | None, typer.Option(help="NAME.setting=value; repeat for more.", show_default=False)
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds a call may take, then it is killed.", show_default="no limit")
    ] = None,
    max_bytes: Annotated[int, typer.Option(help="Largest request.")] = 2**27,
    token_env: Annotated[
        str, typer.Option(help="Environment variable with a token that clients must send.", show_default=False)
    ] = "",
) -> None:
    """Serve rewards over HTTP from this environment; a recipe uses them by `{name: remote, url: ...}`."""
    from rewards.server import serve

    serve(names, host=host, port=port, max_bytes=max_bytes, timeout=timeout, settings=settings or [],
          token_env=token_env)  # fmt: skip


def _entry(reward: str, settings: list[str] | None) -> dict[str, Any]:
    """A reward and `setting=value`s as a recipe's list of rewards holds them."""
    from mmrl.mappings import settings_from

    return {**settings_from(settings or []), "name": reward}
