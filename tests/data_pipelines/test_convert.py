"""Conversion: nothing valid is lost, everything else is told, and an interrupted run ends with the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from threading import Event, Timer
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from data_pipelines import convert as module
from data_pipelines.commands import app
from data_pipelines.convert import convert
from data_pipelines.dataset import read_samples
from data_pipelines.makers import READERS
from data_pipelines.opening import BATCH, Opener
from data_pipelines.reading import LONGEST, inside, json_items, json_lines, lines
from data_pipelines.sources import Rows
from mmrl.plugins import ConfigError, build

READER = '''
import time
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.reading import Problem, Read, inside, lines


def read_pairs(annotations: Path, *, media: Path, pause: float = 0.0) -> Read:
    """`file;question;answer` per line."""
    for where, line in lines(annotations):
        time.sleep(pause)
        parts = line.split(";")
        if len(parts) != 3:
            yield Problem(where, f"{len(parts)} fields, not 3", "fields")
            continue
        content = [{"type": "image", "image": str(media / parts[0])}] if parts[0] else []
        content.append({"type": "text", "text": parts[1]})
        yield {
            "id": parts[1],
            "messages": [{"role": "user", "content": content}],
            "target": {"answer": parts[2]},
            "where": where,
        }
'''


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    (tmp_path / "reader.py").write_text(READER)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "images/a.png")
    (tmp_path / "images/cut.png").write_bytes((tmp_path / "images/a.png").read_bytes()[:20])
    (tmp_path / "images/empty.png").write_bytes(b"")
    return tmp_path


def stage(folder: Path, **settings: Any) -> Any:
    name = f"{folder / 'reader.py'}:read_pairs"
    return build({"name": name, "media": str(folder / "images"), **settings}, {}, kind="format", where="test")


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().rstrip("\n").split("\n")]


def test_every_bad_row_is_told_with_its_line_and_every_good_one_is_kept(pairs):
    source = write(
        pairs / "a.txt", "a.png;what?;1", ";text only?;2", "a.png;what?;3", "one field", "gone.png;q1;1",
        "cut.png;q2;1", "empty.png;q3;1", ";   ;1", ";<|image_pad|>;1", "a.png;last?;4",
    )  # fmt: skip
    progress = convert(stage(pairs), [str(source)], pairs / "out" / "x.jsonl")
    samples = read_samples(pairs / "out" / "x.jsonl")
    assert [sample.prompt for sample in samples] == ["what?", "text only?", "last?"]
    assert samples[0].media[0].path == str(pairs / "images/a.png")
    problems = told(pairs / "out" / "x.problems.jsonl")
    places = [int(problem["where"].split(", line ")[1].split()[0]) for problem in problems]
    assert places == [3, 4, 5, 6, 7, 8, 9]
    assert [problem["kind"] for problem in problems] == [
        "duplicate ids", "fields", "media", "media", "media", "empty question", "placeholders",
    ]  # fmt: skip
    assert problems[0]["row"]["target"] == {"answer": "3"}
    assert (progress.rows, progress.problems) == (3, 7)
    assert sorted(os.listdir(pairs / "out")) == ["x.jsonl", "x.problems.jsonl"]


def test_sources_are_read_one_after_the_other_and_one_that_is_cut_short_keeps_its_rows(tmp_path):
    (tmp_path / "reader.py").write_text(
        "from data_pipelines.reading import json_items\n"
        "def read(annotations, *, media=None):\n"
        "    for where, key, value in json_items(annotations):\n"
        "        yield {'messages': [{'role': 'user', 'content': value}], 'target': {'answer': 1}, 'where': where}\n"
    )
    whole = json.dumps([f"question {index}" for index in range(20)])
    (tmp_path / "a.json").write_text(whole[:200])
    (tmp_path / "b.json").write_text(whole.replace("question", "other"))
    bound = build({"name": f"{tmp_path / 'reader.py'}:read"}, {}, kind="format", where="test")
    out = tmp_path / "x.jsonl"
    progress = convert(bound, [str(tmp_path / "a.json"), str(tmp_path / "b.json")], out)
    assert progress.kinds == {"cut short": 1}
    assert progress.rows == whole[:200].count('",') + 20
    with pytest.raises(ConfigError, match=r"gone.json"):
        convert(bound, [str(tmp_path / "gone.json")], tmp_path / "y.jsonl")


CUT = {
    "charades_train.json": ("charades-sta", "charades-sta"),
    "train.json": ("activitynet-captions", "activitynet-captions"),
    "highlight_val_release.jsonl": ("qvhighlights", "qvhighlights"),
    "validation.json": ("clevrer", "clevrer"),
    "clevrer_counterfactual_train.json": ("clevrer", "clevrer"),
    "nextgqa_val.json": ("next-gqa", "next-gqa"),
    "STAR_val.json": ("star", "star"),
    "training_6k.jsonl": ("seed-bench-r1", "seed-bench-r1"),
    "Video-R1-260k.json": ("video-r1", "video-r1"),
    "screenspot_mobile.json": ("screenspot", "screenspot"),
    "test.json": ("android-control", "android-control"),
    "GOOGLE_APPS-1001.json": ("aitz", "aitz/google_apps/GOOGLE_APPS-1001"),
}


@pytest.mark.parametrize("left", [-1, -30])
@pytest.mark.parametrize("name", CUT)
def test_an_annotation_file_that_breaks_off_never_goes_unnoticed(tmp_path, name, left):
    reader, folder = CUT[name]
    source = tmp_path / name
    source.write_bytes((Path(__file__).parent / "formats" / folder / name).read_bytes().rstrip()[:left])
    bound = build({"name": reader, "media": str(tmp_path)}, READERS, kind="format", where="test")
    try:
        progress = convert(bound, [str(source)], tmp_path / "out" / "x.jsonl")
    except ConfigError as error:  # not one item was whole
        assert "not valid JSON from here on" in str(error)
    else:
        assert progress.kinds.get("cut short", 0) + progress.kinds.get("not JSON", 0) == 1


def many(folder: Path, count: int) -> Path:
    rng = Random(0)
    rows = [f"{rng.choice(['a.png', '', 'gone.png'])};question {rng.randrange(count)};{i}" for i in range(count)]
    return write(folder / "many.txt", *rows)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_whatever_step_is_the_last_the_same_command_ends_with_the_same_bytes(pairs, monkeypatch, name):
    """Every call that changes a file is, once, where the process dies."""
    monkeypatch.setattr(module, "STEP", 16)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    source = many(pairs, 60)
    convert(stage(pairs), [str(source)], pairs / "whole" / name)
    expected = {file.name: file.read_bytes() for file in (pairs / "whole").iterdir()}
    # Paths in the rows are relative to the output or absolute, so both folders hold the same bytes.
    replace, unlink, fsync = os.replace, Path.unlink, os.fsync
    for last in range(1, 40):
        calls = 0

        def dying(call: Any, after: bool, last: int = last) -> Any:
            def step(*arguments: Any, **settings: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == last and not after:
                    raise Killed
                result = call(*arguments, **settings)
                if calls == last:
                    raise Killed
                return result

            return step

        out = pairs / f"out{last}" / name
        monkeypatch.setattr(os, "replace", dying(replace, after=last % 2 == 0))
        monkeypatch.setattr(Path, "unlink", dying(unlink, after=last % 2 == 0))
        monkeypatch.setattr(os, "fsync", dying(fsync, after=False))
        try:
            convert(stage(pairs), [str(source)], out)
        except Killed:
            died = True
        else:
            died = False
        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr(Path, "unlink", unlink)
        monkeypatch.setattr(os, "fsync", fsync)
        convert(stage(pairs), [str(source)], out)
        assert {file.name: file.read_bytes() for file in out.parent.iterdir()} == expected, last
        if not died:
            break
    assert last > 10


def test_a_killed_process_is_continued_and_not_begun_again(pairs):
    source = many(pairs, 1200)
    convert(stage(pairs), [str(source)], pairs / "whole" / "x.jsonl")
    command = [sys.executable, "-m", "mmrl.cli", "data", "convert", f"{pairs / 'reader.py'}:read_pairs", str(source),
               f"media={pairs / 'images'}", "pause=0.003", "--out", str(pairs / "out" / "x.jsonl")]  # fmt: skip
    record = pairs / "out" / ".x.jsonl.progress.json"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not record.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    stored = json.loads(record.read_text())
    assert 0 < stored["items"] < 1200
    assert not (pairs / "out" / "x.jsonl").exists()
    # What is recorded is kept: a mark put into the part that is done is there in the end.
    unfinished = pairs / "out" / ".x.jsonl.unfinished"
    data = unfinished.read_bytes()
    unfinished.write_bytes(data.replace(b"question", b"QUESTION", 1) + b'{"half a row')
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = (pairs / "out" / "x.jsonl").read_bytes()
    assert b"QUESTION" in made
    assert made.replace(b"QUESTION", b"question") == (pairs / "whole" / "x.jsonl").read_bytes()
    problems = (pairs / "out" / "x.problems.jsonl").read_bytes()
    assert problems == (pairs / "whole" / "x.problems.jsonl").read_bytes()


def test_other_arguments_or_another_source_begin_again(pairs, monkeypatch):
    monkeypatch.setattr(module, "STEP", 4)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    source, out = many(pairs, 40), pairs / "out" / "x.jsonl"

    def stop(progress):
        if progress.items >= 20:
            raise Killed

    with pytest.raises(Killed):
        convert(stage(pairs), [str(source)], out, tick=stop)
    write(source, ";fresh;1", ";other;2")
    convert(stage(pairs), [str(source)], out)
    assert [sample.prompt for sample in read_samples(out)] == ["fresh", "other"]
    assert os.listdir(pairs / "out") == ["x.jsonl"]


def test_a_file_that_is_read_besides_the_source_begins_the_conversion_again(tmp_path, monkeypatch):
    """HRVQA's answers, found beside the questions, and a file that a setting names."""
    monkeypatch.setattr(module, "STEP", 1)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    shutil.copytree(Path(__file__).parent / "formats/hrvqa", tmp_path / "hrvqa")
    questions, answers = (tmp_path / f"hrvqa/train_{name}.json" for name in ("question", "answer"))
    registry = {"hrvqa": "data_pipelines.uav.hrvqa:read_hrvqa"}

    def stop(progress):
        if progress.items == 2:
            raise Killed

    for name, given in {"beside": {}, "named": {"answers": str(tmp_path / "hrvqa/other.json")}}.items():
        shutil.copy(answers, tmp_path / "hrvqa/other.json")
        read = build({"name": "hrvqa", **given}, registry, kind="format", where="test")
        begun, out = Path(given.get("answers", answers)), tmp_path / f"{name}.jsonl"
        with pytest.raises(Killed):
            convert(read, [str(questions)], out, tick=stop)
        assert json.loads((tmp_path / f".{name}.jsonl.progress.json").read_text())["items"] == 1
        begun.write_text(begun.read_text().replace('"3"', '"7"'))
        convert(read, [str(questions)], out)
        assert told(out)[0]["target"]["count"] == 7
        begun.write_text(begun.read_text().replace('"7"', '"3"'))


