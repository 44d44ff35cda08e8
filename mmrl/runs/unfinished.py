"""A supervised training that is not at its end: `<out>.unfinished/`, which goes when `<out>` is there.

    sft.yaml       its settings, and which chats it learns
    checkpoints/   the newest one, as those of a run (`checkpoints.py`), with the losses so far
    .lock          one process at a time

Afterwards `<out>` alone is there: a model, and sft_loss.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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


def refuse(out: Path, *, steps: int, resume: bool) -> None:
    """ConfigError where a start would overwrite what is there, or where there is nothing to resume."""
    folder, checkpoint = unfinished(out), latest_checkpoint(unfinished(out))
    made = steps_of(checkpoint)
    if out.exists():
        raise ConfigError(f"out = {out} exists already; name another folder, or remove it.")
    if resume and not folder.is_dir():
        raise ConfigError(f"there is no {folder}: nothing to resume. Start without --resume.")
    if resume and made >= steps:
        raise ConfigError(f"steps = {steps}, and {folder} has made {made} already.")
    if not resume and checkpoint is not None:
        raise ConfigError(
            f"{folder} is a training that was interrupted, of which {made} steps have a checkpoint.\n"
            "  Go on with --resume, or remove that folder."
        )


def steps_of(checkpoint: Path | None) -> int:
    """How many steps it is of; by its name."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("step-")) + 1


class Unfinished:
    """`changed`: what is set otherwise than before, by key; `steps`: how many its checkpoint has made."""

    def __init__(self, out: Path, settings: str) -> None:
        self.out, self.folder, self._settings = out, unfinished(out), settings
        self._lock: RunLock | None = None
        self._checkpoint = latest_checkpoint(self.folder)
        self.steps = steps_of(self._checkpoint)
        self.changed: dict[str, list[Any]] = {}

    @classmethod
    def open(cls, out: Path, settings: str, *, resume: bool) -> Unfinished:
        """Begin, or with `resume` go on from the newest checkpoint (from the start if there is none). Rank 0 takes the
        lock, for all ranks. `settings` is YAML with `steps`. ConfigError as `refuse`, if another process is at work, or
        if a rank does not see what rank 0 sees."""
        work = distributed.by_rank_0(lambda: cls._begin(out, settings, resume=resume)) or cls(out, settings)
        seen = distributed.gather(work.steps)
        if len(set(seen)) > 1:
            work.close()
            blind = next(rank for rank, steps in enumerate(seen) if steps != seen[0])
            raise ConfigError(
                f"rank 0 finds {seen[0]} steps made in {work.folder.absolute()}, and rank {blind} {seen[blind]}.\n"
                "  All ranks must see it: put `out` on a disk that they share, and start them in the same folder."
            )
        return work

    @classmethod
    def _begin(cls, out: Path, settings: str, *, resume: bool) -> Unfinished:
        now, folder = yaml.safe_load(settings), unfinished(out)
        refuse(out, steps=now["steps"], resume=resume)
        lock = RunLock(folder, elsewhere="out=")
        try:
            refuse(out, steps=now["steps"], resume=resume)  # whoever had the lock may have come to the end
            remove_leftovers(folder)
            for path in out.absolute().parent.glob(f".{out.name}.*.tmp"):
                if re.fullmatch(rf"\.{re.escape(out.name)}(\.unfinished)?\.[0-9a-f]{{12}}\.tmp", path.name):
                    remove_folder(path)
            work = cls(out, settings)
            work._lock = lock
            if resume and (folder / SETTINGS).is_file():
                work.changed = changed_settings(read_settings(folder / SETTINGS), now)
        except BaseException:
            lock.release()
            raise
        return work

    def restore_model(self, policy: VLMPolicy) -> None:
        """Give the policy the newest checkpoint's weights, before an updater takes hold of them."""
        if self._checkpoint is not None:
            with self._explained():
                policy.restore(self._checkpoint / MODEL)

    def restore(self, updater: Updater) -> list[float]:
        """Put the newest checkpoint's optimizer in place, bit for bit; returns the losses so far. From here on the
        settings are those of the work."""
        losses: list[float] = []
        if self._checkpoint is not None:
            with self._explained():
                state: Mapping[str, Any] = read_state(self._checkpoint)
                updater.bad_in_a_row = state["bad_updates"]
                updater.restore(load_optimizer(self._checkpoint))
                losses += state["losses"]
        if distributed.rank() == 0:
            write_bytes(self.folder / SETTINGS, self._settings.encode())
        return losses

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """A checkpoint that cannot be gone on from is named."""
        from safetensors import SafetensorError

        try:
            yield
        except (ConfigError, OSError, ValueError, KeyError, AssertionError, SafetensorError) as error:
            why = f"{type(error).__name__}: {str(error)[:300]}" if not isinstance(error, ConfigError) else str(error)
            raise ConfigError(
                f"{self._checkpoint} does not fit these settings, or is damaged: {why}\n"
                f"  Resume with the settings it was made with ({self.folder / SETTINGS}), or remove {self.folder}\n"
                "  to begin anew."
            ) from error

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
        self.close()
        clear(self.out)

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.release()


def clear(out: Path) -> None:
    """Remove what was unfinished of a model that is there. What cannot be removed (NFS keeps files that somebody has
    open) stays: the model is none the worse."""
    with suppress(OSError):
        remove_folder(unfinished(out))


def read_settings(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(
            f"{file} is damaged: no settings are in it. Remove it to go on with those that are given now."
        )
    return found
