"""A training run as the trainer sees it: where to start, what to record, when to keep a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl import distributed
from mmrl.console import StepPrinter
from mmrl.ema import MovingAverage
from mmrl.faults.stopping import StopRequest
from mmrl.plugins import ConfigError, Stage
from mmrl.runs.changes import in_words
from mmrl.runs.checkpoints import (
    MODEL,
    latest_checkpoint,
    load_optimizer,
    load_trained,
    read_state,
    save_checkpoint,
)
from mmrl.runs.layout import EventKind
from mmrl.runs.lock import RunLock
from mmrl.runs.loggers import Loggers
from mmrl.runs.reader import read_events, read_metrics
from mmrl.runs.writer import RunWriter

if TYPE_CHECKING:
    from mmrl.config import OptimizerConfig
    from mmrl.evaluation import Evaluation
    from mmrl.optimization import Updater
    from mmrl.records import Rollouts
    from mmrl.stages import Policy, Sampler


class Run:
    """One run directory being written. `first_step` is 0, or the step after the checkpoint it resumes from."""

    def __init__(self, writer: RunWriter, printer: StepPrinter, *, checkpoint: Path | None = None) -> None:
        self.writer, self.printer, self._checkpoint = writer, printer, checkpoint
        self.loggers: Loggers | None = None
        self.first_step = 0 if checkpoint is None else int(read_state(checkpoint)["step"]) + 1
        self.step = self.first_step
        """The one that is being made."""
        self.stop = StopRequest()
        self._lock: RunLock | None = None

    @classmethod
    def open(cls, folder: Path, config_yaml: str, printer: StepPrinter, *, resume: bool) -> Run:
        """Begin a run, or with `resume` continue it from its latest checkpoint (from the start if it has none). Rank 0
        takes the lock, for all ranks."""

        def begin() -> Run:
            return cls._open(folder, config_yaml, printer, resume=resume)

        return distributed.by_rank_0(begin) or begin()

    @classmethod
    def _open(cls, folder: Path, config_yaml: str, printer: StepPrinter, *, resume: bool) -> Run:
        rank = distributed.rank()
        lock = RunLock(folder) if rank == 0 else None
        try:
            checkpoint = latest_checkpoint(folder) if resume else None
            first_step = 0 if checkpoint is None else int(read_state(checkpoint)["step"]) + 1
            if resume:
                writer = RunWriter.resume(folder, config_yaml, first_step=first_step, rank=rank)
            else:
                writer = RunWriter.create(folder, config_yaml, rank=rank)
            run = cls(writer, printer, checkpoint=checkpoint)
            if writer.changed:
                run.warn(f"from step {first_step} on with other settings than before: {in_words(writer.changed)}")
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        run._lock = lock
        return run

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.release()

    def log_to(self, loggers: Sequence[Stage], config: Mapping[str, Any]) -> None:
        """Give the metrics to these loggers as well, from rank 0. What they fail at becomes a warning."""
        if self.writer.rank == 0 and loggers:
            self.loggers = Loggers(loggers, self.folder, config, self.first_step, self.warn)

    def warn(self, message: str) -> None:
        self.printer.console.print(f"warning: {message}", style="yellow", markup=False)
        self.writer.event("warning", message=message)

    @property
    def folder(self) -> Path:
        return self.writer.folder

    def restore_model(self, policy: Policy, config: OptimizerConfig) -> MovingAverage:
        """Give the policy the weights that training goes on with; returns their average as it was."""
        if self._checkpoint is not None:
            policy.restore(self._checkpoint / MODEL)
        average = MovingAverage(policy, config)
        if self._checkpoint is not None:
            average.resume(
                policy, load_trained(self._checkpoint), read_state(self._checkpoint).get("average_updates", 0)
            )
        return average

    def restore(self, updater: Updater, sampler: Sampler, memory: dict[str, Any]) -> dict[str, float]:
        """Put the checkpoint's state into the other parts, bit for bit; returns the metrics of its step."""
        if self._checkpoint is None:
            return {}
        state = read_state(self._checkpoint)
        updater.bad_in_a_row = state.get("bad_updates", 0)
        try:
            updater.restore(load_optimizer(self._checkpoint))
        except ConfigError as error:
            raise ConfigError(f"{self._checkpoint}: {error}") from None
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
        """Every rank keeps the completions it holds; then rank 0 says that the step is there."""
        held = rollouts.held.nonzero().flatten().tolist()
        here = None if pieces is None else [pieces[row] for row in held]
        self.writer.record_rollouts(step, rollouts.select(held), pieces=here)
        distributed.wait()
        if self.writer.rank > 0:
            return
        self.writer.record_metrics(step, metrics)
        if self.loggers is not None:
            self.loggers.log(step, metrics)
        for warning in self.printer.step(step, metrics):
            self.writer.event("warning", step=step, message=warning)

    def due(self, step: int, every: int) -> bool:
        """Whether something that happens every so many steps happens after this one."""
        return every > 0 and (step + 1) % every == 0

    def mean_reward(self, steps: int) -> float | None:
        """Over the last so many recorded steps; read by rank 0, None elsewhere."""
        if self.writer.rank > 0:
            return None
        rewards = [line["reward"] for line in read_metrics(self.folder)[-steps:] if line.get("reward") is not None]
        return sum(rewards) / len(rewards) if rewards else None

    def note(self, kind: EventKind, message: str, **fields: Any) -> None:
        """Record and print that something was left out or made smaller. By rank 0 what is the same on all ranks, and
        by any rank what is its own."""
        self.writer.event(kind, step=self.step, message=message, **fields)
        self.printer.warn(message)

    def shrunk(self, setting: str, configured: int, now: int, why: str) -> None:
        """`setting` bounds memory, and less is used from now on: it is `configured` in the config."""
        self.note(
            "memory",
            f"step {self.step}: out of memory; {setting} is now {now:,} (rank {self.writer.rank}: {why})",
            **{setting: now, "configured": configured},
        )

    def fitting(self, setting: str, configured: int) -> int:
        """What an earlier part of the run found to fit, on any rank, unless the config has changed since."""
        found = [
            int(event[setting])
            for event in read_events(self.folder)
            if event["kind"] == "memory" and setting in event and event.get("configured") == configured
        ]
        return min([configured, *found])

    def evaluated(self, step: int, result: Evaluation) -> None:
        if self.writer.rank > 0:
            return
        interval = {"score": result.score, "low": result.low, "high": result.high}
        self.writer.event("evaluation", step=step, prompts=result.prompts, **interval)
        if self.loggers is not None:
            self.loggers.log(step, {f"evaluation/{name}": value for name, value in interval.items()})
        self.printer.evaluation(step, result)

    def checkpoint(
        self,
        step: int,
        policy: Policy,
        updater: Updater,
        average: MovingAverage,
        sampler: Sampler,
        metrics: Mapping[str, Any],
        memory: Mapping[str, Any],
        *,
        keep: int,
        best: bool = False,
        score: float | None = None,
    ) -> None:
        """The model of a checkpoint is what the run has made: the moving average, if there is one. Rank 0 writes it.
        With `best` that of the highest score is kept as well."""

        state = {
            "score": score,
            "bad_updates": updater.bad_in_a_row,
            "sampler": sampler.state_dict(),
            "memory": dict(memory),
            "metrics": dict(metrics),
            "average_updates": average.updates,
        }
        optimizer = updater.state()
        with average.applied(), updater.whole_weights(saving=True):
            if self.writer.rank == 0:
                path = save_checkpoint(
                    self.folder,
                    step,
                    save_model=policy.save,
                    state=state,
                    keep=keep,
                    optimizer=optimizer,
                    trained=average.other(),
                    keep_best=best,
                )
                self.writer.event("checkpoint", step=step, path=str(path.relative_to(self.folder)), score=score)
            distributed.wait()
