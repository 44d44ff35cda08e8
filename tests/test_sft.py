"""Supervised fine-tuning: packing changes nothing but the speed, and stages follow each other."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data_pipelines.gui.build import make_gui_cold_start
from mmrl.config import OptimizerConfig, SftConfig, load_config
from mmrl.optimization import Updater
from mmrl.plugins import ConfigError
from mmrl.policies.shared_prefix import Prompt
from mmrl.sft import backward, encode_chat, micro_batches, sft, supervised_logp


@pytest.fixture
def chats(policy, studio, mixed_samples):
    """Two pictures, one, a film, none; short and long answers, one chat of two turns."""
    answers = ["(3, 4)", "a red circle and a blue square", "from 2 to 4", "hello"]
    said = [
        replace(sample, messages=(*sample.messages, {"role": "assistant", "content": answer}))
        for sample, answer in zip(mixed_samples, answers, strict=True)
    ]
    more = ({"role": "user", "content": "and then?"}, {"role": "assistant", "content": "stop"})
    said.append(replace(said[0], id="turns", messages=(*said[0].messages, *more)))
    return [encode_chat(policy, sample) for sample in said]


def test_packed_chats_have_the_log_probs_of_single_ones(policy, chats):
    alone = [supervised_logp(policy, [[chat]]) for chat in chats]
    packed = supervised_logp(policy, [[chats[0], chats[3]], [chats[2]], [chats[4], chats[1]]])
    expected = torch.cat([alone[n] for n in (0, 3, 2, 4, 1)])
    torch.testing.assert_close(packed, expected, atol=2e-5, rtol=0)
    assert len(alone[4]) == len(alone[0]) + 2  # "stop" and its end


def test_the_gradient_does_not_depend_on_the_packing(policy, chats):
    updater, total, found = Updater(policy, OptimizerConfig()), sum(int(learned.sum()) for _, learned in chats), []
    for budget in (1, 100, 10_000):
        policy.model.zero_grad()
        loss = backward(policy, updater, chats, total=total, spare=chats[0], budget=budget)
        found.append((loss, torch.cat([p.grad.flatten() for _, p in policy.trainable() if p.grad is not None])))
    policy.model.zero_grad()
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        torch.testing.assert_close(gradient, found[0][1], atol=1e-5, rtol=1e-3)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 200))
def test_every_chat_is_in_one_row_and_no_part_is_over_the_budget(lengths, budget):
    chats = [(Prompt(torch.zeros(n), torch.zeros(3, n)), torch.zeros(n)) for n in lengths]
    parts = micro_batches(chats, budget=budget)
    placed = [id(chat) for part in parts for row in part for chat in row]
    assert sorted(placed) == sorted(map(id, chats))
    for part in parts:
        width = max(sum(len(prompt) for prompt, _ in row) for row in part)
        assert width == max(len(prompt) for row in part for prompt, _ in row)  # never wider than its longest chat
        assert len(part) == 1 or width * len(part) <= budget


def test_a_second_stage_continues_where_the_first_ended(tmp_path):
    make_gui_cold_start(tmp_path / "data", count=16)
    losses = []
    for stage, model in (("one", "tiny"), ("two", str(tmp_path / "one"))):
        config = {
            "out": str(tmp_path / stage),
            "steps": 6,
            "batch_size": 8,
            "model": {"path": model},
            "data": {"train": str(tmp_path / "data/cold_start.jsonl")},
            "optimizer": {"learning_rate": 1e-3},
        }
        (tmp_path / f"{stage}.yaml").write_text(json.dumps(config))
        sft(load_config(tmp_path / f"{stage}.yaml", kind=SftConfig), Console(quiet=True))
        losses.append(json.loads((tmp_path / stage / "sft_loss.json").read_text()))
    assert losses[1][0] < losses[0][0] - 0.05
    assert losses[1][0] == pytest.approx(losses[0][-1], abs=0.6)


def test_a_dry_run_encodes_every_chat_and_writes_nothing(tmp_path):
    make_gui_cold_start(tmp_path / "data", count=5)
    config = {"out": str(tmp_path / "out"), "steps": 6, "batch_size": 2,
              "data": {"train": str(tmp_path / "data/cold_start.jsonl")}}  # fmt: skip
    (tmp_path / "sft.yaml").write_text(json.dumps(config))
    console = Console(record=True, width=120, file=StringIO())
    sft(load_config(tmp_path / "sft.yaml", kind=SftConfig), console, dry_run=True)
    said = console.export_text()
    assert not (tmp_path / "out").exists() and "nothing is written" in said
    assert "5; 2.40 epochs" in said and "gradients and Adam" in said and "reference" not in said
    with pytest.raises(ConfigError, match=r"cold_start.jsonl, row 1.* the prompt has .* tokens"):
        sft(load_config(tmp_path / "sft.yaml", ["data.budget.max_tokens=20"], kind=SftConfig), console, dry_run=True)
