"""A data set before any training: its rows by the same means, its media by a hash of where they are."""

from __future__ import annotations

import json

import pytest
from viewed_runs import screen


@pytest.fixture
def data(tmp_path):
    """Three rows: an image, two images and a gold turn, text alone; then a line that is no row."""
    folder = tmp_path / "data"
    for name in ("a.png", "b.png"):
        screen(folder / "images", name)
    screen(tmp_path, "outside.png")

    def user(*parts):
        return [{"role": "user", "content": list(parts)}]

    image = [{"type": "image", "image": f"images/{name}.png"} for name in "ab"]
    ask = {"type": "text", "text": "where is it"}
    rows = [
        {"id": "one", "messages": user(image[0], ask), "target": {"box": [1, 2, 3, 4]}, "meta": {"task": "gui"}},
        {"id": "two", "messages": [*user(*image, ask), {"role": "assistant", "content": "there"}]},
        {"id": "three", "messages": user({"type": "text", "text": "<script>"}), "target": {"answer": "B"}},
        {"id": "four", "messages": user({"type": "image", "image": "../outside.png"}, ask), "target": {"answer": "C"}},
        {"id": "five", "messages": user({"type": "image", "image": "images/gone.png"}, ask), "target": {"answer": "D"}},
    ]
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{no row\n")
    return file


def test_rows_are_groups_without_completions(view, data):
    client = view(data)
    [listed] = client.json("/api/runs")["runs"]
    assert (listed["id"], listed["kind"]) == ("train.jsonl", "dataset")
    client.settled("train.jsonl")
    groups = client.json("/api/runs/train.jsonl/groups")["groups"]
    assert [(group["sample_id"], group["modality"], group["n"]) for group in groups] == [
        ("one", "image", 0), ("two", "images", 0), ("three", "text", 0), ("four", "image", 0), ("five", "image", 0),
    ]  # fmt: skip
    assert client.json("/api/runs/train.jsonl/groups", q="SCRIPT")["groups"][0]["group"] == 2
    assert client.json("/api/runs/train.jsonl/groups", task="gui")["total"] == 1
    assert client.json("/api/runs/train.jsonl/rows")["total"] == 0
    [problem] = client.json("/api/runs/train.jsonl")["problems"]
    assert "row 6" in problem and "JSON" in problem


def test_a_row_is_shown_with_its_media_and_its_gold(view, data):
    client = view(data)
    client.settled("train.jsonl")
    group = client.json("/api/runs/train.jsonl/groups/0/0/0")
    assert group["gold"]["boxes"] == [[1, 2, 3, 4]] and group["rows"] == []
    [item] = group["media"]
    assert (item["width"], item["height"]) == (64, 32)
    assert client.get(item["url"]).content == (data.parent / "images" / "a.png").read_bytes()
    two = client.json("/api/runs/train.jsonl/groups/0/0/1")
    assert [item["missing"] for item in two["media"]] == [False, False]
    assert two["messages"][1] == {"role": "assistant", "content": [{"type": "text", "text": "there"}]}
    assert two["previous"]["group"] == 0 and two["next"]["group"] == 2


@pytest.mark.parametrize("group", [3, 4])
def test_media_outside_the_folder_and_media_that_are_gone_are_missing(view, data, group):
    client = view(data)
    client.settled("train.jsonl")
    [item] = client.json(f"/api/runs/train.jsonl/groups/0/0/{group}")["media"]
    assert item["missing"] and item["url"] is None


def test_a_file_that_changed_is_read_again(view, data):
    client = view(data)
    client.settled("train.jsonl")
    data.write_text(data.read_text().splitlines()[0] + "\n")
    client.settled("train.jsonl")
    assert client.json("/api/runs/train.jsonl/groups")["total"] == 1
    assert client.json("/api/runs/train.jsonl")["problems"] == []


def test_a_data_set_is_not_written(view, data):
    client = view(data)
    mark = {"step": 0, "rank": 0, "row": 0, "star": True}
    assert client.put("/api/runs/train.jsonl/annotations", json=mark).status_code == 400
    assert client.post("/api/export", json={"run": "train.jsonl", "form": "jsonl"}).status_code == 400
    assert sorted(path.name for path in data.parent.iterdir()) == ["images", "train.jsonl"]
