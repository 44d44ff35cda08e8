"""VideoAlign (arXiv 2501.13918) as a reward, to be served from its own environment (docs/reward_servers.md).

Needs VideoAlign's repository on PYTHONPATH (its module `inference`) and its checkpoint; DanceGRPO uses VQ or MQ.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any, Literal

from mmrl.pictures import encode
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
            files = [Path(folder) / f"{index}.mp4" for index in range(len(videos))]
            for file, frames in zip(files, videos, strict=True):
                file.write_bytes(encode(frames, fps=self.fps)[0])
            scores = self.model.reward([str(file) for file in files], [one.prompt for one in samples], use_norm=True)
        return [float(score[self.part]) for score in scores]
