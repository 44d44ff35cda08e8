"""What several test files share: one thread, no network, tiny records, tiny policies, small media drawn on the spot."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import Tensor

from data_pipelines.media import Budget, probe
from mmrl.compat import declare_torchvision_operators
from mmrl.config import AdapterConfig, ModelConfig
from mmrl.records import Rollouts, Sample
from mmrl.stages import Context

torch.set_num_threads(1)
declare_torchvision_operators()
settings.register_profile("mmrl", derandomize=True, deadline=None, database=None)
settings.load_profile("mmrl")

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="session")
def golden() -> dict[str, dict[str, Any]]:
    """Numeric vectors of the GRPO family by name: inputs, expected, how_obtained, tolerance."""
    return {vector["name"]: vector for vector in json.loads((GOLDEN / "grpo.json").read_text())}


def _asked_for_more(*arguments: Any, **named: Any) -> Any:
    raise AssertionError("a stage asked its context for completions, samples or scores")


@pytest.fixture(scope="session")
def context() -> Context:
    """Step 0 of 10. Nothing can be generated, drawn or scored from it."""
    nothing = _asked_for_more
    return Context(step=0, total=10, seed=0, metrics={}, generate=nothing, draw=nothing, score=nothing)


def _make_rollouts(
    rewards: Any, group: Any, lengths: Any = None, *, width: int | None = None, **fields: Any
) -> Rollouts:
    """Rollouts with these rewards, a row per reward; fields such as `logp_old` or `advantage` as given."""
    reward = torch.as_tensor(rewards, dtype=torch.float32)
    group = torch.as_tensor(group)
    length = torch.full(group.shape, 3) if lengths is None else torch.as_tensor(lengths)
    width = width or int(length.max())
    mask = torch.arange(width) < length[:, None]
    groups = int(group.max()) + 1
    return Rollouts(
        samples=[Sample(f"s{g}", ({"role": "user", "content": "?"},)) for g in range(groups)],
        prompts=[None] * groups,
        group=group,
        prompt=group.clone(),
        actions=torch.ones(len(group), width, dtype=torch.long),
        length=length,
        mask=fields.pop("mask", mask),
        text=[""] * len(group),
        origin=["policy"] * len(group),
        reward=reward,
        **fields,
    )


@pytest.fixture(scope="session")
def make_rollouts() -> Callable[..., Rollouts]:
    return _make_rollouts


@pytest.fixture(scope="session")
def chain(context: Context) -> Callable[..., Tensor]:
    """Run one advantage stage on the reward, as the first link of a chain: f32[N], or f32[N, T] for `each`."""

    def run(stage: Callable[..., Tensor], rollouts: Rollouts, *, each: bool = False, **settings: Any) -> Tensor:
        assert rollouts.reward is not None
        start = rollouts.reward[:, None].expand(rollouts.mask.shape).clone()
        result = stage(start, rollouts, context, **settings)
        assert result.shape == rollouts.mask.shape
        return result if each else result[:, 0]

    return run


# -- media and samples ---------------------------------------------------------------------------------------------


class Studio:
    """Draws small pictures and one film into a folder and makes samples of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.noise = folder, np.random.default_rng(0)

    def picture(self, width: int = 64, height: int = 48) -> dict[str, str]:
        from PIL import Image

        path = self.folder / f"{len(list(self.folder.iterdir()))}.png"
        Image.fromarray(self.noise.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
        return {"type": "image", "image": str(path)}

    def film(self, frames: int = 16, rate: int = 4) -> dict[str, str]:
        import av

        path = self.folder / f"{len(list(self.folder.iterdir()))}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for i in range(frames):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), i * 15, dtype=np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return {"type": "video", "video": str(path)}

    def sample(self, name: str, text: str, *media: dict[str, str]) -> Sample:
        parts = [*media, {"type": "text", "text": text}]
        files = tuple(probe(part[part["type"]], part["type"]) for part in media)
        return Sample(id=name, messages=({"role": "user", "content": parts},), media=files, where=f"row {name}")


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def mixed_samples(studio: Studio) -> list[Sample]:
    """One image, two images, a video, text only."""
    return [
        studio.sample("one", "click the red circle", studio.picture(64, 64)),
        studio.sample("two", "what", studio.picture(96, 64), studio.picture(64, 48)),
        studio.sample("film", "when does it stop?", studio.film()),
        studio.sample("text", "hello you"),
    ]


# -- policies ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def build_policy() -> Callable[..., Any]:
    """A fresh policy with random weights; everything trains unless `changes` to its ModelConfig say otherwise."""
    from mmrl.policies.tiny import make_model, make_processor
    from mmrl.policies.vlm import VLMPolicy

    processors: dict[str, Any] = {}

    def build(family: str = "qwen3_vl", *, seed: int = 0, lora: bool = False, **changes: Any) -> Any:
        processor = processors.setdefault(family, make_processor(family))
        model = make_model(family, tokenizer=processor.tokenizer, seed=seed, width=64, layers=2)
        model_config = ModelConfig(
            **{"vision": "trained", "adapter": AdapterConfig(rank=4) if lora else None} | changes
        )
        return VLMPolicy(model, processor, settings=model_config, budget=Budget(min_pixels=1024))

    return build


@pytest.fixture(scope="session")
def policies(build_policy: Callable[..., Any]) -> dict[str, Any]:
    """One per family, shared by the whole session: leave the weights as they are."""
    return {family: build_policy(family) for family in FAMILIES}


@pytest.fixture(scope="session", params=FAMILIES)
def policy(request: pytest.FixtureRequest, policies: dict[str, Any]) -> Any:
    return policies[request.param]
