"""Training with completions from servers that speak vLLM's and SGLang's dialect over the real tiny model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_servers import ModelServer, drop, says
from rich.console import Console
from safetensors.torch import load_file
from small_runs import write_recipe
from warm_mmrl import in_turn

from data_pipelines.gui.build import make_gui
from mmrl.faults.endings import OffPolicy
from mmrl.launch import run_training
from mmrl.plugins import ConfigError
from mmrl.policies.tiny import save_untrained
from mmrl.runs.reader import read_metrics, read_rollouts
from mmrl.serving.client import ServerError

REWARD = """
from rewards import reward

@reward(range=(0, 1))
def digits_in(completion, sample):
    return min(1.0, sum(c.isdigit() for c in completion) / 4)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    save_untrained(folder / "model")
    make_gui(folder / "gui", count=12, test_count=4)
    (folder / "plugins.py").write_text(REWARD)
    return folder


@pytest.fixture
def server(place: Path) -> Iterator[ModelServer]:
    with ModelServer(place / "model") as started:
        yield started


def recipe(place: Path, name: str, urls: list[str], server: dict[str, Any], **changes: Any) -> str:
    settings: dict[str, Any] = {
        "steps": 3,
        "prompts_per_step": 2,
        "group_size": 3,
        "model": {"path": str(place / "model"), "vision": "frozen"},
        "data": {"train": str(place / "gui" / "train.jsonl")},
        "sampling": {"max_new_tokens": 5},
        "rewards": [f"{place}/plugins.py:digits_in"],
        "rollout": {"engine": "server"},
        "server": {"urls": urls, "retries": 2, "timeout": 20, **server},
    }
    return write_recipe(place, name, **settings | changes)


def train(config: str, *, resume: bool = False) -> Path:
    return run_training(config, [], resume=resume, console=Console(quiet=True))


def events_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


ADAPTER = {"kind": "vllm", "weights": "adapter"}


def lora(place: Path) -> dict[str, Any]:
    return {"path": str(place / "model"), "adapter": {"rank": 4}}


def test_a_server_in_float32_has_the_trainers_log_probs_and_gets_each_steps_adapter(place, server):
    config = recipe(place, "lora", [server.url], ADAPTER, model=lora(place))
    run = train(config)
    lines = read_metrics(run)
    assert len(lines) == 3 and all(line["mismatch/max"] < 1e-3 for line in lines)
    assert all(line["grad_norm"] > 0 and line["staleness"] == 0 for line in lines)
    asked = [body["model"] for body in server.asked("/v1/chat/completions")]
    assert len(asked) == 18 and [asked[i].rpartition("-")[2] for i in (0, 6, 12)] == ["000000", "000001", "000002"]
    gone = [body["lora_name"].rpartition("-")[2] for body in server.asked("/v1/unload_lora_adapter")]
    assert gone == ["000000"] and not (run / "served").exists()
    row = read_rollouts(run, 0)[0]
    assert row["completion"] is not None


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_a_whole_checkpoint_reaches_the_server_and_bfloat16_shows_as_mismatch(place, kind):
    with ModelServer(place / "model", torch.bfloat16) as server:
        lines = read_metrics(train(recipe(place, f"whole-{kind}", [server.url], {"kind": kind})))
        path = {"vllm": "/collective_rpc", "sglang": "/update_weights_from_disk"}[kind]
        assert len(server.asked(path)) == 3
    assert all(1e-4 < line["mismatch/mean"] < 0.2 and 0 < line["mismatch/kl"] < 0.05 for line in lines)


def test_an_adapter_reaches_a_server_of_whole_checkpoints_added_to_its_weights(place, server):
    optimizer = {"learning_rate": 1e-2}
    lines = read_metrics(
        train(recipe(place, "merged", [server.url], {"kind": "sglang"}, model=lora(place), optimizer=optimizer))
    )
    assert all(line["mismatch/max"] < 1e-3 for line in lines)


def test_a_served_run_resumes_and_its_completions_are_those_of_the_weights_it_had(place, server):
    settings: dict[str, Any] = {"model": lora(place), "checkpoint": {"every": 1, "keep": 9}, "steps": 3}
    whole = train(recipe(place, "whole-run", [server.url], ADAPTER, **settings))
    parts = train(recipe(place, "parts", [server.url], ADAPTER, **settings | {"steps": 2}))
    config = Path(parts / "config.yaml")
    config.write_text(config.read_text().replace("steps: 2", "steps: 3"))
    train(recipe(place, "parts", [server.url], ADAPTER, **settings), resume=True)
    ends = [load_file(run / "checkpoints/step-000002/model/adapter_model.safetensors") for run in (whole, parts)]
    # The same seeds and, as this server takes one request at a time, the same completions.
    assert all(torch.allclose(ends[0][name], ends[1][name], atol=1e-6) for name in ends[0])


