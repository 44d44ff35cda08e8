"""`mmrl data check`, `show`, `split`, `stats` and `transform`: what is wrong is told by row, what is right passes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_pipelines import show as show_module
from data_pipelines.check import check
from data_pipelines.commands import app
from data_pipelines.dataset import read_samples, write_samples
from data_pipelines.reading import LONGEST
from data_pipelines.show import choose, sheet
from data_pipelines.sources import FirstRows, Rows
from data_pipelines.split import split
from data_pipelines.stats import statistics
from data_pipelines.transform import transform
from mmrl.pictures import encode
from mmrl.plugins import ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 200 x 100, a clip of 4 s, a JPEG cut in half."""
    folder = tmp_path_factory.mktemp("media")
    Image.new("RGB", (200, 100), "white").save(folder / "a.png")
    (folder / "v.mp4").write_bytes(encode([Image.new("RGB", (64, 48), (9 * i, 0, 0)) for i in range(16)], fps=4)[0])
    Image.effect_noise((200, 100), 80).convert("RGB").save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-2000])
    return folder


def row(*media: str, text: str = "where?", **changes: Any) -> dict[str, Any]:
    kinds = ["video" if name.endswith("mp4") else "image" for name in media]
    parts: list[dict[str, Any]] = [{"type": kind, kind: name} for kind, name in zip(kinds, media, strict=True)]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
    return {"id": "a", "messages": messages, "target": {"answer": "x"}, "meta": {"coordinates": "pixel"}} | changes


def found(path: Path, *rows: dict[str, Any] | str | bytes, **settings: Any) -> tuple[list[tuple[str, str, str]], Any]:
    """(where, kind, message) of the problems of some rows, and the report."""
    lines = [line if isinstance(line, (str, bytes)) else json.dumps(line) for line in rows]
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    said: list[Any] = []
    report = check(path, say=said.append, **settings)
    return [(problem.where, problem.kind, problem.message) for problem in said], report


GOOD = [
    {"box": [0, 0, 200, 100]}, {"box": [10.5, 3, 200.9, 20]}, {"point": [0, 100]}, {"boxes": []}, {"answer": 3},
    {"boxes": [[0, 0, 1, 1.5], [4, 4, 9, 9]]},
]  # fmt: skip


@pytest.mark.parametrize("target", GOOD)
def test_targets_inside_the_image_pass(folder, target):
    assert found(folder / "x.jsonl", row("a.png", target=target))[0] == []


@pytest.mark.parametrize(
    ("target", "kind", "said"),
    [
        ({"box": [150, 20, 260, 40]}, "boxes outside", "leaves the image of 200 x 100"),
        ({"box": [500, 500, 900, 900]}, "boxes outside", "as 0 to 1000 it would be [100, 50, 180, 90]"),
        ({"box": [0.1, 0.2, 0.5, 0.6]}, "boxes outside", "not in shares"),
        ({"box": [20, 150, 60, 190]}, "boxes outside", "it fits as y1, x1, y2, x2"),
        ({"box": [100, 50, 30, 20]}, "reversed boxes", "it fits as x, y, width, height"),
        ({"boxes": [[1, 1, 5, 5], [9, 9, 9, 12]]}, "reversed boxes", "[9, 9, 9, 12]"),
        ({"point": [50, 150]}, "points outside", "it fits as y, x"),
        ({"box": [1, 2, 3]}, "schema", "x1, y1, x2, y2 are expected"),
        ({"box": [1, 2, 3, "4"]}, "schema", "x1, y1, x2, y2 are expected"),
        ({"box": [1, 2, 3, True]}, "schema", "x1, y1, x2, y2 are expected"),
        ({"box": [1, 2, 3, 10**400]}, "schema", "x1, y1, x2, y2 are expected"),
        ({"boxes": 3}, "schema", "a list of boxes"),
    ],
)
def test_targets_that_cannot_be_met_are_told_and_training_refuses_them(folder, target, kind, said):
    ((where, told, message),), report = found(folder / "x.jsonl", row("a.png", target=target))
    assert (where, told) == (f"{folder / 'x.jsonl'}, row 1 (id a)", kind)
    assert said in message
    assert not report.passed
    with pytest.raises(ConfigError, match="row 1"):
        read_samples(folder / "x.jsonl")


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"target": {"span": [1.0, 4.9]}}, []),
        ({"target": {"span": [3, 1]}}, ["reversed spans"]),
        ({"target": {"spans": [[0, 1], [2, 2]]}}, ["reversed spans"]),
        ({"target": {"span": [1, 9]}}, ["spans outside"]),
        ({"target": {"span": [-1, 2]}}, ["spans outside"]),
        ({"target": {"highlights": [[1, 3], [8, 2]]}}, ["spans outside"]),
        ({"target": {"highlights": [[1]]}}, ["schema"]),
        ({"meta": {"duration": 30}}, ["wrong duration"]),
        ({"meta": {"duration": 4.3}}, []),
        ({"meta": {"duration": "31 s"}}, ["wrong duration"]),
        ({"meta": {"duration": -5}}, ["wrong duration"]),
    ],
)
def test_spans_are_compared_with_the_clip(folder, changes, kinds):
    assert [kind for _, kind, _ in found(folder / "x.jsonl", row("v.mp4", **changes))[0]] == kinds


