"""AdamW and its learning rate, shared by reinforcement learning and supervised fine-tuning."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from mmrl.config import OptimizerConfig

if TYPE_CHECKING:
    from mmrl.stages import Policy


def make_optimizer(policy: Policy, config: OptimizerConfig) -> torch.optim.AdamW:
    """Weight decay acts on matrices only, not on norms and biases."""
    parameters = [parameter for _, parameter in policy.trainable()]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps)


def learning_rate(config: OptimizerConfig, step: int, total: int) -> float:
    """Linear warm-up from learning_rate / warmup_steps, then constant, linear or cosine to 0 at `total`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    shapes = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return config.learning_rate * shapes[config.schedule]


def update(policy: Policy, optimizer: torch.optim.AdamW, *, rate: float, max_grad_norm: float) -> float:
    """One optimizer update from the accumulated gradients, which it then clears. Returns their norm before clipping."""
    parameters = [parameter for _, parameter in policy.trainable()]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm))
    if not math.isfinite(norm):
        raise FloatingPointError(
            f"the gradient norm is {norm}: the loss or the model overflowed. The weights were not changed. "
            "Lower optimizer.learning_rate, or compute in float32 (model.dtype=float32)."
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