def test_collecting_ahead_overlaps_and_stays_within_the_bound(place, server):
    server.pause = 0.05
    settings = {"kind": "vllm", "weights": "adapter", "staleness": 2}
    config = recipe(place, "ahead", [server.url], settings, model=lora(place), steps=6)
    run = train(config)
    lines = read_metrics(run)
    ages = [line["staleness"] for line in lines]
    assert ages[0] == 0 and max(ages) > 0 and all(age <= 2 for age in ages)
    assert all("collected/rollout" in line and "seconds/wait" in line for line in lines)
    # Requests went on while something was learned: the weights of step 1 came after the first request of step 1.
    paths = [path for _, path, _ in server.calls]
    second = [i for i, path in enumerate(paths) if path == "/v1/load_lora_adapter"][1]
    assert paths[:second].count("/v1/chat/completions") > 6
    assert len(server.asked("/v1/chat/completions")) == 36
    # What was collected ahead is planned as it would have been in its turn.
    calm = train(recipe(place, "calm", [server.url], ADAPTER, model=lora(place), steps=6))
    plans = [[[row["sample_id"] for row in read_rollouts(folder, step)] for step in range(6)] for folder in (run, calm)]
    assert plans[0] == plans[1]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero3"])
def test_two_ranks_ask_for_their_own_shares_and_train_as_one_does(place, server, strategy):
    """Nothing is ahead, so both see the weights of the step; then the same with collecting ahead, as far as it runs."""
    settings: dict[str, Any] = {"model": lora(place), "distribution": {"strategy": strategy}}
    alone = train(recipe(place, f"alone-{strategy}", [server.url], ADAPTER, **settings))
    names = [f"two-{strategy}", f"two-ahead-{strategy}"]
    files = [
        recipe(place, name, [server.url], {**ADAPTER, "staleness": bound}, **settings)
        for name, bound in zip(names, (0, 1), strict=True)
    ]
    in_turn(2, [["train", file] for file in files])
    two, two_ahead = (place / "runs" / name for name in names)
    for line, its in zip(read_metrics(alone), read_metrics(two), strict=True):
        for name in ("reward", "length", "loss", "grad_norm", "staleness"):
            assert its[name] == pytest.approx(line[name], rel=1e-3, abs=1e-4), (line["step"], name)
        assert its["mismatch/max"] < 1e-3
    assert [line["staleness"] for line in read_metrics(two_ahead)] == pytest.approx([0, 0.5, 0.5], abs=0.5)


def test_a_failure_while_collecting_ahead_ends_the_run_with_its_reason(place, server):
    settings = {"kind": "vllm", "weights": "adapter", "staleness": 1, "retries": 0}
    config = recipe(place, "ahead-lost", [server.url], settings, model=lora(place))
    server.faults.extend([None] * 6 + [says(400, {"error": "no"})])  # type: ignore[list-item]
    with pytest.raises(RuntimeError, match=r"refuses .* status 400"):
        train(config)
    assert events_of(place / "runs/ahead-lost")[-1]["kind"] == "failed"


def test_evaluations_within_a_run_ask_no_server(place, server):
    data = {"train": str(place / "gui/train.jsonl"), "test": str(place / "gui/test.jsonl")}
    settings = {"kind": "vllm", "weights": "adapter", "staleness": 1}
    train(recipe(place, "held-out", [server.url], settings, model=lora(place), data=data, evaluate={"every": 1}))
    assert len(server.asked("/v1/chat/completions")) == 18


REFUSED = [
    ({"kind": "transformers", "staleness": 1}, {}, "needs importance weights, and they need log-probs"),
    ({"kind": "transformers", "weights": "none", "staleness": 1}, {}, "Set server.staleness=0"),
    ({}, {}, r"Set server.weights=none .*server.kind=vllm\|sglang\|transformers, which take it"),
    ({"kind": "sglang", "weights": "adapter"}, {}, r"Set server.weights=checkpoint\|none .*server.kind=vllm, which"),
    ({"kind": "vllm", "weights": "adapter"}, {}, "model.adapter is not set"),
    ({"kind": "vllm", "weights_every": 2}, {}, "Set server.staleness=1 or more"),
    ({"kind": "vllm", "staleness": 1, "importance_cap": None}, {}, "set server.importance_cap"),
    ({"kind": "vllm"}, {"rollout": {"engine": "magic"}}, "one of in_process, server"),
    ({"kind": "vllm", "urls": ["localhost:1"]}, {}, "the http:// or https:// address"),
    ({"kind": "vllm", "urls": ["http://127.0.0.1:9"]}, {}, "no rollout server answers at http://127.0.0.1:9"),
    (
        {"kind": "vllm", "staleness": 1},
        {"rollout": {"engine": "server", "name": "success_replay"}},
        "keeps a memory from step to step",
    ),
]


