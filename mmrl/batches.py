"""The arithmetic of a run's batches: what follows from prompts, groups, updates and ranks, and what cannot be.

A run says it at its start and in a dry run. What needs only the config is refused by `config.check_combinations`; what
depends on the processes and the machine is refused here, before anything is loaded.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmrl import distributed
from mmrl.plugins import ConfigError

if TYPE_CHECKING:
    from mmrl.config import Config, SftConfig


@dataclass(frozen=True)
class Batches:
    """One step of a run, in numbers."""

    prompts: int
    group_size: int
    updates: int
    """Optimizer updates: `epochs` passes over the rollouts, each in `parts`."""
    epochs: int
    shares: tuple[tuple[int, ...], ...]
    """The groups of each rank, when every prompt is drawn once."""

    @classmethod
    def of(cls, config: Config, *, ranks: int) -> Batches:
        sizes = [config.group_size] * config.prompts_per_step
        return cls(
            prompts=config.prompts_per_step,
            group_size=config.group_size,
            updates=config.optimizer.updates_per_rollout,
            epochs=config.optimizer.epochs,
            shares=tuple(tuple(share) for share in distributed.shares(sizes, range(len(sizes)), ranks)),
        )

    @property
    def parts(self) -> int:
        return self.updates // self.epochs

    @property
    def busy(self) -> int:
        """Ranks that have a group in the update in which fewest have; the groups of a step are dealt to its updates."""
        updates = [set(range(part, self.prompts, self.parts)) for part in range(self.parts)]
        return min(sum(bool(update.intersection(share)) for share in self.shares) for update in updates)

    def lines(self, *, strategy: str) -> list[str]:
        """In words: the step, its updates, and the ranks where there are several."""
        rows = self.prompts * self.group_size
        few, more = self.prompts // self.parts, -(-self.prompts // self.parts)
        each = f"{few}" if few == more else f"{few} or {more}"
        passes = f"{self.epochs} passes in {self.parts} part(s)" if self.epochs > 1 else "one pass"
        lines = [
            f"a step: {self.prompts} prompts x {self.group_size} completions = {rows:,} rows; {self.updates} update(s) "
            f"of {each} prompts ({passes})"
        ]
        ranks, groups = len(self.shares), [len(share) for share in self.shares]
        if ranks == 1:
            return lines + [f"distribution.strategy={strategy} changes nothing in one process"] * (strategy != "ddp")
        least, most = min(groups), max(groups)
        share = f"{most}" if least == most else f"{least} to {most}"
        word = "group" if most == 1 else "groups"
        lines.append(f"{ranks} ranks ({strategy}): {share} {word} each, at most {most * self.group_size:,} rows")
        if idle := groups.count(0):
            lines.append(
                f"{idle} of {ranks} ranks have nothing to do: a group stays on one rank, and a step has "
                f"{self.prompts}. {self.prompts} processes, or prompts_per_step={ranks}, would leave none idle"
            )
        elif least != most:
            nearest = " or ".join(str(number) for number in neighbours(self.prompts, ranks))
            lines.append(f"ranks with fewer groups wait for the others; prompts_per_step={nearest} shares evenly")
        if self.busy < ranks - idle:
            lines.append(f"in an update as few as {self.busy} of {ranks} ranks have groups; the others wait")
        return lines


def micro_batch_line(budget: int, *, row: int, group: int) -> str:
    """`row` and `group`: tokens of the largest, its prompt once."""
    line = f"{budget:,} tokens; a row has at most {row:,}, a whole group {group:,}"
    if row > budget:
        return f"{line}. Such a row goes alone, and takes memory for {row:,}"
    return line if group <= budget else f"{line}. Such a group is cut, and its prompt computed for each part"


def neighbours(value: int, multiple: int) -> list[int]:
    """The multiples around `value`, at least one of them. 5, 4 -> [4, 8]."""
    below = value // multiple * multiple
    return sorted({number for number in (below, below + multiple * (below != value)) if number > 0})


def nearest_updates(updates: int, epochs: int, prompts: int) -> str:
    """What `updates_per_rollout` may be instead: multiples of `epochs` up to `epochs` x `prompts`. "4 or 6"."""
    inside = min(max(updates, epochs), epochs * prompts)
    return " or ".join(str(number) for number in neighbours(inside, epochs) if number <= epochs * prompts)


def check_processes(config: Config | SftConfig, *, where: str, ranks: int) -> None:
    """Refuse what this number of processes, or this machine, cannot do; before anything is loaded."""
    strategy = config.distribution.strategy
    if ranks == 1 or strategy == "ddp":
        return
    if importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            f"{where}: distribution.strategy = {strategy} is DeepSpeed's, which is not installed.\n"
            "  pip install deepspeed, or set distribution.strategy=ddp: the same numbers, with all optimizer states on "
            "every GPU."
        )
    if strategy == "zero3" and config.optimizer.ema is not None:
        raise ConfigError(
            f"{where}: optimizer.ema = {config.optimizer.ema}: with distribution.strategy = zero3 no rank has whole "
            "weights to average.\n  Set distribution.strategy=zero2, or optimizer.ema=null."
        )
