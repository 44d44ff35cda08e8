"""Supervised fine-tuning on the assistant turns of a dataset: the cold start that reinforcement learning needs.

Every assistant turn of a chat is learned, each token with equal weight over the optimizer batch; short chats share a
row. The model that comes out is a folder that `model.path` can name, so several stages are several configs, each with
the folder before it. `mmrl sft CONFIG` runs it (docs/sft.md); the tiny weights of mmrl were made by it.

On several ranks each encodes and learns its share of a step's chats, in losses that are shares of the whole batch, and
`optimization.py` or `zero.py` puts the gradients together: the model is that of one process, up to rounding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from data_pipelines.media import configure
from mmrl import distributed
from mmrl.batches import check_processes
from mmrl.config import SftConfig, dump
from mmrl.faults.endings import BadUpdates, OutOfMemory, Stopped
from mmrl.faults.peers import Peers
from mmrl.faults.room import first_line, out_of_memory
from mmrl.faults.stopping import StopRequest
from mmrl.launch import read_data
from mmrl.optimization import Updater, learning_rate, make_updater
from mmrl.plugins import ConfigError
from mmrl.policies.pretrained import mixed_precision
from mmrl.policies.shared_prefix import PADDING, Columns, Prompt, gather_media, pad_rows, visible
from mmrl.policies.vlm import VLMPolicy
from mmrl.preview import preview_sft
from mmrl.randomness import numpy_generator
from mmrl.records import Sample
from mmrl.runs.changes import in_words
from mmrl.runs.files import atomic_folder, atomic_write
from mmrl.runs.unfinished import Unfinished, clear, refuse

Encoded = tuple[Prompt, Tensor]
"""A whole chat, and bool[L]: the tokens to learn, never the first."""


def sft(config: SftConfig, console: Console | None = None, *, resume: bool = False, dry_run: bool = False) -> Path:
    """Train and save to `config.out`. Returns that folder, which a dry run does not make: it ends after all checks.

    With `resume` it goes on from the last checkpoint of a training that was interrupted, to the same bits.
    """
    distributed.start()
    console = console or Console()
    console.quiet = console.quiet or distributed.rank() > 0
    check_processes(config, where=f"mmrl sft to {config.out}", ranks=distributed.size())
    out = Path(config.out)
    if resume and out.is_dir():
        console.print(f"{out} is there already: nothing is left to do")
        if distributed.rank() == 0:
            clear(out)
        return out
    refuse(out, steps=config.steps, resume=resume)
    configure(config.data.decode)
    samples = read_data(config.data.train, config.data, console, need_target=False)
    policy = VLMPolicy.load(config.model, config.data.budget)
    if dry_run:
        chats = [encode_chat(policy, sample) for sample in share(samples)]
        lengths = distributed.gather([(len(prompt), int(learned.sum())) for prompt, learned in chats])
        console.print(preview_sft(config, policy, [length for part in lengths for length in part]))
        return out
    console.print(
        f"{len(samples):,} chats; {config.steps} steps of {config.batch_size}{spread(config)}", soft_wrap=True
    )
    work = Unfinished.open(out, dump(config) + f"chats: {fingerprint(samples)}\n", resume=resume)
    if resume:
        console.print(f"goes on after step {work.steps} of {config.steps}")
    if work.changed:
        said = f"warning: with other settings than before: {in_words(work.changed)}"
        console.print(said, style="yellow", markup=False)
    try:
        with StopRequest() as stop:
            losses = run(config, policy, samples, work, stop, console)
    finally:
        work.close()
    console.print(f"saved {out}; loss {losses[0]:.3f} -> {recent(losses):.3f}")
    return out


def run(
    config: SftConfig,
    policy: VLMPolicy,
    samples: Sequence[Sample],
    work: Unfinished,
    stop: StopRequest,
    console: Console,
) -> list[float]:
    """From where the `work` stands to the model that is saved. Returns the loss of every step."""
    out = Path(config.out)
    work.restore_model(policy)
    updater = make_updater(policy, config)
    losses = work.restore(updater)
    progress = Progress(
        TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip
    with watched(lambda: len(losses)), progress:
        task = progress.add_task("", total=config.steps, completed=len(losses), loss="")
        for step, batch in islice(enumerate(batches(samples, config)), len(losses), None):
            losses.append(learn(policy, updater, batch, budget=config.micro_batch_tokens))
            rate = learning_rate(config.optimizer, step, config.steps)
            norm = updater.update(rate=rate)
            if updater.bad_in_a_row >= config.optimizer.max_bad_updates:
                raise BadUpdates(
                    f"{updater.bad_in_a_row} updates in a row had no finite gradient (norm {norm} at step {step}), and "
                    "were left out.\n  Lower optimizer.learning_rate, or compute in float32 (model.dtype=float32).",
                    quiet=distributed.rank() > 0,
                )
            progress.update(task, advance=1, loss=f"loss {recent(losses):.4f}")
            if not console.is_terminal and (step + 1) % max(1, config.steps // 20) == 0:
                console.print(f"step {step + 1}/{config.steps} loss {recent(losses):.4f}", highlight=False)
            if step + 1 == config.steps:
                break
            asked = stop.agreed()
            if asked or (config.checkpoint_every and (step + 1) % config.checkpoint_every == 0):
                work.checkpoint(policy, updater, losses)
            if asked:
                raise Stopped(
                    f"stopped by {asked} after step {step + 1} of {config.steps}, which has a checkpoint. `--resume` "
                    "goes on from there.",
                    quiet=distributed.rank() > 0,
                )
        with updater.whole_weights(saving=True):
            if distributed.rank() == 0:
                save(policy, losses, out)
                work.remove()
            distributed.wait()
    return losses


@contextmanager
def watched(step: Callable[[], int]) -> Iterator[None]:
    """Inside, a rank that is lost ends the others as well, with one message that names it."""
    with Peers(step=step, then="Start the command again with `--resume`.") as peers:
        try:
            yield
        except Exception as error:
            if (lost := peers.explain(error)) is not None:
                raise lost from error
            if out_of_memory(error):
                raise OutOfMemory(
                    f"step {step()} ran out of memory ({first_line(error)}).\n  Lower micro_batch_tokens, "
                    "data.budget.max_pixels or max_tokens; model.gradient_checkpointing=true, model.adapter or "
                    "distribution.strategy=zero3 need less. Then go on with `--resume`."
                ) from error
            raise


def fingerprint(samples: Sequence[Sample]) -> str:
    """How many chats, and which."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps([sample.id, sample.messages], default=str).encode())
    return f"{len(samples)} ({digest.hexdigest()[:12]})"


