"""A server that stalls, drops connections, or answers what is no completion: tried again, then explained."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_servers import Fault, ModelServer, changed, drip, drop, says, stall

from data_pipelines.dataset import read_samples
from data_pipelines.gui.build import make_gui
from mmrl.config import Config, parse
from mmrl.policies.shared_prefix import Sampling
from mmrl.policies.tiny import save_untrained
from mmrl.policies.vlm import VLMPolicy
from mmrl.records import Rollouts
from mmrl.serving.client import ServerError
from mmrl.serving.policy import ServedPolicy

HOW = Sampling(max_new_tokens=4)


def logprobs(change: Any) -> Fault:
    return changed(lambda choice: change(choice["logprobs"]["content"]))


FAULTS: dict[str, tuple[Fault, str]] = {
    "stalls": (stall, "no complete answer in time"),
    "drips": (drip, "no complete answer in time"),
    "drops": (drop, "RemoteProtocolError|ReadError"),
    "error": (says(500, {"error": "CUDA out of memory"}), "status 500: .*CUDA out of memory"),
    "busy": (says(503, b""), "status 503"),
    "html": (says(200, b"<html>\x1b[31m"), "no JSON: <html> "),
    "deep": (says(200, b"[" * 50_000), "no JSON"),
    "list": (says(200, []), "no list of choices"),
    "nobody": (says(200, {"choices": []}), "0 choices where one"),
    "text": (says(200, {"choices": ["a"]}), "1 choices where one"),
    "huge": (says(200, b" " * 10**6), "an answer of more than"),
    "filtered": (changed(lambda c: c.update(finish_reason="content_filter")), "finish_reason = 'content_filter'"),
    "no ids": (changed(lambda c: c.pop("token_ids")), "no token_ids"),
    "words": (changed(lambda c: c.update(token_ids=["a", "b"])), "no token_ids"),
    "outside": (changed(lambda c: c["token_ids"].__setitem__(0, 10**6)), "token 1000000, which the model cannot"),
    "negative": (changed(lambda c: c["token_ids"].__setitem__(0, -1)), "token -1, which the model cannot"),
    "fewer": (logprobs(lambda entries: entries.pop()), "tokens with .* log-probs"),
    "nan": (logprobs(lambda entries: entries[0].update(logprob=float("nan"))), "no log-probs, or some that are none"),
    "null": (logprobs(lambda entries: entries[0].update(logprob=None)), "no log-probs, or some that are none"),
    "none": (changed(lambda c: c.update(logprobs=None)), "no log-probs"),
    "long": (
        changed(lambda c: (c.update(token_ids=[5] * 9), c.update(logprobs={"content": [{"logprob": -1.0}] * 9}))),
        "9 tokens where at most 4",
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    save_untrained(folder / "model")
    make_gui(folder / "gui", count=4, test_count=2)
    return folder


@pytest.fixture(scope="module")
def honest(place: Path) -> Iterator[ModelServer]:
    with ModelServer(place / "model") as server:
        yield server


@pytest.fixture
def server(honest: ModelServer) -> Iterator[ModelServer]:
    yield honest
    honest.faults.clear()
    honest.always, honest.pause = None, 0.0
    honest.calls.clear()


@pytest.fixture(scope="module")
def inner(place: Path) -> VLMPolicy:
    config = config_of(place, ["http://unused"])
    return VLMPolicy.load(config.model, config.data.budget)


def config_of(place: Path, urls: list[str], **server: Any) -> Any:
    raw = {
        "name": "faults",
        "steps": 1,
        "prompts_per_step": 2,
        "group_size": 2,
        "model": {"path": str(place / "model")},
        "data": {"train": str(place / "gui/train.jsonl")},
        "rewards": ["answer"],
        "rollout": {"engine": "server"},
        "server": {"urls": urls, "kind": "vllm", "weights": "none", "timeout": 60.0, "retries": 1, **server},
    }
    return parse(raw, Config, where="test")


def completions(place: Path, inner: VLMPolicy, urls: list[str], **server: Any) -> Rollouts:
    policy = ServedPolicy(inner, config_of(place, urls, **server), place / "run")
    samples = list(read_samples(place / "gui/train.jsonl"))[:2]
    return policy.generate(samples, [2, 2], HOW, seed=0, step=0)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_is_tried_again_and_one_that_stays_is_explained(place, inner, server, name):
    fault, said = FAULTS[name]
    expected = completions(place, inner, [server.url])
    patience = {"timeout": 3.0} if name in ("stalls", "drips") else {}
    server.faults.append(fault)
    found = completions(place, inner, [server.url], **patience)
    assert torch.equal(found.actions, expected.actions)
    assert found.logp_rollout is not None and expected.logp_rollout is not None
    assert torch.equal(found.logp_rollout, expected.logp_rollout)
    server.always = fault
    with pytest.raises(ServerError, match=f"no completion of .*train.jsonl.*after 2 tries; the last: {server.url}"
                                          f": .*({said})") as failed:  # fmt: skip
        completions(place, inner, [server.url], **patience)
    assert "--resume" in str(failed.value) and "\x1b" not in str(failed.value) and len(str(failed.value)) < 900


def test_of_a_server_that_gives_text_alone_the_text_is_split_anew(place, inner, server):
    expected = completions(place, inner, [server.url])
    found = completions(place, inner, [server.url], kind="openai")
    assert found.logp_rollout is None and "entropy" not in found.signals
    for row in range(4):
        tokens = inner.tokens_of(expected.text[row])[:-1]
        assert found.actions[row, : found.length[row]].tolist() == tokens.tolist()[:4]
        assert found.signals["token_drift"][row] == 4 - len(tokens)
    assert "logprobs" not in server.asked("/v1/chat/completions")[-1]


def test_an_end_of_turn_is_there_if_the_server_says_that_it_came_to_its_end(place, inner, server):
    server.always = changed(lambda choice: choice.update(finish_reason="stop", message={"content": "7"}))
    ended = completions(place, inner, [server.url], kind="openai")
    assert not ended.signals["truncated"].any()
    assert ended.actions[0].tolist() == inner.tokens_of("7").tolist()
    server.always = changed(lambda choice: choice.update(finish_reason="length", message={"content": "7"}))
    cut = completions(place, inner, [server.url], kind="openai")
    assert cut.signals["truncated"].all() and cut.actions[0].tolist() == inner.tokens_of("7")[:-1].tolist()


def test_a_dead_url_is_left_out_and_costs_no_request_its_tries(place, inner, server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    expected = completions(place, inner, [server.url])
    found = completions(place, inner, [dead, server.url], retries=0)
    assert torch.equal(found.actions, expected.actions)


def test_a_server_that_is_gone_ends_the_run_soon_and_says_so(place, inner):
    started = time.monotonic()
    with pytest.raises(
        ServerError, match=r"after 3 tries; the last: http://127.0.0.1:9: Connect.*\n.*Is the server up"
    ):
        completions(place, inner, ["http://127.0.0.1:9"], retries=2)
    assert time.monotonic() - started < 4


def test_several_servers_share_the_work(place, inner, server):
    server.pause = 0.1
    with ModelServer(place / "model") as other:
        other.pause = 0.1
        completions(place, inner, [server.url, other.url], concurrency=1)
        asked = [len(each.asked("/v1/chat/completions")) for each in (server, other)]
    assert sum(asked) == 4 and min(asked) >= 1


def test_at_most_concurrency_requests_are_under_way(place, inner, server):
    server.always = lambda handler, answer: (time.sleep(0.3), says(200, answer)(handler, answer))[1]
    completions(place, inner, [server.url], concurrency=2)
    times = [when for when, _, _ in server.calls]
    assert times[1] - times[0] < 0.25 and times[2] - times[0] >= 0.3


def test_a_server_that_was_started_anew_gets_the_weights_again(place, inner, server):
    policy = ServedPolicy(inner, config_of(place, [server.url], kind="sglang", weights="checkpoint"), place / "run")
    samples = list(read_samples(place / "gui/train.jsonl"))[:2]
    policy.weights.update(0, under_way=False)
    server.faults.append(drop)
    policy.generate(samples, [2, 2], HOW, seed=0, step=0)
    assert len(server.asked("/update_weights_from_disk")) == 2
    policy.close()


def test_what_is_asked_says_everything_that_the_models_own_settings_could_change(place, inner, server):
    completions(place, inner, [server.url])
    body = server.asked("/v1/chat/completions")[0]
    assert (body["temperature"], body["top_p"], body["top_k"], body["repetition_penalty"], body["min_p"]) == (
        1.0, 1.0, -1, 1.0, 0.0,
    )  # fmt: skip
    assert set(body["logit_bias"]) == {str(token) for token in inner.engine.forbidden.tolist()}
    assert len({body["seed"] for body in server.asked("/v1/chat/completions")}) == 4
    assert json.dumps(body["messages"]).count("data:image/png;base64,") == 1
