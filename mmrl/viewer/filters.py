"""What is looked for, as the page's address says it, and as SQL over an index.

Some conditions are a row's own (what its completion says, its reward), some a group's (its task, no spread). A group is
found if it meets its conditions and one of its rows all of theirs; a row, if it does and its group does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmrl.plugins import ConfigError, nearest


class Filters(BaseModel):
    """Every part may be left out; `score` and the other lists are repeated."""

    model_config = ConfigDict(extra="forbid")

    step: int | None = None
    from_step: int | None = None
    to_step: int | None = Field(None, description="Itself included.")
    q: str = Field(
        "", max_length=2000, description="In the completion, the prompt or the sample's id; case is ignored."
    )
    reward_min: float | None = None
    reward_max: float | None = None
    score: list[str] = Field([], description="NAME:MIN:MAX; either end may be empty.")
    zero_spread: bool | None = Field(None, description="All rewards of the group are equal.")
    truncated: bool | None = None
    failed: bool | None = Field(None, description="A reward failed.")
    unparsed: bool | None = Field(None, description="A reward found nothing to read.")
    starred: bool | None = None
    origin: str | None = None
    task: str | None = None
    modality: str | None = None
    sample: str | None = None


class GroupPage(Filters):
    """A page of groups."""

    sort: Literal["step", "reward", "spread", "conflict", "length", "failed", "truncated"] = "step"
    descending: bool = False
    offset: int = Field(0, ge=0)
    limit: int = Field(50, ge=0, le=500)


class RowPage(Filters):
    """A page of completions."""

    sort: str = Field("step", description="step, reward, advantage, length, conflict, failed, truncated or score:NAME.")
    descending: bool = False
    offset: int = Field(0, ge=0)
    limit: int = Field(50, ge=0, le=500)


def from_query(query: str) -> Filters:
    """The filters in the address of a page; how it is sorted and cut is left out. ConfigError for others."""
    given: dict[str, Any] = {}
    for name, values in parse_qs(query.lstrip("?"), keep_blank_values=False).items():
        if name not in ("sort", "descending", "offset", "limit"):
            given[name] = values if name == "score" else values[-1]
    try:
        return Filters(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"filters: {name}: {first['msg']}.\n  {nearest(name, Filters.model_fields)}") from None


@dataclass
class Where:
    """A condition, a conjunction that grows; `values` are for its question marks, in order."""

    terms: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, term: str, *values: Any) -> None:
        self.terms.append(term)
        self.values.extend(values)

    def __bool__(self) -> bool:
        return bool(self.terms)

    @property
    def sql(self) -> str:
        return " AND ".join(self.terms) or "true"


Stars = Sequence[tuple[int, int, int]]
"""(step, rank, row) of what is starred."""


def of_groups(asked: Filters) -> Where:
    """Conditions on `groups` joined with `prompts`."""
    where = Where()
    _steps(where, asked)
    if asked.zero_spread is not None:
        where.add("coalesce(n > 1 AND low = high, false) = ?", asked.zero_spread)
    for name in ("task", "modality"):
        if (value := getattr(asked, name)) is not None:
            where.add(f"{name} = ?", value)
    if asked.sample is not None:
        where.add("sample_id = ?", asked.sample)
    return where


def of_rows(asked: Filters, names: Sequence[str], stars: Stars) -> Where:
    """Conditions on `completions` alone; `names` are the scores of s0, s1, ... `_steps` are among them, for speed."""
    where = Where()
    if asked.q:
        where.add(
            "(contains(lower(completion), lower(?)) OR prompt IN "
            "(SELECT prompt FROM prompts "
            "WHERE contains(lower(said), lower(?)) OR contains(lower(sample_id), lower(?))))",
            *[asked.q] * 3,
        )
    if asked.reward_min is not None:
        where.add("reward >= ?", asked.reward_min)
    if asked.reward_max is not None:
        where.add("reward <= ?", asked.reward_max)
    for text in asked.score:
        column, low, high = _score(text, names)
        if low is not None:
            where.add(f"{column} >= ?", low)
        if high is not None:
            where.add(f"{column} <= ?", high)
    for name in ("truncated", "failed", "unparsed"):
        if (value := getattr(asked, name)) is not None:
            where.add(f"coalesce({name}, false) = ?", value)
    if asked.origin is not None:
        where.add("origin = ?", asked.origin)
    if asked.starred is not None:
        inside = "IN" if asked.starred else "NOT IN"
        where.add(
            f"(step, rank, nr) {inside} (SELECT (unnest(?::INTEGER[]), unnest(?::INTEGER[]), unnest(?::INTEGER[])))",
            *([star[part] for star in stars] for part in range(3)),
        )
    if where:
        _steps(where, asked)
    return where


def score_column(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ConfigError(f"there is no score `{name}` in this run. {nearest(name, names)}")
    return f"s{list(names).index(name)}"


def _score(text: str, names: Sequence[str]) -> tuple[str, float | None, float | None]:
    name, *ends = text.rsplit(":", 2)
    try:
        low, high = (float(end) if end else None for end in ends)
    except ValueError:
        raise ConfigError(f"score = {text!r}: write NAME:MIN:MAX, for example tiou:0.5: for 0.5 or more.") from None
    return score_column(name, names), low, high


def _steps(where: Where, asked: Filters) -> None:
    if asked.step is not None:
        where.add("step = ?", asked.step)
    if asked.from_step is not None:
        where.add("step >= ?", asked.from_step)
    if asked.to_step is not None:
        where.add("step <= ?", asked.to_step)
