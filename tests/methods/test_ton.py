"""TON: its golden advantage and loss, what counts as a skip, thoughts by the model itself, and both stages on the tiny
model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from data_pipelines.dataset import read_samples
from data_pipelines.gui.build import make_gui
from data_pipelines.reading import Problem
from data_pipelines.sources import read_rows, write_samples
from data_pipelines.transform import transform
from mmrl.config import SftConfig, load_config
from mmrl.launch import run_training
from mmrl.losses import weights
from mmrl.methods.ton import convert_to_traces, reverse, skip_ratio, skips, unusable, write_thoughts
from mmrl.policies.vlm import VLMPolicy
from mmrl.recipe import make_recipe
from mmrl.records import Media, Sample
from mmrl.runs.reader import read_metrics
from mmrl.sft import sft

ROOT = Path(__file__).parents[2]
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def golden():
    return {vector["name"]: vector for vector in json.loads((ROOT / "tests/golden/ton.json").read_text())}


@pytest.fixture(scope="module")
def recipe():
    where = str(ROOT / "configs/methods/ton.yaml")
    return make_recipe(load_config(ROOT / "configs/demo/gui.yaml", [where]), VLMPolicy, where=where)


def credit(recipe, rollouts, context):
    value = rollouts.reward[:, None].expand(rollouts.mask.shape).clone()
    for stage in recipe.advantages:
        value = stage.at(0, 1)(value, rollouts, context)
    return value


def test_golden_advantage(golden, recipe, make_rollouts, context):
    vector = golden["grpo_advantage_one_hit_G8"]
    rollouts = make_rollouts(vector["inputs"]["rewards"], [0] * 8)
    torch.testing.assert_close(
        credit(recipe, rollouts, context)[:, 0], torch.tensor(vector["expected"]), atol=1e-5, rtol=0
    )


def test_golden_loss(golden, recipe, make_rollouts, context):
    given = golden["grpo_loss_with_k3_and_eos_mask"]["inputs"]
    expected = golden["grpo_loss_with_k3_and_eos_mask"]["expected"]
    mask = torch.tensor(expected["mask"]).bool()
    logp = torch.tensor(given["logps"])
    rollouts = make_rollouts(
        given["rewards"], [0, 0], mask.sum(1), width=4, logp_old=logp, logp_ref=torch.tensor(given["ref_logps"])
    )
    rollouts.advantage = credit(recipe, rollouts, context)
    torch.testing.assert_close(rollouts.advantage[:, 0], torch.tensor(expected["advantages"]), atol=1e-5, rtol=0)
    loss = sum(
        term.coefficient(0, 1, {})
        * (weights(mask, term.aggregate, constant_length=4) * term.stage.at(0, 1)(logp, rollouts)).sum()
        for term in recipe.terms
    )
    assert float(loss) == pytest.approx(expected["loss"], abs=1e-5)


def test_a_skip_is_an_empty_thought_and_nothing_else(make_rollouts, context):
    skipped = ["<think>\n\n</think><answer>3</answer>", "\n<think></think>\n<answer>3</answer>", "<think> </think>3"]
    thought = ["<think>3 and 4</think><answer>7</answer>", "<answer>3</answer>", "<think>\n\n", "", "</think>"]
    assert [skips(text) for text in skipped + thought] == [True] * 3 + [False] * 5
    rollouts = make_rollouts([0.0] * 8, [0] * 8)
    rollouts.text = skipped + thought
    start = torch.randn(8, 3)
    assert skip_ratio(start, rollouts, context) is start
    assert rollouts.signals["skip_ratio"].float().mean() == 3 / 8


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("There are 3 red cubes. Two spheres stand behind them.", ""),
        ("I count 5 in the first row. That leaves none for the others.", ""),  # met on the way
        ("There are 3 cubes. So there are 5.", "states the answer"),
        ("15 of them are hidden", ""),
        ("The answer: 5", "states the answer"),
        ("<answer>5</answer>", "has tags"),
        ("", "is empty"),
    ],
)
def test_what_is_no_thought(text, why):
    assert unusable(text, "5", truncated=False) == why
    assert unusable(text, "5", truncated=True) == "did not end"


def test_reverse_thinking_shows_the_question_and_the_gold_and_hides_the_stored_answer():
    picture = Media(kind="image", path="x.png", digest="", size=(64, 64))
    asked = [{"type": "image", "image": "x.png"}, {"type": "text", "text": "how many?"}]
    turns = ({"role": "user", "content": asked}, {"role": "assistant", "content": "<answer>9</answer>"})
    (turn,) = reverse(Sample("s", turns, (picture,), {"count": 5}), "5").messages
    texts = [part.get("text", "") for part in turn["content"]]
    assert turn["content"][0] == asked[0]
    assert texts[1] == "how many?"
    assert "right answer is 5" in texts[2]
    assert "Do not state the answer" in texts[2]
    assert "9" not in "".join(texts)


class Writes:
    """Stands in for a policy that writes given texts: what is tested is which of them are taken."""

    def __init__(self, make_rollouts, *groups):
        self.make_rollouts, self.groups = make_rollouts, groups

    def generate(self, samples, sizes, how, *, seed, step):
        texts = [text for group in self.groups for text in group]
        rollouts = self.make_rollouts([0.0] * len(texts), [g for g, group in enumerate(self.groups) for _ in group])
        rollouts.text = texts
        rollouts.signals["truncated"] = torch.tensor([text.endswith("...") for text in texts])
        return rollouts


def test_the_first_thought_is_taken_and_a_row_without_one_is_a_problem(make_rollouts):
    ask = ({"role": "user", "content": "how many?"},)
    samples = [Sample(f"s{n}", ask, target={"count": 5}, where=f"row {n}") for n in range(2)]
    samples.append(Sample("s2", ask, target={"caption": "x"}, where="row 2"))
    policy = Writes(make_rollouts, ("It is 5.", "and so on ...", "Two and three."), ("5", "", "5"), ("a", "b", "c"))
    first, second, third = write_thoughts(policy, samples, None, seed=0, tag="answer", attempts=3)
    assert first["messages"][-1]["content"] == "<think>Two and three.</think><answer>5</answer>"
    assert isinstance(second, Problem) and "states the answer" in second.message and second.where == "row 1"
    assert isinstance(third, Problem) and third.kind == "no answer"


def test_both_stages_on_the_tiny_model(tmp_path):
    """Thoughts by the model itself, half of them dropped, learned, then GRPO: it thinks sometimes, and is counted."""
    make_gui(tmp_path / "gui", count=48, test_count=4)
    train, traces = tmp_path / "gui/train.jsonl", tmp_path / "gui/traces.jsonl"
    settings = {"tag": "answer", "attempts": 2, "max_new_tokens": 6, "temperature": 1.0}
    written = convert_to_traces(
        str(train), traces, model="tiny", config_file=None, seed=0, tick=lambda _: None, **settings
    )
    assert 24 < written.rows <= 48
    rows = list(read_rows(traces))
    assert all(row["messages"][-1]["content"].startswith("<think>") for row in rows)
    # One wording, so that few steps teach it.
    for row in rows:
        x, y = row["target"]["point"]
        row["messages"][-1]["content"] = f"<think>think</think><answer>({x}, {y})</answer>"
        del row["where"]
    write_samples(traces, rows)
    dropped = tmp_path / "gui/dropped.jsonl"
    transform(str(traces), "drop-thoughts", dropped, settings={"share": 0.5})
    skipped = [skips(sample.messages[-1]["content"]) for sample in read_samples(dropped)]
    assert 0.2 < sum(skipped) / len(skipped) < 0.8

    model = tmp_path / "model"
    config = {"out": str(model), "steps": 60, "batch_size": 8, "data": {"train": str(dropped)},
              "optimizer": {"learning_rate": 2e-3}}  # fmt: skip
    (tmp_path / "sft.yaml").write_text(json.dumps(config))
    sft(load_config(tmp_path / "sft.yaml", kind=SftConfig), QUIET)

    changes = [f"model.path={model}", f"data.train={train}", "data.test=", f"runs={tmp_path}", "steps=2",
               "prompts_per_step=4", "sampling.max_new_tokens=32", "rewards=[point_in_box, think_format]"]  # fmt: skip
    overrides = [str(ROOT / "configs/methods/ton.yaml"), *changes]
    run = run_training(str(ROOT / "configs/demo/gui.yaml"), overrides, resume=False, console=QUIET)
    metrics = read_metrics(run)
    assert all(line["score/think_format"] > 0.5 for line in metrics)
    assert all(0.1 < line["skip_ratio"] < 0.9 for line in metrics)
    assert all("loss/kl" in line and line["ratio_gap"] < 1e-4 for line in metrics)
