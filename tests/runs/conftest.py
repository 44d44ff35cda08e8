from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl.records import Media, Rollouts, Sample


@pytest.fixture
def make_media(tmp_path: Path) -> Callable[..., Media]:
    def make(name: str = "screen.PNG", *, content: bytes = b"pixels", seen=(56, 28), times=()) -> Media:
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return Media("video" if times else "image", str(path), digest, (64, 32), seen, times)

    return make


@pytest.fixture
def make_rollouts() -> Callable[..., Rollouts]:
    def make(sizes=(2, 1), *, samples: list[Sample] | None = None, text: list[str] | None = None) -> Rollouts:
        """Ragged groups of completions of 0, 1, 2, 3, 0, ... tokens; the last has no reward."""
        count = sum(sizes)
        group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        length = torch.arange(count) % 4
        mask = torch.arange(3).repeat(count, 1) < length[:, None]
        reward = torch.arange(count) / 8
        reward[-1] = torch.nan
        return Rollouts(
            samples=samples
            or [Sample(f"s{p}", ({"role": "user", "content": f"question {p}"},)) for p in range(len(sizes))],
            prompts=[None] * len(sizes),
            group=group,
            prompt=group,
            actions=torch.ones(count, 3, dtype=torch.long),
            length=length,
            mask=mask,
            text=text or [f"completion {row}" for row in range(count)],
            origin=["policy"] * count,
            logp_old=torch.full((count, 3), -0.5),
            scores={"box_iou": reward.clone(), "format": torch.ones(count)},
            reward=reward,
            advantage=torch.where(mask, torch.arange(count)[:, None].float(), torch.nan),
            signals={"truncated": torch.arange(count) % 2 == 0},
        )

    return make


@pytest.fixture
def make_made() -> Callable[..., Rollouts]:
    def make(images: list[Any]) -> Rollouts:
        """Rollouts of a diffusion policy, one prompt: 4 denoising steps, of which the first 2 are trained."""
        count = len(images)
        mask = torch.zeros(count, 4, dtype=torch.bool)
        mask[:, :2] = True
        zeros = torch.zeros(count, dtype=torch.long)
        return Rollouts(
            samples=[Sample("s", ({"role": "user", "content": "a red square"},))],
            prompts=[None],
            group=zeros,
            prompt=zeros,
            actions=torch.randn(count, 5, 2, 3, 3),
            length=torch.full((count,), 4),
            mask=mask,
            text=[""] * count,
            images=images,
            origin=["policy"] * count,
            logp_rollout=torch.where(mask, -0.5, 0.0),
            logp_old=torch.where(mask, -0.5, 0.0),
            advantage=torch.arange(count)[:, None].expand(count, 4).float(),
            reward=torch.arange(count).float(),
            signals={"mean": torch.randn(count, 4, 2, 3, 3), "level": torch.ones(count, 4)},
        )

    return make
