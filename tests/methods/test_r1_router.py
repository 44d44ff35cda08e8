"""R1-Router: chains become hops, and each kind of hop has its own reward and its own group."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from data_pipelines.dataset import read_samples
from data_pipelines.hops import read_hops
from data_pipelines.reading import Problem
from data_pipelines.sources import write_samples
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.methods.r1_router import retrieval_step, word_cosine
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.records import Sample
from mmrl.runs.reader import read_metrics

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs/papers/r1_router_hops.yaml"
GOLD = Sample("s", (), target={"query": "who built the tower", "retriever": "text retriever"})


def step(query="who built the tower", named="text retriever", thought="<think>a</think>"):
    return f"{thought}<sub-question>{query}</sub-question><ret>{named}</ret>"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (step(), 1.0),
        (step(named="Text Retriever"), 1.0),
        (step(named="table retriever"), 0.5),
        (step(named="text retriever, table retriever"), 0.5),
        (step(query="where"), 0.5),
        (step(query="who built a bridge"), 0.5 + 0.5 * 2 / 3),
        (step(thought=""), 0.0),
        (step(named="web search"), 0.0),
        (step(named="none, text retriever"), 0.0),
        ("who built the tower", 0.0),
    ],
)
def test_a_retrieval_step(completion, expected):
    (score,) = retrieval_step()([completion], [GOLD])
    assert score.value == pytest.approx(expected)


def test_every_completion_has_its_own_query():
    scores = retrieval_step()([step(query="where"), "none", step()], [GOLD] * 3)
    assert [score.value for score in scores] == pytest.approx([0.5, 0.0, 1.0])
    assert word_cosine("", "a") == 0


def test_an_encoder_compares_by_its_first_token(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "built", "the", "tower", "where"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "model")
    small = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=1.0,
    )
    BertModel(small).save_pretrained(tmp_path / "model")
    judge = retrieval_step(embedder=str(tmp_path / "model"))
    same, other = judge([step(), step(query="where where")], [GOLD] * 2)
    assert same.value == pytest.approx(1.0) and other.value < 1 - 1e-5


def stored(row):
    """As a conversion writes it."""
    return {key: value for key, value in row.items() if key != "where"}


@pytest.fixture(scope="module")
def hops(tmp_path_factory, studio):
    found = {"query": "who built it", "retriever": ["text retriever"]}
    steps = [
        {"step_type": "ret", "system": "route", "problem": "what is it?", "answer": found},
        {"step_type": "ans", "problem": "it was Eiffel. who?", "answer": ["Eiffel", "Gustave Eiffel"]},
        {"step_type": "ret", "problem": "?", "answer": {"query": "x", "retriever": []}},
    ]
    folder = tmp_path_factory.mktemp("hops")
    line = json.dumps({"images": [Path(studio.picture(64, 64)["image"]).name], "steps": steps})
    (folder / "chains.jsonl").write_text(f"{line}\n{line}\n" + '{"steps": []}\n')
    rows = list(read_hops(folder / "chains.jsonl", media=studio.folder))
    write_samples(folder / "hops.jsonl", [stored(row) for row in rows if isinstance(row, dict)])
    return rows, folder / "hops.jsonl"


def test_a_chain_is_a_row_per_hop(hops):
    rows, file = hops
    assert [isinstance(row, Problem) for row in rows] == [False, False, True] * 2 + [True]
    ret, ans = read_samples(file)[:2]
    assert ret.target == {"query": "who built it", "retriever": "text retriever"} and ret.meta["task"] == "ret"
    assert ans.target["answers"] == ["Eiffel", "Gustave Eiffel"] and len(ret.media) == 1
    assert [message["role"] for message in ret.messages] == ["system", "user"]


def test_each_kind_of_hop_has_its_reward(hops, make_rollouts):
    recipe = make_recipe(load_config(RECIPE, ["rewards.0.embedder=words"]), VLMPolicy, where="recipe")
    rollouts = make_rollouts([0.0] * 4, [0, 0, 1, 1])
    rollouts.samples = read_samples(hops[1])[:2]
    rollouts.text = [step("who built it"), step("no"), "<think>a</think><answer>eiffel</answer>", "a tower"]
    recipe.score(rollouts, 0)
    assert rollouts.reward.tolist() == [1.0, 0.5, 1.0, 0.0]
    assert rollouts.scores["recall"][:2].isnan().all() and rollouts.scores["retrieval"][2:].isnan().all()


def test_it_trains(hops, tmp_path):
    small = ["steps=2", "prompts_per_step=2", "group_size=3", "sampling.max_new_tokens=6", "model={path: tiny}",
             "data.budget={}", f"data.train={hops[1]}", "rewards.0.embedder=words", f"runs={tmp_path}"]  # fmt: skip
    metrics = read_metrics(run_training(str(RECIPE), small, resume=False, console=Console(quiet=True)))
    assert len(metrics) == 2 and all(line["ratio_gap"] < 1e-4 for line in metrics)
