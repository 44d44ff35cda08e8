"""Screens to click on.

`shapes.py` and `render.py` draw them and `build.py` makes data sets of them; `screenspot.py`, `android_control.py` and
`aitz.py` read benchmarks; `capture.py` makes data of web pages, with `browser.py`, `elements.py` and `clicks.py`.
"""
