"""The data sets `mmrl data make NAME` knows: name -> "module:function".

A maker is `make(out, *, ...) -> {split: path}`; its keyword-only parameters are its settings, `seed` among them if it
draws anything.
"""

from __future__ import annotations

MAKERS: dict[str, str] = {
    "gui": "data_pipelines.gui.build:make_gui",
    "gui-cold-start": "data_pipelines.gui.build:make_gui_cold_start",
    "digits": "data_pipelines.digits:make_digits",
    "digits-cold-start": "data_pipelines.digits:make_digits_cold_start",
    "captions": "data_pipelines.captions.build:make_captions",
    "uav": "data_pipelines.uav.build:make_uav",
    "uav-cold-start": "data_pipelines.uav.build:make_uav_cold_start",
    "uav-tiles": "data_pipelines.uav.cut:make_uav_tiles",
    "charts": "data_pipelines.charts.build:make_charts",
    "charts-tiny": "data_pipelines.charts.tiny:make_charts_tiny",
    "charts-cold-start": "data_pipelines.charts.tiny:make_charts_cold_start",
    "video": "data_pipelines.video.build:make_video",
    "video-cold-start": "data_pipelines.video.build:make_video_cold_start",
    "figures": "data_pipelines.captions.build:make_figures",
}

READERS: dict[str, str] = {
    "rows": "data_pipelines.sources:read_rows",
    "chartqa": "data_pipelines.charts.readers:read_chartqa",
    "plotqa": "data_pipelines.charts.readers:read_plotqa",
    "figureqa": "data_pipelines.charts.readers:read_figureqa",
    "dvqa": "data_pipelines.charts.readers:read_dvqa",
    "bigcharts": "data_pipelines.charts.readers:read_bigcharts",
    "mathvista": "data_pipelines.charts.readers:read_mathvista",
    "screenspot": "data_pipelines.gui.screenspot:read_screenspot",
    "android-control": "data_pipelines.gui.android_control:read_android_control",
    "aitz": "data_pipelines.gui.aitz:read_aitz",
    "charades-sta": "data_pipelines.video.grounding:read_charades_sta",
    "activitynet-captions": "data_pipelines.video.grounding:read_activitynet_captions",
    "qvhighlights": "data_pipelines.video.grounding:read_qvhighlights",
    "clevrer": "data_pipelines.video.questions:read_clevrer",
    "next-qa": "data_pipelines.video.questions:read_nextqa",
    "next-gqa": "data_pipelines.video.questions:read_nextgqa",
    "star": "data_pipelines.video.questions:read_star",
    "seed-bench-r1": "data_pipelines.video.mixtures:read_seed_bench_r1",
    "video-r1": "data_pipelines.video.mixtures:read_video_r1",
    "preferences": "data_pipelines.preferences:read_preferences",
    "hops": "data_pipelines.hops:read_hops",
    "hrvqa": "data_pipelines.uav.hrvqa:read_hrvqa",
    "vlaa": "data_pipelines.vlaa:read_vlaa",
    "visdrone": "data_pipelines.uav.visdrone:read_visdrone",
    "dota": "data_pipelines.uav.dota:read_dota",
}
"""The formats `mmrl data convert NAME` reads: name -> "module:function"; see `reading.py`."""

TRANSFORMS: dict[str, str] = {
    "drop-thoughts": "data_pipelines.gui.thoughts:drop_thoughts",
    "name-modes": "data_pipelines.gui.thoughts:name_modes",
    "invert-questions": "data_pipelines.video.transforms:invert_questions",
    "shuffle-letters": "data_pipelines.video.transforms:shuffle_letters",
    "frame-noise": "data_pipelines.video.transforms:frame_noise",
}
"""What `mmrl data transform FILE NAME` does to rows: name -> "module:function"; see `transform.py`."""