def test_every_line_that_is_no_row_is_told_and_the_rest_is_read(folder):
    problems, report = found(
        folder / "x.jsonl",
        row(id="first"),
        '{"id": "cut", "messages": [{"ro',
        "[" * 100_000,
        b'{"id": "\xff"}',
        '{"id": "\\ud800", "messages": [{"role": "user", "content": "q"}], "target": {"answer": 1}}',
        '{"messages": [{"role": "user", "content": "q"}], "target": {"answer": NaN}}',
        '"' + "x" * LONGEST + '"',
        "",
        row(id="first", text="again"),
        row("../../etc/passwd", id="up"),
        row(id={"x": 1}),
        row(id="empty", text="  "),
        row("a.png", id="fewer", text="<image> or <image>?"),
        row(id="pad", text="<|video_pad|>"),
        row(id="convention", meta={"coordinates": "norm100"}),
        row(id="last", text="good"),
        '{"id": "half", ',
    )
    assert [(int(where.split(", row ")[1].split()[0]), kind) for where, kind, _ in problems] == [
        (2, "not JSON"), (3, "not JSON"), (4, "not JSON"), (5, "not JSON"), (6, "not JSON"), (7, "too long"),
        (9, "duplicate ids"), (10, "media"), (11, "schema"), (12, "empty question"), (13, "placeholders"),
        (14, "placeholders"), (15, "coordinates"), (17, "not JSON"),
    ]  # fmt: skip
    assert (report.rows, report.bad) == (16, 14)
    assert "leaves the data folder" in {kind: message for _, kind, message in problems}["media"]


def test_a_broken_file_passes_the_headers_and_not_the_decoding(folder):
    rows = [row("a.png"), row("cut.jpg", id="b")]
    assert found(folder / "x.jsonl", *rows)[0] == []
    (problem,), _ = found(folder / "x.jsonl", *rows, decode=True)
    assert "row 2 (id b)" in problem[0]
    assert "truncated" in problem[2]


def test_repeated_questions_and_undeclared_conventions_are_remarks(folder):
    problems, report = found(
        folder / "x.jsonl", row("a.png"), row("a.png", id="b"), row("a.png", id="c", text="other"),
        row("a.png", id="d", text="<image>", target={"point": [1, 1]}, meta={}),
    )  # fmt: skip
    assert problems == []
    expected = {"repeated questions": 1, "placeholder left in text": 1, "coordinates not declared": 1}
    assert report.remarks == expected
    assert "row 2 (id b): the question and media of row 1" in report.first_remarks["repeated questions"]


