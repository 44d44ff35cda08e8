"""Lists and pages of what runs recorded: what is found, in which order, and how it follows a run that grows."""

from __future__ import annotations

import json

import pytest
from viewed_runs import rollouts, sample, screen, write_run, write_step

from mmrl.runs.writer import RunWriter


def test_runs_are_listed_with_what_they_are_and_how_far_they_came(view, runs):
    write_run(runs / "one", 3)
    RunWriter.create(runs / "two", "steps: 5\n")
    listed = {run["id"]: run for run in view(runs).json("/api/runs")["runs"]}
    one = listed["one"]
    assert (one["method"], one["model"], one["data"]) == ("grpo", "tiny", "data/gui/train.jsonl")
    assert (one["step"], one["steps"], one["state"]) == (2, 10, "finished")
    assert one["spark"] == [one["reward"]] * 3 == [0.375] * 3
    assert listed["two"]["step"] is None and listed["two"]["state"] == "running"


def test_a_run_can_be_opened_by_itself(view, runs):
    write_run(runs / "one", 1)
    assert [run["id"] for run in view(runs / "one").json("/api/runs")["runs"]] == ["one"]


def test_a_run_says_its_config_events_and_what_it_can_be_filtered_by(view, runs):
    write_run(runs / "one", 3)
    client = view(runs)
    client.settled("one")
    run = client.json("/api/runs/one")
    assert run["config"]["rewards"][1] == {"name": "form", "weight": 0.5}
    assert run["rewards"] == [{"name": "hit", "weight": 1.0}, {"name": "form", "weight": 0.5}]
    assert [event["kind"] for event in run["events"]] == ["started", "finished"]
    assert run["step_list"] == [0, 1, 2]
    assert run["columns"] == {
        "scores": ["hit", "form"],
        "signals": ["advantage", "logp_old", "logp_rollout"],
        "origins": ["policy"],
        "tasks": ["gui"],
        "modalities": ["image"],
    }


def test_metrics_come_from_a_step_on_and_what_is_not_finite_is_null(view, runs):
    write_run(runs / "one", 4)
    client = view(runs)
    assert client.json("/api/runs/one/metrics")["steps"] == [0, 1, 2, 3]
    assert client.json("/api/runs/one/metrics", after=1) == {
        "steps": [2, 3], "series": {"reward": [0.375, 0.375], "kl": [None, None]},
    }  # fmt: skip


def test_every_group_and_every_row_is_found_once(view, runs):
    write_run(runs / "one", 3, groups=2, rows=4)
    client = view(runs)
    client.settled("one")
    groups = client.json("/api/runs/one/groups", limit=500)
    assert [(g["step"], g["group"], g["n"]) for g in groups["groups"]] == [
        (s, g, 4) for s in range(3) for g in range(2)
    ]
    seen = []
    for offset in range(0, 24, 5):
        page = client.json("/api/runs/one/rows", limit=5, offset=offset)
        assert page["total"] == 24
        seen += [(row["step"], row["group"], row["row"]) for row in page["rows"]]
    assert seen == [(s, g, g * 4 + r) for s in range(3) for g in range(2) for r in range(4)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"step": 1}, 8),
        ({"from_step": 1, "to_step": 2}, 16),
        ({"reward_min": 0.5}, 12),
        ({"reward_max": 0.2, "step": 0}, 2),
        ({"score": ["hit:0.75:"]}, 6),
        ({"score": ["hit:0.25:0.5", "form::0.5"]}, 6),
        ({"q": "CLICK (2, 3)"}, 2),
        ({"q": "button 1.1"}, 4),
        ({"q": "s1"}, 12),
        ({"q": "100% _'\"; DROP TABLE completions"}, 0),
        ({"sample": "s0"}, 12),
        ({"task": "gui", "modality": "image", "origin": "policy"}, 24),
        ({"modality": "video"}, 0),
        ({"truncated": True}, 0),
        ({"zero_spread": False}, 24),
        ({"failed": True}, 0),
        ({"starred": True}, 0),
        ({"starred": False}, 24),
    ],
    ids=str,
)
def test_filters_find_what_they_say(view, runs, query, found):
    write_run(runs / "one", 3)
    client = view(runs)
    client.settled("one")
    rows = client.json("/api/runs/one/rows", limit=500, **query)
    assert rows["total"] == len(rows["rows"]) == found
    groups = client.json("/api/runs/one/groups", limit=500, **query)["groups"]
    assert {(g["step"], g["group"]) for g in groups} == {(row["step"], row["group"]) for row in rows["rows"]}


