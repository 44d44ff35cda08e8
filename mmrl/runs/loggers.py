"""Metrics on other screens: TensorBoard, Weights & Biases, trackio, or one of yours; metrics.jsonl is always there.

    logging: [tensorboard, {name: wandb, project: clicks}]

Numbers of steps and evaluations go out, and the config, as `config.yaml` holds it; no completions, media or prompts.
Rank 0 alone logs. A logger continues where a resumed run does: its identity is a file of the run directory. One that
fails while the run goes on is left behind with a warning; training never stops for it.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from mmrl.plugins import ConfigError, Stage, build
from mmrl.registry import LOGGERS
from mmrl.runs.files import write_bytes

IDENTITIES = "loggers.json"
"""In the run directory: logger -> the id under which its service knows the run."""


class Logger(Protocol):
    """Made by `Logger(run, config, first_step, **settings)`, its keyword-only parameters; in the run's process."""

    package: ClassVar[str]
    """What it imports; refused before the start where that is missing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Finite numbers of a step; evaluations come in a second call for the same step."""
        ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run directory: `tensorboard --logdir runs`. What a resumed run makes again is replaced."""

    package = "tensorboard"

    def __init__(self, run: Path, config: Mapping[str, Any], first_step: int, *, folder: str = "tensorboard") -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(run / folder), purge_step=first_step or None)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandB:
    """Weights & Biases: one run there for the run directory. A step it knows already it keeps as it was. `offline`
    writes files in the run directory, for `wandb sync`."""

    package = "wandb"

    def __init__(
        self,
        run: Path,
        config: Mapping[str, Any],
        first_step: int,
        *,
        project: str = "mmrl",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        mode: Literal["online", "offline"] = "online",
    ) -> None:
        import wandb

        self.run: Any = wandb.init(
            project=project, entity=entity, group=group, tags=list(tags), mode=mode, name=run.name, dir=str(run),
            config=dict(config), id=identity(run, self.package), resume="allow",
            settings=wandb.Settings(  # nothing of the machine or the code
                console="off", disable_code=True, disable_git=True, quiet=True, x_disable_meta=True,
                x_disable_stats=True, x_save_requirements=False,
            ),
        )  # fmt: skip

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        self.run.finish()


class Trackio:
    """trackio: a local dashboard (`trackio show`); with `space`, one on the Hugging Face hub."""

    package = "trackio"

    def __init__(
        self,
        run: Path,
        config: Mapping[str, Any],
        first_step: int,
        *,
        project: str = "mmrl",
        space: str | None = None,
        private: bool = True,
    ) -> None:
        import trackio

        name = f"{run.name}-{identity(run, self.package)}"  # its runs are told apart by name
        self.run: Any = trackio.init(
            project=project, name=name, space_id=space, private=private, config=dict(config), resume="allow",
            auto_log_gpu=False, auto_log_cpu=False, embed=False,
        )  # fmt: skip

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        self.run.finish()


class Loggers:
    """All loggers of a run. Nothing that they do raises."""

    def __init__(
        self,
        stages: Sequence[Stage],
        run: Path,
        config: Mapping[str, Any],
        first_step: int,
        warn: Callable[[str], None],
    ) -> None:
        self.warn = warn
        self.loggers: dict[str, Any] = {}
        for stage in stages:
            self._try(stage.name, lambda stage=stage: self._begin(stage, run, config, first_step))  # type: ignore[misc]

    def _begin(self, stage: Stage, run: Path, config: Mapping[str, Any], first_step: int) -> None:
        self.loggers[stage.name] = stage.plugin(run, config, first_step, **stage.settings)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        for name, logger in list(self.loggers.items()):
            self._try(name, lambda logger=logger: logger.log(step, finite))  # type: ignore[misc]

    def close(self) -> None:
        for name, logger in list(self.loggers.items()):
            self._try(name, logger.close)
        self.loggers.clear()

    def _try(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.loggers.pop(name, None)
            self.warn(f"the logger {name} failed and gets no more metrics: {type(error).__name__}: {error}")


def make_loggers(specs: Sequence[Mapping[str, Any]], *, where: str) -> list[Stage]:
    """The loggers of a config, with their settings; refused here, before anything is loaded, if one could not start."""
    stages = []
    for index, spec in enumerate(specs):
        place = f"{where}: logging.{index}"
        stage = build(spec, LOGGERS, kind="logger", where=place)
        package = getattr(stage.plugin, "package", None)
        if package and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"{place}: `{stage.name}` needs the package {package}, which is not installed.\n"
                f"  pip install {package}, or leave it out of `logging`: metrics.jsonl has the same numbers."
            )
        if stage.name == "wandb":
            check_wandb(stage, place)
        stages.append(stage)
    if len({stage.name for stage in stages}) < len(stages):
        raise ConfigError(f"{where}: logging names a logger twice: {', '.join(stage.name for stage in stages)}.")
    return stages


def check_wandb(stage: Stage, place: str) -> None:
    """Without a key `wandb.init` would ask for one, of nobody."""
    if stage.settings.get("mode") == "offline" or os.environ.get("WANDB_MODE", "online") != "online":
        return
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise ConfigError(
            f"{place}: no key for Weights & Biases.\n  `wandb login`, WANDB_API_KEY=..., or mode: offline."
        )


def identity(run: Path, logger: str) -> str:
    """The id of a run directory for one logger: drawn once, then read."""
    file = run / IDENTITIES
    known = json.loads(file.read_text()) if file.is_file() else {}
    if logger not in known:
        known[logger] = uuid.uuid4().hex[:12]
        write_bytes(file, json.dumps(known).encode())
    return str(known[logger])
