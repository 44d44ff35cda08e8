"""One group in full, and one row's tokens: read from its Parquet file, not from the index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mmrl.plugins import ConfigError
from mmrl.runs import layout
from mmrl.viewer.answers import Annotation, GroupRow, GroupView, Place, Tokens
from mmrl.viewer.ingest import files, first_line, made_kind
from mmrl.viewer.lines import finite
from mmrl.viewer.media import view
from mmrl.viewer.predictions import gold, predicted
from mmrl.viewer.prompts import without_paths
from mmrl.viewer.queries import media_url
from mmrl.viewer.subjects import Gone, Subject

Marks = Mapping[tuple[int, int, int], Annotation]


def group_rows(run: Path, step: int, rank: int, group: int) -> list[dict[str, Any]]:
    """The rows of a group as they are stored. `Gone` says why there are none."""
    from mmrl.runs.reader import read_group  # pyarrow takes a while to import: the first page does not need it

    rows: list[dict[str, Any]] = reading(lambda: read_group(_own(run, step, rank), step, rank, group), step, rank)
    if not rows:
        raise Gone(f"Step {step}, rank {rank} has no group {group}.")
    return rows


def some_rows(run: Path, step: int, rank: int, numbers: Collection[int]) -> list[dict[str, Any]]:
    """Single rows of a step, likewise; those that are gone are left out."""
    from mmrl.runs.reader import read_rows

    found: list[dict[str, Any]] = reading(lambda: read_rows(_own(run, step, rank), step, rank, numbers), step, rank)
    return found


def neighbours(run: Path, step: int, rank: int, group: int) -> tuple[Place | None, Place | None]:
    """The groups before and after one in its step, by the files that can be read."""
    from mmrl.runs.reader import group_numbers

    places: list[Place] = []
    for file in files(run, step=step):
        with suppress(Gone):
            numbers = reading(partial(group_numbers, run, step, file.rank), step, file.rank)
            places += [Place(step=step, rank=file.rank, group=number) for number in numbers]
    at = next((number for number, place in enumerate(places) if (place.rank, place.group) == (rank, group)), None)
    if at is None:
        return None, None
    return places[at - 1] if at else None, places[at + 1] if at + 1 < len(places) else None


def group_view(subject: Subject, step: int, rank: int, group: int, marks: Marks) -> GroupView:
    prompt, rows = subject.group(step, rank, group)
    right = gold(prompt["target"])
    before, after = subject.neighbours(step, rank, group)
    shown = [_row(subject, row, right, marks) for row in rows]
    shown.sort(key=lambda row: (row.reward is None, -(row.reward or 0.0), row.row))
    views = [view(subject, item, (step, rank, group), number) for number, item in enumerate(prompt["media"] or [])]
    return GroupView(
        step=step,
        rank=rank,
        group=group,
        sample_id=prompt["sample_id"],
        messages=without_paths(prompt["messages"]),
        media=views,
        target=prompt["target"],
        meta=prompt["meta"],
        coordinates=prompt["coordinates"] or "pixel",
        rows=shown,
        gold=right,
        weights=subject.weights(),
        previous=before,
        next=after,
        problems=[
            f"{item.kind} {number + 1} is not in the run's media folder: it was never kept, or was deleted."
            for number, item in enumerate(views)
            if item.missing
        ],
    )


def _row(run: Subject, row: dict[str, Any], right: Any, marks: Marks) -> GroupRow:
    notes = row["notes"] if isinstance(row["notes"], dict) else {}
    made, mark = row["made"], marks.get((row["step"], row["rank"], row["row"]))
    parts = [note for note in notes.values() if isinstance(note, dict)]
    return GroupRow(
        row=row["row"],
        completion=row["completion"],
        made_url=media_url(run.name, made) if made and run.media_path(Path(made).name) else None,
        made_kind=None if made is None else "video" if made_kind(made) == "video" else "image",
        tokens=row["tokens"],
        truncated=row["truncated"],
        origin=row["origin"],
        reward=row["reward"],
        advantage=row["advantage"],
        scores=row["scores"],
        notes=notes,
        predictions=predicted(row["completion"], notes, right, row["media"] or [], row["coordinates"] or "pixel"),
        has_tokens=bool(row["has_tokens"]) and row["tokens"] > 0,
        failed=any("error" in note for note in parts),
        unparsed=any("why" in note for note in parts) and not any("parsed" in note for note in parts),
        starred=mark is not None and mark.star,
        note="" if mark is None else mark.note,
    )


def row_tokens(run: Path, step: int, rank: int, row: int) -> Tokens:
    """A completion's pieces and what is known of each. `Gone` for rows that were written without."""
    from mmrl.runs.reader import read_row

    found = reading(lambda: read_row(_own(run, step, rank), step, rank, row), step, rank)
    if found is None:
        raise Gone(f"Step {step}, rank {rank} has no row {row}.")
    if found["token_values"] is None:
        raise Gone(
            f"Step {step} was written by an older mmrl (before schema 3), which kept nothing of single tokens: "
            "there is only the mean advantage of the row."
        )
    values = {name: [finite(number) for number in numbers] for name, numbers in found["token_values"].items()}
    old, rollout = values.get("logp_old"), values.get("logp_rollout")
    if old and rollout and any(rollout):  # rows from elsewhere have zeros
        values["log_ratio"] = [None if a is None or b is None else a - b for a, b in zip(old, rollout, strict=True)]
    pieces = found["pieces"]
    steps = pieces is None
    return Tokens(
        pieces=[str(number + 1) for number in range(found["tokens"])] if steps else pieces,
        values=values,
        kind="steps" if steps else "tokens",
    )


def _own(run: Path, step: int, rank: int) -> Path:
    """The run's folder, after making sure that the file is no link out of it."""
    if (run / layout.ROLLOUTS / f"{layout.step_name(step)}.{rank}.parquet").is_symlink():
        raise Gone(f"The rollouts of step {step}, rank {rank} are a link and are not followed.")
    return run


def reading(read: Callable[[], Any], step: int, rank: int) -> Any:
    """What `read` gives; whatever is wrong with the file in words. pyarrow's errors are of many kinds."""
    import pyarrow as pa

    try:
        return read()
    except ConfigError as error:
        if "newer mmrl" in str(error):
            raise
        raise Gone(
            f"There are no rollouts of step {step} by rank {rank}; they were recorded and deleted, or never."
        ) from None
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise Gone(f"The rollouts of step {step}, rank {rank} cannot be read: {first_line(error)}") from None
