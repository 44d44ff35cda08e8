"""What the log-prob mismatch of a server would be that gives no log-probs: `python -m mmrl.serving.mismatch`.

    python -m mmrl.serving.mismatch CONFIG [KEY=VALUE ...] [--prompts 16] [--dtypes float32,bfloat16]

Gives the servers of CONFIG the model's weights, lets them complete prompts, and computes the log-probs of these
completions as such a server would have: by the plain transformers model, one unpadded prompt and completion at a time,
loaded from the same folder in the server's dtype. They are compared with the trainer's, which packs the completions
of a prompt into one row. Also said: how many of the server's greedy tokens are the trainer's likeliest.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmrl.records import Rollouts
from mmrl.serving.importance import mismatch


@torch.no_grad()
def plain_logp(model: Any, rollouts: Rollouts, *, forbidden: Tensor) -> Tensor:
    """f32[N, T], log-probs by the model's own forward pass of each prompt and completion alone."""
    found = torch.zeros(rollouts.actions.shape)
    media = (model.config.image_token_id, model.config.video_token_id)
    for row, (actions, length) in enumerate(zip(rollouts.actions, rollouts.length.tolist(), strict=True)):
        prompt = rollouts.prompts[int(rollouts.prompt[row])]
        ids = torch.cat([prompt.ids, actions[:length]])[None]
        kinds = sum((ids == token) * kind for kind, token in enumerate(media, start=1))
        inputs = {name: value.to(model.device) for name, value in prompt.media.items()}
        logits = model(
            input_ids=ids.to(model.device),
            attention_mask=torch.ones_like(ids).to(model.device),
            mm_token_type_ids=torch.as_tensor(kinds).to(model.device),
            **inputs,
        ).logits[0, len(prompt) - 1 : -1]
        logits = logits.float().cpu() / rollouts.temperature
        logits[:, forbidden] = float("-inf")
        found[row, :length] = logits.log_softmax(-1).gather(1, actions[:length, None])[:, 0]
    return found


def load_plain(folder: Path | str, dtype: str, device: torch.device) -> Any:
    """The model as a server has it."""
    from transformers import AutoModelForImageTextToText

    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, dtype))
    return model.to(device).eval()


@torch.no_grad()
def trainer_logp(policy: Any, rollouts: Rollouts, *, budget: int) -> Tensor:
    found = torch.zeros(rollouts.actions.shape)
    for batch in policy.micro_batches(rollouts, budget=budget):
        found[batch.rows] += policy.logp(rollouts.part(batch))[0].cpu()
    return found


@torch.no_grad()
def greedy_agreement(policy: Any, rollouts: Rollouts, *, budget: int) -> float:
    """Share of tokens that are the trainer's likeliest: that no other token has a higher log-prob."""
    from mmrl.policies.vlm import completions_of

    likeliest = []
    for batch in policy.micro_batches(rollouts, budget=budget):
        part = rollouts.part(batch)
        logits = policy.engine.action_logits(policy.engine.predicting(part.prompts, completions_of(part)), 1.0)
        tokens = part.actions[part.made].to(logits.device)
        likeliest.append((logits.argmax(-1) == tokens).float())
    return float(torch.cat(likeliest).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    from data_pipelines.dataset import read_samples
    from mmrl.config import load_config
    from mmrl.plugins import ConfigError
    from mmrl.policies import policy_class
    from mmrl.recipe import make_recipe
    from mmrl.serving.policy import serve

    parser = argparse.ArgumentParser(prog="python -m mmrl.serving.mismatch", description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--dtypes", default="float32,bfloat16")
    given = parser.parse_intermixed_args(arguments)
    config: Any = load_config(given.config, given.overrides)
    if config.server is None or config.server.weights == "adapter":
        raise ConfigError(
            f"{given.config} has no section `server` that takes whole checkpoints, or has the model already.\n"
            "  Lay one over it: configs/servers/transformers.yaml"
        )
    kind = policy_class(config.model.path)
    recipe = make_recipe(config, kind, where=given.config)
    paths = [config.data.train] if isinstance(config.data.train, str) else config.data.train
    samples = list(read_samples(paths[0], roots=config.data.roots))[: given.prompts]
    with tempfile.TemporaryDirectory() as folder:
        policy, _ = serve(kind.load(config.model, config.data.budget), config, Path(folder))
        policy.weights.update(0, under_way=False)
        weights = policy.weights.at or policy.weights.base
        how: Any = recipe.sampling.at(0, config.steps)
        sizes, budget = [config.group_size] * len(samples), config.micro_batch_tokens
        drawn = policy.generate(samples, sizes, how, seed=config.seed, step=0)
        likely = policy.generate(samples, [1] * len(samples), how.at_temperature(0.0), seed=config.seed, step=0)
        drawn.logp_old = trainer_logp(policy, drawn, budget=budget)
        print(f"{len(drawn)} completions, {int(drawn.length.sum())} tokens, from {', '.join(config.server.urls)}")
        if drawn.logp_rollout is not None:
            show("by the server itself", drawn)
        for dtype in given.dtypes.split(","):
            model = load_plain(weights, dtype, policy.device)
            show(
                f"transformers in {dtype}",
                replace(drawn, logp_rollout=plain_logp(model, drawn, forbidden=policy.engine.forbidden)),
            )
        agreed = greedy_agreement(policy, likely, budget=budget)
        print(f"{agreed:.1%} of {int(likely.length.sum())} greedy tokens of the server are the trainer's likeliest")
        policy.close()


def show(name: str, rollouts: Rollouts) -> None:
    numbers = mismatch(rollouts)
    print(
        f"{name:<26} mean |difference| {numbers['mismatch/mean']:.2e}  max {numbers['mismatch/max']:.2e}  "
        f"KL {numbers['mismatch/kl']:.2e} nats per token"
    )


if __name__ == "__main__":
    from mmrl import cli

    cli.main(main)
