"""ARPO: when a stored success joins a group, what is stored, and that a resumed run remembers it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from data_pipelines.gui.build import make_gui
from mmrl.launch import run_training
from mmrl.methods.arpo import remember, success_replay
from mmrl.runs.checkpoints import latest_checkpoint, read_state
from mmrl.runs.reader import read_metrics, read_rollouts

ROOT = Path(__file__).parents[2]
SUCCESS = [5, 6, 7]


@pytest.fixture
def play(policies, context, make_rollouts):
    """One group whose completions have these scores, replayed with these stored successes of its prompt."""

    def run(scores, stored, **settings):
        def generate(samples, sizes):
            count = len(scores)
            return make_rollouts([0.0] * count, [0] * count, signals={"truncated": torch.zeros(count)})

        def score(rollouts):
            values = [1.0 if origin == "replay" else scores[int(a[0]) - 1] for a, origin in played(rollouts)]
            rollouts.scores, rollouts.weights = {"done": torch.tensor(values)}, {"done": 1.0}
            rollouts.reward = torch.tensor(values)

        def numbered(samples, sizes):
            rollouts = generate(samples, sizes)
            rollouts.actions[:, 0] = torch.arange(len(rollouts)) + 1
            return rollouts

        def played(rollouts):
            return zip(rollouts.actions.tolist(), rollouts.origin, strict=True)

        memory = {"success_replay": {"s0": list(stored)} if stored else {}}
        here = replace(context, generate=numbered, score=score, memory=memory)
        samples = numbered([], []).samples
        found = success_replay(policies["qwen3_vl"], samples, [len(scores)], here, **settings)
        if found.reward is None:
            score(found)
        return found, memory["success_replay"]

    return run


def names(rollouts):
    rows = zip(rollouts.actions.tolist(), rollouts.origin, strict=True)
    return ["POS" if origin == "replay" else f"t{actions[0] - 1}" for actions, origin in rows]


def test_golden_replay(play):
    (vector,) = json.loads((ROOT / "tests/golden/arpo.json").read_text())
    for given, expected in zip(vector["inputs"], vector["expected"], strict=True):
        rollouts, _ = play(given["eval_results"], [SUCCESS] if given["buffer_has_success"] else [])
        assert sorted(names(rollouts)) == sorted(expected)  # ours joins at the end of the group


def test_a_replayed_row_is_the_stored_one_and_a_groups_only_row_stays(play):
    rollouts, _ = play([0.0, 0.0], [SUCCESS])
    assert rollouts.actions[1, : rollouts.length[1]].tolist() == SUCCESS
    assert rollouts.reward.tolist() == [0, 1] and rollouts.own.tolist() == [True, False]
    assert names(play([0.0], [SUCCESS])[0]) == ["t0"]


def test_a_success_is_stored_after_the_replays_of_its_step(play):
    rollouts, memory = play([0.15, 0.15], [])
    assert names(rollouts) == ["t0", "t1"] and len(memory["s0"]) == 2
    rollouts, memory = play([0.0, 0.15], [SUCCESS])  # the rows differ enough to learn from
    assert names(rollouts) == ["t0", "t1"] and memory["s0"] == [SUCCESS, [2, 1, 1]]


def test_the_oldest_makes_room(make_rollouts):
    memory = {"s0": [[1], [2]]}
    remember(memory, make_rollouts([1.0, 1.0], [0, 0]), [True, False], size=2)
    assert memory == {"s0": [[2], [1, 1, 1]]}


def test_a_resumed_run_remembers_its_successes(tmp_path):
    make_gui(tmp_path / "gui", count=3, test_count=1)
    recipe = [str(ROOT / "configs/methods/arpo.yaml"), f"data.train={tmp_path}/gui/train.jsonl", "group_size=3"]
    # So few prompts and rows that the same ones fail and succeed in turn.
    small = ["steps=4", "prompts_per_step=3", "checkpoint.every=2", "evaluate.every=0", f"runs={tmp_path}/whole"]
    demo, quiet = str(ROOT / "configs/demo/gui.yaml"), Console(quiet=True)
    run = run_training(demo, [*recipe, *small], resume=False, console=quiet)
    assert all(line["ratio_gap"] < 1e-4 for line in read_metrics(run))
    replayed = [row for step in range(4) for row in read_rollouts(run, step) if row["origin"] == "replay"]
    assert replayed and all(row["reward"] == 1 for row in replayed)

    shutil.copytree(run, tmp_path / "part" / run.name)
    shutil.rmtree(latest_checkpoint(tmp_path / "part" / run.name))
    again = run_training(demo, [*recipe, *small, f"runs={tmp_path}/part"], resume=True, console=quiet)
    last = latest_checkpoint(run).name
    states = [read_state(folder / "checkpoints" / last)["memory"] for folder in (run, again)]
    assert states[0] == states[1] and states[0]["success_replay"]
    last_rows = [[row["completion"] for row in read_rollouts(folder, 3)] for folder in (run, again)]
    assert last_rows[0] == last_rows[1]
