"""What a run says of its batches, and what it refuses before anything is loaded."""

from __future__ import annotations

import importlib.util

import pytest

from mmrl.batches import Batches, check_processes, micro_batch_line, nearest_updates, neighbours
from mmrl.config import Config, parse
from mmrl.plugins import ConfigError


def config_of(prompts: int = 6, *, strategy: str = "ddp", **optimizer) -> Config:
    return parse(
        {
            "steps": 1, "prompts_per_step": prompts, "group_size": 4, "data": {"train": "x.jsonl"},
            "rewards": ["point_in_box"], "optimizer": optimizer, "distribution": {"strategy": strategy},
        },
        Config,
        where="r.yaml",
    )  # fmt: skip


def said(config: Config, ranks: int) -> str:
    return "\n".join(Batches.of(config, ranks=ranks).lines(strategy=config.distribution.strategy))


def test_updates_and_ranks_are_derived():
    assert "6 prompts x 4 completions = 24 rows; 4 update(s) of 3 prompts (2 passes in 2 part(s))" in said(
        config_of(updates_per_rollout=4, epochs=2), 1
    )
    assert "3 ranks (ddp): 2 groups each, at most 8 rows" in said(config_of(), 3)


def test_idle_ranks_are_said_with_what_would_use_them():
    assert "2 of 8 ranks have nothing to do" in said(config_of(), 8)
    assert "prompts_per_step=8, would leave none idle" in said(config_of(), 8)
    assert "prompts_per_step=4 or 8 shares evenly" in said(config_of(), 4)


def test_the_ranks_that_have_a_group_in_every_update_are_counted():
    for prompts, updates, ranks in ((6, 2, 3), (8, 8, 2), (7, 2, 3), (4, 1, 2)):
        batches = Batches.of(config_of(prompts, updates_per_rollout=updates), ranks=ranks)
        owner = {group: rank for rank, share in enumerate(batches.shares) for group in share}
        dealt = [{owner[group] for group in range(prompts) if group % updates == part} for part in range(updates)]
        assert batches.busy == min(map(len, dealt))


def test_the_nearest_possible_numbers_are_possible():
    for prompts in (1, 3, 6):
        for epochs in (1, 2, 5):
            possible = {epochs * parts for parts in range(1, prompts + 1)}
            for updates in range(0, 40):
                named = {int(word) for word in nearest_updates(updates, epochs, prompts).split(" or ")}
                assert named <= possible
                assert min(abs(updates - n) for n in named) == min(abs(updates - n) for n in possible)
    assert neighbours(2, 4) == [4] and neighbours(8, 4) == [8]


def test_a_row_larger_than_a_micro_batch_is_said():
    assert "goes alone, and takes memory for 300" in micro_batch_line(200, row=300, group=900)
    assert "is cut" in micro_batch_line(400, row=300, group=900)


def test_what_this_number_of_processes_cannot_do_is_refused(monkeypatch):
    averaged = config_of(strategy="zero3", ema=0.9)
    check_processes(averaged, where="r.yaml", ranks=1)
    with pytest.raises(ConfigError, match=r"r\.yaml: optimizer\.ema = 0\.9(.|\n)*zero2"):
        check_processes(averaged, where="r.yaml", ranks=2)
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "deepspeed" else there(name, *a))
    check_processes(config_of(), where="r.yaml", ranks=2)
    with pytest.raises(ConfigError, match=r"pip install deepspeed, or set distribution\.strategy=ddp"):
        check_processes(config_of(strategy="zero2"), where="r.yaml", ranks=2)
