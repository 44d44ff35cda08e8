"""What is broken, missing, half written, gone or from the future is named, and the rest goes on."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
from viewed_runs import CONFIG, screen, write_run, write_step

from mmrl.runs import layout


def files(run):
    return [path for _, _, path in layout.rollout_files(run)]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def newer(path):
    pq.write_table(pq.read_table(path, partitioning=None).replace_schema_metadata({b"mmrl.schema": b"99"}), path)


def other(path):
    import pyarrow as pa

    pq.write_table(pa.table({"step": [1], "what": ["is this"]}), path)


def retyped(path):
    """Messages as a list of structs, the usual form elsewhere."""
    import pyarrow as pa

    table = pq.read_table(path, partitioning=None)
    messages = pa.array([[{"role": "user", "content": "hello"}]] * len(table))
    pq.write_table(table.set_column(table.schema.get_field_index("messages"), "messages", messages), path)


def of_sound(path):
    import pyarrow as pa

    table = pq.read_table(path, partitioning=None)
    media = [[{**item, "kind": "audio"} for item in row] for row in table["media"].to_pylist()]
    column = pa.array(media, table.schema.field("media").type)
    pq.write_table(table.set_column(table.schema.get_field_index("media"), "media", column), path)


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (truncate, "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"PAR1 no parquet PAR1"), "cannot be read"),
        (other, "cannot be read"),
        (retyped, "cannot be read"),
        (of_sound, "media of kind 'audio'"),
        (newer, "Install a newer mmrl"),
    ],
    ids=["truncated", "empty", "garbage", "other columns", "other types", "audio", "newer"],
)
def test_a_bad_file_is_named_and_the_others_are_shown(view, runs, breaks, said):
    write_run(runs / "one", 3)
    bad = files(runs / "one")[1]
    breaks(bad)
    client = view(runs)
    client.settled("one")
    [problem] = client.json("/api/runs/one")["problems"]
    assert problem.startswith(bad.name) and said in problem
    assert {group["step"] for group in client.json("/api/runs/one/groups")["groups"]} == {0, 2}
    assert client.json("/api/runs/one/groups/2/0/0")["sample_id"] == "s0"
    answer = client.get("/api/runs/one/groups/1/0/0")
    assert answer.status_code in (400, 404) and answer.json()["detail"]
    assert client.get("/api/runs/one/tokens/1/0/0").status_code < 500


def test_a_bad_file_that_is_mended_is_read(view, runs):
    write_run(runs / "one", 2)
    bad = files(runs / "one")[0]
    good = bad.read_bytes()
    truncate(bad)
    client = view(runs)
    client.settled("one")
    assert client.json("/api/runs/one")["problems"]
    bad.unlink()  # as writers do: another file of the same name
    (bad.parent / "new").write_bytes(good)
    (bad.parent / "new").rename(bad)
    client.settled("one")
    assert client.json("/api/runs/one")["problems"] == []
    assert client.json("/api/runs/one/groups")["total"] == 4


def test_what_could_not_be_read_is_tried_again_by_the_next_viewer(view, runs, monkeypatch):
    write_run(runs / "one", 2)
    newer(files(runs / "one")[0])
    client = view(runs)
    client.settled("one")
    assert client.json("/api/runs/one")["problems"]
    monkeypatch.setattr("mmrl.runs.layout.VERSION", 99)
    client.__exit__(None, None, None)
    again = view(runs)
    again.settled("one")
    assert again.json("/api/runs/one")["problems"] == []


@pytest.mark.parametrize("place", ["groups/0/0/99999999999999999999", "tokens/0/99999999999999999999/0"])
def test_numbers_that_are_too_large_are_nowhere(view, runs, place):
    write_run(runs / "one", 1)
    client = view(runs)
    assert client.get(f"/api/runs/one/{place}").status_code == 404
    mark = {"step": 3_000_000_000, "rank": 0, "row": 0, "star": True, "note": ""}
    assert client.put("/api/runs/one/annotations", json=mark).status_code == 422
    assert client.get("/api/runs/one/rows", params={"starred": True}).status_code == 200


def test_a_bad_run_does_not_hide_the_others(view, runs):
    write_run(runs / "one", 1)
    write_run(runs / "two", 1)
    (runs / "one" / "config.yaml").write_text("day: 2026-02-30\n")
    with (runs / "one" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "reward": 1' + "0" * 400 + "}\n")
    assert {run["id"] for run in view(runs).json("/api/runs")["runs"]} == {"one", "two"}


def test_a_medium_that_is_missing_is_said(view, runs):
    write_run(runs / "one", 1)
    for file in (runs / "one" / "media").iterdir():
        file.unlink()
    client = view(runs)
    group = client.json("/api/runs/one/groups/0/0/0")
    [item] = group["media"]
    assert item["missing"] and item["url"] is None and "image 1" in group["problems"][0]
    assert client.get(f"/api/runs/one/{item['file']}").status_code == 404


def test_a_step_that_is_being_written_waits(view, runs):
    write_run(runs / "one", 1)
    [done] = files(runs / "one")
    (done.parent / ".step-000001.0.parquet.abc123.tmp").write_bytes(done.read_bytes()[:100])
    client = view(runs)
    client.settled("one")
    run = client.json("/api/runs/one")
    assert run["problems"] == [] and run["step_list"] == [0]


def test_a_run_deleted_while_it_is_viewed_is_gone_and_the_others_are_there(view, runs):
    write_run(runs / "one", 2)
    write_run(runs / "two", 1)
    client = view(runs)
    client.settled("one")
    shutil.rmtree(runs / "one")
    for path in ("", "/metrics", "/groups", "/rows", "/groups/0/0/0", "/tokens/0/0/0", "/annotations"):
        answer = client.get(f"/api/runs/one{path}")
        assert answer.status_code == 404 and "one" in answer.json()["detail"], path
    put = client.put("/api/runs/one/annotations", json={"step": 0, "rank": 0, "row": 0, "star": True})
    assert put.status_code == 404 and not (runs / "one").exists()
    assert [run["id"] for run in client.json("/api/runs")["runs"]] == ["two"]
    assert client.json("/api/live", status=404, run="one")


def test_another_run_of_the_same_name_is_not_mistaken_for_it(view, runs):
    write_run(runs / "one", 3)
    client = view(runs)
    client.settled("one")
    shutil.rmtree(runs / "one")
    write_run(runs / "one", 1, groups=1)
    client.settled("one")
    assert client.json("/api/runs/one/groups")["total"] == 1
    assert client.json("/api/runs/one/metrics")["steps"] == [0]


@pytest.mark.parametrize("text", ["a: [", "just text", "", "a: *unknown", "x: !!python/object/apply:os.getcwd []"])
def test_a_config_that_is_none_leaves_the_run_readable(view, runs, text):
    write_run(runs / "one", 1)
    (runs / "one" / "config.yaml").write_text(text)
    client = view(runs)
    client.settled("one")
    run = client.json("/api/runs/one")
    assert run["config"] == {} and run["config_text"] == text
    assert bool(run["problems"]) == bool(text)
    assert client.json("/api/runs/one/groups")["total"] == 2


def test_a_damaged_index_is_made_anew(view, runs, tmp_path):
    write_run(runs / "one", 2)
    client = view(runs)
    client.settled("one")
    client.__exit__(None, None, None)
    for file in (tmp_path / "cache").glob("*.duckdb*"):
        file.write_bytes(b"no database")
    client = view(runs)
    client.settled("one")
    assert client.json("/api/runs/one/groups")["total"] == 4


def test_two_viewers_show_the_same_run_at_once(view, runs):
    writer = write_run(runs / "one", 2, finished=False)
    first, second = view(runs), view(runs)
    for client in (first, second):
        client.settled("one")
        assert client.json("/api/runs/one/groups")["total"] == 4
    write_step(writer, 2, screen(runs.parent / "data"))
    for client in (first, second):
        client.settled("one")
        assert client.json("/api/runs/one/groups")["total"] == 6


def test_there_may_be_no_runs_yet(view, runs):
    client = view(runs)
    assert client.json("/api/runs")["runs"] == []
    (runs / "one").mkdir()
    (runs / "one" / "config.yaml").write_text(CONFIG)
    assert client.json("/api/runs/one/groups")["total"] == 0
    assert client.json("/api/runs/one")["step_list"] == []
