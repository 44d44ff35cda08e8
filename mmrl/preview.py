"""What a run would take, said without training: `mmrl train RECIPE --dry-run`, after every check a run begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from mmrl.config import Config
    from mmrl.recipe import Recipe
    from mmrl.records import Sample
    from mmrl.stages import Policy

MEASURED = 64
"""Samples that are encoded for the lengths of prompts, evenly over the data."""
ADAM = 12
"""Bytes per trained parameter beside its weight: the gradient and two moments in float32."""


def preview(config: Config, policy: Policy, recipe: Recipe, samples: Sequence[Sample]) -> Table:
    """Prompt lengths against their limit, tokens per step, and the memory that does not depend on the batch."""
    table = Table("what", "how much", title="dry run: nothing is written", title_justify="left")
    table.add_row("samples", f"{len(samples):,}")
    if policy.makes == "text":
        some = samples[:: max(1, len(samples) // MEASURED)][:MEASURED]
        lengths = sorted(len(policy.encode(sample)[1]) for sample in some)
        longest, limit = lengths[-1], config.data.budget.max_tokens
        table.add_row("prompt tokens", f"{lengths[0]:,} to {longest:,} of at most {limit:,} ({len(some)} samples)")
        how: Any = recipe.sampling.at(0, config.steps)
        packed = longest + config.group_size * how.max_new_tokens
        table.add_row("tokens per step", f"at most {config.prompts_per_step * packed:,}, prompts read once per group")
        table.add_row("micro-batch", f"{config.micro_batch_tokens:,} tokens; a whole group has at most {packed:,}")
    for name, value in memory(config, policy, recipe).items():
        table.add_row(name, f"{value / 2**30:,.2f} GiB")
    return table


def memory(config: Config, policy: Policy, recipe: Recipe) -> dict[str, int]:
    """Bytes of weights, optimizer and reference. Activations and the KV cache come on top: `micro_batch_tokens` and
    `model.generation_tokens` bound them."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in policy.model.parameters())
    trained = sum(parameter.numel() for _, parameter in policy.trainable())
    found = {"weights": weights, "gradients and Adam": ADAM * trained}
    if "logp_ref" in recipe.loss_needs | recipe.credit_needs and config.model.adapter is None:
        found["reference"] = weights
    return found | {"together, without activations": sum(found.values())}