@pytest.mark.parametrize("sort", ["reward", "advantage", "length", "conflict", "score:form", "step", "truncated"])
@pytest.mark.parametrize("descending", [False, True])
def test_rows_are_sorted_by_anything(view, runs, sort, descending):
    write_run(runs / "one", 2)
    client = view(runs)
    client.settled("one")
    rows = client.json("/api/runs/one/rows", sort=sort, descending=descending)["rows"]
    key = {"score:form": lambda row: row["scores"]["form"], "length": lambda row: row["tokens"],
           "conflict": lambda row: abs(row["scores"]["hit"] / 0.75 - row["scores"]["form"])}  # fmt: skip
    values = [key.get(sort, lambda row: row[sort])(row) for row in rows]
    assert values == pytest.approx(sorted(values, reverse=descending))
    assert len(rows) == 16


def test_groups_are_sorted_by_spread_and_conflict_and_those_without_come_last(view, runs):
    writer = RunWriter.create(runs / "one", "")
    made = rollouts(
        [sample(name) for name in "abc"],
        [["x", "y"], ["x", "y"], ["x", "y"]],
        [[0.0, 1.0], [0.5, 0.5], [float("nan"), float("nan")]],
    )
    writer.record(0, made, {})
    client = view(runs)
    client.settled("one")
    by_spread = client.json("/api/runs/one/groups", sort="spread", descending=True)["groups"]
    assert [group["sample_id"] for group in by_spread] == ["a", "b", "c"]
    assert [group["zero_spread"] for group in by_spread] == [False, True, False]
    assert by_spread[0]["reward"] == {"mean": 0.5, "min": 0.0, "max": 1.0, "std": pytest.approx(0.5**0.5)}
    assert by_spread[2]["reward"]["mean"] is None
    conflicts = client.json("/api/runs/one/groups", sort="conflict", descending=True)["groups"]
    assert [group["sample_id"] for group in conflicts] == ["a", "b", "c"]
    # Row 0 of `a` has the least `hit` and the most `form`.
    assert conflicts[0]["conflict"] == 1.0


def test_what_failed_and_what_could_not_be_read_are_told_apart(view, runs):
    notes = [
        {"hit": {"error": "TimeoutError: 3 s"}},
        {"hit": {"why": "no point in the completion"}},
        {"hit": {"parsed": {"point": [1, 2]}, "why": '"error": is only text here'}},
        {},
    ]
    made = rollouts([sample()], [["a", "b", "c", "cut ..."]], [[0, 0, 1, 1]], notes=notes)
    RunWriter.create(runs / "one", "").record(0, made, {})
    client = view(runs)
    client.settled("one")
    for name, row in [("failed", 0), ("unparsed", 1), ("truncated", 3)]:
        [found] = client.json("/api/runs/one/rows", **{name: True})["rows"]
        assert found["row"] == row and found[name] is True
    [group] = client.json("/api/runs/one/groups")["groups"]
    assert (group["failed"], group["unparsed"], group["truncated"]) == (1, 1, 1)


def test_a_long_completion_is_cut_around_what_was_searched_for(view, runs):
    text = "word " * 5000 + "needle" + " word" * 5000
    RunWriter.create(runs / "one", "").record(0, rollouts([sample()], [[text]], [[1.0]]), {})
    client = view(runs)
    client.settled("one")
    [row] = client.json("/api/runs/one/rows", q="NEEDLE")["rows"]
    assert "needle" in row["completion"] and len(row["completion"]) <= 320


def test_scores_of_any_name_are_columns(view, runs):
    name = 'a/b~c\'s "score": 100%'
    made = rollouts([sample()], [["x", "y"]], [[0.25, 1.0]])
    made.scores = {name: made.reward, "form": made.scores["form"]}
    RunWriter.create(runs / "one", "").record(0, made, {})
    client = view(runs)
    client.settled("one")
    [row] = client.json("/api/runs/one/rows", score=f"{name}:0.5:")["rows"]
    assert row["scores"] == {name: 1.0, "form": 0.0}


