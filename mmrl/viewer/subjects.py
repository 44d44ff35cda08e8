"""What can be looked at: a run or a data set, as the routes ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from mmrl.plugins import ConfigError
from mmrl.viewer.answers import Live, Metrics, Place, RunDetail, RunSummary, Tokens, Weighted
from mmrl.viewer.store import Index, Store


class Gone(ConfigError):
    """It is not there, or no more."""


class Subject(Protocol):
    """A run (`runs.py`) or a data set (`datasets.py`), whose rows are samples without completions."""

    name: str
    path: Path

    @property
    def kind(self) -> Literal["run", "dataset"]: ...

    def check(self) -> None:
        """`Gone` if it is."""
        ...

    def index(self, *, wait: float | None = None, steps: Sequence[int] = ()) -> Index:
        """Its index, up to date as far as that took little time; `steps` are read before others."""
        ...

    def summary(self) -> RunSummary: ...

    def detail(self) -> RunDetail: ...

    def metrics(self, after: int | None) -> Metrics: ...

    def live(self) -> Live: ...

    def weights(self) -> list[Weighted]: ...

    def group(self, step: int, rank: int, group: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What was asked (`sample_id`, `messages`, `media`, `target`, `meta`, `coordinates`), and the rows, both as
        `table.SCHEMA` has them."""
        ...

    def neighbours(self, step: int, rank: int, group: int) -> tuple[Place | None, Place | None]:
        """The groups before and after one in its step."""
        ...

    def tokens(self, step: int, rank: int, row: int) -> Tokens: ...

    def media_path(self, name: str) -> Path | None:
        """The file of a medium by its name, None if it is not there."""
        ...


class Library(Protocol):
    """All that is shown."""

    name: str
    store: Store

    def __getitem__(self, name: str) -> Subject:
        """By name, never by path. `Gone` if there is none."""
        ...

    def summaries(self) -> list[RunSummary]: ...
