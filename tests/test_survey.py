"""A survey: every row is completed and scored once, in order, and what is made of it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipelines.gui.build import make_gui
from data_pipelines.rows import own_name, row_of
from data_pipelines.sources import read_rows
from mmrl.plugins import ConfigError, Stage
from mmrl.policies.tiny import save_untrained
from mmrl.survey import completed, survey

DEMO = str(Path(__file__).parents[1] / "configs/demo/gui.yaml")


def lengths(policy, recipe, samples, *, completions):
    """A row per sample that holds what its completions are worth."""
    for sample, rollouts in completed(policy, recipe, samples, completions=completions):
        assert [own_name(one) for one in rollouts.samples] == [own_name(sample)]
        assert rollouts.rows_of(0) == list(range(completions)) == list(range(len(rollouts)))
        assert rollouts.scores["length"].tolist() == [float(len(text)) for text in rollouts.text]
        yield row_of(sample) | {"meta": {"worth": rollouts.reward.tolist()}}


@pytest.fixture
def run(tmp_path):
    make_gui(tmp_path / "gui", count=5, test_count=1)
    (tmp_path / "plugins.py").write_text(
        "from rewards import reward\n\n@reward(range=(0, 1000))\ndef length(completion, sample):\n"
        "    return len(completion)\n"
    )

    def run(*changes, model=None, **settings):
        overrides = [f"rewards=[{tmp_path}/plugins.py:length]", "sampling.max_new_tokens=3", *changes]
        stage = Stage("lengths", lengths, {"completions": 2})
        return survey(stage, f"{tmp_path}/gui/train.jsonl", tmp_path / "out.jsonl", config_file=DEMO, model=model,
                      overrides=overrides, tick=lambda progress: None, **settings)  # fmt: skip

    run.folder = tmp_path
    return run


def test_every_row_is_completed_once_and_in_order(run):
    """Five rows, two at a time: the last part is smaller."""
    assert run("prompts_per_step=2").rows == 5
    asked, found = (list(read_rows(run.folder / name)) for name in ("gui/train.jsonl", "out.jsonl"))
    assert [row["id"] for row in found] == [row["id"] for row in asked]
    assert [row["messages"] for row in found] == [row["messages"] for row in asked]
    assert all(len(row["meta"]["worth"]) == 2 for row in found)


def test_completions_that_cannot_differ_are_refused_where_they_must(run):
    with pytest.raises(ConfigError, match="temperature"):
        run("sampling.temperature=0", must_differ=True)
    assert not (run.folder / "out.jsonl").exists()
    run("sampling.temperature=0")
    assert all(len(set(row["meta"]["worth"])) == 1 for row in read_rows(run.folder / "out.jsonl"))


def test_a_run_stands_for_its_newest_model(run):
    made = run.folder / "runs/one"
    newest = made / "checkpoints/step-000003/model"
    save_untrained(newest, seed=1)
    (newest.parent / "state.json").write_text("{}")
    found = {}
    (made / "config.yaml").touch()
    for model in (None, str(newest), str(made)):
        run(model=model)
        found[model] = [row["meta"]["worth"] for row in read_rows(run.folder / "out.jsonl")]
        (run.folder / "out.jsonl").unlink()
    assert found[str(made)] == found[str(newest)] != found[None]


def test_a_model_that_makes_pictures_is_refused(run):
    with pytest.raises(ConfigError, match="makes images; a survey is of texts"):
        run("model.path=tiny-ddim")
