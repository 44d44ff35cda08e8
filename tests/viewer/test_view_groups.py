"""One group in full: what was asked, what was answered, and where, in pixels and seconds of what is stored."""

from __future__ import annotations

import io
import subprocess

import pytest
import torch
from PIL import Image
from viewed_runs import pieces, rollouts, sample, screen, write_run

from data_pipelines.coordinates import from_pixels
from mmrl.records import Media
from mmrl.runs.writer import RunWriter


def record(folder, samples, texts, rewards, **further):
    made = rollouts(samples, texts, rewards, **further)
    RunWriter.create(folder, "").record(0, made, {}, pieces=pieces(made))
    return made


def test_a_group_is_shown_whole_the_best_first(view, runs):
    write_run(runs / "one", 2)
    group = view(runs).json("/api/runs/one/groups/1/0/1")
    assert group["messages"] == [
        {"role": "user", "content": [{"type": "image", "media": 0}, {"type": "text", "text": "click button 1.1"}]}
    ]
    [shown] = group["media"]
    assert (shown["width"], shown["height"], shown["seen_width"], shown["seen_height"]) == (64, 32, 32, 16)
    assert shown["missing"] is False
    assert group["target"] == {"box": [10, 5, 30, 20]} and group["gold"]["boxes"] == [[10, 5, 30, 20]]
    assert [row["reward"] for row in group["rows"]] == [0.75, 0.5, 0.25, 0.0]
    assert group["rows"][0]["completion"] == "I click (2, 4)"
    assert group["rows"][0]["scores"]["hit"] == 0.75
    assert group["rows"][0]["predictions"]["points"] == [[2.0, 4.0]]
    assert group["weights"] == [{"name": "hit", "weight": 1.0}, {"name": "form", "weight": 0.5}]
    assert group["previous"] == {"step": 1, "rank": 0, "group": 0} and group["next"] is None


def test_paths_of_this_machine_are_not_told(view, runs, tmp_path):
    write_run(runs / "one", 1)
    client = view(runs)
    client.settled("one")
    for path in ("", "/groups", "/rows", "/groups/0/0/0", "/tokens/0/0/0", "/history?sample=s0"):
        assert str(tmp_path) not in client.get(f"/api/runs/one{path}").text


@pytest.mark.parametrize("convention", ["pixel", "seen", "norm1", "norm1000"])
def test_places_that_no_reward_read_are_moved_from_their_convention_to_pixels(view, runs, convention):
    media = screen(runs.parent / "data")
    x, y = from_pixels((20, 10), convention, media.size, seen=media.seen)
    asked = sample(media=[media], target={"box": [10, 5, 30, 20]}, coordinates=convention)
    record(runs / "one", [asked], [[f"<answer>({x}, {y})</answer>", "nowhere"]], [[1, 0]])
    group = view(runs).json("/api/runs/one/groups/0/0/0")
    assert group["coordinates"] == convention
    assert group["rows"][0]["predictions"]["points"] == [pytest.approx([20, 10])]
    assert group["rows"][1]["predictions"]["points"] == []


def test_what_rewards_read_is_shown_and_not_read_again(view, runs):
    media = screen(runs.parent / "data")
    notes = [{"a": {"parsed": {"box": [1, 2, 3, 4]}}, "b": {"parsed": {"span": [0.5, 2]}}, "c": {"parsed": "B"}}]
    asked = sample(media=[media], target={"box": [1, 1, 2, 2], "span": [0, 1], "answer": "B", "tolerance": 0.05})
    record(runs / "one", [asked], [["(9, 9) 7 to 8"]], [[1]], notes=notes)
    group = view(runs).json("/api/runs/one/groups/0/0/0")
    assert group["rows"][0]["predictions"] == {
        "boxes": [[1, 2, 3, 4]], "points": [], "spans": [[0.5, 2]], "answer": "B", "tolerance": None,
    }  # fmt: skip
    assert group["gold"] == {
        "boxes": [[1, 1, 2, 2]], "points": [], "spans": [[0, 1]], "answer": "B", "tolerance": 0.05,
    }  # fmt: skip


@pytest.mark.parametrize(
    "parsed",
    [
        {"box": [1, 2]},
        {"box": "x"},
        {"point": [None, 1]},
        {"boxes": 3},
        {"spans": [[1]]},
        [],
        3.5,
        True,
        {"answer": []},
    ],
    ids=str,
)
def test_notes_of_any_form_do_no_harm(view, runs, parsed):
    record(runs / "one", [sample()], [["x"]], [[1]], notes=[{"r": {"parsed": parsed}}])
    [row] = view(runs).json("/api/runs/one/groups/0/0/0")["rows"]
    assert row["predictions"]["boxes"] == row["predictions"]["points"] == row["predictions"]["spans"] == []


def test_tokens_have_their_text_and_their_numbers(view, runs):
    write_run(runs / "one", 1)
    tokens = view(runs).json("/api/runs/one/tokens/0/0/3")
    assert tokens["kind"] == "tokens"
    assert tokens["pieces"] == ["I", "click", "(1,", "4)"]
    assert tokens["values"]["advantage"] == pytest.approx([0.375] * 4)
    assert tokens["values"]["log_ratio"] == pytest.approx([0.5] * 4)


