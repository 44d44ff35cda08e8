"""What `model.path` may be: a folder, a name of the hub, a pipeline that ships with mmrl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmrl.config import ModelConfig
from mmrl.plugins import ConfigError
from mmrl.policies import pipelines, policy_class
from mmrl.policies.diffusion import DiffusionPolicy, VideoDiffusionPolicy
from mmrl.policies.pipelines import location
from mmrl.policies.vlm import VLMPolicy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shipped(tmp_path: Path, folder: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Assets with a pipeline, in place of those of the package; the working directory is another, empty folder."""
    assets, elsewhere = tmp_path / "assets", tmp_path / "elsewhere"
    (assets / "tiny-clip").mkdir(parents=True)
    elsewhere.mkdir()
    (assets / "tiny-film").symlink_to(folder("wan"))
    monkeypatch.setattr(pipelines, "ASSETS", assets)
    monkeypatch.chdir(elsewhere)
    return assets


def test_a_pipeline_that_ships_is_found_by_its_name(shipped):
    assert location("tiny-film") == str(shipped / "tiny-film")
    assert policy_class("tiny-film") is VideoDiffusionPolicy
    assert policy_class("tiny") is VLMPolicy


def test_a_folder_of_ones_own_comes_first_and_may_begin_with_tiny(shipped, folder):
    for name in ("tiny-film", "tiny-mine"):
        Path(name).symlink_to(folder("sd3"))
        assert location(name) == name
        assert policy_class(name) is DiffusionPolicy
    Path("tiny-words").mkdir()  # whatever that is, it is no pipeline
    assert policy_class("tiny-words") is VLMPolicy


@pytest.mark.parametrize("name", ["tiny-flim", "tiny-clip"])
def test_a_tiny_name_that_does_not_ship_is_refused_with_a_guess(shipped, name):
    with pytest.raises(ConfigError, match=rf"model.path = {name} is neither .*\n.*Known: tiny, tiny-film"):
        policy_class(name)


# -- the hub ---------------------------------------------------------------------------------------------------------


def cached(home: Path, name: str, files: Path) -> None:
    """A repository in the layout of the hub's cache: files in a snapshot, and the reference `main` to it."""
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / ("0" * 40)).symlink_to(files)


def offline(home: Path, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own, as the hub's library reads where its cache is when it is imported."""
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("HF_HUB_CACHE", None)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment)


def test_a_pipeline_of_the_hub_is_told_from_a_language_model(tmp_path, folder):
    (tmp_path / "words").mkdir()
    (tmp_path / "words/config.json").write_text("{}")
    for name, files in [("a/image", folder("sd3")), ("a/film", folder("wan")), ("a/words", tmp_path / "words")]:
        cached(tmp_path / "home", name, files)
    code = """
from mmrl.policies import policy_class
from mmrl.plugins import ConfigError
print([policy_class(name).__name__ for name in ("a/image", "a/film", "a/words")])
try:
    policy_class("a/nowhere")
except ConfigError as error:
    print(error)
"""
    done = offline(tmp_path / "home", code, tmp_path)
    kinds, message = done.stdout.split("\n", 1)
    assert kinds == str(["DiffusionPolicy", "VideoDiffusionPolicy", "VLMPolicy"]), done.stderr
    assert message.startswith("model.path = a/nowhere: neither a folder here nor a model the hub gives us (")
    assert "hf download a/nowhere --local-dir" in message


def test_a_pipeline_of_the_hub_generates_and_has_a_reference(tmp_path, folder):
    cached(tmp_path / "home", "a/image", folder("sd3"))
    code = """
from mmrl.config import ModelConfig
from mmrl.policies.diffusion import Denoising, DiffusionPolicy
from mmrl.policies.pipelines import load_pipeline
from mmrl.records import Sample
policy = DiffusionPolicy(load_pipeline(ModelConfig(path="a/image")))
sample = Sample("s", ({"role": "user", "content": "a red circle"},))
rollouts = policy.generate([sample], [2], Denoising(steps=2, width=8, height=8), seed=0, step=0)
gap = (policy.reference_logp(rollouts) - rollouts.logp_rollout)[rollouts.mask].abs().max()
assert gap < 1e-5, gap
"""
    done = offline(tmp_path / "home", code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Loading" not in done.stdout + done.stderr


def test_a_run_of_a_hub_model_is_refused_without_one_before_anything_is_loaded(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"model.path = models/stable-diffusion: neither a folder here"):
        pipelines.load_pipeline(ModelConfig(path="models/stable-diffusion"))


def test_the_index_says_which_parts_a_pipeline_goes_without(folder):
    index = json.loads((folder("sd3") / "model_index.json").read_text())
    assert index["text_encoder_3"] == [None, None]
    assert pipelines.load_pipeline(ModelConfig(path=str(folder("sd3")))).pipe.text_encoder_3 is None
