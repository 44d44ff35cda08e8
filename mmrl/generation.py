"""`mmrl generate`: images and videos of a model or a run in files, the best of N by any rewards, and one grid of all.

Two policies are compared with the same prompts and the same noise. How pictures become files and figures is
`pictures.py`; how they are made is `policies/diffusion.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from data_pipelines.media import Budget, probe
from mmrl.config import Config, ModelConfig, load_config
from mmrl.mappings import settings_from
from mmrl.pictures import FPS, Picture, encode, grid
from mmrl.plugins import ConfigError, Stage, check_settings
from mmrl.policies import policy_class
from mmrl.records import Rollouts, Sample
from mmrl.runs import layout
from mmrl.runs.checkpoints import model_of
from mmrl.runs.files import write_bytes
from mmrl.runs.summary import clean, mean
from mmrl.stages import Policy
from rewards.scoring import RewardFailure, Rewards, check_reads, check_targets

SETTING = re.compile(r"[a-z_]+=")
"""How an argument begins that is a setting and not a prompt; a space before it makes it a prompt."""
OURS = re.compile(r"\d\d+(-.*)?\.(png|mp4)|grid\.png")
"""The names of the files that `generate` writes."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to make of every prompt."""

    count: int = 1
    """Pictures kept of each."""
    best_of: int | None = None
    """Pictures made of each, of which the `count` best are kept; None makes as many as are kept."""
    rewards: tuple[str, ...] = ()
    """`name` or `name,key=value,...`, as in a recipe's list; a row's reward is their weighted sum."""
    settings: tuple[str, ...] = ()
    """`key=value` of the policy's sampling; they hold as given, whatever the temperature."""
    temperature: float = 0.0
    """Scales the noise that a run's recipe adds between the steps; 0 is the deterministic sampler."""
    images: tuple[Path, ...] = ()
    """Where a pipeline starts from an image: one for all prompts, or one for each."""
    seed: int = 0
    fps: float = FPS

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"--count {self.count}: at least 1.")
        if self.best_of is not None and self.best_of < self.count:
            raise ConfigError(f"--best-of {self.best_of} makes fewer than the {self.count} that --count keeps.")
        if self.best_of is not None and not self.rewards:
            raise ConfigError("--best-of needs a --reward to choose by, for example --reward clip_score.")


@dataclass(frozen=True)
class Source:
    """A model on disk, or a run: the model it began with, and its newest checkpoint."""

    name: str
    model: ModelConfig
    config: Config | None = None
    checkpoint: Path | None = None

    @classmethod
    def find(cls, target: str) -> Source:
        """ConfigError for a run without checkpoint, and for a model that makes no pictures."""
        file = Path(target) / layout.CONFIG
        if file.is_file():
            config: Config = load_config(file)
            source = cls(target, config.model, config, model_of(Path(target)))
        else:
            source = cls(target, ModelConfig(path=target))
        if source.kind.makes == "text":
            run = f"{target} trains {source.model.path}, which is no image or video model."
            other = f"{target} is no image or video model (no model_index.json in it) and no run (no config.yaml)."
            advice = (
                "`mmrl generate` is for these; `mmrl eval` completes the prompts of a dataset with a language model."
            )
            raise ConfigError(f"{run if source.config else other}\n  {advice}")
        return source

    @property
    def kind(self) -> type[Policy]:
        return policy_class(self.model.path)

    @property
    def from_image(self) -> bool:
        """Whether its pipeline starts from an image."""
        from mmrl.policies.families import FAMILIES
        from mmrl.policies.pipelines import pipeline_class

        name = pipeline_class(self.model.path)
        return name in FAMILIES and FAMILIES[name].from_image is not None

    def start(self) -> Policy:
        """The policy; of a run, as it was before the first step."""
        return self.kind.load(self.model, self.config.data.budget if self.config else Budget())

    def trained(self, policy: Policy | None = None) -> Policy:
        """The policy as it is now; `policy` is its start, if that is loaded already."""
        policy = policy or self.start()
        if self.checkpoint is not None:
            policy.restore(self.checkpoint)
        return policy

    def sampling(self, request: Request) -> Any:
        """How pictures are made: by the run's section `sampling`, without its noise, then the settings of the request.

        Completions of a prompt differ by the noise they begin with, also where training lets them share it.
        """
        configured = self.config.sampling if self.config else {}
        where = f"{self.name}/{layout.CONFIG}: sampling" if self.config else "sampling"
        total = self.config.steps if self.config else 1
        checked = check_settings(self.kind.sampling, configured, name="sampling", where=where)
        how: Any = Stage("sampling", self.kind.sampling, checked).at(total - 1, total)
        how = replace(how, same_noise=False).at_temperature(request.temperature)
        given = settings_from(request.settings)
        try:
            return replace(
                how, **check_settings(self.kind.sampling, given, name="sampling", where="mmrl generate: sampling")
            )
        except ConfigError as error:
            raise ConfigError(
                f"{error}\n  Read as settings, not as prompts: {', '.join(map(repr, request.settings))}. A prompt that "
                "begins like key=value gets a space in front of it."
            ) from None


