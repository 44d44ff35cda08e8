"""Pages of groups and rows, the history of a prompt, what there is to filter by: SQL over an index.

A query first keeps what it found, with what it is sorted by, in a table of its own connection; the total and the page
are read from that, and texts only of the rows of the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import duckdb

from mmrl.plugins import ConfigError
from mmrl.viewer.answers import (
    Columns,
    GroupList,
    GroupSummary,
    HistoryPoint,
    Indexing,
    RewardSpread,
    RowList,
    RowSummary,
    Thumb,
)
from mmrl.viewer.filters import Filters, GroupPage, RowPage, Stars, of_groups, of_rows, score_column
from mmrl.viewer.store import Index

CUT = 320
"""Characters of a completion or prompt in a list."""
BEFORE = 100
"""Of them before what was searched for."""

GROUP_SORTS = {"step": "g", "reward": "mean", "spread": "std", "length": "length", "failed": "failed",
               "truncated": "truncated"}  # fmt: skip
ROW_SORTS = {"step": "g", "reward": "reward", "advantage": "advantage", "length": "tokens", "failed": "failed::INTEGER",
             "truncated": "truncated::INTEGER"}  # fmt: skip


@contextmanager
def reading(index: Index) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that sees one state of the index."""
    con = index.cursor()
    con.execute("BEGIN")
    try:
        yield con
    finally:
        con.close()


def indexing(index: Index) -> Indexing:
    return Indexing(done=index.progress.done, total=index.progress.total)


def score_names(con: duckdb.DuckDBPyConnection) -> list[str]:
    return [name for (name,) in con.execute("SELECT name FROM scores ORDER BY place").fetchall()]


def columns(index: Index, signals: list[str]) -> Columns:
    with reading(index) as con:

        def distinct(name: str, table: str) -> list[str]:
            found = con.execute(f"SELECT DISTINCT {name} FROM {table} WHERE {name} IS NOT NULL ORDER BY 1").fetchall()
            return [value for (value,) in found]

        return Columns(
            scores=score_names(con),
            signals=signals,
            origins=distinct("origin", "completions"),
            tasks=distinct("task", "prompts"),
            modalities=distinct("modality", "prompts"),
        )


def groups(index: Index, run: str, asked: GroupPage, stars: Stars) -> GroupList:
    with reading(index) as con:
        names = score_names(con)
        where, rows = of_groups(asked), of_rows(asked, names, stars)
        if rows:
            # A sample without completions (of a data set) has its prompt to be found by.
            bare = "n = 0 AND (contains(lower(said), lower(?)) OR contains(lower(sample_id), lower(?)))"
            of_row = f"g IN (SELECT g FROM completions WHERE {rows.sql})"
            if asked.q:
                where.add(f"({of_row} OR {bare})", *rows.values, asked.q, asked.q)
            else:
                where.add(of_row, *rows.values)
        con.execute("CREATE TEMP TABLE found AS SELECT g FROM groups JOIN prompts USING (prompt) WHERE " + where.sql,
                    where.values)  # fmt: skip
        disagreement = _conflict(con, names)
        worst = f"SELECT g, max({disagreement}) AS conflict FROM completions"
        if asked.sort == "conflict":
            page = f"SELECT g, conflict FROM found LEFT JOIN ({worst} GROUP BY g) USING (g)"
            order = "conflict"
        else:
            page, order = "SELECT g FROM found JOIN groups USING (g)", GROUP_SORTS[asked.sort]
        page = f"{page} ORDER BY {_order(order, asked)}, g LIMIT {asked.limit} OFFSET {asked.offset}"
        shown = [row[0] for row in con.execute(page).fetchall()]
        facts = {row[0]: row for row in con.execute(_GROUPS, [CUT, shown]).fetchall()}
        conflicts = dict(con.execute(f"{worst} WHERE {_listed('g', shown)} GROUP BY g").fetchall())
        starred = _stars_of_groups(con, stars)
        return GroupList(
            total=_total(con),
            groups=[_group(run, facts[g], conflicts.get(g), starred.get(g, 0)) for g in shown],
            indexing=indexing(index),
        )


