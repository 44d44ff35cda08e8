"""The run directory: written by `writer` and `checkpoints`, read by `reader`, `plot` and `summary`.

`layout` says what is in it. Nothing here knows the trainer, and only `checkpoints` uses torch.
"""
