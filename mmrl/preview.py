"""What a run would take, said without training: `mmrl train` and `mmrl sft` with `--dry-run`, after every check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mmrl.batches import micro_batch_line

if TYPE_CHECKING:
    from mmrl.config import Config, SftConfig
    from mmrl.recipe import Recipe
    from mmrl.records import Sample
    from mmrl.stages import Policy

MEASURED = 64
"""Samples that are encoded for the lengths of prompts, evenly over the data."""
ADAM = 12
"""Bytes per trained parameter beside its weight: the gradient and two moments in float32."""


def preview(config: Config, policy: Policy, recipe: Recipe, samples: Sequence[Sample]) -> Table:
    """Prompt lengths against their limit, tokens per step, and the memory that does not depend on the batch."""
    table = empty_table()
    table.add_row("samples", f"{len(samples):,}")
    if policy.makes == "text":
        some = samples[:: max(1, len(samples) // MEASURED)][:MEASURED]
        lengths = sorted(len(policy.encode(sample)[1]) for sample in some)
        longest, limit = lengths[-1], config.data.budget.max_tokens
        table.add_row("prompt tokens", f"{lengths[0]:,} to {longest:,} of at most {limit:,} ({len(some)} samples)")
        how: Any = recipe.sampling.at(0, config.steps)
        packed = longest + config.group_size * how.max_new_tokens
        table.add_row("tokens per step", f"at most {config.prompts_per_step * packed:,}, prompts read once per group")
        row = longest + how.max_new_tokens
        table.add_row("micro-batches", micro_batch_line(config.micro_batch_tokens, row=row, group=packed))
    compared = "logp_ref" in recipe.loss_needs | recipe.credit_needs
    add_memory(table, policy, reference=compared and config.model.adapter is None)
    return table


def preview_sft(config: SftConfig, policy: Policy, chats: Sequence[tuple[int, int]]) -> Table:
    """The same for supervised fine-tuning; of every chat its tokens and how many of them are learned."""
    table = empty_table()
    lengths = sorted(tokens for tokens, _ in chats)
    learned = sorted(count for _, count in chats)
    limit = config.data.budget.max_tokens
    table.add_row("chats", f"{len(chats):,}; {config.steps * config.batch_size / len(chats):.2f} epochs")
    table.add_row("tokens of a chat", f"{lengths[0]:,} to {lengths[-1]:,} of at most {limit:,}")
    table.add_row("learned of a chat", f"{learned[0]:,} to {learned[-1]:,}")
    table.add_row("tokens per step", f"at most {config.batch_size * lengths[-1]:,}")
    table.add_row("micro-batch", f"{config.micro_batch_tokens:,} tokens")
    add_memory(table, policy, reference=False)
    return table


def empty_table() -> Table:
    return Table("what", "how much", title="dry run: nothing is written", title_justify="left")


def add_memory(table: Table, policy: Policy, *, reference: bool) -> None:
    """Bytes of weights, optimizer and a reference of its own. Activations and the KV cache come on top:
    `micro_batch_tokens` and `model.generation_tokens` bound them."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in policy.model.parameters())
    trained = sum(parameter.numel() for _, parameter in policy.trainable())
    found = {"weights": weights, "gradients and Adam": ADAM * trained}
    if reference:
        found["reference"] = weights
    for name, value in (found | {"together, without activations": sum(found.values())}).items():
        table.add_row(name, f"{value / 2**30:,.2f} GiB")
