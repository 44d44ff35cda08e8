"""VideoAlign (arXiv 2501.13918) as a reward, to be served from its own environment (docs/reward_servers.md).

Needs VideoAlign's repository on PYTHONPATH (its module `inference`) and its checkpoint; DanceGRPO uses VQ or MQ.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any, Literal

from rewards import reward


@reward(range=(-math.inf, math.inf), scope="batch", reads="video", source="VideoAlign, arXiv 2501.13918")
class video_align:
    """VideoAlign's z-scored visual quality (VQ), motion quality (MQ) or text alignment (TA) of a video."""

    def __init__(
        self,
        *,
        checkpoint: str = "checkpoints",
        part: Literal["VQ", "MQ", "TA", "Overall"] = "VQ",
        fps: int = 8,
        device: str = "cpu",
    ) -> None:
        from inference import VideoVLMRewardInference

        self.model = VideoVLMRewardInference(checkpoint, device=device)
        self.part, self.fps = part, fps

    def __call__(self, videos: list[Any], samples: list[Any]) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            files = [str(write_mp4(frames, Path(folder) / f"{i}.mp4", self.fps)) for i, frames in enumerate(videos)]
            scores = self.model.reward(files, [sample.prompt for sample in samples], use_norm=True)
        return [float(score[self.part]) for score in scores]


def write_mp4(frames: list[Any], file: Path, fps: int) -> Path:
    """PIL frames of one size as a video that VideoAlign reads."""
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame.convert("RGB"))))
        container.mux(stream.encode())
    return file
