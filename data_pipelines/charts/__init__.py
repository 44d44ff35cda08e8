"""Charts of real tables, questions whose answers are computed from them, and readers of chart benchmarks.

`tables.py` reads tables, `views.py` turns one into a `Chart`, `style.py` draws its look, `matplotlib.py` and `vega.py`
paint it, `questions.py` asks about it, `build.py` makes data sets. `tiny.py` is all of that for 64x64 pictures.
`readers.py` reads ChartQA, PlotQA, FigureQA, DVQA, BigCharts and MathVista.
"""
