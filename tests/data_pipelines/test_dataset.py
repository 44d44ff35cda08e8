"""Samples on disk: what is read equals what was written, and every bad row is named with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from data_pipelines.dataset import broken_media, check_samples, read_samples, write_samples
from mmrl.plugins import ConfigError


def picture(path: Path, *, size=(20, 10), colour="red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 60).convert("RGB").save(path) if colour == "noise" else Image.new(
        "RGB", size, colour
    ).save(path)
    return path


def chat(*images: str, text="click it") -> list[dict]:
    parts = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def row(*images: str, **changes) -> dict:
    return {"id": "a", "messages": chat(*images), "target": {"point": [1, 2]}, "meta": {"task": "gui"}} | changes


def write_lines(path: Path, *rows: dict | str) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def test_rows_written_are_the_samples_read(tmp_path):
    inside, outside = picture(tmp_path / "data/images/1.png"), picture(tmp_path / "2.png", colour="blue")
    rows = [
        row(str(inside), str(outside)),
        row(str(inside), id="b", messages=chat(str(inside), text="line\u2028separator")),
    ]
    path = write_samples(tmp_path / "data/train.jsonl", rows)
    assert [part.get("image") for part in json.loads(path.read_text().split("\n")[0])["messages"][0]["content"]] == [
        "images/1.png", str(outside), None,
    ]  # fmt: skip
    first, second = read_samples(path)
    assert [media.path for media in first.media] == [str(inside), str(outside)]
    assert first.messages[0]["content"][0]["image"] == str(inside)
    assert (first.target, first.meta, first.media[0].size) == ({"point": [1, 2]}, {"task": "gui"}, (20, 10))
    assert second.id == f"b@{second.media[0].digest[:8]}"
    assert second.where == f"{path}, row 2 (id b)"


def test_the_data_may_be_moved_and_the_ids_stay(tmp_path):
    picture(tmp_path / "old/1.png")
    write_lines(tmp_path / "old/train.jsonl", row("1.png"), {key: v for key, v in row("1.png").items() if key != "id"})
    before = [sample.id for sample in read_samples(tmp_path / "old/train.jsonl")]
    (tmp_path / "old").rename(tmp_path / "new")
    assert [sample.id for sample in read_samples(tmp_path / "new/train.jsonl")] == before


def test_a_changed_image_changes_the_id(tmp_path):
    picture(tmp_path / "1.png")
    path = write_lines(tmp_path / "train.jsonl", row("1.png"))
    before = read_samples(path)[0].id
    picture(tmp_path / "1.png", size=(30, 40), colour="blue")
    sample = read_samples(path)[0]
    assert sample.id != before
    assert sample.media[0].size == (30, 40)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{not json", "not valid JSON"),
        ("[1]", "not a JSON object"),
        (row(messages=[]), "row without messages"),
        ({"id": "a", "target": {"point": [1, 2]}}, "row without messages"),
        (row(target={}), "row without target"),
        ({"id": "a", "messages": chat()}, "row without target"),
        (row("missing.png"), "missing.png does not exist"),
        (row("text.png"), "not a readable image"),
        (row(messages=[{"role": "user", "content": [{"type": "sound", "sound": "x"}]}]), 'unknown part type "sound"'),
        (row(messages=[{"role": "user", "content": [{"type": "image", "url": "x"}]}]), "needs a string under `image`"),
        (row(messages=[{"role": "human", "content": "hi"}]), "needs a role out of"),
        (row(messages=[{"role": "user", "content": 3}]), "text or a list of parts"),
        (row("https://example.com/1.png"), "image is given as https:...; download it"),
        (row("data:image/png;base64,AAAA"), "image is given as data:...; download it"),
        (row("file:///1.png"), "image is given as file:"),
        (row(targets={}), "Did you mean target?"),
    ],
)
def test_a_bad_row_is_named(tmp_path, bad, said):
    (tmp_path / "text.png").write_text("not a picture")
    path = write_lines(tmp_path / "train.jsonl", row(id="good"), bad)
    with pytest.raises(ConfigError) as error:
        read_samples(path)
    assert said in str(error.value)
    assert f"{path}, row 2" in str(error.value)
    assert str(error.value).endswith(f"1 bad rows of 2 in {path}.")


def test_duplicate_ids_are_refused_even_with_different_images(tmp_path):
    picture(tmp_path / "1.png"), picture(tmp_path / "2.png", colour="blue")
    path = write_lines(tmp_path / "train.jsonl", row("1.png"), row("2.png"))
    with pytest.raises(ConfigError, match=r"row 2 \(id a\): the id is already that of row 1"):
        read_samples(path)


def test_five_bad_rows_are_listed_and_all_are_counted(tmp_path):
    path = write_lines(tmp_path / "train.jsonl", *(row(id=f"r{i}", target={}) for i in range(8)), row(id="good"))
    with pytest.raises(ConfigError) as error:
        read_samples(path)
    assert str(error.value).count("row without target") == 5
    assert f"8 bad rows of 9 in {path} (3 more not listed)." in str(error.value)


def test_supervised_rows_need_answers_but_no_target(tmp_path):
    answered = {"messages": [*chat(), {"role": "assistant", "content": "(1, 2)"}]}
    path = write_lines(tmp_path / "chats.jsonl", answered)
    assert read_samples(path, need_target=False)[0].target == {}
    with pytest.raises(ConfigError, match="row without target"):
        read_samples(path)
    with pytest.raises(ConfigError, match="without target and without assistant turns"):
        read_samples(write_lines(path, {"messages": chat()}), need_target=False)
    assert read_samples(path, prompts_only=True)[0].target == {}


@pytest.mark.parametrize("content", [None, "", "\n\n"])
def test_a_missing_or_empty_file_is_refused(tmp_path, content):
    path = tmp_path / "train.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=str(path)):
        read_samples(path)


def test_a_failing_writer_leaves_the_old_file_and_no_other(tmp_path):
    path = write_samples(tmp_path / "train.jsonl", [row()])
    before = path.read_text()

    def rows():
        yield row(id="b")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        write_samples(path, rows())
    assert [file.name for file in tmp_path.iterdir()] == ["train.jsonl"]
    assert path.read_text() == before


def test_a_truncated_jpeg_is_read_but_does_not_pass_the_check(tmp_path):
    good, bad = (picture(tmp_path / name, size=(200, 200), colour="noise") for name in ("good.jpg", "bad.jpg"))
    bad.write_bytes(bad.read_bytes()[:-2000])
    samples = read_samples(write_lines(tmp_path / "train.jsonl", row("good.jpg"), row("bad.jpg", id="b")))
    ((where, message),) = broken_media(samples)
    assert where.endswith("train.jsonl, row 2 (id b)")
    assert str(bad) in message
    assert "truncated" in message
    with pytest.raises(ConfigError, match=r"row 2 \(id b\): .*bad.jpg cannot be decoded"):
        check_samples(samples)
    check_samples(samples[:1])
    assert good.exists()