@pytest.mark.parametrize(("settings", "changes", "said"), REFUSED)
def test_what_does_not_go_together_is_refused_with_what_to_do(place, server, settings, changes, said):
    config = recipe(place, "refused", [server.url], settings, **changes)
    shutil.rmtree(place / "runs" / "refused", ignore_errors=True)
    with pytest.raises(ConfigError, match=said):
        train(config)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "openai"}, "A server of kind `openai` gives no log-probs, so there are no importance weights"),
        ({"kind": "vllm", "staleness": 1}, "Importance weights (at most 2)"),
        ({"kind": "sglang", "importance_cap": None}, "Without importance weights (server.importance_cap is null)"),
    ],
)
def test_a_server_that_is_given_no_weights_is_trained_with_and_the_operator_is_warned(place, server, settings, said):
    name = f"theirs-{settings['kind']}"
    config = recipe(place, name, [server.url], {"weights": "none", **settings}, steps=2)
    console = Console(file=StringIO(), width=80)
    lines = read_metrics(run_training(config, [], resume=False, console=console))
    assert len(lines) == 2 and all(line["grad_norm"] > 0 and line["staleness"] <= 1 for line in lines)
    assert {path for _, path, _ in server.calls} == {"/v1/chat/completions"}
    # The second step's completions are of the first one's weights, and log-probs show it.
    assert all(("mismatch/mean" in line) == (settings["kind"] != "openai") for line in lines)
    assert lines[1].get("mismatch/mean", 1.0) > 1e-4
    told = [line for line in console.file.getvalue().splitlines() if "server.weights = none" in line]
    assert len(told) == 1 and told[0].startswith("warning: ") and said in told[0]


def test_a_server_that_is_lost_ends_the_run_with_one_message_and_a_code_of_its_own(place, server):
    config = recipe(place, "gone", [server.url], {"kind": "vllm", "weights": "none", "retries": 0})
    server.faults.extend([None] * 6)  # type: ignore[list-item]
    server.always = drop
    done = subprocess.run(
        [sys.executable, "-m", "mmrl.cli", "train", config],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 68, done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("error: no completion of ") == 1
    assert re.search(r"train.jsonl, row \d+ \(id [^)@]+\) after one try; the last: http", done.stderr), done.stderr
    assert "go on from the latest checkpoint with --resume" in done.stderr
    assert events_of(place / "runs/gone")[-1]["kind"] == "failed"


def test_servers_that_do_not_take_the_weights_end_the_run_likewise(place, server):
    server.administer = lambda path, body: (404, {"detail": "Not Found"})  # type: ignore[method-assign]
    with pytest.raises(
        ServerError, match=r"no rollout server took the new weights:\n.*404.*\n  Start .*--resume"
    ) as end:
        train(recipe(place, "weightless", [server.url], {"kind": "vllm"}))
    assert end.value.exit_code == 68 and not end.value.quiet
    last = events_of(place / "runs/weightless")[-1]
    assert last["kind"] == "failed" and "took the new weights" in last["error"]


def test_a_section_for_servers_that_nobody_asks_is_named_also_in_a_dry_run(place, server):
    console = Console(file=StringIO(), width=80)
    config = recipe(place, "unused", [server.url], {"kind": "vllm"}, rollout={"engine": "in_process"})
    run_training(config, [], resume=False, console=console, dry_run=True)
    assert console.file.getvalue().count("the section `server` is not used") == 1 and not server.calls


def test_another_prompt_than_the_trainers_is_no_training(place, server):
    honest = server.complete

    def other_template(body: dict[str, Any]) -> dict[str, Any]:
        system = {"role": "system", "content": "You are another assistant."}
        return honest({**body, "messages": [system, *body["messages"]]})

    server.complete = other_template  # type: ignore[method-assign]
    with pytest.raises(ServerError, match=r"the server's prompt has .* they do not see the same"):
        train(recipe(place, "template", [server.url], {"kind": "sglang"}))


def test_log_probs_of_other_weights_end_the_run_at_its_first_step(place, server):
    server.administer = lambda path, body: (200, {"success": True})  # type: ignore[method-assign]
    with torch.no_grad():
        server.base.lm_head.weight.mul_(3.0)
    with pytest.raises(OffPolicy, match="ratio is not 1 on policy"):
        train(recipe(place, "others", [server.url], {"kind": "sglang"}))
