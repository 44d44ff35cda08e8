"""Scaling on paper: memory and time per step from a stated model. The command is `python -m benchmarks.scaling`.

machines.py   what is assumed: GPUs, the shares of their peaks that are reached, the recipe
shapes.py     the models: configs as published, sizes counted from the real classes without their weights
memory.py     bytes per GPU, by strategy and phase
timing.py     seconds per step
checks.py     the formulas against mmrl's own code, run without a GPU
limits.py     what breaks at 1,000 GPUs and at 10^9 rollouts
tables.py     all of it as the tables and the picture of docs/scaling.md
"""
