"""A supervised training that is not at its end: `<out>.unfinished/`, which goes when `<out>` is there.

    sft.yaml       its settings
    checkpoints/   the newest one, as those of a run (`checkpoints.py`), with the losses so far
    .lock          one process at a time

Afterwards `<out>` alone is there: a model, and sft_loss.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mmrl import distributed
from mmrl.plugins import ConfigError
from mmrl.runs.changes import changed_settings
from mmrl.runs.checkpoints import MODEL, latest_checkpoint, load_optimizer, read_state, save_checkpoint
from mmrl.runs.files import remove_folder, remove_leftovers, write_bytes
from mmrl.runs.lock import RunLock

if TYPE_CHECKING:
    from mmrl.optimization import Updater
    from mmrl.policies.vlm import VLMPolicy

SETTINGS = "sft.yaml"


def unfinished(out: Path) -> Path:
    """Where the work on `out` is until it is there."""
    return out.with_name(f"{out.name}.unfinished")


class Unfinished:
    """`changed`: what is set otherwise than before, by key."""

    def __init__(self, folder: Path, lock: RunLock | None = None) -> None:
        self.folder, self._lock = folder, lock
        self.changed: dict[str, list[Any]] = {}
        self._checkpoint = latest_checkpoint(folder)

    @classmethod
    def open(cls, out: Path, settings: str, *, resume: bool) -> Unfinished:
        """Begin, or with `resume` go on from the newest checkpoint (from the start if there is none). Rank 0 takes the
        lock, for all ranks. ConfigError if that would overwrite another's work, or if there is nothing to resume."""
        folder = unfinished(out)
        return distributed.by_rank_0(lambda: cls._begin(folder, settings, resume=resume)) or cls(folder)

    @classmethod
    def _begin(cls, folder: Path, settings: str, *, resume: bool) -> Unfinished:
        before = folder / SETTINGS
        if resume and not before.is_file():
            raise ConfigError(f"there is no {before}: nothing to resume. Start without --resume.")
        lock = RunLock(folder, elsewhere="out=")
        try:
            remove_leftovers(folder)
            work = cls(folder, lock)
            if resume:
                now = yaml.safe_load(settings)
                made = 0 if work._checkpoint is None else int(read_state(work._checkpoint)["step"]) + 1
                if made >= now["steps"]:
                    raise ConfigError(f"steps = {now['steps']}, and {folder} has made {made} already.")
                work.changed = changed_settings(yaml.safe_load(before.read_text("utf-8")), now)
            elif work._checkpoint is not None:
                raise ConfigError(
                    f"{folder} is a training that was interrupted; {work._checkpoint.name} is its last checkpoint.\n"
                    "  Go on with --resume, or remove that folder."
                )
            write_bytes(before, settings.encode())
        except BaseException:
            lock.release()
            raise
        return work

    def restore_model(self, policy: VLMPolicy) -> None:
        """Give the policy the newest checkpoint's weights, before an updater takes hold of them."""
        if self._checkpoint is not None:
            policy.restore(self._checkpoint / MODEL)

    def restore(self, updater: Updater) -> list[float]:
        """Put the newest checkpoint's optimizer in place, bit for bit; returns the losses so far."""
        if self._checkpoint is None:
            return []
        state: Mapping[str, Any] = read_state(self._checkpoint)
        updater.bad_in_a_row = state["bad_updates"]
        updater.restore(load_optimizer(self._checkpoint))
        return list(state["losses"])

    def checkpoint(self, policy: VLMPolicy, updater: Updater, losses: Sequence[float]) -> None:
        """After `len(losses)` steps. Called on all ranks; rank 0 writes."""
        optimizer = updater.state()
        with updater.whole_weights(saving=True):
            if distributed.rank() == 0:
                save_checkpoint(
                    self.folder,
                    len(losses) - 1,
                    save_model=policy.save,
                    state={"losses": list(losses), "bad_updates": updater.bad_in_a_row},
                    keep=1,
                    optimizer=optimizer,
                )
            distributed.wait()

    def remove(self) -> None:
        """The model is there. Called on rank 0."""
        remove_folder(self.folder)

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.release()
