"""Screens to click on.

`shapes.py` and `render.py` draw them, `build.py` makes data sets, `screenspot.py` reads benchmarks.
"""