def test_a_row_that_came_from_elsewhere_has_no_ratio(view, runs):
    made = rollouts([sample()], [["a b", "c d"]], [[0, 1]])
    made.logp_rollout[1] = 0
    RunWriter.create(runs / "one", "").record(0, made, {}, pieces=pieces(made))
    client = view(runs)
    assert "log_ratio" in client.json("/api/runs/one/tokens/0/0/0")["values"]
    assert "log_ratio" not in client.json("/api/runs/one/tokens/0/0/1")["values"]


def test_pictures_that_were_made_are_shown_with_their_steps(view, runs):
    made = rollouts([sample("p", "a red square")], [["", ""]], [[0.25, 0.75]])
    made.images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    made.length[:] = 4
    made.actions = torch.randn(2, 5, 1, 2, 2)
    made.mask = torch.tensor([[True, True, False, False]] * 2)
    made.advantage = torch.ones(2, 4)
    made.logp_old = made.logp_rollout = torch.full((2, 4), -0.5)
    RunWriter.create(runs / "one", "").record(0, made, {})
    client = view(runs)
    client.settled("one")
    group = client.json("/api/runs/one/groups/0/0/0")
    assert [row["made_kind"] for row in group["rows"]] == ["image", "image"]
    picture = client.get(group["rows"][0]["made_url"])
    assert Image.open(io.BytesIO(picture.content)).getpixel((0, 0)) == (0, 0, 255)
    assert client.json("/api/runs/one/tokens/0/0/0") == {
        "pieces": ["1", "2", "3", "4"],
        "kind": "steps",
        "values": {
            "advantage": [1, 1, None, None],
            "logp_old": [-0.5, -0.5, None, None],
            "logp_rollout": [-0.5, -0.5, None, None],
            "log_ratio": [0, 0, None, None],
        },
    }
    [listed] = client.json("/api/runs/one/groups")["groups"]
    assert listed["modality"] == "made image" and listed["thumb"]["url"] == group["rows"][0]["made_url"]


@pytest.mark.parametrize("where", ["groups/9/0/0", "groups/0/9/0", "groups/0/0/9", "tokens/0/0/99", "tokens/7/0/0"])
def test_what_is_not_there_is_said(view, runs, where):
    write_run(runs / "one", 1)
    answer = view(runs).get(f"/api/runs/one/{where}")
    assert answer.status_code == 404 and answer.json()["detail"]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two seconds, 4 frames a second; frame n is grey of 20 n."""
    import av
    import numpy as np

    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=4, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv444p"
        for number in range(8):
            grey = np.full((32, 32, 3), 20 * number + 20, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        file.mux(stream.encode(None))
    return path


def test_the_frames_that_the_model_saw_are_shown_in_the_size_that_it_saw(view, runs, film):
    import hashlib

    digest = hashlib.sha256(film.read_bytes()).hexdigest()
    media = Media("video", str(film), digest, (32, 32), (16, 16), times=(0.0, 0.5, 1.5), frames=8, fps=4.0)
    record(runs / "one", [sample(media=[media], target={"span": [0, 1]})], [["0.5 to 1.5"]], [[1]])
    client = view(runs)
    group = client.json("/api/runs/one/groups/0/0/0")
    assert group["rows"][0]["predictions"]["spans"] == [[0.5, 1.5]]
    greys = []
    for url in group["media"][0]["frame_urls"]:
        frame = Image.open(io.BytesIO(client.get(url).content)).convert("RGB")
        assert frame.size == (16, 16)
        greys.append(frame.getpixel((8, 8))[0])
    assert greys == pytest.approx([20, 60, 140], abs=6)  # frames 0, 2 and 6
    [listed] = client.json("/api/runs/one/groups")["groups"]
    assert Image.open(io.BytesIO(client.get(listed["thumb"]["url"]).content)).size == (16, 16)
    player = client.get(group["media"][0]["url"], headers={"range": "bytes=0-9"})
    assert player.status_code == 206 and player.content == film.read_bytes()[:10]
    assert player.headers["content-type"] == "video/mp4"


def test_a_film_that_is_none_has_no_frames_and_the_rest_goes_on(view, runs, tmp_path):
    path = tmp_path / "bad.mp4"
    path.write_bytes(b"no film")
    media = Media("video", str(path), "0" * 64, (32, 32), (16, 16), times=(0.0, 0.5))
    record(runs / "one", [sample(media=[media])], [["x"]], [[1]])
    client = view(runs)
    group = client.json("/api/runs/one/groups/0/0/0")
    answer = client.get(group["media"][0]["frame_urls"][0])
    assert answer.status_code == 404 and "No frames" in answer.json()["detail"]
    assert str(tmp_path) not in answer.text


def test_the_viewer_starts_without_what_takes_long_to_import():
    code = "import sys, mmrl.cli, mmrl.viewer.app, mmrl.viewer.serve, mmrl.viewer.library, mmrl.runs.reader; "
    slow = {"torch", "transformers", "matplotlib", "scipy", "numpy", "pyarrow", "plotly"}
    code += f"print(sorted({slow} & set(sys.modules)))"
    import sys

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