class Kept(NamedTuple):
    """What one policy made of a prompt."""

    pictures: list[Picture]
    """The best first, if there are rewards."""
    rewards: list[float]
    """Of everything that was made; NaN = none."""
    scores: dict[str, list[float]]
    """The same for every reward, `pictures` first."""


@dataclass
class Generated:
    """What `generate` wrote."""

    files: list[Path] = field(default_factory=list)
    grid: Path = Path()
    table: Table | None = None
    """With rewards: their means over all that was made, and those of the best."""


def generate(
    target: str, prompts: Sequence[str], out: Path, request: Request, *, compare: str | None = None, console: Console
) -> Generated:
    """`mmrl generate`: write the pictures of every prompt, and a grid with the prompts as rows.

    A run stands beside the model it began with, or beside `compare`; both are sampled in the same way, by the settings
    of the run.
    """
    source = Source.find(target)
    other = Source.find(compare) if compare is not None else None
    if other is not None and other.kind.makes != source.kind.makes:
        raise ConfigError(f"{target} makes {source.kind.makes}s and {compare} {other.kind.makes}s: nothing to compare.")
    check_folder(out)
    samples = samples_of(prompts, request.images)
    if request.images and not source.from_image and not (other is not None and other.from_image):
        raise ConfigError(f"--image {request.images[0]}: {target} starts from no image. Leave the option out.")
    how = (other if other is not None and source.config is None else source).sampling(request)
    with scoring(request, samples, source.kind.makes) as rewards:
        make = partial(make_all, how=how, samples=samples, request=request, rewards=rewards, console=console)
        sides, policy = [], None
        if other is not None:
            sides.append(make(other.trained()))
        elif source.checkpoint is not None:
            policy = source.start()
            sides.append(make(policy))
        sides.append(make(source.trained(policy)))
    return write(sides, samples, out, request)


def check_folder(out: Path) -> None:
    """ConfigError for a folder that holds the pictures of an earlier call, which would be mixed with the new ones."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder.")
    earlier = sorted(file.name for file in out.glob("*") if OURS.fullmatch(file.name))
    if earlier:
        raise ConfigError(
            f"--out {out} holds pictures of an earlier call ({earlier[0]}{', ...' if len(earlier) > 1 else ''}). "
            "Name another folder, or remove this one."
        )


def samples_of(prompts: Sequence[str], images: Sequence[Path]) -> list[Sample]:
    """One sample per prompt, each prompt once. The prompt is the id, so its noise does not depend on its neighbours."""
    prompts = list(dict.fromkeys(prompt.strip() for prompt in prompts))
    if not prompts:
        raise ConfigError('mmrl generate needs a prompt, for example "a red circle on a white background".')
    if len(images) not in (0, 1, len(prompts)):
        raise ConfigError(f"{len(images)} images for {len(prompts)} prompts: give one for all, or one for each.")
    samples = []
    for index, prompt in enumerate(prompts):
        image = images[index if len(images) > 1 else 0] if images else None
        try:
            media = () if image is None else (probe(image, "image"),)
        except ValueError as error:
            raise ConfigError(f"--image: {error}") from None
        messages = ({"role": "user", "content": prompt},)
        samples.append(Sample(prompt, messages, media, where=f"prompt {index + 1}"))
    return samples


@contextmanager
def scoring(request: Request, samples: Sequence[Sample], makes: Literal["text", "image", "video"]) -> Iterator[Rewards]:
    """The rewards of the request, checked against what is made and what the samples have; without any, none."""
    rewards = Rewards.from_config([reward_spec(text) for text in request.rewards], where="--reward")
    try:
        check_reads(rewards, makes, where="--reward")
        check_targets(rewards, samples)
        rewards.load()
        yield rewards
    finally:
        rewards.close()


def reward_spec(text: str) -> dict[str, Any]:
    """`clip_score,weight=2` as a recipe's list of rewards holds it."""
    name, *settings = text.split(",")
    return {**settings_from(settings), "name": name}


