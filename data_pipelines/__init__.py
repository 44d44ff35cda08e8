"""Data: readers of public benchmarks, procedural data sets for machines without a download, and the sample format.

- `dataset.py`   JSON Lines on disk <-> `mmrl.records.Sample`
- `media.py`     the one place that opens images and videos; the pixel budget
- `makers.py`    what `mmrl data make NAME` knows
- `coordinates.py`   the conventions of boxes and points, and the one place that converts them
- `gui/`         drawn screens, ScreenSpot, AndroidControl, AITZ, captured web pages
- `digits.py`    handwritten digits as four-choice questions
- `video/` `charts/` `uav/`   readers and builders of those domains

Nothing here imports the trainer.
"""
