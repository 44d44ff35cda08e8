"""Supervised fine-tuning on the assistant turns of a dataset: the cold start that reinforcement learning needs.

Every assistant turn of a chat is learned, each token with equal weight over the optimizer batch. The model that comes
out is a folder that `model.path` can name. `mmrl sft CONFIG` runs it; the tiny weights of mmrl were made by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from data_pipelines.media import configure
from mmrl.config import SftConfig
from mmrl.launch import read_data
from mmrl.optimization import learning_rate, make_optimizer, update
from mmrl.plugins import ConfigError
from mmrl.policies.shared_prefix import Prompt, gather_media, pack, visible
from mmrl.policies.vlm import VLMPolicy
from mmrl.randomness import numpy_generator
from mmrl.records import Sample
from mmrl.runs.files import atomic_folder, atomic_write

Encoded = tuple[Prompt, Tensor]
"""A whole chat, and bool[L]: the tokens to learn."""


def sft(config: SftConfig, console: Console | None = None) -> Path:
    """Train and save to `config.out`. Returns that folder."""
    console = console or Console()
    out = Path(config.out)
    if out.exists():
        raise ConfigError(f"out = {out} exists already; name another folder, or remove it.")
    configure(config.data.decode)
    samples = read_data(config.data.train, config.data, console, need_target=False)
    policy = VLMPolicy.load(config.model, config.data.budget)
    optimizer = make_optimizer(policy, config.optimizer)
    console.print(f"{len(samples):,} chats; {config.steps} steps of {config.batch_size}")
    losses = []
    with Progress(
        TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn(),
        console=console,
    ) as progress:  # fmt: skip
        task = progress.add_task("", total=config.steps, loss="")
        for step, batch in enumerate(batches(samples, config)):
            encoded = [encode_chat(policy, sample) for sample in batch]
            losses.append(backward(policy, encoded, budget=config.micro_batch_tokens))
            rate = learning_rate(config.optimizer, step, config.steps)
            update(policy, optimizer, rate=rate, max_grad_norm=config.optimizer.max_grad_norm)
            progress.update(task, advance=1, loss=f"loss {recent(losses):.4f}")
            if not console.is_terminal and (step + 1) % max(1, config.steps // 20) == 0:
                console.print(f"step {step + 1}/{config.steps} loss {recent(losses):.4f}", highlight=False)
    with atomic_folder(out) as folder:
        policy.save(folder)
        with atomic_write(folder / "sft_loss.json") as file:
            file.write_text(json.dumps(losses))
    console.print(f"saved {out}; loss {losses[0]:.3f} -> {recent(losses):.3f}")
    return out


def recent(losses: Sequence[float]) -> float:
    """Mean of the last 50."""
    return sum(losses[-50:]) / len(losses[-50:])


def batches(samples: Sequence[Sample], config: SftConfig) -> Iterator[list[Sample]]:
    """`steps` batches; every epoch is a permutation of its own."""
    order: list[int] = []
    epoch = 0
    for _ in range(config.steps):
        while len(order) < config.batch_size:
            order += numpy_generator(config.seed, "sft epoch", epoch).permutation(len(samples)).tolist()
            epoch += 1
        yield [samples[i] for i in order[: config.batch_size]]
        del order[: config.batch_size]


def encode_chat(policy: VLMPolicy, sample: Sample) -> Encoded:
    """The chat with all its turns, and which of its tokens are assistant turns (their end-of-turn token included)."""
    _, prompt = policy.encode(sample, whole_chat=True)
    tokenizer = policy.processor.tokenizer
    start = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    stop, ids = int(policy.engine.stops[0]), prompt.ids.tolist()
    learned = torch.zeros(len(ids), dtype=torch.bool)
    i = 0
    while i < len(ids):
        if ids[i : i + len(start)] != start:
            i += 1
            continue
        i += len(start)
        while i < len(ids):
            learned[i] = True
            i += 1
            if ids[i - 1] == stop:
                break
    if not learned.any():
        raise ConfigError(f"{sample.where} (id {sample.id}) has no assistant turn to learn from.")
    return prompt, learned


def backward(policy: VLMPolicy, encoded: Sequence[Encoded], *, budget: int) -> float:
    """Accumulate the gradient of the mean negative log-prob of the learned tokens; returns that mean, in nats."""
    total = sum(int(learned.sum()) for _, learned in encoded)
    ordered = sorted(encoded, key=lambda item: len(item[0]))
    loss = 0.0
    while ordered:
        size = max(1, min(len(ordered), budget // len(ordered[-1][0])))
        part, ordered = ordered[-size:], ordered[:-size]
        share = -supervised_logp(policy, part).sum() / total
        share.backward()
        loss += float(share.detach())
    return loss


def supervised_logp(policy: VLMPolicy, part: Sequence[Encoded]) -> Tensor:
    """f32[M], log-probs of the learned tokens of some chats."""
    engine = policy.engine
    prompts = [prompt for prompt, _ in part]
    packed = pack(prompts, [[] for _ in prompts]).to(engine.device)
    mask = visible(packed.columns, packed.columns)
    hidden = engine.hidden(packed.ids, packed.positions, mask, gather_media(prompts, engine.device))
    learned = torch.nn.utils.rnn.pad_sequence([m for _, m in part], batch_first=True).to(engine.device)
    logits = engine.model.lm_head(hidden[:, :-1][learned[:, 1:]]).float()
    return logits.log_softmax(-1).gather(1, packed.ids[learned][:, None])[:, 0]
