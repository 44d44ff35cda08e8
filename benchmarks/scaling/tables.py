"""Tables (Markdown) and the picture of docs/scaling.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.scaling.limits import (
    PROMPTS_PER_RANK,
    RANKS,
    ROLLOUTS,
    WAIT_SECONDS,
    Record,
    interval,
    measure,
    order_seconds,
    straggling,
    waste,
    write_seconds,
)
from benchmarks.scaling.machines import A100, GB, GPUS, H100, H200, NODE, TEXT
from benchmarks.scaling.memory import STRATEGIES, gigabytes, host_bytes, memory
from benchmarks.scaling.shapes import FLUX, MODELS, Mode, Shape, shape_of
from benchmarks.scaling.timing import best, flux_flops, forward_flops, smallest

COUNTS = (1, 8, 64)
MODES: tuple[Mode, ...] = ("full", "lora")
NAMES: dict[Mode, str] = {"full": "all weights", "lora": "LoRA"}


def markdown(head: Sequence[str], rows: Iterable[Sequence[Any]], *, left: int = 1) -> str:
    ruler = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [head, ruler, *rows])


def combinations() -> list[tuple[Shape, Mode]]:
    return [(shape_of(name), mode) for name in MODELS for mode in MODES]


def title(shape: Shape, mode: Mode) -> str:
    return f"{shape.name.removeprefix('Qwen2.5-VL-')}, {NAMES[mode]}"


def of_the_model() -> dict[str, str]:
    return {"models": models(), "memory": memories(), "parts": parts(), "time": times(), "gpus": totals()}


def models() -> str:
    head = ["model", "parameters", "trained / LoRA", "KV / token, KB", "kept / token, MB", "with checkpoints", "TFLOP"]
    rows = []
    for name in MODELS:
        shape = shape_of(name)
        image = name == FLUX
        columns = 0 if image else TEXT.packed
        kept = [shape.kept_bytes("full", columns, checkpointing=on) / 1e6 for on in (False, True)]
        flops = flux_flops(shape) if image else sum(forward_flops(shape, 1))
        trained = f"{shape.trained('full') / 1e9:.2f} G / {shape.adapter / 1e6:.0f} M"
        cache = "-" if image else f"{shape.kv_bytes / 1e3:.0f}"
        size = f"{shape.parameters:,}"
        rows.append([name, size, trained, cache, f"{kept[0]:.1f}", f"{kept[1]:.2f}", f"{flops / 1e12:.0f}"])
    return markdown(head, rows)


def memories() -> str:
    """Peak of a step in GB. Bold fits 80 GB, italic 141 GB, plain neither; which phase is the peak."""
    head = ["", "1", *(f"8 {s}" for s in STRATEGIES), *(f"64 {s}" for s in STRATEGIES[1:])]
    rows = []
    for shape, mode in combinations():
        cells = [cell(shape, mode, "ddp", 1)]
        cells += [cell(shape, mode, strategy, 8) for strategy in STRATEGIES]
        cells += [cell(shape, mode, strategy, 64) for strategy in STRATEGIES[1:]]
        rows.append([title(shape, mode), *cells])
    return markdown(head, rows)


def cell(shape: Shape, mode: Mode, strategy: Any, gpus: int) -> str:
    found = memory(shape, mode, strategy, gpus)
    text = f"{gigabytes(found.peak)}{'g' if found.phase == 'generation' else 't'}"
    mark = "**" if found.peak <= H100.usable else "*" if found.peak <= H200.usable else ""
    return f"{mark}{text}{mark}"


def parts() -> str:
    """Where the bytes are."""
    rows = []
    chosen: list[tuple[str, Mode, Any, int]] = [
        ("Qwen2.5-VL-7B", "full", "zero2", 8),
        ("Qwen2.5-VL-7B", "full", "zero3", 8),
        ("Qwen2.5-VL-72B", "full", "zero3", 64),
        ("Qwen2.5-VL-72B", "lora", "zero3", 64),
        (FLUX, "full", "zero2", 8),
    ]
    for name, mode, strategy, gpus in chosen:
        found = memory(shape_of(name), mode, strategy, gpus)
        for phase, bytes_of in (("generation", found.generation), ("training", found.training)):
            listed = ", ".join(f"{part} {gigabytes(value)}" for part, value in bytes_of.items() if value > 0.05 * GB)
            label = f"{title(shape_of(name), mode)}, {gpus} {strategy}, {phase}"
            rows.append([label, gigabytes(sum(bytes_of.values())), listed])
    return markdown(["GB", "sum", "parts"], rows)


def times() -> str:
    """On the first of A100, H100, H200 with enough memory; H100 where both 80 GB cards do."""
    head = ["", "GPUs", "strategy", "prefill", "decode", "rewards", "train", "update", "links", "gather", "step, s"]
    rows = []
    for shape, mode in combinations():
        for gpus in COUNTS:
            gpu = smallest(shape, mode, gpus)
            if gpu is None:
                rows.append([title(shape, mode), gpus, "does not fit", *["-"] * 8])
                continue
            gpu = H100 if gpu is A100 else gpu
            chosen = best(shape, mode, gpus, gpu)
            assert chosen is not None
            strategy, spent = chosen
            listed = [f"{value:.1f}" for value in vars(spent).values()]
            rows.append([title(shape, mode), f"{gpus} {gpu.name}", strategy, *listed, f"**{spent.total:.0f}**"])
    return markdown(head, rows)


def totals() -> str:
    rows = []
    for shape, mode in combinations():
        for gpus in COUNTS:
            found = [best(shape, mode, gpus, gpu) for gpu in GPUS]
            if any(found):
                cells = [f"{one[1].total:.0f} ({one[0]})" if one else "-" for one in found]
                rows.append([title(shape, mode), gpus, *cells])
    return markdown(["step, s", "GPUs", *(gpu.name for gpu in GPUS)], rows)


def checks() -> str:
    from benchmarks.scaling import checks as run
    from benchmarks.scaling.small import small_checks

    big, small, huge = "Qwen2.5-VL-7B", "Qwen2.5-VL-3B", "Qwen2.5-VL-72B"
    found = [*run.parameter_checks(), run.cache_check(big, "full"), run.cache_check(big, "lora")]
    found += [*run.flop_checks(big), run.vision_check(big), run.flux_flop_check()]
    found += [
        run.step_peak(big, "full", rows=2, checkpointing=True),
        run.step_peak(big, "full", rows=1, checkpointing=False),
        run.step_peak(small, "full", rows=2, checkpointing=True, layers=12),
        run.step_peak(big, "lora", rows=2, checkpointing=True, layers=8),
        run.step_peak(huge, "lora", rows=2, checkpointing=True, layers=8),
        run.flux_check("full", images=8),
        run.flux_check("lora", images=8),
        *small_checks(),
    ]
    return markdown(
        ["", "predicted", "counted", "", "ratio"],
        [[c.what, number(c.predicted), number(c.counted), c.unit, f"{c.ratio:.3f}"] for c in found],
    )


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def of_the_limits() -> dict[str, str]:
    record = measure()
    return {"limits": limits(record), "checkpoints": checkpoints()}


def limits(record: Record) -> str:
    """At `RANKS` GPUs with `PROMPTS_PER_RANK` groups each, until `ROLLOUTS` completions."""
    groups = RANKS * PROMPTS_PER_RANK
    rows = groups * TEXT.group
    steps = ROLLOUTS / rows
    files = steps * RANKS
    packed, read = rows * record.row_bytes, rows * record.unpickle
    order, share = order_seconds(record, groups), record.share * groups
    disk = ROLLOUTS * record.parquet_row + files * record.parquet_file
    prompts = ROLLOUTS / TEXT.group
    listed = [
        ["record sent to every rank", f"{record.row_bytes / 1e3:.1f} KB a completion", f"{packed / 1e9:.2f} GB and "
         f"{read:.1f} s to unpickle a step, {packed * NODE / 1e9:.0f} GB a node",
         f"{10 / record.unpickle / 1e3:,.0f} k completions a step (10 s)"],
        ["`select_groups`, groups x rows", f"{record.order:.2f} s at {record.ordered:,} groups",
         f"{order:.1f} s a call",
         f"{record.ordered * (10 / record.order) ** 0.5:,.0f} groups a step (10 s)"],
        ["`distributed.shares`", f"{record.share * 1e6:.1f} µs a group", f"{share * 1e3:.0f} ms a step",
         f"{10 / record.share / 1e6:,.0f} M groups a step (10 s)"],
        ["rollout files", "1 a rank and step", f"{files / 1e6:.1f} M files in a folder", "1 M: listing takes minutes"],
        ["rollouts on disk",
         f"{record.parquet_row / 1e3:.1f} KB a completion, {record.parquet_file / 1e3:.0f} KB a file",
         f"{disk / 1e12:.1f} TB, {files * record.parquet_file / disk:.0%} of it file heads", "the disk"],
        ["media folder", "1 file a picture", "10^9 files for an image model",
         "10 M entries: ext4's folder without large_dir"],
        ["samples in memory, each rank", f"{record.sample / 1e3:.1f} KB a prompt",
         f"{prompts / 1e6:.0f} M prompts: {prompts * record.sample / 1e9:,.0f} GB a rank",
         f"{1e12 / NODE / record.sample / 1e6:,.0f} M prompts (1 TB a node)"],
        ["data check at the start", "288 rows a CPU second (docs/data.md)",
         f"{prompts / 288 / RANKS / 60:.0f} min on {RANKS:,} cores", "1 M rows on one machine of 16 cores: 4 min"],
        ["sampler that remembers, `state.json`", f"{record.state:.0f} B a prompt",
         f"{prompts * record.state / 1e9:.1f} GB of JSON", "10 M prompts: 0.4 GB in each checkpoint"],
        ["metrics.jsonl", "1.5 KB a step", f"{steps * 1.5e3 / 1e6:.0f} MB", "never first"],
        ["viewer's index", "92 MB, 20 CPU s and 0.7 s a search per 10^6 (docs/viewer.md)",
         "92 GB, 6 h, 12 min a search", "7 M completions: a search takes 5 s"],
        ["longest completion of the step", f"{straggling(64 * TEXT.group):.1f} x the mean of {64 * TEXT.group}",
         f"{straggling(rows):.1f} x the mean of {rows:,}", "at once: the cap `max_new_tokens` sets the time"],
    ]  # fmt: skip
    head = ["what", "costs", f"at {RANKS:,} GPUs, 10^9 rollouts", "breaks at"]
    return markdown(head, listed, left=4)


def checkpoints() -> str:
    """Bytes, how long one process writes them, and what that means for the interval."""
    head = ["", "checkpoint, GB", "rank 0 alone, s", "host memory of a node: load / collect, GB"]
    counts = (64, RANKS)
    head += [f"best interval, {gpus:,} GPUs, min" for gpus in counts]
    head += [f"lost time, {RANKS:,} GPUs", "with 30 min of waiting", "each rank its share"]
    rows = []
    for shape, mode in combinations():
        trained = shape.trained(mode)
        size = 12.0 * trained + (4.0 * (shape.parameters - trained) if mode == "full" else 0.0)
        write = write_seconds(size)
        loading, collecting = host_bytes(shape, mode, 64)
        every = interval(write, RANKS)
        spread = write_seconds(size, RANKS)
        rows.append([
            title(shape, mode), gigabytes(size), f"{write:.0f}", f"{gigabytes(loading)} / {gigabytes(collecting)}",
            *(f"{interval(write, gpus) / 60:.0f}" for gpus in counts),
            f"{waste(write, every, RANKS):.1%}", f"{waste(write, every, RANKS, wait=WAIT_SECONDS):.1%}",
            f"{waste(spread, interval(spread, RANKS), RANKS):.1%}",
        ])  # fmt: skip
    return markdown(head, rows)


def draw(file: Path) -> None:
    """Peak memory by strategy on 8 GPUs, stacked by part."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = ["weights", "gathered weights", "gradients", "optimizer", "bf16 copies", "KV cache", "activations", "other"]
    colours = ["#4c72b0", "#8fa8d0", "#c44e52", "#dd8452", "#8172b3", "#55a868", "#937860", "#bbbbbb"]
    shown = [(shape_of(name), "full") for name in (*MODELS[:2], FLUX)]
    figure, axes = plt.subplots(1, len(shown), figsize=(11, 3.6), sharey=True)
    for axis, (shape, mode) in zip(axes, shown, strict=True):
        for place, strategy in enumerate(STRATEGIES):
            found = memory(shape, mode, strategy, 8)  # type: ignore[arg-type]
            for shift, phase in ((-0.2, found.generation), (0.2, found.training)):
                known = {name: phase.get(name, 0.0) / GB for name in names[:-1]}
                known["other"] = sum(phase.values()) / GB - sum(known.values())
                bottom = 0.0
                for (name, value), colour in zip(known.items(), colours, strict=True):
                    label = name if place == 0 and shift < 0 else None
                    axis.bar(place + shift, value, 0.36, bottom=bottom, color=colour, label=label)
                    bottom += value
        for gpu in (H100, H200):
            axis.axhline(gpu.usable / GB, color="black", linewidth=0.8, linestyle=":")
        axis.set_xticks(range(len(STRATEGIES)), STRATEGIES)
        axis.set_title(title(shape, "full"), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("GB on one of 8 GPUs\n(left generation, right training)")
    axes[0].set_ylim(0, 200)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=len(names), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(file, dpi=110)
    plt.close(figure)
