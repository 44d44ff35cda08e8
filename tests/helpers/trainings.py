"""Runs trainings one after another, as one rank of several or alone; started as a process by test_distributed.py.

usage: trainings.py JOBS.json      [[config file, [overrides], resume], ...]
"""

import json
import sys
from pathlib import Path

import torch
from rich.console import Console

from mmrl import distributed
from mmrl.launch import run_training

if __name__ == "__main__":
    torch.set_num_threads(1)
    for config, overrides, resume in json.loads(Path(sys.argv[1]).read_text()):
        run_training(config, overrides, resume=resume, console=Console(quiet=True))
    distributed.stop()
