"""The two kinds of policy: `vlm.py`, where a token is an action, and `diffusion.py`, where a denoising step is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmrl.stages import Policy


def policy_class(path: str) -> type[Policy]:
    """The policy for a model: a folder with a diffusers index, or one of the tiny pipelines, is a diffusion model."""
    from mmrl.policies.pipelines import pipeline_class

    name = pipeline_class(path)
    if name is None:
        from mmrl.policies.vlm import VLMPolicy

        return VLMPolicy
    from mmrl.policies.diffusion import DiffusionPolicy, VideoDiffusionPolicy
    from mmrl.policies.families import FAMILIES

    makes_video = name in FAMILIES and FAMILIES[name].makes == "video"
    return VideoDiffusionPolicy if makes_video else DiffusionPolicy