def make_all(
    policy: Policy, *, how: Any, samples: Sequence[Sample], request: Request, rewards: Rewards, console: Console
) -> list[Kept]:
    """The pictures of one policy, a prompt at a time so that no more than one prompt's latents are held."""
    policy.check(how, training=False)
    for sample in samples:
        policy.encode(sample)
    policy.prepare(samples, how)
    kept = []
    for sample in track(samples, "generating", console=console, transient=True, disable=not console.is_terminal):
        rollouts = policy.generate([sample], [request.best_of or request.count], how, seed=request.seed, step=0)
        order, totals = list(range(len(rollouts))), [math.nan] * len(rollouts)
        if rewards.entries:
            score(rewards, rollouts)
            assert rollouts.reward is not None
            totals = rollouts.reward.tolist()
            order.sort(key=lambda row: -math.inf if math.isnan(totals[row]) else totals[row], reverse=True)
        assert rollouts.images is not None
        kept.append(
            Kept(
                pictures=[rollouts.images[row] for row in order[: request.count]],
                rewards=[totals[row] for row in order],
                scores={name: [values.tolist()[row] for row in order] for name, values in rollouts.scores.items()},
            )
        )
    return kept


def score(rewards: Rewards, rollouts: Rollouts) -> None:
    """Here a reward that fails is a mistake of the command, say a setting left out, and not of a run."""
    try:
        rewards.score(rollouts, step=0, total=1)
    except RewardFailure as error:
        raise ConfigError(str(error)) from None


def write(sides: Sequence[Sequence[Kept]], samples: Sequence[Sample], out: Path, request: Request) -> Generated:
    """Files and grid of one or two policies' pictures, which stand side by side by number."""
    names = ["before", "after"] if len(sides) == 2 else [""]
    result, rows = Generated(), []
    for index, sample in enumerate(samples):
        row: list[Picture] = []
        for number in range(request.count):
            for side, name in zip(sides, names, strict=True):
                picture = side[index].pictures[number]
                content, suffix = encode(picture, fps=request.fps)
                nth = str(number + 1) if request.count > 1 else ""
                parts = (f"{index + 1:02d}", slug(sample.prompt), nth, name)
                result.files.append(out / f"{'-'.join(filter(None, parts))}{suffix}")
                write_bytes(result.files[-1], content)
                row.append(picture)
        rows.append(row)
    headings = names * request.count if len(sides) == 2 else []
    figure = grid(rows, [sample.prompt for sample in samples], headings=headings)
    result.grid = out / "grid.png"
    write_bytes(result.grid, encode(figure)[0])
    if request.rewards:
        result.table = table(sides, names, samples, request)
    return result


def slug(prompt: str, *, longest: int = 40) -> str:
    """The beginning of a prompt as part of a file name: letters and digits of any script, joined by hyphens."""
    words = re.findall(r"\w+", prompt.lower())
    name = ""
    for word in words:
        if name and len(name) + 1 + len(word) > longest:
            break
        name = f"{name}-{word}" if name else word[:longest]
    return name


def table(sides: Sequence[Sequence[Kept]], names: Sequence[str], samples: Sequence[Sample], request: Request) -> Table:
    """Mean over what was made and score of the best, per prompt; the last lines are means over the prompts."""
    shown = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), title_justify="left")
    shown.title = Text(f"{request.best_of or request.count} of each prompt: mean → best", style="bold")
    scores = list(sides[0][0].scores)
    columns = ["reward", *(scores if len(scores) > 1 else [])]
    shown.add_column("prompt", no_wrap=True, overflow="ellipsis")
    shown.add_column("")
    for column in columns:
        shown.add_column(Text(clean(column)), justify="right", no_wrap=True)
    means: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in names}
    for index, sample in enumerate(samples):
        for side, name in zip(sides, names, strict=True):
            kept = side[index]
            values = [kept.rewards, *(kept.scores[column] for column in columns[1:])]
            means[name].append([(mean(column), column[0]) for column in values])
            shown.add_row(*map(Text, (clean(sample.prompt), name)), *map(arrow, means[name][-1]))
    for name, lines in means.items():
        total = [(mean([m for m, _ in column]), mean([b for _, b in column])) for column in zip(*lines, strict=True)]
        if len(samples) > 1:
            shown.add_row(Text("all prompts"), Text(name), *map(arrow, total), style="bold")
    return shown


def arrow(pair: tuple[float, float]) -> Text:
    return Text(" → ".join("-" if math.isnan(value) else f"{value:.3f}" for value in pair))
