"""Several real processes train as one does: the same plan, losses, weights and optimizer states, up to rounding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from warm_mmrl import in_turn

from data_pipelines.gui.build import make_gui
from data_pipelines.video.build import make_video
from mmrl.distributed import shares
from mmrl.launch import run_training
from mmrl.policies.tiny import save_untrained
from mmrl.runs.checkpoints import MODEL, OPTIMIZER, latest_checkpoint
from mmrl.runs.reader import read_metrics, read_rollouts

REWARD = """
from rewards import reward

@reward(range=(0, 1))
def digits_in(completion, sample):
    return min(1.0, sum(c.isdigit() for c in completion) / 4)

@reward(range=(0, 1), scope="group")
def rank_in_group(completions, sample):
    order = sorted(completions)
    return [order.index(c) / len(completions) for c in completions]
"""
STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
Job = tuple[str, list[str], bool]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes of a vision-language model and of an image model, small enough for many processes on few cores."""
    folder = tmp_path_factory.mktemp("ranks")
    save_untrained(folder / "model")
    make_gui(folder / "gui", count=12, test_count=4)
    (folder / "plugins.py").write_text(REWARD)
    (folder / "prompts.jsonl").write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": f"a {c} square"}]}) + "\n" for c in ("red", "blue")
        )
    )
    make_video(folder / "video", count=3, test_count=1)
    texts = ("one", "two", "three")
    (folder / "texts.jsonl").write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": text}], "target": {"answer": text}}) + "\n"
            for text in texts
        )
    )
    common = {"runs": str(folder / "runs"), "steps": 3, "group_size": 4, "checkpoint": {"every": 2, "keep": 9}}
    recipes: dict[str, Any] = {
        "words": {
            "prompts_per_step": 3,
            "model": {"path": str(folder / "model"), "vision": "trained"},
            "data": {"train": str(folder / "gui" / "train.jsonl"), "test": str(folder / "gui" / "test.jsonl")},
            "sampling": {"max_new_tokens": 6},
            "rewards": [f"{folder}/plugins.py:digits_in", f"{folder}/plugins.py:rank_in_group"],
            "advantages": [{"name": "group_relative", "std": "batch"}],
            "loss": {"terms": [{"name": "clipped"}, {"name": "kl", "coef": 0.1}]},
            "optimizer": {"learning_rate": 1e-3, "updates_per_rollout": 2, "epochs": 2},
            "micro_batch_tokens": 400,
            "evaluate": {"every": 3},
        },
        "mixed": {
            "steps": 2,
            "prompts_per_step": 5,
            "model": {"path": str(folder / "model"), "vision": "trained", "adapter": {"rank": 4}},
            "data": {
                "train": [str(folder / name) for name in ("gui/test.jsonl", "video/train.jsonl", "texts.jsonl")],
                "budget": {"max_frames": 4},
            },
            "sampling": {"max_new_tokens": 4},
            "rewards": [f"{folder}/plugins.py:digits_in"],
            "loss": {"terms": [{"name": "clipped"}, {"name": "kl", "coef": 0.1}]},
            "optimizer": {"learning_rate": 1e-3},
            "micro_batch_tokens": 300,
        },
        "pictures": {
            "prompts_per_step": 2,
            "model": {"path": "tiny-flow"},
            "data": {"train": str(folder / "prompts.jsonl")},
            "sampling": {"steps": 4},
            "rewards": [{"name": "brightness"}],
            "optimizer": {"learning_rate": 1e-3},
        },
    }
    for name, recipe in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**common, **recipe, "name": name}))
    return folder


def job(place: Path, recipe: str, name: str, *settings: str, resume: bool = False) -> Job:
    return str(place / f"{recipe}.yaml"), [f"name={name}", *settings], resume


def alone(job: Job) -> None:
    run_training(job[0], job[1], resume=job[2], console=Console(quiet=True))


def on_ranks(count: int, jobs: Sequence[Job]) -> None:
    """All jobs, one after another, each in `count` processes."""
    in_turn(count, [["train", file, *settings, *["--resume"] * resume] for file, settings, resume in jobs])


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    model = {name: t for file in (checkpoint / MODEL).rglob("*.safetensors") for name, t in load_file(file).items()}
    return {**model, **{f"optimizer {name}": t for name, t in load_file(checkpoint / OPTIMIZER).items()}}


def tolerance(name: str, value: torch.Tensor) -> float:
    """Room for rounding. Of a weight, 1e-4: at most a twentieth of what the updates of the recipes move one by, and
    five times what was seen. Of an optimizer's state, whose tensors lie many powers of ten apart, a thousandth of the
    tensor's largest number."""
    return 1e-3 * float(value.abs().max()) if name.startswith("optimizer ") else 1e-4


