"""`mmrl doctor`: what is installed, what the machine offers, and what is missing and what that disables.

packages.py   versions, DeepSpeed's operators          machine.py    GPUs, network, disks, ports, the launcher
videos.py     decoders, tried on a real clip           selftest.py   `--train`: two steps on the chosen launcher
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmrl.doctor.findings import Finding


def examine(runs: Path) -> Iterator[Finding]:
    """Everything that can be seen without training; `runs` is where runs are to be written."""
    from mmrl.doctor import machine, packages, videos

    yield from packages.versions()
    yield from packages.torchvision()
    yield from machine.processors()
    yield from machine.collectives()
    yield from videos.decoders()
    yield from packages.deepspeed_operators()
    yield from machine.disks(runs)
    yield from machine.ports()
    yield from machine.launcher()
