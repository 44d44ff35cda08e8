"""What happens to a run, and what it does then. docs/failures.md is for whoever meets one of these.

training.py    the faults of one training, asked for by the trainer at the places of its loop
guard.py       what stands around a training: one account of how it ended
endings.py     how a run ends when it is known why: messages and exit codes
stopping.py    signals            peers.py       other ranks
room.py        memory, while training            probe.py       and before the first step
readable.py    media that changed
"""
