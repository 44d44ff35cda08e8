"""What `mmrl train` prints: a line per step, and advice when a run has nothing to learn from."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from mmrl.evaluation import Evaluation

FLAT_SHARE, FLAT_STEPS = 0.8, 5
"""A warning after this many steps in a row with at least this share of groups of zero spread."""


FAR = 0.05
"""Nats per token between generation and training, on average, from which a warning says so."""


class StepPrinter:
    """Prints to `console`; every method returns or prints within the step it is called for."""

    def __init__(self, console: Console, *, steps: int) -> None:
        self.console, self.steps = console, steps
        self._flat: deque[bool] = deque(maxlen=FLAT_STEPS)
        self._rewards: deque[float] = deque(maxlen=10)
        self._told_far = False

    def step(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """One line; returns warnings, which are printed as well."""
        width = len(str(self.steps))
        self._rewards.append(metrics["reward"])
        seconds = {
            name.removeprefix("seconds/"): value for name, value in metrics.items() if name.startswith("seconds/")
        }
        phases = " ".join(f"{name} {value:.1f}" for name, value in seconds.items() if value >= 0.05)
        length = f"length {metrics['length']:.1f}  " if "tokens" in metrics else ""  # steps are always as many
        failed = sum(value for name, value in metrics.items() if name.startswith("failed/"))
        lost = f"[yellow]{failed:.0f} scores failed[/]  " if failed else ""
        gap = f"ratio gap {metrics['ratio_gap']:.0e}  " if "ratio_gap" in metrics else ""
        filled = round(12 * (step + 1) / self.steps)
        self.console.print(
            f"[bold]{step + 1:>{width}}/{self.steps}[/] [cyan]{'━' * filled}[/][dim]{'━' * (12 - filled)}[/] "
            f"reward [bold]{metrics['reward']:.3f}[/] ±{metrics['reward_std']:.2f} "
            f"(10 steps {sum(self._rewards) / len(self._rewards):.3f})  {length}{lost}"
            f"{gap}{sum(seconds.values()):.1f} s [dim]({phases})[/]",
            highlight=False,
            soft_wrap=True,
        )
        warnings = self._far(metrics) + self._without_signal(metrics)
        for warning in warnings:
            self.warn(warning)
        return warnings

    def _far(self, metrics: Mapping[str, float]) -> list[str]:
        """Once a run: a server's log-probs are not the trainer's."""
        gap = metrics.get("mismatch/mean", 0.0)
        if gap < FAR or self._told_far:
            return []
        self._told_far = True
        return [
            f"the log-probs of the server and of the trainer differ by {gap:.2g} nats per token on average; rounding "
            "in bfloat16 makes 0.01 or so, some steps of staleness more. If it is neither: does the server compute "
            "log-probs at sampling.temperature (vLLM: --logprobs-mode processed_logprobs), and with fresh weights?"
        ]

    def _without_signal(self, metrics: Mapping[str, float]) -> list[str]:
        """Groups whose rewards are equal, for some steps in a row."""
        self._flat.append(metrics["groups_zero_spread"] >= FLAT_SHARE)
        if len(self._flat) < FLAT_STEPS or not all(self._flat):
            return []
        self._flat.clear()
        noise = "temperature" if "tokens" in metrics else "level"
        right, wrong = metrics["groups_all_right"], metrics["groups_all_wrong"]
        remedy = "Too easy: use harder prompts" if right > wrong else "Too hard: begin with mmrl sft"
        return [
            f"for {FLAT_STEPS} steps at least {FLAT_SHARE:.0%} of the groups had equal rewards "
            f"(now {right:.0%} all right, {wrong:.0%} all wrong); such groups teach nothing. {remedy}, "
            f"raise sampling.{noise} or group_size, or draw other prompts with rollout.name=dynamic."
        ]

    def warn(self, message: str) -> None:
        self.console.print(f"[yellow]warning:[/] {escape(message)}", highlight=False, soft_wrap=True)

    def evaluation(self, step: int, result: Evaluation) -> None:
        self.console.print(
            f"held out after step {step + 1}: [bold]{result.score:.3f}[/] "
            f"(95 % {result.low:.3f} to {result.high:.3f}, {result.prompts} prompts)",
            highlight=False,
        )
