"""What `mmrl rewards check` found, and whether it passes: one line per question an author should have asked."""

from __future__ import annotations

import json
import math
import re
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmrl.runs.summary import clean
from rewards.authoring.check import SLOW, Result, Trial
from rewards.calling import Outcome, RemoteError, describe
from rewards.registry import Score

LISTED = 5

State = Literal["ok", "look", "fails", "-"]
STYLES: dict[State, str] = {"ok": "green", "look": "yellow", "fails": "bold red", "-": "dim"}


@dataclass(frozen=True)
class Finding:
    state: State
    """`look` is worth a thought, `fails` is a defect, `-` says that there was nothing to judge."""
    what: str
    detail: str


def findings(trial: Trial) -> list[Finding]:
    return [
        _completions(trial),
        *_undeclared(trial),
        _range(trial),
        _twice(trial),
        _order(trial),
        _right_answer(trial),
        _time(trial),
        _speed(trial),
    ]


def passed(found: Sequence[Finding]) -> bool:
    return all(finding.state != "fails" for finding in found)


def report(trial: Trial, found: Sequence[Finding]) -> Group:
    """For the terminal: the table, the completions that failed, what to do next."""
    info = trial.info
    reads = "" if info.reads == "text" else f", reads {info.reads}"
    needs = f", needs {', '.join(f'target.{key}' for key in info.needs)}" if info.needs else ""
    head = Text(trial.reference, style="bold").append(f"  {info.scope} reward{reads}{needs}\n", style="dim")
    if trial.keys:
        targets = list(dict.fromkeys(json.dumps(result.call.samples[0].target) for result in trial.results))
        whose = "made up; --data FILE.jsonl tries it on yours" if trial.own else "of your data"
        more = f" and {len(targets) - 1} more" if len(targets) > 1 else ""
        head.append(f"target {_short(targets[0])}{more} ({whose})\n", style="dim")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in found:
        table.add_row(Text(finding.state, style=STYLES[finding.state]), finding.what, Text(clean(finding.detail)))
    parts: list[RenderableType] = [head, table, *_failures(trial)]
    if passed(found):
        text = info.reads not in ("image", "video")
        what = "on the completions of a run: mmrl rewards replay RUN" if text else "in a recipe: rewards:"
        reference = trial.reference if text else f"[{trial.reference}]"
        parts.append(Text(f"\nNext, {what} {reference}", style="dim", no_wrap=True, overflow="ignore"))
    else:
        parts.append(Text("\nMend what fails, then check again.", style="bold"))
        usual = [result.outcome for result in trial.results if result.call.role != "hostile"]
        if trial.own and all(isinstance(outcome, Exception) for outcome in usual):
            parts.append(Text("Perhaps it needs samples of its own kind: --data FILE.jsonl gives it yours."))
    return Group(*parts)


def _failed(trial: Trial) -> list[tuple[Result, Exception]]:
    return [(result, result.outcome) for result in trial.results if isinstance(result.outcome, Exception)]


def _values(results: Sequence[Result]) -> list[float]:
    return [result.outcome.value for result in results if isinstance(result.outcome, Score)]


def _completions(trial: Trial) -> Finding:
    failed, count = len(_failed(trial)), len(trial.results)
    none = sum(result.outcome is None for result in trial.results)
    said = f"{failed} of {count} failed ({failed / count:.0%})"
    said += f"; {none} got None (does not apply)" if none else ""
    said += f"; {trial.not_tried} were not tried after so many slow failures" if trial.not_tried else ""
    defects = [error for _, error in _failed(trial) if not (_late(error) and trial.info.timeout)]
    return Finding("fails" if defects else "look" if failed else "ok", "completions", said)


def _late(outcome: Outcome) -> bool:
    return isinstance(outcome, TimeoutError)


def _undeclared(trial: Trial) -> Iterator[Finding]:
    """Only if there is something to say."""
    read = [key for key in trial.keys if key not in trial.info.needs]
    if read and trial.native:
        told = f"it reads {', '.join(f'target.{key}' for key in read)}; needs={trial.keys!r} refuses rows without it"
        yield Finding("look", "needs", told)


def _failures(trial: Trial) -> Iterator[Text]:
    """The different errors, each with a completion that causes it; texts and numbers in an error make no difference."""
    alike: dict[str, list[tuple[Result, str]]] = defaultdict(list)
    for result, error in _failed(trial):
        said = _said(error, trial.file)
        alike[re.sub(r"[0-9.]+", "", re.split("['\"\n]", said)[0])].append((result, said))
    for found in list(alike.values())[:LISTED]:
        result, said = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        yield Text(f"\n{clean(said)}", style="red")
        yield Text(f"  on {result.call.label}{more}: {clean(result.call.shown)}")
    if len(alike) > LISTED:
        yield Text(f"\n... and {len(alike) - LISTED} other errors.")
    if any("\n" in said for found in alike.values() for _, said in found):
        yield Text(
            "\nA completion is never an error: return the lowest value, and say why: Score(0.0, why=...).\n"
            "(A wrong target is one: raise ValueError.)",
            style="dim",
        )