def test_thousandths_in_large_images_are_noticed_over_all_rows(folder):
    Image.new("L", (1920, 1200)).save(folder / "large.png")
    rows = [row("large.png", id=str(i), text=str(i), target={"point": [50 * i, 900]}) for i in range(20)]
    assert "coordinates up to 1000" in found(folder / "x.jsonl", *rows)[1].remarks
    rows[7]["target"] = {"point": [1700, 900]}
    assert "coordinates up to 1000" not in found(folder / "x.jsonl", *rows)[1].remarks


def test_prompts_are_measured_and_the_longest_are_named(folder):
    rows = [row(id=str(i), text="x" * i) for i in range(1, 12)]
    _, report = found(folder / "x.jsonl", *rows, measure=lambda sample: len(sample.prompt))
    assert [(tokens, where.split("row ")[1]) for tokens, _, where in sorted(report.worst, reverse=True)] == [
        (tokens, f"{tokens} (id {tokens})") for tokens in range(11, 6, -1)
    ]

    def refuse(sample: Any) -> int:
        raise ValueError("too long")

    problems, _ = found(folder / "x.jsonl", *rows[:2], measure=refuse)
    assert [kind for _, kind, _ in problems] == ["refused by the recipe"] * 2


def test_the_command_ends_with_a_table_and_a_status(folder):
    path = write_samples(folder / "fine.jsonl", [row("a.png"), row("v.mp4", id="b", meta={"task": "\x1b[31mred"})])
    result = CliRunner().invoke(app, ["check", str(path), "--model", "tiny"])
    assert result.exit_code == 0, result.output
    assert "2, 2 of them without a problem" in result.output
    assert "1 images, 1 videos in 2 files" in result.output
    assert "prompt tokens" in result.output
    assert "\x1b" not in result.output
    path.write_text("{\n" * 30)
    result = CliRunner().invoke(app, ["check", str(path), "--problems", str(folder / "bad.jsonl")])
    assert result.exit_code == 1
    assert "... and 10 more problems." in result.output
    assert len((folder / "bad.jsonl").read_text().splitlines()) == 30
    path.write_text("")
    assert CliRunner().invoke(app, ["check", str(path)]).exit_code == 1
    assert isinstance(CliRunner().invoke(app, ["check", "nowhere.jsonl"]).exception, ConfigError)


RECIPE = """
steps: 1
prompts_per_step: 1
group_size: 2
data: {train: x, roots: [%s]}
sampling: {max_new_tokens: 3}
rewards: [{name: exact_match}]
"""


def test_prompts_only_pass_unless_a_recipe_compares_answers_and_roots_are_the_recipes(folder, tmp_path):
    chat = {"role": "assistant", "content": "there"}
    prompts = [{"messages": row(text=text)["messages"]} for text in "ab"]
    path = write_samples(tmp_path / "x.jsonl", [*prompts, {"messages": [*row()["messages"], chat]}])
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 0, result.output
    assert "2 rows without a target and without an assistant turn" in result.output
    (recipe := tmp_path / "mine.yaml").write_text(RECIPE % folder)
    result = CliRunner().invoke(app, ["check", str(path), "--config", str(recipe)])
    assert result.exit_code == 1 and result.output.count("row without target.") == 3

    write_samples(path, [row(str(folder / "a.png"))])
    assert CliRunner().invoke(app, ["check", str(path), "--config", str(recipe)]).exit_code == 0
    recipe.write_text(RECIPE % tmp_path)
    result = CliRunner().invoke(app, ["check", str(path), "--config", str(recipe)])
    assert result.exit_code == 1 and "leaves the data folder" in result.output