def test_a_prompt_is_followed_over_the_steps(view, runs):
    write_run(runs / "one", 3)
    client = view(runs)
    client.settled("one")
    points = client.json("/api/runs/one/history", sample="s1")["points"]
    assert [(point["step"], point["group"], point["max"]) for point in points] == [(s, 1, 0.75) for s in range(3)]


def test_a_growing_run_is_followed_and_steps_that_were_dropped_go(view, runs):
    writer = write_run(runs / "one", 2, finished=False)
    client = view(runs)
    client.settled("one")
    before = client.json("/api/live", run="one")
    assert before["state"] == "running" and before["step"] == 1
    media = screen(runs.parent / "data")
    write_step(writer, 2, media, groups=3)
    client.settled("one")
    after = client.json("/api/live", run="one")
    assert after["version"] != before["version"] and after["step"] == 2
    assert client.json("/api/runs/one/groups")["total"] == 7
    RunWriter.resume(runs / "one", first_step=1)
    write_step(writer, 1, media, groups=1)
    client.settled("one")
    groups = client.json("/api/runs/one/groups")["groups"]
    assert [(group["step"], group["group"]) for group in groups] == [(0, 0), (0, 1), (1, 0)]
    assert client.json("/api/runs/one/metrics")["steps"] == [0, 1]


def test_ranks_are_kept_apart(view, runs):
    writer = write_run(runs / "one", 1)
    other = RunWriter(writer.folder, rank=1)
    write_step(other, 0, screen(runs.parent / "data"))
    client = view(runs)
    client.settled("one")
    places = [(g["rank"], g["group"]) for g in client.json("/api/runs/one/groups")["groups"]]
    assert places == [(0, 0), (0, 1), (1, 0), (1, 1)]
    group = client.json("/api/runs/one/groups/0/1/0")
    assert group["previous"] == {"step": 0, "rank": 0, "group": 1}
    assert group["next"] == {"step": 0, "rank": 1, "group": 1}


def test_an_answer_that_did_not_change_is_not_sent_again(view, runs):
    write_run(runs / "one", 1)
    client = view(runs)
    client.settled("one")
    first = client.get("/api/runs/one/groups")
    again = client.get("/api/runs/one/groups", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    other = client.get("/api/runs/one/groups?limit=1", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"sort": "beauty"}, "beauty"),
        ({"score": "hot:1:"}, "Did you mean hit?"),
        ({"score": "hit"}, "NAME:MIN:MAX"),
        ({"score": "hit:a:b"}, "NAME:MIN:MAX"),
        ({"rewardmin": 1}, "rewardmin"),
        ({"limit": 100000}, "limit"),
        ({"step": "x"}, "step"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_wrong(view, runs, query, message):
    write_run(runs / "one", 1)
    client = view(runs)
    client.settled("one")
    answer = client.get("/api/runs/one/rows", params=query)
    assert answer.status_code in (400, 422) and message in answer.json()["detail"]


def test_the_index_is_kept_for_the_next_viewer(view, runs, tmp_path):
    write_run(runs / "one", 2)
    client = view(runs)
    client.settled("one")
    client.__exit__(None, None, None)
    before = {path.name: path.read_bytes() for path in (runs / "one").rglob("*") if path.is_file()}
    again = view(runs)
    assert again.json("/api/runs/one/groups")["total"] == 4
    assert {path.name: path.read_bytes() for path in (runs / "one").rglob("*") if path.is_file()} == before
    assert list((tmp_path / "cache").glob("*.duckdb"))


def test_broken_lines_are_counted_and_the_last_half_one_waits_for_its_end(view, runs):
    write_run(runs / "one", 2)
    file = runs / "one" / "metrics.jsonl"
    with file.open("a") as lines:
        lines.write("{not json\n" + json.dumps({"step": 2, "reward": 1.0}))
    client = view(runs)
    [run] = client.json("/api/runs")["runs"]
    assert run["step"] == 1 and run["problems"] == ["1 lines of metrics.jsonl are no records and are left out."]
    with file.open("a") as lines:
        lines.write("\n")
    assert client.json("/api/runs")["runs"][0]["step"] == 2
