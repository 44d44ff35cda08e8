"""What the API answers, typed: the page's half of the contract, and the OpenAPI document.

Pixels are those of the stored image, times are seconds. None stands for what was not recorded or is not finite.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

State = Literal["running", "finished", "failed", "stopped"]
Number = float | None


class RunSummary(BaseModel):
    """One run as a list shows it."""

    id: str
    name: str
    kind: Literal["run", "dataset"]
    method: str
    model: str
    data: str
    step: int | None
    """The last recorded."""
    steps: int | None
    """Planned."""
    state: State
    reward: Number
    spark: list[Number]
    """Mean rewards, at most 60, evenly drawn from all steps."""
    updated: float | None
    """Unix time in seconds of the last sign of life."""
    problems: list[str]


class RunList(BaseModel):
    folder: str
    runs: list[RunSummary]


class Weighted(BaseModel):
    name: str
    weight: float | None
    """None = follows a schedule."""


class Columns(BaseModel):
    """What there is to filter and sort by."""

    scores: list[str]
    signals: list[str]
    """Names of token values."""
    origins: list[str]
    tasks: list[str]
    modalities: list[str]


class Indexing(BaseModel):
    """Files read and to be read; a query sees those read."""

    done: int
    total: int


class RunDetail(RunSummary):
    config_text: str
    config: dict[str, Any]
    rewards: list[Weighted]
    events: list[dict[str, Any]]
    step_list: list[int]
    """Steps with rollouts, ascending; `steps` is the number planned."""
    columns: Columns
    indexing: Indexing


class Metrics(BaseModel):
    steps: list[int]
    series: dict[str, list[Number]]


class Thumb(BaseModel):
    kind: Literal["image", "video"]
    file: str
    url: str


class RewardSpread(BaseModel):
    mean: Number
    min: Number
    max: Number
    std: Number
    """Sample standard deviation."""


class GroupSummary(BaseModel):
    step: int
    rank: int
    group: int
    sample_id: str
    prompt: str
    modality: str
    task: str | None
    n: int
    reward: RewardSpread
    length: int | None
    """The longest completion, in actions."""
    conflict: Number
    """How far the scores of one of its rows disagree: the largest gap, each score's range in the run being 0 to 1."""
    zero_spread: bool
    truncated: int
    failed: int
    """Rows of which a reward failed."""
    unparsed: int
    """Rows in which a reward found nothing to read."""
    starred: int
    thumb: Thumb | None


class GroupList(BaseModel):
    total: int
    groups: list[GroupSummary]
    indexing: Indexing


class RowSummary(BaseModel):
    step: int
    rank: int
    group: int
    row: int
    sample_id: str
    completion: str
    """Cut, around what was searched for."""
    made_url: str | None
    reward: Number
    advantage: Number
    tokens: int
    truncated: bool | None
    failed: bool
    unparsed: bool
    origin: str
    scores: dict[str, Number]
    starred: bool


class RowList(BaseModel):
    total: int
    rows: list[RowSummary]
    indexing: Indexing


class MediaView(BaseModel):
    kind: Literal["image", "video"]
    file: str | None
    url: str | None
    width: int
    height: int
    seen_width: int | None
    seen_height: int | None
    times: list[float]
    frame_urls: list[str]
    """One per time; of a video."""
    missing: bool


class Shapes(BaseModel):
    """What a completion predicts, or what is right."""

    boxes: list[list[float]] = []
    points: list[list[float]] = []
    spans: list[list[float]] = []
    answer: str | None = None
    tolerance: float | None = None
    """Of the gold alone: the relative error that a number may have."""


class GroupRow(BaseModel):
    row: int
    completion: str
    made_url: str | None
    made_kind: Literal["image", "video"] | None
    tokens: int
    truncated: bool | None
    origin: str
    reward: Number
    advantage: Number
    scores: dict[str, Number]
    notes: dict[str, Any]
    predictions: Shapes
    has_tokens: bool
    failed: bool
    unparsed: bool
    starred: bool
    note: str


class Place(BaseModel):
    """Where a group is."""

    step: int
    rank: int
    group: int


class GroupView(BaseModel):
    step: int
    rank: int
    group: int
    sample_id: str
    messages: list[dict[str, Any]]
    """Paths of media are left out: the parts say `{"type": "image", "media": 0}`, an index of `media`."""
    media: list[MediaView]
    target: Any
    meta: Any
    coordinates: str
    rows: list[GroupRow]
    """Sorted by reward, the best first; those without come last."""
    gold: Shapes
    weights: list[Weighted]
    previous: Place | None
    """The group before this one in its step, over all ranks."""
    next: Place | None
    problems: list[str]


class Tokens(BaseModel):
    pieces: list[str]
    values: dict[str, list[Number]]
    kind: Literal["tokens", "steps"]
    """Denoising steps, where a picture was made."""


class HistoryPoint(BaseModel):
    step: int
    rank: int
    group: int
    n: int
    mean: Number
    min: Number
    max: Number


class History(BaseModel):
    sample_id: str
    points: list[HistoryPoint]


Count = Annotated[int, Field(ge=0, lt=2**31)]


class Annotation(BaseModel):
    step: Count
    rank: Count
    row: Count
    star: bool = False
    note: str = ""


class Annotations(BaseModel):
    annotations: list[Annotation]


class Chosen(BaseModel):
    step: int
    rank: int
    row: int


class ExportRequest(BaseModel):
    run: str
    form: Literal["jsonl", "static"]
    selection: list[Chosen] | None = None
    """These rows; or those that `filters` finds."""
    filters: str | None = None
    """A query string as `/rows` takes it, for example `q=red&reward_min=0.5`."""


class Live(BaseModel):
    """What changes while a run grows. `version` differs when anything does."""

    version: str
    state: State | None
    step: int | None
    rollout_steps: int
    indexing: Indexing


class Problem(BaseModel):
    """What every refusal says."""

    detail: str
    """A sentence: what is wrong and what to do."""
