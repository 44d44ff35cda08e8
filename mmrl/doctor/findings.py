"""One line of the doctor, and what all of them come to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

MARKS = {"fine": ("ok", "green"), "limited": ("--", "yellow"), "broken": ("!!", "red")}


@dataclass(frozen=True)
class Finding:
    """`limited`: something does not work, and the remark says what; `broken`: mmrl cannot train here."""

    what: str
    found: str
    remark: str = ""
    state: Literal["fine", "limited", "broken"] = "fine"


def show(findings: Iterable[Finding], console: Console) -> bool:
    """Print each as it is found; whether none is broken. Without colours the marks say the same."""
    sound = True
    for finding in findings:
        mark, colour = MARKS[finding.state]
        line = Text(f"{mark} ", style=colour) + Text(f"{finding.what:<25} {finding.found}", style="default")
        if finding.remark:
            line += Text(f"  {finding.remark}", style="dim" if finding.state == "fine" else colour)
        console.print(line, soft_wrap=True)
        sound = sound and finding.state != "broken"
    return sound


def ask(program: str, arguments: Sequence[str] = (), *, seconds: float = 60.0) -> tuple[Any, str]:
    """What a Python program prints as JSON in its last line, in a process of its own, for libraries that hang, crash or
    talk at import; and if there is none, why."""
    command = [sys.executable, "-c", program, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None, f"no answer within {seconds:.0f} s"
    if done.returncode == 0 and done.stdout.strip():
        return json.loads(done.stdout.strip().splitlines()[-1]), ""
    said = done.stderr.strip().splitlines()
    return None, said[-1] if said else f"it ended with code {done.returncode}"
