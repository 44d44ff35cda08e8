"""Methods laid over a recipe together: those that change other stages combine, those that contradict are refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from rich.console import Console

from data_pipelines.gui.build import make_gui
from mmrl.config import load_config
from mmrl.launch import run_training
from mmrl.layering import COMPARISONS, STAGES, at, combine
from mmrl.mappings import read_yaml
from mmrl.plugins import ConfigError
from mmrl.registry import ADVANTAGES
from mmrl.runs.reader import read_metrics

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "configs/demo/gui.yaml"
METHODS = sorted((ROOT / "configs/methods").glob("*.yaml"))
SAID = {file: read_yaml(file) for file in METHODS}


def method(name: str) -> str:
    return str(ROOT / f"configs/methods/{name}.yaml")


def names(stages: list[dict]) -> list[str]:
    return [stage["name"] for stage in stages]


# -- methods that combine ------------------------------------------------------------------------------------------


COMBINED = {
    "tempsamp + variance_sampling": (
        [method("tempsamp"), method("variance_sampling"), "rollout.style=plain"],
        {"sampler": "variance_aware", "rollout": "ground_truth"},
        ["soft_advantage", "group_relative"],
    ),
    "tw_grpo + dapo's clip-higher": (
        [method("tw_grpo"), method("dapo"), "rollout.max_requests=2"],
        {"sampler": "shuffled", "rollout": "dynamic"},
        ["overlong_penalty", "group_relative", "token_weights"],
    ),
    "ttrv + LoRA": (
        [method("ttrv"), "rewards.0.answer=number", "rollout.votes=8", "model.adapter.rank=4"],
        {"sampler": "shuffled", "rollout": "votes"},
        ["group_relative"],
    ),
}


@pytest.mark.parametrize(("changes", "stages", "chain"), COMBINED.values(), ids=COMBINED)
def test_methods_of_different_stages_train_together(changes, stages, chain, tmp_path):
    make_gui(tmp_path / "gui", count=32, test_count=2)
    changes = [*changes, f"data.train={tmp_path}/gui/train.jsonl", "data.test=null", f"runs={tmp_path}"]
    changes += ["steps=2", "prompts_per_step=4", "group_size=4"]
    config = load_config(DEMO, changes)
    assert {key: at(vars(config), key)["name"] for key in stages} == stages
    assert names(config.advantages) == chain
    metrics = read_metrics(run_training(str(DEMO), changes, resume=False, console=Console(quiet=True)))
    assert len(metrics) == 2
    assert all(line["ratio_gap"] < 1e-4 for line in metrics)
    assert any(line["grad_norm"] > 0 for line in metrics)


def test_settings_of_a_stage_that_both_name_are_the_later_ones():
    before, after = (load_config(DEMO, [method(a), method(b)]) for a, b in itertools.permutations(
        ["tempsamp", "variance_sampling"]))  # fmt: skip
    assert names(before.loss.terms) == names(after.loss.terms) == ["clipped", "kl"]
    assert [term.get("clip_high") for term in (before.loss.terms[0], after.loss.terms[0])] == [0.2, None]
    assert (before.loss.terms[1]["coef"], after.loss.terms[1]["coef"]) == (0.01, 0.04)
    assert (before.loss.aggregate, after.loss.aggregate) == ("token_mean", "sequence_mean")
    assert (before.advantages[1]["eps"], after.advantages[1]["eps"]) == (1e-6, 1e-4)
    assert before.advantages[0] == after.advantages[0] == read_yaml(Path(method("tempsamp")))["advantages"][0]


def test_a_schedule_replaces_a_schedule_and_is_not_mixed_with_it():
    terms = load_config(DEMO, [method("vlaa_thinker"), method("othink_mr1")]).loss.terms
    assert terms[1]["coef"] == read_yaml(Path(method("othink_mr1")))["loss"]["terms"][1]["coef"]


@pytest.mark.parametrize("first", METHODS, ids=lambda file: file.stem)
def test_every_pair_combines_or_is_refused_with_both_files_and_the_key(first):
    for second in METHODS:
        if second == first:
            continue
        try:
            together = load_config(DEMO, [str(first), str(second)])
        except ConfigError as error:
            assert f"{second} and {first} contradict each other" in str(error)
            assert any(f": {key} is " in str(error) for key in STAGES)
            continue
        for said, key in itertools.product((SAID[first], SAID[second]), STAGES):  # nothing that either named is lost
            found = at({**vars(together), "loss": vars(together.loss)}, key)
            stages, kept = (value if isinstance(value, list) else [value] for value in (at(said, key) or [], found))
            assert set(names(stages)) <= set(names(kept))
        assert len([name for name in names(together.advantages) if name in COMPARISONS]) == 1


# -- methods that contradict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "key", "said"),
    [
        ("othink_mr1", "ton", "loss.terms", r"kl\.coef is 0\.04 in the one and \{'schedule'"),
        ("dr_grpo", "arpo", "advantages", r"group_relative\.std is unbiased in the one and none in the other"),
        ("tempsamp", "dapo", "rollout", "dynamic in the one and ground_truth in the other"),
        ("craft_gui", "variance_sampling", "sampler", "variance_aware in the one and curriculum"),
        ("ttrv", "gui_rcpo", "rewards", r"\[region_consistency\] in the one and \[vote_frequency\]"),
        ("gspo", "sapo", "loss.terms", r"\[sapo\] in the one and \[gspo\]"),
        ("grpo", "tw_grpo", "loss.terms", r"\[clipped\] in the one and \[clipped, kl\]"),
        (
            "rloo",
            "pass_at_k",
            "advantages",
            r"\[best_only\] in the one and \[leave_one_out\].*compares completions once",
        ),
    ],
)
def test_two_answers_to_one_question_are_refused(first, second, key, said):
    with pytest.raises(ConfigError, match=said) as error:
        load_config(DEMO, [method(first), method(second)])
    assert f"{method(second)} and {method(first)} contradict each other: {key} is" in str(error.value)


def test_all_contradictions_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        load_config(DEMO, [method("tempsamp"), method("dapo")])
    assert [key for key in STAGES if f": {key} is " in str(error.value)] == ["rollout", "loss.terms"]


def test_a_key_on_the_command_line_decides_wherever_it_stands():
    files = [method("craft_gui"), method("variance_sampling")]
    for changes in ([*files, "sampler=shuffled"], ["sampler=shuffled", *files]):
        assert load_config(DEMO, changes).sampler == {"name": "shuffled"}
    terms = ["loss.terms=[gspo]", method("grpo"), method("tw_grpo")]
    assert load_config(DEMO, terms).loss.terms == [{"name": "gspo"}]
    with pytest.raises(ConfigError, match="contradict"):
        load_config(DEMO, [*files, "sampler.refresh=3"])  # a setting does not say which stage
    assert load_config(DEMO, ["group_size=4", method("dapo")]).group_size == 4


def test_a_third_file_is_told_the_file_that_it_contradicts():
    with pytest.raises(ConfigError) as error:
        load_config(DEMO, [method("tempsamp"), method("variance_sampling"), method("craft_gui")])
    assert "craft_gui.yaml" in str(error.value) and "variance_sampling.yaml" in str(error.value)
    assert "tempsamp" not in str(error.value)


def test_parents_beside_each_other_may_not_contradict_either(tmp_path):
    parents = ", ".join(
        [str(DEMO.with_suffix("")), *(method(name)[:-5] for name in ("craft_gui", "variance_sampling"))]
    )
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: [{parents}]\n")
    with pytest.raises(
        ConfigError, match=r"mine.yaml: extends: .*variance_sampling and .*craft_gui contradict each other: sampler"
    ):
        load_config(file)
    file.write_text(f"extends: [{parents}]\nsampler: shuffled\n")
    assert load_config(file).sampler == {"name": "shuffled"}


def test_links_of_both_chains_stand_once_around_the_comparison():
    below = [{"name": "a", "x": 1}, {"name": "group_relative"}, {"name": "c"}]
    above = [{"name": "b"}, {"name": "a", "y": 2}, {"name": "group_relative", "eps": 1}, {"name": "d"}]
    assert combine("advantages", below, above) == [
        {"name": "a", "x": 1, "y": 2}, {"name": "b"}, {"name": "group_relative", "eps": 1}, {"name": "c"},
        {"name": "d"},
    ]  # fmt: skip


def test_the_comparisons_are_those_of_the_recipes():
    assert set(ADVANTAGES) >= COMPARISONS
    for file in METHODS:
        chain = names(read_yaml(file)["advantages"])
        assert len([name for name in chain if name in COMPARISONS]) == 1, file


def test_a_setting_that_no_stage_can_take_is_left_to_the_check_of_the_whole_config():
    odd = [[{"name": "group_relative", "std": {"over": "group", "power": power}}] for power in (1, 2)]
    assert combine("advantages", *odd) == odd[1]
