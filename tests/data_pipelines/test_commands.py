"""`mmrl data ...` as it is typed: the documented lines, a recipe's mixture of tasks, where files are written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_pipelines.commands import app
from data_pipelines.makers import MAKERS, READERS, TRANSFORMS
from data_pipelines.show import choose, sheet
from data_pipelines.sources import write_samples
from data_pipelines.split import split
from data_pipelines.stats import statistics
from data_pipelines.transform import bound
from mmrl.mappings import settings_from
from mmrl.pictures import encode
from mmrl.plugins import ConfigError, build, load

DOCS = Path(__file__).parents[2] / "docs"
KINDS = {"make": MAKERS, "convert": READERS, "transform": TRANSFORMS}


def documented() -> list[str]:
    """The lines of code blocks, and what stands in backticks, that name a maker, a reader or a transform."""
    found = []
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"^(mmrl data .*)$|`(mmrl data [^`]*)`", text, re.MULTILINE):
            words = shlex.split("".join(line), comments=True)
            if words[2] in KINDS and "..." not in words and {*KINDS[words[2]]} & {*words}:
                found.append(shlex.join(words))
    return found


@pytest.mark.parametrize("line", documented())
def test_the_settings_of_every_documented_line_are_taken(line):
    words = shlex.split(line)
    registry = KINDS[words[2]]
    name = next(word for word in words[3:] if word in registry)
    given = settings_from([word for word in words if "=" in word], load(name, registry, kind="plugin", where="docs"))
    if words[2] == "transform":
        bound(name, given)
    elif given:  # in a table a name may stand alone
        build({**given, "name": name}, registry, kind="plugin", where="docs")


def test_the_documentation_has_such_lines():
    assert len(documented()) > 25


def test_a_setting_that_is_a_text_is_taken_as_typed():
    def plugin(
        *, version: str = "", media: Path | None = None, steps: int | str = 0, tasks: list[str] | None = None
    ): ...

    words = ["version=1.50", "media=007", "steps=3", "tasks=[a, b]"]
    assert settings_from(words, plugin) == {"version": "1.50", "media": "007", "steps": 3, "tasks": ["a", "b"]}
    assert settings_from(["media=null", "steps=all"], plugin) == {"media": None, "steps": "all"}
    assert settings_from(words[:1]) == {"version": 1.5}
    prompt = "Find it: {instruction}. [x, y]"  # no YAML
    assert settings_from([f"media={prompt}"], plugin) == {"media": prompt}
    with pytest.raises(ConfigError, match="not valid YAML"):
        settings_from([f"seed={prompt}"], plugin)


def row(name: str, task: str, **target: Any) -> dict[str, Any]:
    content = [{"type": "image", "image": "a.png"}, {"type": "text", "text": f"{name}?"}]
    return {
        "id": name, "messages": [{"role": "user", "content": content}], "target": target,
        "meta": {"task": task, "coordinates": "pixel"},
    }  # fmt: skip


RECIPE = """
steps: 1
prompts_per_step: 1
group_size: 2
data: {train: x}
sampling: {max_new_tokens: 3}
rewards: [{name: exact_match, task: [count, colour]}, {name: box_iou, task: locate}]
"""


def test_a_mixture_of_tasks_passes_its_recipe_and_a_row_that_lacks_its_key_is_bad(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (recipe := tmp_path / "r.yaml").write_text(RECIPE)
    rows = [row("a", "count", answer="3"), row("b", "locate", box=[1, 1, 9, 9]), row("c", "colour", answer="red")]
    path = write_samples(tmp_path / "x.jsonl", rows)
    result = CliRunner().invoke(app, ["check", str(path), "--config", str(recipe)])
    assert result.exit_code == 0, result.output
    write_samples(path, [*rows, row("d", "locate", answer="x")])
    result = CliRunner().invoke(app, ["check", str(path), "--config", str(recipe)])
    assert "(id d): reward box_iou needs target.box." in " ".join(result.output.split())
    assert "4, 3 of them without a problem" in result.output
    write_samples(path, rows[::2])
    result = CliRunner().invoke(app, ["check", str(path), "--config", str(recipe)])
    assert result.exit_code == 1
    assert (
        "box_iou applies to no sample: its task is locate, and the values of meta.task in the data are colour, count."
        in (" ".join(result.output.split()))
    )


def test_a_sheet_is_made_of_numbers_too_large_and_films_too_short(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    frames = [Image.new("RGB", (64, 48), (80 * index, 0, 0)) for index in range(3)]
    (tmp_path / "v.mp4").write_bytes(encode(frames, fps=4)[0])
    film = row("v", "when", span=[0, 0.5])
    film["messages"][0]["content"][0] = {"type": "video", "video": "v.mp4"}
    rows = [row("a", "where", box=[0, 0, 5, 10**400], point=[10**400, 1]), film]
    (path := tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert not statistics(str(path)).parts["where", "-"].areas
    result = CliRunner().invoke(app, ["show", str(path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "x.sheet.png").is_file()  # beside the data, so that two train.jsonl do not share one
    alone = np.asarray(sheet(*choose(str(path), limit=2)))[:, 440:]
    red = (alone[..., 0] > 100) & (alone[..., 1:].max(-1) < 60)
    assert red.sum() > 200  # the film's last frames or its gold span, not an error in words


def test_the_frames_shown_are_those_of_the_rows_part(tmp_path):
    frames = [Image.new("RGB", (64, 48), "blue" if index < 8 else "lime") for index in range(16)]
    (tmp_path / "v.mp4").write_bytes(encode(frames, fps=4)[0])
    film = row("v", "what", answer="lime")
    film["messages"][0]["content"][0] = {"type": "video", "video": "v.mp4", "video_start": 2.5, "video_end": 4}
    path = write_samples(tmp_path / "x.jsonl", [film])
    shown = np.asarray(sheet(*choose(str(path), limit=1))).astype(int)
    assert ((shown[..., 1] - shown[..., 2]) > 120).sum() > 5000
    assert ((shown[..., 2] - shown[..., 1]) > 120).sum() == 0


def test_a_split_writes_both_parts_or_neither_and_tells_all_bad_rows(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    rows = [
        {"id": str(i), "messages": [{"role": "user", "content": str(i)}], "target": {"answer": i}} for i in range(40)
    ]
    path = write_samples(tmp_path / "data/x.jsonl", rows)
    first = {part: file.read_bytes() for part, (file, _) in split(str(path), tmp_path / "out", test=0.5).items()}
    with pytest.raises(ConfigError, match="would be empty"):
        split(str(path), tmp_path / "out", test=1e-9)
    path.write_text(path.read_text() + "{\n[\n")
    with pytest.raises(ConfigError, match=r"row 41: .*\n.*row 42: .*\n2 bad rows"):
        split(str(path), tmp_path / "out", test=0.5)
    assert {part: (tmp_path / f"out/x.{part}.jsonl").read_bytes() for part in first} == first
    write_samples(path, rows)
    with pytest.raises(ConfigError, match="--out"):
        split(str(path.parent), path.parent, test=0.5)
    parts = split(str(path.parent), tmp_path / "out", test=0.5)
    assert [file.name for file, _ in parts.values()] == ["data.train.jsonl", "data.test.jsonl"]