def assert_same(run: Path, other: Path) -> None:
    """The completions are the same; numbers agree to rounding, which AdamW's first steps enlarge to the learning rate
    where a gradient is nearly nothing."""
    steps = len(read_metrics(run))
    rows, others = (
        sorted(
            (r["step"], r["sample_id"], r["completion"], r["reward"])
            for step in range(steps)
            for r in read_rollouts(folder, step)
        )
        for folder in (run, other)
    )
    assert [row[:3] for row in rows] == [row[:3] for row in others]
    for line, its in zip(read_metrics(run), read_metrics(other), strict=True):
        assert line.keys() == its.keys()
        for name, value in line.items():
            if not name.startswith(("seconds/", "ratio_gap")):
                assert its[name] == pytest.approx(value, rel=1e-3, abs=1e-4), (line["step"], name)
    mine, theirs = weights(run), weights(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        torch.testing.assert_close(
            theirs[name], value, rtol=0, atol=tolerance(name, value), msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.slow
def test_two_processes_train_as_one_does(place: Path):
    """By every strategy, and continued by another number of processes and another strategy."""
    runs = place / "runs"
    alone(job(place, "words", "words"))
    alone(job(place, "pictures", "pictures"))
    jobs = [
        job(place, recipe, f"{recipe}-{strategy}", f"distribution.strategy={strategy}")
        for recipe in ("words", "pictures")
        for strategy in STRATEGIES
    ]
    together = ("distribution.strategy=zero3", "distribution.generation=synchronised")
    jobs += [job(place, recipe, f"{recipe}-together", *together) for recipe in ("words", "pictures")]
    jobs += [
        job(place, "words", f"words-again-{strategy}", f"distribution.strategy={strategy}", "steps=2")
        for strategy in STRATEGIES
    ]
    jobs += [
        job(place, "words", f"words-again-{strategy}", f"distribution.strategy={strategy}", resume=True)
        for strategy in STRATEGIES
    ]
    on_ranks(2, jobs)
    for recipe in ("words", "pictures"):
        for way in (*STRATEGIES, "together"):
            assert_same(runs / recipe, runs / f"{recipe}-{way}")
    for strategy in STRATEGIES:
        assert_same(runs / "words", runs / f"words-again-{strategy}")


@pytest.mark.slow
def test_adapters_on_rows_with_pictures_with_films_and_with_text_alone(place: Path):
    """Ranks then differ in the modules they run, and ZeRO-3 gathers weights module by module."""
    alone(job(place, "mixed", "mixed"))
    ways = {
        "zero1": ["distribution.strategy=zero1"],
        "zero3": ["distribution.strategy=zero3"],
        "together": ["distribution.strategy=zero3", "distribution.generation=synchronised"],
    }
    on_ranks(3, [job(place, "mixed", f"mixed-{way}", *settings) for way, settings in ways.items()])
    for way in ways:
        assert_same(place / "runs" / "mixed", place / "runs" / f"mixed-{way}")


@pytest.mark.slow
def test_four_processes_of_which_some_have_nothing_to_do(place: Path):
    """By every strategy: three groups for four ranks; two, where the others also ask the reference in the middle of a
    training pass. The run of four by ZeRO-2 goes on as one."""
    runs = place / "runs"
    recipes = {
        "words": ["steps=2", "evaluate.every=2"],
        "pictures": ["steps=2", "model.adapter.rank=16", "loss.terms=[clipped, {name: gaussian_kl, coef: 0.1}]"],
    }
    special = {
        ("words", "zero2"): ["steps=1"],
        ("words", "zero3"): ["distribution.generation=synchronised"],
    }
    for recipe, settings in recipes.items():
        alone(job(place, recipe, f"{recipe}-short", *settings))
    jobs = [
        job(
            place,
            recipe,
            f"{recipe}-short-{strategy}",
            f"distribution.strategy={strategy}",
            *settings,
            *special.get((recipe, strategy), []),
        )
        for recipe, settings in recipes.items()
        for strategy in STRATEGIES
    ]
    on_ranks(4, jobs)
    alone(job(place, "words", "words-short-zero2", *recipes["words"], resume=True))
    for recipe in recipes:
        for strategy in STRATEGIES:
            assert_same(runs / f"{recipe}-short", runs / f"{recipe}-short-{strategy}")


def test_shares_are_whole_groups_as_even_as_they_can_be():
    assert shares([4, 4, 4, 4, 4], "abcde", 2) == [[0, 1, 2], [3, 4]]
    assert shares([8, 2, 2, 2, 2], "abcde", 2) == [[0], [1, 2, 3, 4]]
    assert shares([8, 8, 1, 1], "abcd", 3) == [[0], [1], [2, 3]]
    assert shares([4, 4], "ab", 3) == [[0], [1], []]
    assert shares([4, 4, 4], "aba", 2) == [[0, 2], [1]], "a prompt drawn twice stays on one rank"
    for groups in range(1, 30):
        for ranks in range(1, 9):
            counts = [len(share) for share in shares([4] * groups, range(groups), ranks)]
            assert sum(counts) == groups and max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("groups", "updates", "ranks"), [(8, 2, 2), (12, 3, 4), (10, 2, 3), (16, 4, 2)])
def test_every_rank_has_work_in_every_update(groups: int, updates: int, ranks: int):
    plan = shares([4] * groups, range(groups), ranks)
    for update in range(updates):
        counts = [len(set(range(update, groups, updates)) & set(share)) for share in plan]
        assert min(counts) > 0 and max(counts) - min(counts) <= 1, (update, counts)
