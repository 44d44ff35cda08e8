"""`mmrl adapt`: unlabelled images or rows in, a run with an adapted model and its predictions out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mmrl.adaptation import Adapted, adapt, whole_model_at
from mmrl.cli import app
from mmrl.plugins import ConfigError
from mmrl.policies.tiny import save_untrained
from mmrl.runs.reader import read_metrics

QUICK = ["steps=1", "group_size=4", "rollout.votes=8", "sampling.max_new_tokens=1", "sampling.temperature=0.2",
         "optimizer.learning_rate=1e-2", "model.vision=trained"]  # fmt: skip
"""Random weights at a low temperature: one token each, some of them alike."""
QUESTION = "which digit? A 3 B 7 C 1 D 9"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("adapt") / "model"
    save_untrained(folder)
    return str(folder)


def pictures(studio, count: int = 3) -> list[Path]:
    return [Path(studio.picture(64, 64)["image"]) for _ in range(count)]


def run(model: str, inputs: list[Path], out: Path, **settings: Any) -> Adapted:
    return adapt(model, inputs, out, console=Console(quiet=True), overrides=QUICK, **settings)


def lines(result: Adapted) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.predictions.read_text().splitlines()]


def test_images_and_a_question(model, studio, tmp_path):
    images = pictures(studio)
    result = run(model, images, tmp_path / "out", question=QUESTION, answer="text")
    found = lines(result)
    assert [row["media"] for row in found] == [[str(image)] for image in images]
    assert all(row["question"] == QUESTION and 0 < row["confidence"] <= 1 and "right" not in row for row in found)
    assert [row["confidence"] for row in found] != [row["confidence_before"] for row in found]
    assert (result.model / "config.json").is_file() and result.model.is_relative_to(tmp_path / "out")
    (line,) = read_metrics(tmp_path / "out")
    assert 0 < line["vote_agreement"] <= 1 and line["tokens"] == 3 * 4  # 3 inputs, 4 of 8 votes trained on
    assert result.table.row_count == 3


def test_gold_labels_are_counted_and_nothing_else(model, studio, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": [{"type": "image", "image": str(path)},
                                                   {"type": "text", "text": QUESTION}]}]}
        | ({"target": {"answer": "A"}} if number else {})
        for number, path in enumerate(pictures(studio))
    ]  # fmt: skip
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = lines(run(model, [data], tmp_path / "out"))
    assert ["right" in row for row in found] == [False, True, True]
    assert all(row["right"] in (0, 1) and row["right_before"] in (0, 1) for row in found[1:])
    with pytest.raises(ConfigError, match=r"letter_choice needs target.answer, and data.labels is `withheld`"):
        adapt(
            model, [data], tmp_path / "paid", console=Console(quiet=True), overrides=[*QUICK, "rewards=[letter_choice]"]
        )


def test_what_it_cannot_take_is_refused_with_what_to_do(model, studio, tmp_path):
    (image,) = pictures(studio, 1)
    with pytest.raises(ConfigError, match="images and a --question, or one dataset"):
        run(model, [image], tmp_path / "out")
    with pytest.raises(ConfigError, match=r"rows.jsonl is none"):
        run(model, [image, tmp_path / "rows.jsonl"], tmp_path / "out", question=QUESTION)
    with pytest.raises(ConfigError, match="--answer word: one of choice, number, text"):
        run(model, [image], tmp_path / "out", question=QUESTION, answer="word")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out/config.yaml").write_text("")
    with pytest.raises(ConfigError, match="already holds a run"):
        run(model, [image], tmp_path / "out", question=QUESTION)


def test_a_run_is_what_its_checkpoint_holds_and_no_adapter(model, tmp_path):
    assert whole_model_at(model) == model and whole_model_at("tiny") == "tiny"
    made = tmp_path / "run/checkpoints/step-000001/model"
    made.mkdir(parents=True)
    (made.parent / "state.json").write_text("{}")
    (tmp_path / "run/config.yaml").touch()
    with pytest.raises(ConfigError, match=r"step-000001/model is an adapter, and `mmrl adapt` begins with a whole"):
        whole_model_at(str(tmp_path / "run"))
    (made / "config.json").touch()
    assert whole_model_at(str(tmp_path / "run")) == str(made)


def test_the_command_tells_where_things_are(model, studio, tmp_path):
    words = [
        "adapt",
        model,
        *map(str, pictures(studio, 2)),
        "--question",
        QUESTION,
        "--out",
        str(tmp_path / "out"),
        *QUICK,
    ]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert "2 inputs" in said.output and "predictions.jsonl" in said.output.replace("\n", "")
