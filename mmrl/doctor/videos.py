"""Which video decoders work: each is given a clip that is drawn and stored for it, in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from mmrl.doctor.findings import Finding, ask

FRAMES, SIDE, FPS = 24, 64, 8
READ = """
import json, sys
import numpy as np
from data_pipelines.video_frames import MODULES, READERS, describe
name, path, *numbers = sys.argv[1:]
frames = list(READERS[name](path, [int(n) for n in numbers], describe(path)))
pixels = np.concatenate([np.asarray(f) for f in frames])
print(json.dumps([list(pixels.shape), [float(frame.mean()) for frame in pixels]]))
"""


def decoders() -> Iterator[Finding]:
    """Frames must come in the order asked for: the clip's get brighter."""
    from importlib.util import find_spec

    from data_pipelines.video_frames import MODULES

    with tempfile.TemporaryDirectory() as folder:
        try:
            clip = draw(Path(folder) / "clip.mp4")
        except Exception as error:
            yield Finding("video", "no clip can be stored", f"{type(error).__name__}: {error}", "limited")
            return
        works = []
        for name, module in MODULES.items():
            if find_spec(module) is None:
                continue
            wanted = [0, FRAMES // 2, FRAMES - 1]
            answer, problem = ask(READ, [name, str(clip), *map(str, wanted)])
            if answer is not None:
                shape, means = answer
                if shape != [len(wanted), SIDE, SIDE, 3] or means != sorted(means):
                    problem = f"it gave {shape} with means {means}"
            works += [] if problem else [name]
            state: str = "limited" if problem else "fine"
            found = "does not work" if problem else f"decoded {len(wanted)} of {FRAMES} frames"
            yield Finding(f"video with {name}", found, problem, state)  # type: ignore[arg-type]
        if not works:
            yield Finding("video", "no decoder works", "rows with videos cannot be read: pip install av", "limited")


def draw(path: Path) -> Path:
    import numpy as np

    from data_pipelines.video.render import write_video

    frames = (np.full((SIDE, SIDE, 3), 10 + 9 * number, np.uint8) for number in range(FRAMES))
    return write_video(path, frames, FPS)