def test_rows_are_written_while_the_media_of_later_ones_are_opened(pairs):
    """The opener waits for the media of the row it gives, and for no others."""
    source = write(pairs / "a.txt", "a.png;q;1", "b.png;q;2")
    first, second = list(stage(pairs).plugin(source, media=pairs / "images"))
    release = Event()

    class Slow(Opener):
        def _open(self, file):
            if file[1].endswith("b.png"):
                release.wait(60)
            super()._open(file)

    opened = Slow(pairs, decode=True).opened(iter([first, None, second, *[None] * BATCH]))
    assert next(opened) is first
    assert next(opened) is None
    Timer(0.2, release.set).start()
    assert next(opened) is second
    assert release.is_set()


def test_two_processes_cannot_write_one_output(pairs):
    source, out = write(pairs / "a.txt", ";q;1"), pairs / "x.jsonl"

    def again(progress):
        convert(stage(pairs), [str(source)], out)

    with pytest.raises(ConfigError, match="another process"):
        convert(stage(pairs), [str(source)], out, tick=again)


def test_the_command_reports_and_its_status_says_whether_a_row_was_valid(pairs):
    def run(*arguments: str) -> Any:
        reader, images = f"{pairs / 'reader.py'}:read_pairs", f"media={pairs / 'images'}"
        return CliRunner().invoke(app, ["convert", reader, *arguments, images, "--out", str(pairs / "x.jsonl")])

    good = write(pairs / "a.txt", ";q;1", "bad \x1b[31mred", *(f"gone{index}.png;r{index};1" for index in range(9)))
    result = run(str(good))
    assert result.exit_code == 0
    assert "10 problems (media 9, fields 1)" in result.output.replace("\n", "")
    assert result.output.count("does not exist") == 4  # the first five problems
    assert "\x1b" not in result.output
    assert run(str(good), "--strict").exit_code == 1
    assert (pairs / "x.jsonl").is_file()
    (pairs / "x.jsonl").unlink()
    assert run(str(write(pairs / "b.txt", "bad"))).exit_code == 1
    assert not (pairs / "x.jsonl").exists()
    wrong = run(str(good), "medai=x")
    assert isinstance(wrong.exception, ConfigError)
    assert "Did you mean media?" in str(wrong.exception)


