"""Runs `mmrl` commands one after another, as one rank of several; started as a process by test_commands_on_ranks.py.

usage: commands.py COMMANDS.json      [["sft", "a.yaml"], ["eval", ...], ...]
"""

import json
import sys
from pathlib import Path

import torch

from mmrl import cli, distributed

if __name__ == "__main__":
    torch.set_num_threads(1)
    for arguments in json.loads(Path(sys.argv[1]).read_text()):
        cli.app(arguments, standalone_mode=False)
    distributed.stop()
