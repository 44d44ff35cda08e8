"""What a run does when something happens to it between the stages of its steps; what the trainer asks for by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from mmrl.faults.endings import BadUpdates, Stopped
from mmrl.faults.probe import probe_memory
from mmrl.faults.readable import readable
from mmrl.faults.room import Room

if TYPE_CHECKING:
    from mmrl.optimization import Updater
    from mmrl.recipe import Recipe
    from mmrl.records import Sample
    from mmrl.report import Report
    from mmrl.runs.run import Run
    from mmrl.stages import Policy

SHOWN = 8
"""Sample ids in a message; events have all."""


class Faults:
    """The faults of one training: what was found, told and remembered."""

    def __init__(self, run: Run, policy: Policy, updater: Updater, recipe: Recipe) -> None:
        self.run, self.policy, self.updater, self.recipe = run, policy, updater, recipe
        configured = recipe.config.micro_batch_tokens
        self.room = Room(
            run.fitting("micro_batch_tokens", configured),
            note=lambda now, why: run.shrunk("micro_batch_tokens", configured, now, why),
        )
        self._generating = recipe.config.model.generation_tokens
        fits = run.fitting("generation_tokens", self._generating)
        if fits < self._generating and hasattr(policy, "limit_generation"):
            self._generating = fits
            policy.limit_generation(fits)
        self._left_out = 0

    def before_the_first_step(self, samples: Sequence[Sample]) -> None:
        tried = probe_memory(self.policy, self.updater, self.recipe, samples, self.room)
        if tried is not None and self.run.writer.rank == 0:
            self.run.writer.event("memory", message="the largest rows fit", **tried)

    def readable(self, samples: list[Sample], sizes: list[int]) -> tuple[list[Sample], list[int]]:
        """The prompts whose media are what they were when the run began (`data.bad_media`)."""
        return readable(samples, sizes, bad_media=self.recipe.config.data.bad_media, note=self._leave_out)

    def _leave_out(self, sample: Sample, problem: str) -> None:
        self._left_out += 1
        if self.run.writer.rank == 0:
            said = f"step {self.run.step}: {sample.where or sample.id} is left out: {problem}"
            self.run.note("skipped", said, samples=[sample.id])

    def metrics(self) -> dict[str, float]:
        """Of the step that is done. Also takes note of memory that generating turned out not to have."""
        now = getattr(self.policy, "generation_tokens", self._generating)
        if now < self._generating:
            configured = self.recipe.config.model.generation_tokens
            self.run.shrunk("generation_tokens", configured, now, "completions of fewer prompts are made at once")
            self._generating = now
        left_out, self._left_out = self._left_out, 0
        return {"rows_left_out": float(left_out)} if left_out else {}

    def after_updates(self, report: Report) -> None:
        """Record those that were not made; BadUpdates after too many in a row."""
        for found in report.skipped if self.run.writer.rank == 0 else []:
            ids = [name for part in found for name in part["samples"]]
            what = "; ".join(dict.fromkeys(part["found"] for part in found))
            more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
            said = f"step {self.run.step}: an update is left out: {what} (samples {', '.join(ids[:SHOWN])}{more})"
            self.run.note("skipped", said, found=found)
        limit = self.recipe.config.optimizer.max_bad_updates
        if self.updater.bad_in_a_row >= limit:
            raise BadUpdates(
                f"{self.updater.bad_in_a_row} updates in a row had no finite loss or gradient "
                f"(optimizer.max_bad_updates = {limit}), the last at step {self.run.step}. None of them was made.\n"
                f"  {self.run.folder}/events.jsonl names terms and samples; the rollouts are recorded. If the model "
                "has diverged, go on from an earlier checkpoint with a lower optimizer.learning_rate, or compute in "
                "float32 (model.dtype=float32).",
                quiet=self.run.writer.rank > 0,
            )

    def asked_to_stop(self) -> str | None:
        """The signal that asks for it, the same answer on every rank."""
        return self.run.stop.agreed()

    def stop(self, signal: str) -> NoReturn:
        if self.run.writer.rank == 0:
            self.run.writer.event("stopped", step=self.run.step, signal=signal)
        raise Stopped(
            f"stopped by {signal} after step {self.run.step}, which has a checkpoint. `--resume` goes on from there.",
            quiet=self.run.writer.rank > 0,
        )
