"""A training run as the trainer sees it: where to start, what to record, when to keep a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl.console import StepPrinter
from mmrl.runs.checkpoints import (
    MODEL,
    latest_checkpoint,
    load_optimizer,
    load_trained,
    read_state,
    save_checkpoint,
)
from mmrl.runs.writer import RunWriter

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from mmrl.ema import MovingAverage
    from mmrl.evaluation import Evaluation
    from mmrl.records import Rollouts
    from mmrl.stages import Policy, Sampler


class Run:
    """One run directory being written. `first_step` is 0, or the step after the checkpoint it resumes from."""

    def __init__(self, writer: RunWriter, printer: StepPrinter, *, checkpoint: Path | None = None) -> None:
        self.writer, self.printer, self._checkpoint = writer, printer, checkpoint
        self.first_step = 0 if checkpoint is None else int(read_state(checkpoint)["step"]) + 1

    @classmethod
    def open(cls, folder: Path, config_yaml: str, printer: StepPrinter, *, resume: bool) -> Run:
        """Begin a run, or with `resume` continue it from its latest checkpoint (from the start if it has none)."""
        if not resume:
            return cls(RunWriter.create(folder, config_yaml), printer)
        checkpoint = latest_checkpoint(folder)
        first_step = 0 if checkpoint is None else int(read_state(checkpoint)["step"]) + 1
        return cls(RunWriter.resume(folder, first_step=first_step), printer, checkpoint=checkpoint)

    @property
    def folder(self) -> Path:
        return self.writer.folder

    def restore(
        self,
        policy: Policy,
        optimizer: Optimizer,
        average: MovingAverage,
        sampler: Sampler,
        memory: dict[str, Any],
    ) -> dict[str, float]:
        """Put the checkpoint's state into the parts, bit for bit; returns the metrics of its step."""
        if self._checkpoint is None:
            return {}
        state = read_state(self._checkpoint)
        policy.restore(self._checkpoint / MODEL)
        average.restore(policy, load_trained(self._checkpoint), state.get("average_updates", 0))
        load_optimizer(self._checkpoint, optimizer)
        sampler.load_state_dict(state["sampler"])
        memory.update(state.get("memory", {}))
        return dict(state["metrics"])

    def record(
        self,
        step: int,
        rollouts: Rollouts,
        metrics: Mapping[str, float],
        *,
        pieces: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self.writer.record(step, rollouts, metrics, pieces=pieces)
        for warning in self.printer.step(step, metrics):
            self.writer.event("warning", step=step, message=warning)

    def due(self, step: int, every: int) -> bool:
        """Whether something that happens every so many steps happens after this one."""
        return every > 0 and (step + 1) % every == 0

    def evaluated(self, step: int, result: Evaluation) -> None:
        interval = {"score": result.score, "low": result.low, "high": result.high}
        self.writer.event("evaluation", step=step, prompts=result.prompts, **interval)
        self.printer.evaluation(step, result)

    def checkpoint(
        self,
        step: int,
        policy: Policy,
        optimizer: Optimizer,
        average: MovingAverage,
        sampler: Sampler,
        metrics: Mapping[str, Any],
        memory: Mapping[str, Any],
        *,
        keep: int,
    ) -> None:
        """The model of a checkpoint is what the run has made: the moving average, if there is one."""

        def save_model(folder: Path) -> None:
            with average.applied():
                policy.save(folder)

        state = {
            "sampler": sampler.state_dict(),
            "memory": dict(memory),
            "metrics": dict(metrics),
            "average_updates": average.updates,
        }
        path = save_checkpoint(
            self.folder,
            step,
            save_model=save_model,
            state=state,
            keep=keep,
            optimizer=optimizer,
            trained=average.trained(),
        )
        self.writer.event("checkpoint", step=step, path=str(path.relative_to(self.folder)))
