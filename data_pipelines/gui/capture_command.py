"""`mmrl data capture`: the command around `capture.py`, which it imports when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def capture(
    pages: Annotated[list[str], typer.Argument(metavar="PAGE...", help="HTML files, or http, https, file addresses.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.", show_default=False)],
    clicks: Annotated[Path | None, typer.Option(help="YAML script of clicks and typing.", show_default=False)] = None,
    size: Annotated[str, typer.Option(help="Width x height of the screen.")] = "1280x800",
    coordinates: Annotated[str, typer.Option(help="Of the answers: pixel, seen, norm1, norm1000.")] = "pixel",
    browser: Annotated[str | None, typer.Option(help="Chromium, if not in PATH.", show_default=False)] = None,
    seconds: Annotated[float, typer.Option(help="Time for a page, and for a task of the script.")] = 30.0,
) -> None:
    """Open pages in headless Chromium: screenshots, elements with boxes, grounding and action samples."""
    from rich.console import Console
    from rich.text import Text

    from data_pipelines.gui.capture import capture as run
    from data_pipelines.gui.capture import parse_size
    from mmrl.runs.summary import clean

    console = Console(soft_wrap=True)
    made = run(
        pages, out, clicks=clicks, size=parse_size(size), coordinates=coordinates, browser=browser, seconds=seconds
    )
    for problem in made.problems:
        console.print(Text(clean(f"{problem.where}: {problem.message}.")[:2000]))
    counts = {"screens": len(made.screens), "grounding": len(made.grounding), "actions": len(made.actions)}
    for name, path in made.files.items():
        console.print(f"{path}: {counts[name]:,} {'screenshots' if name == 'screens' else 'rows'}", highlight=False)
    if made.problems:
        console.print(f"{len(made.problems)} pages or tasks failed.")
    if not made.screens:
        raise typer.Exit(1)
