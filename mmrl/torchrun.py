"""torchrun as a cluster needs it: `python -m mmrl.torchrun [torchrun's options] -m mmrl train ...`.

Three differences. SIGTERM, SIGUSR1 and a lost connection (SIGHUP) are passed on to the processes, which save and end
by themselves in their own time; torchrun knows no SIGUSR1 and kills what has not ended half a minute after SIGTERM. A
second SIGTERM kills. And the exit code is that of the process that failed first, for a batch script to act upon (75:
continue me); torchrun's is always 1.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

PASSED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)


def main(arguments: Sequence[str]) -> int:
    """Start the processes of this machine, wait for them; their exit code."""
    from torch.distributed.run import parse_args

    settings = parse_args(list(arguments))
    codes: list[int] = []
    # In a thread, torchrun leaves the signals alone. It says so, which would be a line at every start.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.ERROR)
    thread = threading.Thread(target=lambda: codes.append(run(settings)), daemon=True)
    asked: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        number = signal.SIGTERM if number == signal.SIGHUP else number
        again = number == signal.SIGTERM and signal.SIGTERM in asked
        asked.append(number)
        if not tell(signal.SIGKILL if again else number) and number != signal.SIGUSR1:
            os._exit(128 + number)  # the processes of the other machines are still waited for

    for number in PASSED_ON:
        signal.signal(number, handle)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)  # a join without a limit would let no handler run
    return codes[0] if codes else 1


def run(settings: Any) -> int:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import run as torchrun

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun does the same, in six lines
    try:
        torchrun(settings)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode  # as a shell has it
        print(f"rank {rank} was the first that did not finish: exit code {code}", file=sys.stderr)
        return code
    return 0


def tell(number: int) -> int:
    """Send a signal to the processes that torchrun started; how many there are. The terminal has sent its Ctrl-C to all
    of its group."""
    import psutil

    children = psutil.Process().children()
    for child in children:
        with suppress(ProcessLookupError):
            if number != signal.SIGINT or os.getpgid(child.pid) != os.getpgid(0):
                os.kill(child.pid, number)
    return len(children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
