"""Rewards for pictures and films: what a diffusion policy makes.

`clip.py`, `preference.py` and `ocr.py` load models, `pixels.py` and `brisque.py` compute. `loading.py` finds weights
and opens them safely, `batches.py` scores row by row what a model reads in batches.
"""