def test_a_folder_and_native_parquet_columns_are_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row(id=str(i), text=f"q{i}", target={"answer": "x"} if i else {"count": 2}) for i in range(4)]
    pq.write_table(pa.Table.from_pylist(rows[:2]), tmp_path / "1.parquet")
    write_samples(tmp_path / "2.parquet", rows[2:])
    assert [found for _, found in Rows(tmp_path)] == rows
    (tmp_path / "2.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ConfigError, match=r"2\.parquet.*cannot be read as Parquet"):
        list(Rows(tmp_path))


def test_what_datasets_saved_is_read_and_a_missing_package_is_named(tmp_path):
    rows = [{"id": str(i), "messages": [{"role": "user", "content": f"q{i}"}], "target": {"answer": i}} for i in (1, 2)]
    try:
        import datasets
    except ImportError:
        (tmp_path / "saved").mkdir()
        (tmp_path / "saved/dataset_info.json").write_text("{}")
        with pytest.raises(ConfigError, match="pip install datasets"):
            list(Rows(tmp_path / "saved"))
        return
    made = datasets.Dataset.from_list(rows)
    datasets.DatasetDict({"train": made, "test": made.select([1])}).save_to_disk(str(tmp_path / "saved"))
    assert [found for _, found in Rows(tmp_path / "saved")] == rows
    assert [found for _, found in Rows(f"{tmp_path / 'saved'}:test")] == rows[1:]


def test_first_rows_remembers_every_key():
    first, keys = FirstRows(), [str(Random(i).randrange(500)) for i in range(2000)]
    expected: dict[str, int] = {}
    for number, key in enumerate(keys):
        assert first.seen(key, number) == expected.get(key)
        expected.setdefault(key, number)


def test_no_media_are_on_both_sides_of_a_split_even_through_others(tmp_path):
    rng = Random(3)
    for index in range(60):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index}.png")
        (tmp_path / f"copy{index}.png").write_bytes((tmp_path / f"{index}.png").read_bytes())
    rows = []
    for index in range(200):
        names = [f"{rng.choice(['', 'copy'])}{rng.randrange(60)}.png" for _ in range(rng.choice([1, 1, 1, 1, 2]))]
        rows.append(row(*names, id=str(index)))
    path = write_samples(tmp_path / "x.jsonl", rows)
    parts = split(str(path), tmp_path / "out", test=0.3, seed=1)
    sides = {name: read_samples(file) for name, (file, _) in parts.items()}
    digests = {name: {media.digest for s in samples for media in s.media} for name, samples in sides.items()}
    assert not digests["train"] & digests["test"]
    assert sum(map(len, sides.values())) == 200
    before = {name: file.read_bytes() for name, (file, _) in parts.items()}
    write_samples(tmp_path / "y.jsonl", rows[::-1])  # another order, the same sides
    again = split(str(tmp_path / "y.jsonl"), tmp_path / "out", test=0.3, seed=1)
    for name, (file, _) in again.items():
        assert sorted(file.read_bytes().split(b"\n")) == sorted(before[name].split(b"\n"))
    by_id = split(str(path), tmp_path / "ids", test=0.25, by="id")
    assert 30 < by_id["test"][1] < 70
    with pytest.raises(ConfigError, match="would be empty"):
        split(str(path), tmp_path / "none", test=1e-9)
    assert not (tmp_path / "none").exists()


def test_statistics_count_answers_sizes_and_spans(folder):
    rows = [row("a.png", id=str(i), text=str(i), target={"answer": "ABBB"[i % 4]}) for i in range(8)]
    rows += [row("v.mp4", id="s", target={"span": [1, 3]}, meta={"task": "when", "source": "made"})]
    path = write_samples(folder / "s.jsonl", rows)
    path.write_text(path.read_text() + "{\n")
    counted = statistics(str(path))
    assert counted.bad == 1
    part = counted.parts["-", "-"]
    assert (part.rows, part.answers, part.sizes) == (8, {"B": 6, "A": 2}, {(200, 100): 8})
    assert counted.parts["when", "made"].seconds == {2: 1}
    output = CliRunner().invoke(app, ["stats", str(path)]).output
    assert "B 75%, A 25%" in output


