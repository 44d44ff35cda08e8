"""What stands around a training: signals that ask it to stop, the other ranks, and one account of how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mmrl import distributed
from mmrl.faults.endings import DiskFull, Ending, OutOfMemory, Stopped
from mmrl.faults.peers import Peers
from mmrl.faults.room import first_line, out_of_memory
from mmrl.runs.space import ADVICE, why_full

if TYPE_CHECKING:
    from mmrl.runs.run import Run


@contextmanager
def guarded(run: Run) -> Iterator[None]:
    """Inside, `run.stop` listens to signals. Whatever ends the training is recorded once, and becomes an `Ending` if it
    is known what it was."""
    with run.stop, Peers(step=lambda: run.step, tell=lambda said: record_failure(run, said)) as peers:
        try:
            yield
            distributed.wait()
        except BaseException as error:
            ending = error if isinstance(error, Ending) else peers.explain(error) or explained(error, run.step)
            if not isinstance(ending, Stopped) and not (ending and ending.quiet):
                record_failure(run, f"{type(ending or error).__name__}: {ending or error}")
            if ending is None or ending is error:
                raise
            raise ending from error
        finally:
            run.close()


def record_failure(run: Run, said: str) -> None:
    with suppress(OSError, Ending):  # the disk may be what failed
        run.writer.event("failed", step=run.step, error=said)


def explained(error: BaseException, step: int) -> Ending | None:
    """What is no mistake in the code."""
    if out_of_memory(error):
        return OutOfMemory(
            f"step {step} ran out of memory outside of the training's passes ({first_line(error)}).\n"
            "  If it was while generating: lower model.generation_tokens, prompts_per_step or group_size (of image and "
            "video models sampling.batch). If in a reward: its `batch_size`, or a server (docs/reward_servers.md)."
        )
    if (reason := why_full(error)) is not None:
        return DiskFull(f"step {step}: {reason} ({error}).\n  {ADVICE}")
    return None
