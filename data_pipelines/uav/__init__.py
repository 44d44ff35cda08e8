"""Pictures from above.

`hrvqa.py`, `visdrone.py` and `dota.py` read data sets, `questions.py` asks about annotated objects, `tiles.py` is the
geometry of cutting large pictures and `cut.py` does it; `scene.py` and `tiny.py` draw, `build.py` makes data sets.
"""