def save(policy: VLMPolicy, losses: Sequence[float], out: Path) -> None:
    with atomic_folder(out) as folder:
        policy.save(folder)
        with atomic_write(folder / "sft_loss.json") as file:
            file.write_text(json.dumps(losses))


def share(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Those that this rank encodes and learns."""
    return samples[distributed.rank() :: distributed.size()]


def spread(config: SftConfig) -> str:
    """How the chats of a step are spread over the ranks, in words."""
    ranks = distributed.size()
    if ranks == 1:
        return ""
    idle = f", {ranks - config.batch_size} of them without any" if config.batch_size < ranks else ""
    most = -(-config.batch_size // ranks)
    return f"; {ranks} ranks ({config.distribution.strategy}): at most {most} of a step's chats each{idle}"


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
        raise ConfigError(f"{sample.where} has no assistant turn to learn from.")
    return prompt, learned


def learn(policy: VLMPolicy, updater: Updater, batch: Sequence[Sample], *, budget: int) -> float:
    """Accumulate the gradient of the mean negative log-prob of the batch's learned tokens; returns that mean, in nats.
    A rank without a chat takes part with the first one, at no weight."""
    mine = [encode_chat(policy, sample) for sample in share(batch)]
    total = sum(distributed.gather(sum(int(learned.sum()) for _, learned in mine)))
    spare = mine[0] if mine else encode_chat(policy, batch[0])
    loss = backward(policy, updater, mine, total=total, spare=spare, budget=budget)
    return sum(distributed.gather(loss))


def backward(
    policy: VLMPolicy, updater: Updater, encoded: Sequence[Encoded], *, total: int, spare: Encoded, budget: int
) -> float:
    """The same for these chats: their share in the mean over `total` tokens."""

    def forward(rows: Sequence[Sequence[Encoded]], weight: float) -> Tensor:
        with mixed_precision(policy.device, policy.settings):
            return -supervised_logp(policy, rows).sum() / total * weight

    loss = 0.0
    for rows, last in updater.turns(micro_batches(encoded, budget=budget)):
        part = updater.run(partial(forward, rows or [[spare]], float(rows is not None)))
        updater.backward(part, last=last)
        loss += float(part.detach())
    return loss


def micro_batches(encoded: Sequence[Encoded], *, budget: int) -> list[list[list[Encoded]]]:
    """Chats packed into rows, rows into parts: batches of rows of at most `budget` tokens, padding included.

    A part is as wide as its longest chat; shorter ones share the rows that are left, longest first, each in the first
    that has room: no row is wider than without packing, and there are fewer. A chat over the budget is a part alone.
    """
    parts: list[list[list[Encoded]]] = []
    waiting = sorted(encoded, key=lambda item: -len(item[0]))
    while waiting:
        width = len(waiting[0][0])
        rows: list[list[Encoded]] = [[] for _ in range(max(1, budget // width))]
        room = [width] * len(rows)
        later = []
        for chat in waiting:
            free = next((row for row, left in enumerate(room) if len(chat[0]) <= left), None)
            if free is None:
                later.append(chat)
                continue
            rows[free].append(chat)
            room[free] -= len(chat[0])
        parts.append([row for row in rows if row])
        waiting = later
    return parts


def supervised_logp(policy: VLMPolicy, rows: Sequence[Sequence[Encoded]]) -> Tensor:
    """f32[M], log-probs of the learned tokens of packed chats, none of which sees another, in row order."""
    engine = policy.engine
    chats = [chat for row in rows for chat in row]
    ids = pad_rows([torch.cat([prompt.ids for prompt, _ in row]) for row in rows], 0).to(engine.device)
    flat = [torch.cat([prompt.positions for prompt, _ in row], 1) for row in rows]  # each chat's own, from 0
    positions = torch.stack([torch.nn.functional.pad(row, (0, ids.shape[1] - row.shape[1])) for row in flat], 1)
    owner = [torch.cat([torch.full((len(p),), n) for n, (p, _) in enumerate(row)]) for row in rows]
    time = [torch.cat([torch.arange(len(p)) for p, _ in row]) for row in rows]
    columns = Columns(pad_rows(owner, PADDING).to(engine.device), pad_rows(time, 0).to(engine.device))
    # A chat begins with tokens that are not learned, so none is predicted from the chat before it.
    learned = pad_rows([torch.cat([mask for _, mask in row]) for row in rows], 0).bool().to(engine.device)
    media = gather_media([prompt for prompt, _ in chats], engine.device)
    hidden = engine.hidden(ids, positions.to(engine.device), visible(columns, columns), media)

    def head(hidden: Tensor, tokens: Tensor) -> Tensor:
        return engine.model.lm_head(hidden).float().log_softmax(-1).gather(1, tokens[:, None])[:, 0]

    chunks = zip(
        hidden[:, :-1][learned[:, 1:]].split(engine.head_chunk), ids[learned].split(engine.head_chunk), strict=True
    )
    return torch.cat([checkpoint(head, h, t, use_reentrant=False) for h, t in chunks])
