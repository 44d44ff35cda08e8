"""What is taken along: stars and notes beside the run, rows as data for SFT, a folder that opens from disk."""

from __future__ import annotations

import io
import json
import zipfile
from html.parser import HTMLParser

import pytest
from viewed_runs import rollouts, sample, screen, write_run, write_step

from data_pipelines.dataset import read_samples
from mmrl.runs.writer import RunWriter

STAR = {"step": 1, "rank": 0, "row": 2, "star": True, "note": "right for the wrong reason <b>"}


def test_a_star_is_kept_beside_the_run_and_changes_nothing_else(view, runs):
    write_run(runs / "one", 2)
    before = {path: path.read_bytes() for path in (runs / "one").rglob("*") if path.is_file()}
    client = view(runs)
    client.settled("one")
    assert client.put("/api/runs/one/annotations", json=STAR).json() == {"annotations": [STAR]}
    rows = client.json("/api/runs/one/groups/1/0/0")["rows"]
    assert [(row["starred"], row["note"]) for row in rows if row["row"] == 2] == [(True, STAR["note"])]
    assert client.json("/api/runs/one/rows", starred=True)["total"] == 1
    assert [group["starred"] for group in client.json("/api/runs/one/groups", step=1)["groups"]] == [1, 0]
    after = {path: path.read_bytes() for path in (runs / "one").rglob("*") if path.is_file()}
    kept = after.pop(runs / "one" / "annotations.jsonl")
    assert after == before
    assert json.loads(kept) | {"time": 0} == STAR | {"time": 0}


def test_annotations_are_changed_and_taken_away(view, runs):
    write_run(runs / "one", 2)
    client = view(runs)
    for row in range(3):
        client.put("/api/runs/one/annotations", json={**STAR, "row": row})
    client.put("/api/runs/one/annotations", json={**STAR, "row": 1, "note": "other"})
    client.put("/api/runs/one/annotations", json={"step": 1, "rank": 0, "row": 0})
    found = view(runs).json("/api/runs/one/annotations")["annotations"]
    assert [(mark["row"], mark["note"]) for mark in found] == [(1, "other"), (2, STAR["note"])]


def test_lines_that_are_no_annotations_stay(view, runs):
    write_run(runs / "one", 1)
    file = runs / "one" / "annotations.jsonl"
    file.write_text('not json\n{"step": "x"}\n')
    client = view(runs)
    client.put("/api/runs/one/annotations", json={**STAR, "step": 0})
    assert file.read_text().startswith('not json\n{"step": "x"}\n{"step": 0')


@pytest.mark.parametrize("change", [{"step": "1"}, {"star": "yes"}, {"row": None}], ids=str)
def test_an_annotation_has_a_form(view, runs, change):
    write_run(runs / "one", 1)
    client = view(runs)
    answer = client.put("/api/runs/one/annotations", json={**STAR, **change})
    assert answer.status_code in (200, 422)
    assert answer.status_code == 422 or answer.json()["annotations"][0]["step"] == 1


def test_rows_become_data_that_sft_reads(view, runs, tmp_path):
    write_run(runs / "one", 2)
    client = view(runs)
    client.settled("one")
    wanted = {"run": "one", "form": "jsonl", "filters": "reward_min=0.5&sort=reward&step=1"}
    answer = client.post("/api/export", json=wanted)
    assert answer.headers["content-disposition"] == 'attachment; filename="one.jsonl"'
    file = tmp_path / "sft" / "data.jsonl"
    file.parent.mkdir()
    file.write_bytes(answer.content)
    samples = read_samples(file, need_target=False)
    assert len(samples) == 4
    assert [turn["role"] for turn in samples[0].messages] == ["user", "assistant"]
    assert samples[0].messages[-1]["content"] == "I click (2, 3)"
    assert samples[0].media[0].path.startswith(str(runs / "one" / "media"))
    assert samples[0].meta["rollout"]["reward"] == 0.5


def test_a_gold_turn_is_not_exported_with_the_completion(view, runs):
    asked = sample()
    chat = (*asked.messages, {"role": "assistant", "content": "gold"})
    made = rollouts([type(asked)(asked.id, chat)], [["said"]], [[1]])
    RunWriter.create(runs / "one", "").record(0, made, {})
    wanted = {"run": "one", "form": "jsonl", "selection": [{"step": 0, "rank": 0, "row": 0}]}
    row = json.loads(view(runs).post("/api/export", json=wanted).text)
    assert [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"] == ["said"]


class Sources(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)


def test_a_selection_becomes_a_folder_that_needs_no_server(view, runs):
    write_run(runs / "one", 2)
    hostile = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
    writer = RunWriter(runs / "one")
    media = screen(runs.parent / "data")
    asked = sample(hostile, hostile, media=[media], target={"box": [10, 5, 30, 20], "answer": hostile})
    writer.record(2, rollouts([asked], [[hostile, "(3, 4)"]], [[0, 1]], notes=[{hostile: {"why": hostile}}, {}]), {})
    client = view(runs)
    client.settled("one")
    answer = client.post("/api/export", json={"run": "one", "form": "static", "filters": "from_step=1"})
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    names = set(archive.namelist())
    page = Sources()
    page.feed(archive.read("mmrl-one/index.html").decode())
    assert "script" not in page.tags and page.tags.count("article") == 10
    assert {f"mmrl-one/{source}" for source in page.sources} <= names
    assert len(archive.read("mmrl-one/rollouts.jsonl").splitlines()) == 10
    assert archive.read(f"mmrl-one/media/{media.digest}.png")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"form": "jsonl", "filters": "reward_min=7"}, "Nothing is chosen"),
        ({"form": "jsonl", "filters": "reward=7"}, "Did you mean reward_m"),
        ({"form": "jsonl", "selection": []}, "Nothing is chosen"),
        ({"form": "static", "selection": [{"step": 0, "rank": 0, "row": 99}]}, "no row 99"),
        ({"form": "static", "selection": [{"step": 9, "rank": 0, "row": 0}]}, "step 9"),
        ({"form": "pdf"}, "form"),
    ],
)
def test_what_cannot_be_exported_is_said(view, runs, wanted, said):
    write_run(runs / "one", 1)
    client = view(runs)
    client.settled("one")
    answer = client.post("/api/export", json={"run": "one", **wanted})
    assert 400 <= answer.status_code < 500 and said in answer.json()["detail"]


def test_annotations_survive_a_run_that_goes_on(view, runs):
    writer = write_run(runs / "one", 2, finished=False)
    client = view(runs)
    client.put("/api/runs/one/annotations", json=STAR)
    RunWriter.resume(runs / "one", first_step=2)
    write_step(writer, 2, screen(runs.parent / "data"))
    assert client.json("/api/runs/one/annotations")["annotations"] == [STAR]
