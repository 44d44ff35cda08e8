"""What a run keeps of single actions: their text, and every number there is one of per action."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch

from mmrl.plugins import ConfigError
from mmrl.runs import layout
from mmrl.runs.reader import read_group, read_rollouts, read_row
from mmrl.runs.table import PER_ACTION
from mmrl.runs.writer import RunWriter

PIECES = [[], ["one"], ["on", "e two"], ["a", "", "\u00e9"]]


@pytest.fixture
def run(tmp_path) -> RunWriter:
    return RunWriter.create(tmp_path / "run", "steps: 3\n")


def test_every_action_has_its_text_and_its_numbers(run, make_rollouts):
    rollouts = make_rollouts((3, 1))
    rollouts.signals["entropy"] = torch.rand(4, 3)
    rollouts.logp_rollout = rollouts.logp_old - 0.25
    run.record(0, rollouts, {}, pieces=PIECES)
    for row, pieces in enumerate(PIECES):
        found = read_row(run.folder, 0, 0, row)
        assert found["pieces"] == pieces
        assert set(found["token_values"]) == {"advantage", "logp_old", "logp_rollout", "entropy"}
        for name, tensor in [("entropy", rollouts.signals["entropy"]), ("logp_rollout", rollouts.logp_rollout)]:
            assert found["token_values"][name] == pytest.approx(tensor[row, : len(pieces)].tolist())


def test_what_is_not_trained_has_no_advantage_and_what_is_not_finite_is_null(run, make_rollouts):
    rollouts = make_rollouts((4,))
    rollouts.mask[3, 0] = False
    rollouts.advantage[3, 1] = torch.inf
    run.record(0, rollouts, {})
    assert read_row(run.folder, 0, 0, 3)["token_values"]["advantage"] == [None, None, 3.0]


def test_denoising_steps_have_numbers_where_they_are_trained_and_no_text(run, make_made):
    from PIL import Image

    run.record(0, make_made([Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]), {})
    row = read_row(run.folder, 0, 0, 1)
    assert row["pieces"] is None
    assert row["token_values"] == {
        "advantage": [1.0, 1.0, None, None],
        "logp_old": [-0.5, -0.5, None, None],
        "logp_rollout": [-0.5, -0.5, None, None],
        "level": [1.0, 1.0, None, None],
    }


def test_a_name_without_any_number_is_left_out(run, make_rollouts):
    rollouts = make_rollouts((4,))
    rollouts.signals["entropy"] = torch.full((4, 3), torch.nan)
    run.record(0, rollouts, {})
    assert set(read_row(run.folder, 0, 0, 3)["token_values"]) == {"advantage", "logp_old"}


def test_one_group_is_read_as_all_of_them_are(run, make_rollouts):
    run.record(2, make_rollouts((2, 3, 1)), {}, pieces=[["x"]] * 6)
    rows = read_rollouts(run.folder, 2)
    for group in range(3):
        expected = [{**row, "has_tokens": True} for row in rows if row["group"] == group]
        assert read_group(run.folder, 2, 0, group) == expected
    assert read_group(run.folder, 2, 0, 3) == [] and read_row(run.folder, 2, 0, 6) is None
    with pytest.raises(ConfigError, match="Recorded: 1 steps from 2 to 2"):
        read_group(run.folder, 3, 0, 0)


def test_runs_from_before_tokens_were_kept_are_read(run, make_rollouts):
    run.record(0, make_rollouts((3,)), {})
    [(_, _, path)] = layout.rollout_files(run.folder)
    expected = read_rollouts(run.folder, 0)
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.drop_columns(list(PER_ACTION)).replace_schema_metadata({b"mmrl.schema": b"2"}), path)
    assert read_rollouts(run.folder, 0) == expected
    assert [row["has_tokens"] for row in read_group(run.folder, 0, 0, 0)] == [False] * 3
    row = read_row(run.folder, 0, 0, 1)
    assert row["pieces"] is None and row["token_values"] is None
