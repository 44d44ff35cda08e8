"""What a row may hold, key by key, and what readers make of text that is not what it should be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_pipelines.check import check
from data_pipelines.convert import convert
from data_pipelines.makers import READERS
from data_pipelines.reading import Problem, csv_rows, inside, lines
from data_pipelines.rows import RowError, name_of, own_name, parse, row_of, sample_of
from data_pipelines.sources import Rows
from data_pipelines.video.parts import media_file
from mmrl.pictures import encode
from mmrl.plugins import ConfigError, build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 200 x 100, a film of 4 s at 4 frames a second, the same frames as a folder."""
    folder = tmp_path_factory.mktemp("media")
    frames = [Image.new("RGB", (64, 48), (9 * i, 0, 0)) for i in range(16)]
    Image.new("RGB", (200, 100), "white").save(folder / "a.png")
    (folder / "v.mp4").write_bytes(encode(frames, fps=4)[0])
    (folder / "frames").mkdir()
    for index, frame in enumerate(frames):
        frame.save(folder / f"frames/{index:03d}.png")
    return folder


def row(*media: str, part: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A row with an image per name that ends so, else a video whose part has the settings `part`."""
    parts: list[dict[str, Any]] = [
        {"type": "image", "image": name} if name.endswith("png") else {"type": "video", "video": name, **(part or {})}
        for name in media
    ]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": "where?"}]}]
    return {"id": "a", "messages": messages, "target": {"answer": "x"}, "meta": {"coordinates": "pixel"}} | changes


def problems(folder: Path, *rows: dict[str, Any] | bytes) -> list[tuple[str, str]]:
    """(kind, message) of what `mmrl data check` says of them."""
    path, said = folder / "x.jsonl", []
    path.write_bytes(b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in rows))
    check(path, say=said.append)
    return [(problem.kind, problem.message) for problem in said]


@pytest.mark.parametrize(
    ("part", "target", "kinds"),
    [
        ({}, {"span": [0, 4]}, []),
        ({"nframes": 6, "video_start": 1, "video_end": 3}, {"span": [1, 2]}, []),
        ({"video_start": 1, "video_end": 3}, {"span": [0.5, 400]}, ["spans outside"]),
        ({"video_start": 100}, {}, ["part settings"]),
        ({"fps": -3}, {}, ["part settings"]),
        ({"fps": "two"}, {}, ["part settings"]),
        ({"fps": 10**400}, {}, ["part settings"]),
        ({"nframes": 500}, {}, ["part settings"]),
        ({"fps": 2, "nframes": 4}, {}, ["part settings"]),
        ({"max_frame": 2}, {}, ["schema"]),
    ],
)
def test_the_settings_of_a_video_part_must_work_on_its_file(folder, part, target, kinds):
    found = problems(folder, row("v.mp4", part=part, target={"answer": "x"} | target))
    assert [kind for kind, _ in found] == kinds


@pytest.mark.parametrize(
    ("part", "span", "kinds"),
    [
        ({"sample_fps": 8}, [0.5, 1.9], []),
        ({"sample_fps": 8}, [50, 90], ["spans outside"]),
        ({"sample_fps": 1}, [10, 16], []),
        ({}, [0, 1], ["part settings"]),
    ],
)
def test_stored_frames_last_as_long_as_their_rate_says(folder, part, span, kinds):
    assert [kind for kind, _ in problems(folder, row("frames", part=part, target={"span": span}))] == kinds


@pytest.mark.parametrize(
    "target",
    [
        *(
            [],
            "",
            0,
            {"count": "many"},
            {"count": -3},
            {"count": 1.5},
            {"answer": ""},
            {"answer": None},
            {"answer": []},
            {"answers": [10**400]},
        ),
        *({"choices": []}, {"choices": "A"}, {"choices": ["AB"]}, {"answers": []}, {"action": 3}, {"caption": " "}),
        *({"position": [3, 0.5]}, {"captions": "x"}, {"span": [0, 1]}, {"box": [10, 10, 20, 20], "point": [90, 90]}),
    ],
)
def test_a_target_that_no_reward_could_compare_with_is_a_problem(folder, target):
    assert len(problems(folder, row("a.png", target=target))) == 1


@pytest.mark.parametrize(
    "target",
    [
        *(
            {"count": 0},
            {"count": 3.0},
            {"answer": 0},
            {"answer": ["a"]},
            {"choices": ["A", "C"]},
            {"answers": [1, "x"]},
        ),
        *({"box": [10, 10, 20, 20], "point": [15, 20.5]}, {"mask": None}, {}),
    ],
)
def test_a_target_as_documented_is_none(folder, target):
    assert problems(folder, row("a.png", target=target)) == []


def test_boxes_need_an_image_and_a_misspelt_key_is_remarked(folder):
    assert [kind for kind, _ in problems(folder, row(target={"box": [1, 1, 2, 2]}))] == ["target without media"]
    (folder / "x.jsonl").write_text(json.dumps(row("a.png", target={"answr": "x"})))
    assert check(folder / "x.jsonl").first_remarks["unusual target keys"].endswith("target.answr: is answer meant?")


@pytest.mark.parametrize(("identity", "kinds"), [(0, []), ("0", []), ("", ["schema"]), (True, ["schema"])])
def test_zero_is_an_id_and_nothing_or_true_is_none(folder, identity, kinds):
    assert [kind for kind, _ in problems(folder, row(id=identity))] == kinds
    assert name_of(row(id=0)) == "0"


@pytest.mark.parametrize("media", [(), ("a.png",), ("a.png", "v.mp4")])
@pytest.mark.parametrize("identity", ["a", 7, "b@0123abcd", None])
def test_a_sample_written_as_a_row_is_read_as_the_same_sample(folder, media, identity):
    stored = row(*media, id=identity)
    sample = sample_of(stored, name_of(stored), folder=folder, where="x, row 3")
    written = row_of(sample)
    assert written["id"] == own_name(sample) == name_of(stored)
    where = written.pop("where")
    assert sample_of(written, name_of(written), folder=Path("/"), where=where) == sample


def test_numbers_beyond_a_float_are_no_json():
    with pytest.raises(RowError, match="1e400"):
        parse('{"target": {"box": [0, 0, 5, 1e400]}}')


def test_no_link_and_no_conversion_leads_out_of_a_folder(folder, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "outside.png").write_bytes((folder / "a.png").read_bytes())
    os.symlink(tmp_path, inner / "LINK")
    with pytest.raises(ValueError, match=r"a link leads to .*outside\.png"):
        inside(inner, "LINK/outside.png")
    with pytest.raises(RowError, match="a link leads to"):
        media_file(inner, "LINK/outside", extensions=("png",))
    os.symlink(inner, tmp_path / "also")
    assert inside(tmp_path / "also", "b.png") == str(tmp_path / "also/b.png")  # the folder itself may be a link

    source = inner / "x.jsonl"
    source.write_text("\n".join(json.dumps(row(f"{up}/outside.png", id=up)) for up in ("..", "LINK")))
    reader = build({"name": "rows"}, READERS, kind="format", where="test")
    progress = convert(reader, [str(source)], inner / "y.jsonl")
    assert (progress.rows, progress.kinds) == (0, {"media": 2})


def test_a_csv_row_with_a_stray_comma_or_quote_costs_itself_only(tmp_path):
    (path := tmp_path / "x.csv").write_text(
        'id,question,answer\n1,"what, where\nand why?",a\n2,what, where?,b\n3,"cut,c\n4,who?,d\n5,"how?",e\n\n'
        '6,short\n7,last?,f\n8,"open\n9,after?,g\n'
    )
    found = list(csv_rows(path))
    assert [row["id"] for _, row in found if isinstance(row, dict)] == ["1", "4", "5", "7", "9"]
    assert found[0][1] == {"id": "1", "question": "what, where\nand why?", "answer": "a"}
    bad = [problem.where.rpartition(" ")[2] for _, problem in found if isinstance(problem, Problem)]
    assert bad == ["4", "5", "9", "11"]


READER = """
from pathlib import Path
from data_pipelines.reading import Read, lines

def read(annotations: Path) -> Read:
    for where, line in lines(annotations):
        yield {"id": line, "messages": [{"role": "user", "content": line}], "target": {"answer": 1}, "where": where}
"""


def test_bytes_that_are_no_utf_8_are_a_problem_of_their_line_and_utf_16_of_the_file(tmp_path):
    (tmp_path / "reader.py").write_text(READER)
    reader = build({"name": f"{tmp_path / 'reader.py'}:read"}, {}, kind="format", where="test")
    source = tmp_path / "x.txt"
    source.write_bytes("one\ncaf\xe9\nthree é\n".encode("latin-1")[:-2] + "é\n".encode())
    progress = convert(reader, [str(source)], tmp_path / "x.jsonl")
    assert (progress.rows, progress.kinds) == (2, {"not UTF-8": 1})
    assert "line 2" in progress.shown[0] and r"\xe9" in progress.shown[0]
    for encoding in ("utf-16", "utf-16-be", "utf-32"):
        source.write_text("one\n", encoding=encoding)
        with pytest.raises(ConfigError, match="save it as UTF-8"):
            next(lines(source))
        with pytest.raises(ConfigError, match="save it as UTF-8"):
            list(Rows(source))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(ConfigError, match="pipe"):
        next(lines(tmp_path / "x.jsonl"))
    with pytest.raises(ConfigError, match="pipe"):
        Rows(tmp_path / "x.jsonl")


def test_further_columns_are_dropped_or_become_meta(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = [row(id=str(index)) | {"level": index, "hash": "x"} for index in range(2)]
    pq.write_table(pa.Table.from_pylist(stored), tmp_path / "x.parquet")
    spec = {"name": "rows", "drop": ["hash"], "meta": ["level"]}
    progress = convert(
        build(spec, READERS, kind="format", where="w"), [str(tmp_path / "x.parquet")], tmp_path / "y.jsonl"
    )
    assert (progress.rows, progress.problems) == (2, 0)
    assert [found["meta"]["level"] for _, found in Rows(tmp_path / "y.jsonl") if isinstance(found, dict)] == [0, 1]


def test_a_folder_is_read_without_what_mmrl_writes_beside_rows(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(row(id=name)))
    for name in ("screens.jsonl", "a.problems.jsonl", ".a.jsonl.unfinished.jsonl"):
        (tmp_path / name).write_text("{")
    assert [found["id"] for _, found in Rows(tmp_path) if isinstance(found, dict)] == ["a.jsonl", "b.jsonl"]
    (tmp_path / "a.train.jsonl").write_text(json.dumps(row()))
    with pytest.raises(ConfigError, match=r"a and its part a\.train"):
        Rows(tmp_path)