def test_rows_go_to_parquet_and_back_unchanged(tmp_path):
    rows = [
        {"id": "a", "messages": [{"role": "user", "content": "x\u2028y"}], "target": {"answer": [1, "b", None, 2.5]}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "é"}]}], "target": {"count": 3},
         "meta": {"deep": {"er": [{"x": 1}, {"y": None}]}}},
    ]  # fmt: skip
    write(tmp_path / "x.jsonl", *map(json.dumps, rows))
    rows_format = {"name": "rows"}
    registry = {"rows": "data_pipelines.sources:read_rows"}
    bound = build(rows_format, registry, kind="format", where="test")
    convert(bound, [str(tmp_path / "x.jsonl")], tmp_path / "y.parquet")
    convert(bound, [str(tmp_path / "y.parquet")], tmp_path / "z.jsonl")
    assert [row for _, row in Rows(tmp_path / "y.parquet")] == rows
    assert told(tmp_path / "z.jsonl") == rows
    assert [s.target for s in read_samples(tmp_path / "y.parquet")] == [row["target"] for row in rows]


def test_json_is_decoded_item_by_item_as_a_whole(tmp_path):
    rng, path = Random(1), tmp_path / "x.json"
    data = [
        {"n": rng.random(), "text": 'é"\\\n' * rng.randrange(40), "list": [None] * rng.randrange(5)}
        for _ in range(4000)
    ]
    keyed = {f"k{index}": value for index, value in enumerate(data)}
    path.write_text(json.dumps(data, indent=1))
    assert [value for _, _, value in json_items(path)] == data
    path.write_text(json.dumps({"before": [1], "under": keyed, "after": 2}))
    assert {key: value for _, key, value in json_items(path, under="under")} == keyed
    with pytest.raises(ConfigError, match="key `nowhere`"):
        list(json_items(path, under="nowhere"))


@pytest.mark.parametrize("text", ["", "3", "[1 2]", '{"a" 1}', "[1,]", "[nope]", "[" * 5000, '[1, {"a":'])
def test_what_is_no_json_ends_with_a_line(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.json, line 1: not valid JSON from here on"):
        list(json_items(path))


def test_lines_that_are_too_long_or_no_json_do_not_end_a_reading(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n"' + b"x" * (LONGEST + 5) + b'"\n{"a": \xff}\n[2]\n{"b": 2}')
    found = list(json_lines(path))
    assert [value for _, value in found if isinstance(value, dict)] == [{"a": 1}, {"b": 2}]
    assert [where.rpartition(" ")[2] for where, _ in found] == ["1", "2", "3", "4", "5"]
    assert [len(line) for _, line in lines(path)][1] == LONGEST


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "", ".", "a/../../x", "a\0b"])
def test_an_annotation_cannot_name_a_file_elsewhere(tmp_path, name):
    assert inside(tmp_path, "a/../b.png") == str(tmp_path / "b.png")
    with pytest.raises(ValueError, match="is not a file of"):
        inside(tmp_path, name)
