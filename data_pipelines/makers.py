"""The data sets `mmrl data make NAME` knows: name -> "module:function".

A maker is `make(out, *, ...) -> {split: path}`; its keyword-only parameters are its settings, `seed` among them if it
draws anything.
"""

from __future__ import annotations

MAKERS: dict[str, str] = {
    "gui": "data_pipelines.gui.build:make_gui",
    "gui-cold-start": "data_pipelines.gui.build:make_gui_cold_start",
    "screenspot": "data_pipelines.gui.screenspot:make_screenspot",
    "digits": "data_pipelines.digits:make_digits",
    "digits-cold-start": "data_pipelines.digits:make_digits_cold_start",
    "captions": "data_pipelines.captions.build:make_captions",
}

READERS: dict[str, str] = {}
"""The formats `mmrl data convert NAME` reads: name -> "module:function"; see `reading.py`."""