def _said(error: Exception, file: str) -> str:
    """The error, and the last line of the reward's file that was at work."""
    here = "".join(traceback.format_tb(error.__traceback__))
    trace = error.encoded["traceback"] if isinstance(error, RemoteError) else here
    said = describe(error)
    lines = re.findall(rf'File "{re.escape(file)}", line (\d+)', trace)
    said = said if len(said) <= 200 else f"{said[:200]}..."
    return said + (f"\n  {Path(file).name}, line {lines[-1]}" if lines else "")


def _range(trial: Trial) -> Finding:
    values, (low, high) = _values(trial.results), trial.info.range
    declared = "none declared" if math.isinf(low) and math.isinf(high) else f"{low:g} to {high:g} declared"
    outside = sum("outside its range" in str(error) for _, error in _failed(trial))
    if outside:
        return Finding("fails", "range", f"{outside} values outside; {declared}")
    if not values:
        return Finding("-", "range", f"no value seen; {declared}")
    seen = f"{min(values):.4g} to {max(values):.4g} seen"
    if min(values) == max(values):
        known = declared if trial.native else "if it takes strings, not chat messages, add the setting form=trl_text"
        return Finding("look", "range", f"{seen}; it cannot tell any of these completions apart; {known}")
    if math.isinf(low) and math.isinf(high):
        if not trial.native:
            return Finding("ok", "range", seen)
        return Finding("look", "range", f"{seen}, none declared; write @reward(range=(lowest, highest))")
    return Finding("ok", "range", f"{seen}; {declared}")


def _twice(trial: Trial) -> Finding:
    first = {id(result.call): result for result in trial.results}
    different = [
        result.call.label
        for result in trial.again
        if list(map(_comparable, result.outcomes)) != list(map(_comparable, first[id(result.call)].outcomes))
    ]
    if different:
        return Finding("fails", "same twice", f"not on {_names(different)}; a reward is a function of its arguments")
    return Finding("ok", "same twice", "two runs gave the same")


def _comparable(outcome: Outcome) -> float | str | None:
    return outcome.value if isinstance(outcome, Score) else "failed" if outcome else None


def _order(trial: Trial) -> Finding:
    if trial.info.scope == "row":
        return Finding("-", "order", "each completion is scored alone")
    if trial.order is None:
        return Finding("-", "order", "the group that was to be shuffled failed")
    if trial.order:
        before, after = trial.order[0]
        told = (
            f"{len(trial.order)} scores of a group change when it is shuffled, for example {before:.4g} to {after:.4g}"
        )
        return Finding("fails", "order", told)
    return Finding("ok", "order", "a shuffled group has the same scores, shuffled")


def _right_answer(trial: Trial) -> Finding:
    """Whether the right answer earns most; only worth a look, because what a right answer looks like is a guess."""
    if trial.info.reads in ("image", "video"):
        return Finding("-", "right answer", "no picture is known to be right")
    if not trial.keys:
        return Finding("-", "right answer", "it compares with no target")
    right = [result for result in trial.results if result.call.role == "right"]
    others = [result for result in trial.results if result.call.role != "right"]
    values = _values(right)
    if not values:
        return Finding("-", "right answer", "it has no value for any of them")
    best, seen = max(values), _values(trial.results)
    if best < max(seen):
        label = next(result.call.label for result in others if _values([result]) == [max(seen)])
        return Finding("look", "right answer", f"earns {best:.4g} at most; {label!r} earns {max(seen):.4g}")
    if best == min(seen):
        example = right[0].call.shown
        return Finding("look", "right answer", f"earns no more than any other, in no form tried, for example {example}")
    unearned = [result.call.label for result in others if not result.call.paid_rightly and _values([result]) == [best]]
    if unearned:
        return Finding("look", "right answer", f"earns {best:.4g}, but so does {_names(unearned)}")
    return Finding("ok", "right answer", f"earns {best:.4g}, and nothing without it does")


def _time(trial: Trial) -> Finding:
    hung = [result.call.label for result in trial.results if _late(result.outcome)]
    if hung:
        state: State = "look" if trial.info.timeout else "fails"
        return Finding(state, "time", f"over {trial.limit:g} s on {_names(hung)}; such a completion has no reward")
    slow = sorted((result for result in trial.results[1:] if result.seconds > SLOW), key=lambda found: -found.seconds)
    if slow:
        named = _names([f"{result.call.label} ({result.seconds:.1f} s)" for result in slow])
        return Finding("look", "time", f"{named}; bound it in the recipe: {{name: {trial.reference}, timeout: 5}}")
    slowest = max(trial.results[1:], key=lambda found: found.seconds, default=trial.results[0])
    return Finding("ok", "time", f"{slowest.seconds:.2f} s at most, on {slowest.call.label}")


def _speed(trial: Trial) -> Finding:
    if trial.per_second is None:
        return Finding("-", "speed", "not measured, because ordinary completions failed")
    rate = f"{trial.per_second:,.0f}" if trial.per_second >= 10 else f"{trial.per_second:.2g}"
    return Finding("ok", "speed", f"{rate} completions per second on one core")


def _short(text: str) -> str:
    return clean(text if len(text) <= 80 else f"{text[:80]}...")


def _names(labels: Sequence[str], most: int = 3) -> str:
    different = list(dict.fromkeys(labels))
    more = f" and {len(different) - most} more" if len(different) > most else ""
    return ", ".join(different[:most]) + more