TRANSFORM = """
def change(row, *, rng, times: int = 1):
    if row["id"] == "drop":
        return None
    if row["id"] == "fail":
        raise KeyError("options")
    return {**row, "meta": {**row["meta"], "drawn": [rng.random() for _ in range(times)]}}
"""


def test_a_transform_draws_the_same_for_a_row_wherever_it_stands(tmp_path):
    (tmp_path / "t.py").write_text(TRANSFORM)
    name = f"{tmp_path / 't.py'}:change"
    rows = [row(id=identity, text=identity) for identity in ("a", "drop", "fail", "b")]
    source = write_samples(tmp_path / "x.jsonl", rows)
    progress = transform(str(source), name, tmp_path / "y.jsonl", settings={"times": 2})
    assert (progress.rows, progress.left_out, progress.kinds) == (2, 1, {"not changed": 1})
    first = {sample.id: sample.meta["drawn"] for sample in read_samples(tmp_path / "y.jsonl")}
    write_samples(source, rows[::-1])
    transform(str(source), name, tmp_path / "y.jsonl", settings={"times": 2})
    assert {sample.id: sample.meta["drawn"] for sample in read_samples(tmp_path / "y.jsonl")} == first
    assert len(set(map(tuple, first.values()))) == 2
    transform(str(source), name, tmp_path / "z.jsonl", settings={"times": 2}, seed=1)
    assert {sample.id: sample.meta["drawn"] for sample in read_samples(tmp_path / "z.jsonl")} != first
    for settings, said in (({"rng": 1}, "--seed"), ({"times": "x"}, "times"), ({"time": 1}, "Did you mean times")):
        with pytest.raises(ConfigError, match=said):
            transform(str(source), name, tmp_path / "z.jsonl", settings=settings)
    with pytest.raises(ConfigError, match="name another one"):
        transform(str(source), name, source)


def test_a_sheet_shows_boxes_where_they_are_and_rows_that_cannot_be_read(folder):
    Image.new("RGB", (200, 100), "black").save(folder / "black.png")
    path = write_samples(folder / "sheet.jsonl", [row("black.png", target={"box": [50, 25, 150, 75]})])
    figure = np.asarray(sheet(*choose(str(path), limit=1)))
    gold = (figure == show_module.GOLD).all(-1)
    dark = (figure == 0).all(-1)
    rows, columns = np.nonzero(dark.sum(1) > 100)[0], np.nonzero(dark.sum(0) > 50)[0]
    top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
    frame = gold[top:bottom, left:right]
    across, down = np.nonzero(frame.any(0))[0], np.nonzero(frame.any(1))[0]
    width, height = right - left, bottom - top
    assert np.allclose([across.min() / width, across.max() / width], [0.25, 0.75], atol=0.02)
    assert np.allclose([down.min() / height, down.max() / height], [0.25, 0.75], atol=0.03)
    assert not frame[down.min() + 4 : down.max() - 4, across.min() + 4 : across.max() - 4].any()
    bad = [row("v.mp4", id=str(i), text="q " * i, target={"span": [1, 2]}) for i in range(4)]
    path.write_text("{\n" + "\n".join(map(json.dumps, [row("gone.png"), *bad])))
    out = folder / "sheet.png"
    assert CliRunner().invoke(app, ["show", str(path), "--out", str(out), "--limit", "5", "--seed", "0"]).exit_code == 0
    assert Image.open(out).width == 3 * (show_module.CELL + show_module.GAP) + show_module.GAP


def test_rows_to_show_are_drawn_by_the_seed_and_stay_in_order(tmp_path):
    path = write_samples(tmp_path / "x.jsonl", [row(id=f"{index:03d}", text=str(index)) for index in range(100)])

    def names(**settings: Any) -> list[str]:
        return [item["id"] for _, item in choose(str(path), limit=5, **settings)[1]]

    assert names() == ["000", "001", "002", "003", "004"]
    assert names(seed=1) == names(seed=1) == sorted(names(seed=1)) != names(seed=2)
