"""From a config file to a finished run or evaluation: load, check everything that can be checked, then start.

The order matters to the person waiting: cheap checks first, and nothing is written before all of them pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from data_pipelines.dataset import read_samples
from data_pipelines.media import BadMedia, configure, readers_used
from mmrl import distributed
from mmrl.batches import Batches, check_processes, micro_batch_line
from mmrl.config import Config, DataConfig, EvaluateConfig, dump, load_config
from mmrl.console import StepPrinter
from mmrl.evaluation import Evaluation, evaluate
from mmrl.evaluation.metrics import choose
from mmrl.faults.guard import guarded
from mmrl.loading import is_whole, load_policy
from mmrl.mappings import settings_from
from mmrl.plugins import ConfigError, Stage, build
from mmrl.policies import policy_class
from mmrl.policies.shared import SharedPolicy
from mmrl.preview import preview
from mmrl.recipe import Recipe, make_recipe
from mmrl.records import Sample
from mmrl.registry import VOTES
from mmrl.runs import layout
from mmrl.runs.loggers import make_loggers
from mmrl.runs.run import Run
from mmrl.runs.summary import summary
from mmrl.serving.settings import is_served, warning
from mmrl.stages import Policy
from mmrl.trainer import train
from rewards.scoring import check_targets

SHOWN_PROBLEMS = 5


def run_training(
    config_file: str, overrides: Sequence[str], *, resume: bool, console: Console, dry_run: bool = False
) -> Path:
    """`mmrl train`. Returns the run directory, which a dry run does not make: it ends after all checks."""
    distributed.start()
    console.quiet = console.quiet or distributed.rank() > 0
    config: Config = load_config(config_file, overrides)
    check_processes(config, where=config_file, ranks=distributed.size())
    loggers = make_loggers(config.logging, where=config_file)
    folder = Path(config.runs) / config.name
    kind = policy_class(config.model.path)
    recipe = make_recipe(config, kind, where=config_file)
    configure(config.data.decode)
    samples = read_for(kind, config.data.train, config.data, console)
    held_out = (
        read_for(kind, config.data.test, config.data, console) if config.evaluate.every and config.data.test else []
    )
    recipe.check_signals(kind, where=config_file)
    check_gold(recipe, [*samples, *held_out], where=config_file)
    recipe.rewards.load()
    policy: Any = kind.load(config.model, config.data.budget)
    if is_served(config):
        policy = with_servers(policy, config, folder, console)
    how = check_sampling(policy, recipe, where=config_file)
    if config.data.check == "full":
        samples = check_prompts(policy, samples, config.data, console)
        held_out = check_prompts(policy, held_out, config.data, console)
    policy.prepare([*samples, *held_out], how)
    if distributed.size() > 1:
        policy = SharedPolicy(policy)
    describe_run(config, policy, recipe, samples, folder, console)
    if dry_run:
        recipe.rewards.close()
        console.print(preview(config, policy, recipe, samples))
        return folder
    run = Run.open(folder, dump(config), StepPrinter(console, steps=config.steps), resume=resume)
    run.log_to(loggers, asdict(config))
    try:
        with guarded(run):
            if resume and distributed.rank() == 0 and config.data.check == "full":
                run.writer.restore_media(one for sample in samples for one in sample.media)
            train(run, policy, recipe, {sample.id: sample for sample in samples}, held_out)
    finally:
        recipe.rewards.close()
        if run.loggers is not None:
            run.loggers.close()
        if is_served(config):
            policy.close()
    if distributed.rank() == 0:
        run.writer.event("finished", steps=config.steps)
    console.print(summary(folder))
    return folder


def run_evaluation(
    target: str,
    data: str,
    *,
    config_file: str | None,
    settings: EvaluateConfig,
    console: Console,
    metrics: Sequence[str] = (),
    vote: str | None = None,
) -> Evaluation:
    """`mmrl eval`: a run (its config, its newest model) or a model with the config whose rewards and budget to use.
    Several ranks share the prompts, and each has the whole result.

    `metrics` and `vote` are `NAME[,setting=value...]`; without metrics those of the rows' tasks are measured.
    """
    distributed.start()
    console.quiet = console.quiet or distributed.rank() > 0
    voting = None if vote is None else make_vote(vote, settings)
    folder = Path(target)
    where = config_file or str(folder / layout.CONFIG)
    if config_file is None and not (folder / layout.CONFIG).is_file():
        raise ConfigError(
            f"{target} is not a run directory.\n"
            "  For a model, name the recipe to evaluate it by, for example --config configs/demo/gui.yaml"
        )
    config: Config = load_config(where)
    kind = policy_class(config.model.path)
    recipe = make_recipe(config, kind, where=where)
    configure(config.data.decode)
    samples = read_for(kind, data, config.data, console)
    check_targets(recipe.rewards, samples)
    measured = choose(metrics, samples)
    if voting is not None and not measured:
        raise ConfigError(f"--vote {vote}: no metric fits the rows of {data}; name one with --metrics.")
    recipe.rewards.load()
    policy: Any = load_trained(target, config)
    how: Any = recipe.sampling.at(0, 1)
    policy.check(how.at_temperature(settings.temperature), training=False)
    samples = check_prompts(policy, samples, config.data, console)
    policy.prepare(samples, how)
    if distributed.size() > 1:
        policy = SharedPolicy(policy)
    try:
        return evaluate(
            policy, recipe.rewards, samples, settings, recipe.sampling, seed=config.seed, metrics=measured, vote=voting
        )
    finally:
        recipe.rewards.close()


def with_servers(policy: Policy, config: Config, folder: Path, console: Console) -> Any:
    """The policy with completions from the servers of the config."""
    from mmrl.serving.policy import serve

    served, silent = serve(policy, config, folder)
    assert config.server is not None
    urls = [url for url in config.server.urls if not any(url in word for word in silent)]
    console.print(f"completions come from {', '.join(urls)} ({config.server.kind})", highlight=False, soft_wrap=True)
    for word in silent:
        console.print(f"[yellow]warning:[/] no answer yet from {word}", highlight=False, soft_wrap=True)
    if word := warning(config):
        console.print(f"[yellow]warning:[/] {word}", highlight=False, soft_wrap=True)
    return served


def make_vote(text: str, settings: EvaluateConfig) -> Stage:
    """The vote of `NAME[,setting=value...]`. ConfigError where there is nothing to decide between."""
    if settings.samples < 2 or settings.temperature == 0:
        raise ConfigError(
            f"--vote {text} decides between completions that differ: it needs --samples 2 or more "
            f"and --temperature above 0 (found {settings.samples} and {settings.temperature:g}).\n"
            "  GUI-RC: --samples 64 --temperature 0.5."
        )
    name, *given = text.split(",")
    return build({**settings_from(given), "name": name}, VOTES, kind="vote", where="--vote")


def load_trained(path: str, config: Config) -> Policy:
    """The model or run at `path`; the folder of weights that are no whole model (LoRA, a denoiser), as it is in a
    checkpoint, goes onto the model of the config."""
    folder = Path(path)
    if not folder.is_dir() or is_whole(folder) or (folder / layout.CONFIG).is_file():
        return load_policy(path, config.model, config.data.budget)
    policy = policy_class(config.model.path).load(config.model, config.data.budget)
    policy.restore(folder)
    return policy


def read_for(kind: type[Policy], path: str | Sequence[str], data: DataConfig, console: Console) -> list[Sample]:
    """A dataset for this kind of policy. What makes images or videos needs no target but those its rewards ask for,
    and what learns without labels needs none."""
    return read_data(path, data, console, prompts_only=kind.makes != "text" or data.labels == "withheld")


def read_data(
    paths: str | Sequence[str],
    data: DataConfig,
    console: Console,
    *,
    need_target: bool = True,
    prompts_only: bool = False,
) -> list[Sample]:
    """The samples of a file or several, under the settings of `data`; what `bad_media: skip` leaves out is named and
    counted."""
    left_out: list[str] = []
    skipped = left_out.append if data.bad_media == "skip" else None
    first: dict[str, Sample] = {}
    for path in [paths] if isinstance(paths, str) else paths:
        for sample in read_samples(
            path, need_target=need_target, prompts_only=prompts_only, roots=data.roots, skipped=skipped
        ):
            if sample.id in first:
                raise ConfigError(
                    f"{sample.where}: the id {sample.id} is already that of {first[sample.id].where}; the ids of all "
                    "files that are read as one must differ."
                )
            first[sample.id] = sample
    say_skipped(left_out, len(first) + len(left_out), console)
    return list(first.values())


def say_skipped(left_out: Sequence[str], rows: int, console: Console) -> None:
    if left_out:
        more = f"\n... and {len(left_out) - SHOWN_PROBLEMS} more." if len(left_out) > SHOWN_PROBLEMS else ""
        said = "\n".join(left_out[:SHOWN_PROBLEMS]) + more
        console.print(f"{said}\n{len(left_out)} of {rows:,} rows are skipped for their media", markup=False)


def check_gold(recipe: Recipe, samples: Sequence[Sample], *, where: str) -> None:
    """Refuse samples that lack what a reward needs; where labels are withheld, rewards that need one."""
    withheld = recipe.config.data.labels == "withheld"
    for entry in recipe.rewards.entries:
        if withheld and entry.info.needs:
            raise ConfigError(
                f"{where}: reward {entry.name} needs target.{entry.info.needs[0]}, and data.labels is `withheld`: no "
                "reward sees a target.\n  Name a reward without labels (vote_frequency, majority_vote, "
                "region_consistency), or set data.labels=needed."
            )
    check_targets(recipe.rewards, samples)


def check_sampling(policy: Policy, recipe: Recipe, *, where: str) -> Any:
    """Refuse, with the file and the key, settings that make or train nothing; at both ends of what a schedule moves.
    Returns those of the first step."""
    total = recipe.config.steps
    first: Any = None
    for step in (total - 1, 0):
        try:
            first = recipe.sampling.at(step, total)
            policy.check(first, training=True)
            recipe.check_lacks(policy.lacks(first))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    return first


def check_prompts(policy: Policy, samples: Sequence[Sample], data: DataConfig, console: Console) -> list[Sample]:
    """Encode every sample once, so that a broken file or an over-long prompt is found by name before training.

    Returns the samples to use: without those whose media cannot be decoded, if `data.bad_media` is `skip`.
    """

    def problem(sample: Sample) -> Exception | None:
        try:
            policy.encode(sample)
        except ConfigError as error:
            return error
        except ValueError as error:
            kind = BadMedia if isinstance(error, BadMedia) else ValueError
            return kind(f"{sample.where}: {error}")
        return None

    mine = samples[distributed.rank() :: distributed.size()]
    with ThreadPoolExecutor() as pool:
        found = track(pool.map(problem, mine), "checking data", total=len(mine), console=console, transient=True)
        errors = list(found)
    everywhere: list[Exception | None] = [None] * len(samples)
    for rank, part in enumerate(distributed.gather(errors)):
        everywhere[rank :: distributed.size()] = part
    checked = list(zip(samples, everywhere, strict=True))
    skips = [str(error) for _, error in checked if isinstance(error, BadMedia) and data.bad_media == "skip"]
    stops = [str(error) for _, error in checked if error is not None and str(error) not in skips]
    if stops or len(skips) == len(samples) > 0:
        told = stops or skips
        more = f"\n... and {len(told) - SHOWN_PROBLEMS} more rows." if len(told) > SHOWN_PROBLEMS else ""
        raise ConfigError("\n".join(told[:SHOWN_PROBLEMS]) + more)
    say_skipped(skips, len(samples), console)
    return [sample for sample, error in checked if error is None]


def describe_run(
    config: Config, policy: Policy, recipe: Recipe, samples: Sequence[Sample], folder: Path, console: Console
) -> None:
    """Everything that follows from the settings, in one line each."""
    trained = sum(parameter.numel() for _, parameter in policy.trainable())
    batches = Batches.of(config, ranks=distributed.size())
    epochs = config.steps * config.prompts_per_step / len(samples)
    lines = [
        f"{config.model.path}: {trained / 1e6:,.2f} M parameters train on {policy.device}",
        f"{config.steps} steps of {config.prompts_per_step} prompts, {epochs:.2f} epochs of {len(samples):,} samples",
        *batches.lines(strategy=config.distribution.strategy),
        f"run: {folder}",
    ]
    if policy.makes == "text":
        how: Any = recipe.sampling.at(0, config.steps)
        prompt, completion = config.data.budget.max_tokens, how.max_new_tokens
        group = prompt + config.group_size * completion
        lines.insert(
            -1, f"micro-batches: {micro_batch_line(config.micro_batch_tokens, row=prompt + completion, group=group)}"
        )
    if config.server is not None and not is_served(config):
        lines.append(
            "the section `server` is not used: completions are made in process (rollout.engine=server uses it)"
        )
    if used := readers_used():
        lines.append("videos are read with " + ", ".join(f"{name} ({count})" for name, count in used.items()))
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