_GROUPS = """
SELECT g, step, rank, grp, sample_id, left(said, ?), modality, task, n, mean, low, high, std, length, truncated, failed,
    unparsed, made, thumb_kind, thumb_file
FROM groups JOIN prompts USING (prompt) WHERE g IN (SELECT unnest(?::BIGINT[]))
"""


def _group(run: str, facts: Sequence[Any], conflict: float | None, starred: int) -> GroupSummary:
    (_, step, rank, group, sample_id, prompt, kind, task, n, mean, low, high, std, length, truncated, failed, unparsed,
     made, thumb_kind, thumb_file) = facts  # fmt: skip
    if made is not None:
        thumb_kind, thumb_file = ("video" if kind == "made video" else "image"), made
    return GroupSummary(
        step=step, rank=rank, group=group, sample_id=sample_id, prompt=prompt, modality=kind, task=task, n=n,
        reward=RewardSpread(mean=mean, min=low, max=high, std=std), length=length, conflict=conflict,
        zero_spread=n > 1 and low is not None and low == high, truncated=truncated, failed=failed, unparsed=unparsed,
        starred=starred,
        thumb=None if thumb_file is None
        else Thumb(kind=thumb_kind, file=thumb_file, url=_thumb_url(run, facts, thumb_kind, thumb_file, made)),
    )  # fmt: skip


def _thumb_url(run: str, facts: Sequence[Any], kind: str, file: str, made: str | None) -> str:
    """Of a video that was asked about, its first frame."""
    if kind == "video" and made is None:
        _, step, rank, group, *_ = facts
        return f"/api/runs/{quote(run, safe='')}/frames/{step}/{rank}/{group}/0"
    return media_url(run, file)


def media_url(run: str, file: str) -> str:
    return f"/api/runs/{quote(run, safe='')}/media/{quote(file.rpartition('/')[2], safe='')}"


def rows(index: Index, run: str, asked: RowPage, stars: Stars) -> RowList:
    with reading(index) as con:
        names = score_names(con)
        order = _row_order(con, asked.sort, names)
        _find_rows(con, asked, names, stars, f", {order} AS sorted, g, nr")
        page = (
            f"SELECT place FROM found ORDER BY {_order('sorted', asked)}, g, nr "
            f"LIMIT {asked.limit} OFFSET {asked.offset}"
        )
        shown = [place for (place,) in con.execute(page).fetchall()]
        scores = "".join(f", s{place}" for place in range(len(names)))
        found = con.execute(
            f"SELECT c.rowid, step, rank, grp, nr, sample_id, "
            "substring(completion, greatest(1, instr(lower(completion), lower(?)) - ?), ?), made, reward, advantage, "
            f"tokens, truncated, failed, unparsed, origin{scores} FROM completions c JOIN prompts USING (prompt) "
            f"WHERE {_listed('c.rowid', shown)}",
            [asked.q, BEFORE, CUT],
        ).fetchall()
        facts = {row[0]: row[1:] for row in found}
        starred = set(stars)
        return RowList(
            total=_total(con),
            rows=[_row(run, facts[place], names, starred) for place in shown],
            indexing=indexing(index),
        )


def chosen(index: Index, asked: Filters, stars: Stars, limit: int) -> list[tuple[int, int, int]]:
    """(step, rank, row) of the rows that filters find, in order, at most `limit`."""
    with reading(index) as con:
        _find_rows(con, asked, score_names(con), stars, ", g, step, rank, nr")
        return con.execute(f"SELECT step, rank, nr FROM found ORDER BY g, nr LIMIT {limit}").fetchall()


def _find_rows(
    con: duckdb.DuckDBPyConnection, asked: Filters, names: Sequence[str], stars: Stars, further: str
) -> None:
    """Put `place` and the `further` columns of the rows that are looked for into `found`."""
    where, of_group = of_rows(asked, names, stars), of_groups(asked)
    if of_group:
        where.add(f"g IN (SELECT g FROM groups JOIN prompts USING (prompt) WHERE {of_group.sql})", *of_group.values)
    con.execute(
        f"CREATE TEMP TABLE found AS SELECT rowid AS place{further} FROM completions WHERE {where.sql}", where.values
    )


