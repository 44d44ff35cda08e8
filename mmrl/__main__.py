"""`python -m mmrl`: the `mmrl` command, for launchers that start a module."""

from mmrl.cli import main

main()
