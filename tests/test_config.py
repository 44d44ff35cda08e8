"""Configs: files that extend files, overrides, and mistakes answered with file, key and the nearest valid one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmrl.config import AdapterConfig, Config, SftConfig, dump, load_config
from mmrl.layering import merge
from mmrl.mappings import settings_from
from mmrl.plugins import ConfigError

BASE = """
steps: 10
prompts_per_step: 4
group_size: 8
data: {train: train.jsonl, budget: {max_pixels: 4096, fps: 2}}
rollout: on_policy
rewards: [point_in_box, {name: format, weight: 0.5}]
loss: {aggregate: sequence_mean, terms: [clipped, {name: kl, coef: 0.04}]}
"""
REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "run.yaml") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write


@pytest.fixture
def base(write):
    return write(BASE, "base.yaml")


def refuses(file, *overrides, message, kind=Config):
    with pytest.raises(ConfigError, match=message) as error:
        load_config(file, overrides, kind=kind)
    return str(error.value)


# -- reading -------------------------------------------------------------------------------------------------------


def test_what_is_not_written_has_its_default(base):
    config = load_config(base)
    assert (config.name, config.steps, config.seed, config.model.path) == ("base", 10, 0, "tiny")
    assert config.optimizer.betas == (0.9, 0.999) and config.model.adapter is None
    assert (config.data.budget.max_pixels, config.data.budget.max_frames) == (4096, None)


def test_bare_names_and_mappings_are_the_same_stage(base):
    config = load_config(base)
    assert config.rollout == {"name": "on_policy"} and config.sampler == {"name": "shuffled"}
    assert config.rewards == [{"name": "point_in_box"}, {"name": "format", "weight": 0.5}]
    assert config.loss.terms == [{"name": "clipped"}, {"name": "kl", "coef": 0.04}]


def test_adapter_may_be_written_in_part(base):
    assert load_config(base, ["model.adapter.rank=8"]).model.adapter == AdapterConfig(rank=8)
    assert load_config(base, ["model={adapter: {rank: 8}}", "model.adapter=null"]).model.adapter is None


def test_a_dumped_config_reads_back_the_same(base, write):
    config = load_config(base, ["model.adapter.rank=8", "optimizer.betas=[0.9, 0.95]", "name=größer"])
    assert load_config(write(dump(config), "dumped.yaml")) == config


def test_the_recipes_of_the_repository_load():
    files = [file for file in (REPOSITORY / "configs").rglob("*.yaml") if "train:" in file.read_text()]
    for file in files:
        if "prompts_per_step" in file.read_text():
            config = load_config(file)
            assert config.name == file.stem


# -- extending -----------------------------------------------------------------------------------------------------


def test_a_chain_of_files_merges_from_the_bottom_up(base, write):
    write("extends: base\nsteps: 20\ndata: {budget: {fps: 4}}\nrollout: {depth: 8}\n", "middle.yaml")
    top = write(
        "extends: [../middle]\nname: mine\nrewards: [tiou]\noptimizer: {schedule: cosine}\n", "deep/er/top.yaml"
    )
    config = load_config(top)
    assert (config.name, config.steps, config.group_size) == ("mine", 20, 8)
    assert (config.data.train, config.data.budget.max_pixels, config.data.budget.fps) == ("train.jsonl", 4096, 4.0)
    assert config.rollout == {"name": "on_policy", "depth": 8}  # settings join the stage below
    assert config.rewards == [{"name": "tiou"}]  # lists are replaced


def test_later_parents_win_and_the_file_itself_wins_over_all(base, write):
    write("steps: 20\nseed: 1\nname: other\n", "other.yaml")
    config = load_config(write("extends: [base, other]\nseed: 2\n"))
    assert (config.name, config.steps, config.seed, config.group_size) == ("other", 20, 2, 8)


def test_a_parent_is_looked_for_in_the_folders_above(base, write):
    write("extends: base\nsteps: 3\n", "recipes/base/grpo.yaml")
    assert load_config(write("extends: base/grpo\n", "recipes/demo/gui.yaml")).steps == 3


def test_another_stage_keeps_no_settings_of_the_one_below(base, write):
    write("extends: base\nrollout: {name: tree, depth: 3}\noptimizer: {learning_rate: 1e-5}\n", "middle.yaml")
    assert load_config(write("extends: middle\nrollout: {depth: 4}\n")).rollout == {"name": "tree", "depth": 4}
    assert load_config(write("extends: middle\nrollout: {name: tree, width: 2}\n")).rollout["depth"] == 3
    assert load_config(write("extends: middle\nrollout: hints\n")).rollout == {"name": "hints"}
    optimizer = load_config(write("extends: middle\noptimizer: {schedule: cosine}\n")).optimizer
    assert (optimizer.schedule, optimizer.learning_rate) == ("cosine", 1e-5)


def test_parents_that_are_missing_or_go_in_circles_are_refused(write):
    refuses(write("extends: base/grop\n"), message=r"run.yaml: extends: base/grop is neither beside")
    refuses(write("extends: run\n"), message=r"run.yaml: extends: .*leads back")
    write("extends: run\n", "other.yaml")
    refuses(write("extends: other\n"), message=r"other.yaml: extends: .*leads back")


value = st.recursive(st.integers(), lambda v: st.dictionaries(st.sampled_from("abc"), v, max_size=3), max_leaves=6)


@given(a=value, b=value)
def test_merging_keeps_everything_of_the_upper_file_and_the_rest_of_the_lower(a, b):
    merged = merge(a, b)
    assert merge(merged, b) == merged
    if isinstance(a, dict) and isinstance(b, dict):
        assert set(merged) == set(a) | set(b)
        assert all(merged[key] == a[key] for key in set(a) - set(b))
        assert all(merged[key] == (merge(a[key], b[key]) if key in a else b[key]) for key in b)
    else:
        assert merged == b


# -- overrides -----------------------------------------------------------------------------------------------------


def test_overrides_reach_any_depth_and_lists(base):
    config = load_config(
        base,
        ["optimizer.learning_rate=1e-5", "steps=50", "rewards.0.weight=2", "loss.terms.1.coef={schedule: linear}",
         "rewards.1=tiou", "sampling.max_new_tokens=8", "advantages=[leave_one_out]", "data.budget.fps=null",
         "name=run"],
    )  # fmt: skip
    assert (config.optimizer.learning_rate, config.steps, config.name) == (1e-5, 50, "run")
    assert config.rewards == [{"name": "point_in_box", "weight": 2}, {"name": "tiou"}]
    assert config.loss.terms[1] == {"name": "kl", "coef": {"schedule": "linear"}}
    assert (config.rollout, config.sampling) == ({"name": "on_policy"}, {"max_new_tokens": 8})
    assert config.advantages == [{"name": "leave_one_out"}] and config.data.budget.fps is None


def test_a_stage_named_by_an_override_takes_settings_from_the_next(base):
    assert load_config(base, ["rollout=tree", "rollout.depth=3"]).rollout == {"name": "tree", "depth": 3}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "written key=value"),
        ("stpes=50", "stpes is not a setting.*\n.*Did you mean steps"),
        ("rewards.7.weight=2", "nothing at `rewards.7.weight`"),
        ("rewards.7=tiou", "nothing at `rewards.7`"),
        ("rewards.first.weight=2", "nothing at `rewards.first.weight`"),
        ("steps.x=1", "nothing at `steps.x`"),
        ("data.train.x.y=1", "nothing at `data.train.x.y`"),
        ("betas=[1", "not valid YAML"),
        ("steps=", "steps: Input should be a valid integer"),
    ],
)
def test_overrides_that_set_nothing_are_refused(base, override, message):
    refuses(base, override, message=message)


def test_words_spell_a_mapping_as_overrides_do():
    assert settings_from(["a=1", "b.c=1e-5", "b.d=[x, y]", "e=", "a=two"]) == {
        "a": "two", "b": {"c": 1e-5, "d": ["x", "y"]}, "e": None,
    }  # fmt: skip
    assert settings_from([]) == {}
    with pytest.raises(ConfigError, match="written key=value"):
        settings_from(["a"])


def test_a_key_wins_over_a_file_wherever_it_stands(base, write):
    other = str(write("steps: 30\nseed: 3\n", "other.yaml"))
    for changes in (["steps=7", other], [other, "steps=7"]):
        config = load_config(base, changes)
        assert (config.steps, config.seed) == (7, 3)


# -- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "guess"),
    [
        ("group_sise: 4", "group_sise", "group_size"),
        ("model: {visoin: trained}", "model.visoin", "vision"),
        ("model: {adapter: {rnak: 4}}", "model.adapter.rnak", "rank"),
        ("data: {budget: {max_pixel: 4}}", "data.budget.max_pixel", "max_pixels"),
        ("loss: {agregate: token_mean}", "loss.agregate", "aggregate"),
    ],
)
def test_unknown_keys_at_any_depth_get_a_guess(base, write, text, key, guess):
    message = refuses(write(f"extends: base\n{text}\n"), message=rf"run.yaml: {key} is not a setting")
    assert f"Did you mean {guess}?" in message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("steps: many", "steps"),
        ("steps: 1.5", "steps"),
        ("model: {vision: melted}", "model.vision"),
        ("model: 3", "model"),
        ("optimizer: {betas: [0.9, x]}", "optimizer.betas.1"),
        ("data: {budget: {max_pixels: -1}}", "data.budget"),
        ("rewards: point_in_box", "rewards"),
        ("loss: {terms: [3]}", "loss.terms.0"),
    ],
)
def test_wrong_types_name_file_key_and_what_was_found(base, write, text, key):
    message = refuses(write(f"extends: base\n{text}\n"), message="run.yaml is not a valid Config")
    assert f"\n  {key}" in message and "(found " in message


def test_a_missing_key_is_named(write):
    without = yaml.safe_load(BASE)
    del without["steps"], without["data"]["train"]
    message = refuses(write(yaml.safe_dump(without)), message="not a valid Config")
    assert "steps: Field required" in message and "data.train: Field required" in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["group_size=1"], "group_size = 1: an advantage compares"),
        (["prompts_per_step=0"], "prompts_per_step = 0"),
        (["steps=0"], "steps = 0"),
        (["rewards=[]"], "rewards is empty"),
        (["max_failed_rewards=1.5"], "max_failed_rewards = 1.5"),
        (["micro_batch_tokens=0"], "micro_batch_tokens"),
        (["optimizer.learning_rate=0"], "optimizer.learning_rate = 0"),
        (["evaluate.every=5"], "evaluate.every is set but data.test is not"),
        (
            ["optimizer.epochs=2", "optimizer.updates_per_rollout=3"],
            "every pass has as many updates.* Nearest: 2 or 4\\.",
        ),
        (["optimizer.ema=1.0"], "optimizer.ema = 1.0: a decay between 0 and 1"),
        (["optimizer.ema=0.9", "optimizer.ema_every=0"], "optimizer.ema_every = 0"),
        (["optimizer.updates_per_rollout=0"], "optimizer.updates_per_rollout = 0 .* Nearest: 1\\."),
        (["optimizer.updates_per_rollout=5"], "prompts_per_step = 4: .* at least one whole group. Nearest: 4\\."),
        (
            ["sampler={name: variance_aware, weighted: {schedule: linear}}"],
            "sampler.weighted is a schedule; a sampler is",
        ),
    ],
)
def test_impossible_combinations_are_refused(base, overrides, message):
    assert refuses(base, *overrides, message=message).startswith(f"{base}:")


def test_all_impossible_things_are_told_at_once(base):
    message = refuses(base, "group_size=1", "steps=0", message="group_size")
    assert "steps = 0" in message


def test_files_that_are_no_config_are_refused(tmp_path, write):
    refuses(tmp_path / "absent.yaml", message="absent.yaml does not exist")
    refuses(write("steps: [1, 2\n"), message="run.yaml is not valid YAML")
    refuses(write("- steps\n"), message="run.yaml holds a list; a config is a mapping")
    refuses(write(""), message="steps: Field required")


def test_sft_configs_are_as_strict(write):
    file = write("out: tiny\nsteps: 3\nbatch_size: 2\ndata: {train: a.jsonl}\n", "sft.yaml")
    assert load_config(file, ["optimizer.learning_rate=3e-4"], kind=SftConfig).optimizer.learning_rate == 3e-4
    refuses(file, "batch_sise=3", message="batch_sise is not a setting.*\n.*Did you mean batch_size", kind=SftConfig)
    refuses(file, "steps=0", message="steps = 0", kind=SftConfig)
    refuses(file, "optimizer.ema=0.9", message="optimizer.ema is for `mmrl train`", kind=SftConfig)
