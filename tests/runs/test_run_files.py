from __future__ import annotations

from pathlib import Path

import pytest

from mmrl.runs.files import append_line, atomic_folder, atomic_write, remove_folder, remove_leftovers


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_file_appears_only_when_complete(tmp_path: Path):
    with atomic_write(tmp_path / "deep" / "a.txt") as path:
        path.write_text("new")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"
    assert contents(tmp_path) == {"deep", "deep/a.txt"}


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "a.txt") as path:
        path.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "a.txt").read_text() == "old"
    assert contents(tmp_path) == {"a.txt"}


def test_a_folder_replaces_an_older_one_as_a_whole(tmp_path: Path):
    for name in ("old", "new"):
        with atomic_folder(tmp_path / "f") as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / name).write_text(name)
    assert contents(tmp_path) == {"f", "f/sub", "f/sub/new"}


def test_an_exception_leaves_the_old_folder_and_nothing_else(tmp_path: Path):
    with atomic_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(OSError), atomic_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("half")
        raise OSError("disk full")
    assert (tmp_path / "f" / "a").read_text() == "old"
    assert contents(tmp_path) == {"f", "f/a"}


def test_leftovers_of_killed_processes_go_and_nothing_else_does(tmp_path: Path):
    for name in ("a.txt", ".a.txt.0123.tmp", "sub/b.tmp", "sub/.b.0123.tmp", "sub/.c.0123.tmp/model/w"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert contents(tmp_path) == {"a.txt", "sub", "sub/b.tmp"}


def test_removing_a_folder_that_is_not_there_is_fine(tmp_path: Path):
    remove_folder(tmp_path / "none")


def test_lines_are_appended(tmp_path: Path):
    append_line(tmp_path / "a.jsonl", "1")
    append_line(tmp_path / "a.jsonl", "2")
    assert (tmp_path / "a.jsonl").read_text() == "1\n2\n"
