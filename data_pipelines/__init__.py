"""Data: readers of public benchmarks, procedural data sets for machines without a download, and the sample format.

- `dataset.py`   rows on disk <-> `mmrl.records.Sample`; `rows.py` what a row must be, `sources.py` files as streams
- `media.py`     the one place that opens images and videos; `budget.py` what the model sees of them
- `makers.py`    what `mmrl data make`, `convert` and `transform` know by name; `reading.py` what a reader is
- `commands.py`  `mmrl data ...`, one module per command
- `coordinates.py`   the conventions of boxes and points, and the one place that converts them
- `gui/`         drawn screens, ScreenSpot, AndroidControl, AITZ, captured web pages
- `digits.py`    handwritten digits as four-choice questions; `captions/` drawn shapes and what they show
- `video/` `charts/` `uav/`   readers and builders of those domains

Nothing here imports the trainer.
"""