def _row(run: str, facts: Sequence[Any], names: Sequence[str], starred: set[tuple[int, int, int]]) -> RowSummary:
    step, rank, group, row, sample_id, text, made, reward, advantage, tokens, truncated, failed, unparsed, origin = (
        facts[:14]
    )
    return RowSummary(
        step=step, rank=rank, group=group, row=row, sample_id=sample_id, completion=text,
        made_url=None if made is None else media_url(run, made), reward=reward, advantage=advantage, tokens=tokens,
        truncated=truncated, failed=failed, unparsed=unparsed, origin=origin,
        scores=dict(zip(names, facts[14:], strict=True)), starred=(step, rank, row) in starred,
    )  # fmt: skip


def history(index: Index, sample: str) -> list[HistoryPoint]:
    """Every group of a sample, by step. Ids are written with a hash of the media (`gui-1@8fa3`); without will do."""
    with reading(index) as con:
        found = con.execute(
            "SELECT step, rank, grp, n, mean, low, high FROM groups JOIN prompts USING (prompt) "
            "WHERE sample_id = ? OR starts_with(sample_id, ?) ORDER BY g",
            [sample, f"{sample}@"],
        ).fetchall()
    names = ("step", "rank", "group", "n", "mean", "min", "max")
    return [HistoryPoint(**dict(zip(names, row, strict=True))) for row in found]


def _conflict(con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> str:
    """SQL of a row's largest gap between scores, each 0 to 1 over its range in this run; NULL with fewer than two."""
    if len(names) < 2:
        return "NULL::DOUBLE"
    places = range(len(names))
    bounds = con.execute(
        "SELECT " + ", ".join(f"min(s{place}), max(s{place})" for place in places) + " FROM completions"
    ).fetchone()
    assert bounds is not None
    parts = []
    for place, low, high in zip(places, bounds[0::2], bounds[1::2], strict=True):
        if low is not None and high > low:
            parts.append(f"(s{place} - {low!r}::DOUBLE) / {high - low!r}::DOUBLE")
    if len(parts) < 2:
        return "NULL::DOUBLE"
    return f"greatest({', '.join(parts)}) - least({', '.join(parts)})"


def _row_order(con: duckdb.DuckDBPyConnection, sort: str, names: Sequence[str]) -> str:
    if sort == "conflict":
        return _conflict(con, names)
    if sort.startswith("score:"):
        return score_column(sort.removeprefix("score:"), names)
    if sort not in ROW_SORTS:
        raise ConfigError(f"sort = {sort!r}: choose {', '.join(ROW_SORTS)}, conflict or score:NAME.")
    return ROW_SORTS[sort]


def _order(column: str, asked: GroupPage | RowPage) -> str:
    return f"{column} {'DESC' if asked.descending else 'ASC'} NULLS LAST"


def _listed(column: str, values: Sequence[int]) -> str:
    """`column IN (...)` of whole numbers, written out: DuckDB then reads only the blocks that hold them."""
    return f"{column} IN ({', '.join(map(str, map(int, values)))})" if values else "false"


def _total(con: duckdb.DuckDBPyConnection) -> int:
    (total,) = con.execute("SELECT count(*) FROM found").fetchall()[0]
    return int(total)


def _stars_of_groups(con: duckdb.DuckDBPyConnection, stars: Stars) -> dict[int, int]:
    if not stars:
        return {}
    steps = ", ".join(str(int(step)) for step in {star[0] for star in stars})
    found = con.execute(
        "SELECT g, count(*) FROM completions "
        "JOIN (SELECT unnest(?::INTEGER[]) AS step, unnest(?::INTEGER[]) AS rank, unnest(?::INTEGER[]) AS nr) "
        f"USING (step, rank, nr) WHERE step IN ({steps}) GROUP BY g",
        [[star[part] for star in stars] for part in range(3)],
    ).fetchall()
    return dict(found)
