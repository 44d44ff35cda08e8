"""Against a real `transformers serve`: text alone comes back, and the log-probs are the trainer's."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
import torch
import yaml
from chat_servers import transformers_serve
from rich.console import Console

from data_pipelines.dataset import read_samples
from data_pipelines.gui.build import make_gui
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.policies.shared_prefix import Sampling
from mmrl.policies.vlm import VLMPolicy
from mmrl.runs.reader import read_metrics, read_rollouts
from mmrl.serving import mismatch
from mmrl.serving.policy import ServedPolicy

HOW = Sampling(max_new_tokens=8)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformers")
    make_gui(folder / "gui", count=8, test_count=4)
    return folder


@pytest.fixture(scope="module")
def url(place):
    with transformers_serve(place / "serve.log") as address:
        yield address


def recipe(place: Path, url: str, name: str, **changes) -> str:
    file = place / f"{name}.yaml"
    settings = {
        "name": name,
        "runs": str(place / "runs"),
        "steps": 3,
        "prompts_per_step": 2,
        "group_size": 4,
        "model": {"path": "tiny"},
        "data": {"train": str(place / "gui/train.jsonl")},
        "sampling": {"max_new_tokens": 8},
        "rewards": ["point_in_box"],
        "loss": {"terms": [{"name": "clipped"}, {"name": "kl", "coef": 0.05}]},
        "optimizer": {"learning_rate": 1e-3},
        "rollout": {"engine": "server"},
        "server": {"urls": [url], "kind": "transformers", "timeout": 120},
    }
    file.write_text(yaml.safe_dump({**settings, **changes}))
    return str(file)


def served_paths(log: Path) -> list[str]:
    """The models that requests were answered with, in order."""
    return list(dict.fromkeys(re.findall(r"\[Request received\] Model: (\S+?)@main", log.read_text())))


@pytest.mark.slow
def test_it_trains_the_tiny_model_with_weights_that_change_and_goes_on_after_a_stop(place, url):
    checkpoint = {"every": 1, "keep": 9}
    run = run_training(
        recipe(place, url, "words", checkpoint=checkpoint, steps=2), [], resume=False, console=Console(quiet=True)
    )
    run_training(
        recipe(place, url, "words", checkpoint=checkpoint, steps=3), [], resume=True, console=Console(quiet=True)
    )
    lines = read_metrics(run)
    assert [line["step"] for line in lines] == [0, 1, 2]
    # The server gave no log-probs and none were made up; the trainer has them all.
    assert all("mismatch/mean" not in line and "ratio_gap" not in line and "entropy" not in line for line in lines)
    assert all(
        line["kl"] >= 0 and line["grad_norm"] >= 0 and line["token_drift"] == line["token_drift"] for line in lines
    )
    assert any(line["grad_norm"] > 0 for line in lines)
    rows = [row for step in range(3) for row in read_rollouts(run, step)]
    assert len(rows) == 24 and all(row["logp_old"] is not None for row in rows)
    paths = [Path(path).name for path in served_paths(place / "serve.log") if "/words/served/" in path]
    assert [path.rpartition("-")[2] for path in paths] == ["000000", "000001", "000002"]
    assert len({path.split("-")[1] for path in paths}) == 2  # a resumed run has names of its own


@pytest.mark.slow
def test_what_it_answers_with_is_the_weights_it_was_given(place, url):
    """The likeliest completions are the trainer's own, before and after its weights change."""
    config = load_config(recipe(place, url, "likeliest"))
    inner = VLMPolicy.load(config.model, config.data.budget)
    policy = ServedPolicy(inner, config, place / "likeliest")
    samples = list(read_samples(place / "gui/train.jsonl"))
    likeliest, sizes, texts = HOW.at_temperature(0.0), [1] * len(samples), []
    for step in range(2):
        policy.weights.update(step, under_way=False)
        served = policy.generate(samples, sizes, likeliest, seed=0, step=step)
        own = inner.generate(samples, sizes, likeliest, seed=0, step=step)
        same = sum(a == b for a, b in zip(served.text, own.text, strict=True))
        assert same >= len(samples) - 1, (served.text, own.text)  # equal up to a tie of two tokens
        assert torch.equal(served.signals["truncated"], own.signals["truncated"]) or same < len(samples)
        texts.append(own.text)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _, weights in inner.trainable():
                weights += 0.1 * weights.std() * torch.randn(weights.shape, generator=generator)
    assert texts[0] != texts[1]
    policy.close()


@pytest.mark.slow
def test_the_mismatch_it_would_have_is_rounding_in_float32_and_more_in_bfloat16(place, url, capsys):
    mismatch.main([recipe(place, url, "far"), "--prompts", "4"])
    said = capsys.readouterr().out
    means = {
        name: float(value) for name, value in re.findall(r"in (float32|bfloat16) .*?mean \|difference\| (\S+)", said)
    }
    assert means["float32"] < 1e-4 < 1e-3 < means["bfloat16"] < 0.2, said
    assert float(re.search(r"([\d.]+)% of", said)[1]) >= 95, said


@pytest.mark.slow
def test_it_refuses_what_it_does_not_know(url):
    answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "x", "messages": [], "return_token_ids": True})
    assert answer.status_code == 422
