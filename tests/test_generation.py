from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_pipelines
import torch
import yaml
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from mmrl.cli import app
from mmrl.config import ModelConfig
from mmrl.generation import Generated, Kept, Request, Source, generate, samples_of, slug, write
from mmrl.plugins import ConfigError
from mmrl.runs.checkpoints import save_checkpoint
from mmrl.runs.writer import RunWriter

FAST = ("steps=3",)
PROMPTS = ["a red circle", "two blue stars"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny pipeline, by name."""
    folder = tmp_path_factory.mktemp("models")

    def model(name: str) -> str:
        return str(folder / name if (folder / name).is_dir() else random_pipelines.save(name, folder / name))

    return model


@pytest.fixture(scope="module")
def model(models: Callable[[str], str]) -> str:
    return models("sd3")


@pytest.fixture
def trained(model: str, tmp_path: Path) -> Path:
    """A run whose policy moved away from its model."""
    folder = tmp_path / "run"
    config = {
        "steps": 4, "prompts_per_step": 1, "group_size": 2, "model": {"path": model}, "data": {"train": "x.jsonl"},
        "rewards": ["brightness"], "sampling": {"steps": 3, "level": 0.5, "same_noise": True},
    }  # fmt: skip
    RunWriter.create(folder, yaml.safe_dump(config))
    policy: Any = Source("m", ModelConfig(path=model)).start()
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter.add_(0.2 * torch.ones_like(parameter))
    save_checkpoint(folder, 3, save_model=policy.save, state={}, keep=1)
    return folder


def make(target: Any, out: Path, prompts: list[str] | None = None, *, compare: str | None = None, **changes: Any):
    request = Request(**{"settings": FAST, **changes})
    return generate(str(target), prompts or PROMPTS, out, request, compare=compare, console=Console(file=io.StringIO()))


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)


def printed(result: Generated) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(result.table)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["sd", "sd3"])
def test_every_prompt_gets_its_files_and_all_one_grid(models, name: str, tmp_path: Path):
    result = make(models(name), tmp_path, count=2)
    assert [file.name for file in result.files] == [
        "01-a-red-circle-1.png", "01-a-red-circle-2.png", "02-two-blue-stars-1.png", "02-two-blue-stars-2.png",
    ]  # fmt: skip
    assert len({pixels(file).tobytes() for file in result.files}) == 4
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in [*result.files, result.grid]}
    assert result.table is None


def test_a_picture_is_a_function_of_seed_and_prompt_alone(model, tmp_path: Path):
    together = make(model, tmp_path / "a", ["a red circle", "two blue stars"])
    alone = make(model, tmp_path / "b", ["two blue stars", "two blue stars"])
    assert len(alone.files) == 1
    assert together.files[1].read_bytes() == alone.files[0].read_bytes()
    other = make(model, tmp_path / "c", ["two blue stars"], seed=1)
    assert other.files[0].read_bytes() != alone.files[0].read_bytes()


def test_a_run_stands_beside_the_model_it_began_with(trained: Path, model: str, tmp_path: Path):
    pairs = make(trained, tmp_path / "run", settings=(), count=2)
    assert [file.name for file in pairs.files[:3]] == [
        "01-a-red-circle-1-before.png", "01-a-red-circle-1-after.png", "01-a-red-circle-2-before.png",
    ]  # fmt: skip
    start = make(model, tmp_path / "model", count=2)
    for before, after, same in zip(pairs.files[::2], pairs.files[1::2], start.files, strict=True):
        assert before.read_bytes() == same.read_bytes()
        assert after.read_bytes() != before.read_bytes()
    assert before.read_bytes() != pairs.files[4].read_bytes(), "training shares the noise of a prompt, this does not"


def test_two_models_are_compared_on_the_same_noise(trained: Path, model: str, tmp_path: Path):
    itself = make(model, tmp_path / "a", compare=model)
    assert itself.files[0].read_bytes() == itself.files[1].read_bytes()
    runs = make(model, tmp_path / "b", settings=(), compare=str(trained))
    pairs = make(trained, tmp_path / "c", settings=())
    assert [file.read_bytes() for file in runs.files] == [pairs.files[i].read_bytes() for i in (1, 0, 3, 2)], (
        "a model is sampled by the settings of the run beside it"
    )


def test_noise_is_a_runs_own_only_when_asked_for(trained: Path):
    source = Source.find(str(trained))
    assert source.sampling(Request()).level == 0
    assert source.sampling(Request(temperature=1.0)).level == 0.5
    assert source.sampling(Request(settings=("level=0.2",))).level == 0.2


def test_a_size_that_the_model_cannot_make_is_refused_by_key(models, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"sampling\.frames = 4: .* 1 and a multiple of"):
        make(models("wan_i2v"), tmp_path / "out", settings=("frames=4",))
    assert not (tmp_path / "out").exists()


def test_a_reward_is_loaded_before_anything_is_made(model, tmp_path: Path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from rewards import reward\n@reward(reads='image')\nclass Mine:\n"
        "    def __init__(self): raise OSError('no weights here')\n    def __call__(self, image, sample): return 0.0\n"
    )
    with pytest.raises(ConfigError, match=r"cannot be loaded: .*no weights here"):
        make(model, tmp_path / "out", rewards=(f"{plugin}:Mine",))
    assert not (tmp_path / "out").exists()


def test_settings_that_train_nothing_still_generate(model, tmp_path: Path):
    assert len(make(model, tmp_path, settings=("steps=1", "fraction=0.1", "window=random")).files) == 2


def test_the_best_of_n_are_the_best_of_all_that_was_made(model, tmp_path: Path):
    everything = make(model, tmp_path / "all", count=6)
    scores = [np.asarray(Image.open(file).convert("L")).mean() for file in everything.files]
    best = make(model, tmp_path / "best", best_of=6, count=2, rewards=("brightness",))
    for index in range(2):
        part = range(6 * index, 6 * index + 6)
        order = sorted(part, key=lambda i: scores[i], reverse=True)[:2]
        kept = [file.read_bytes() for file in best.files[2 * index : 2 * index + 2]]
        assert sorted(kept) == sorted(everything.files[i].read_bytes() for i in order)
    text = printed(best)
    assert "6 of each prompt" in text and "all prompts" in text and "two blue stars" in text


def test_rewards_are_weighted_and_may_be_several(model, tmp_path: Path):
    darkest = make(model, tmp_path, ["x"], best_of=4, rewards=("brightness,weight=-1", "jpeg_size,scale=1"))
    line = next(line for line in printed(darkest).splitlines() if line.startswith("x "))
    (mean, best), (_, dark), (_, size) = [map(float, pair) for pair in re.findall(r"(\S+) → (\S+)", line)]
    assert best >= mean
    assert best == pytest.approx(size - dark, abs=2e-3)
    everything = make(model, tmp_path / "all", ["x"], count=4, rewards=("brightness",))
    assert "4 of each prompt" in printed(everything)


def test_videos_are_files_of_their_own_and_frames_in_the_grid(tmp_path: Path):
    film = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    result = write([[Kept([film], [0.0], {})]], samples_of(["a film"], []), tmp_path, Request(fps=4))
    assert [file.name for file in result.files] == ["01-a-film.mp4"]
    colours = {colour for _, colour in Image.open(result.grid).getcolors(1 << 20)}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= colours


def test_a_video_that_starts_from_an_image(models, tmp_path: Path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "start.png")
    settings = ("steps=2", "frames=5", "width=32", "height=32")
    target = models("wan_i2v")
    result = make(target, tmp_path / "out", ["rain"], settings=settings, images=(tmp_path / "start.png",))
    assert [file.name for file in result.files] == ["01-rain.mp4"]
    with pytest.raises(ConfigError, match="starts from an image"):
        make(target, tmp_path / "other", ["rain"], settings=settings)


def test_an_image_that_no_pipeline_starts_from_is_refused(model, tmp_path: Path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "start.png")
    with pytest.raises(ConfigError, match=r"--image .*start.png: .* starts from no image"):
        make(model, tmp_path / "out", images=(tmp_path / "start.png",))
    assert not (tmp_path / "out").exists()


def test_pictures_of_an_earlier_call_are_neither_mixed_with_new_ones_nor_lost(model, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    before = make(model, out, ["a circle", "a star"], settings=("steps=1",))
    kept = {file: file.read_bytes() for file in out.iterdir()}
    for leftover in [*before.files, before.grid]:
        for file in set(kept) - {leftover}:
            file.unlink(missing_ok=True)
        with pytest.raises(ConfigError, match=rf"holds pictures of an earlier call \({leftover.name}\)"):
            make(model, out, ["a square"], settings=("steps=1",))
        assert [file.name for file in out.iterdir()] == [leftover.name]
        for file, content in kept.items():
            file.write_bytes(content)
    with pytest.raises(ConfigError, match="is a file"):
        make(model, out / "notes.txt")


@pytest.mark.parametrize(
    ("prompt", "name"),
    [("A red, red circle!", "a-red-red-circle"), ("x" * 90, "x" * 40), ("../../etc", "etc"), ("红色的圆", "红色的圆"),
     ("🙂", "")],
)  # fmt: skip
def test_file_names_are_readable_and_stay_in_their_folder(prompt: str, name: str):
    assert slug(prompt) == name
    assert len(slug("two words " * 20)) <= 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": [" "]}, "the prompt is empty"),
        ({"settings": ("stepz=3",)}, "Did you mean steps"),
        ({"settings": ("e=mc2 in chalk",)}, r"Read as settings, not as prompts: 'e=mc2 in chalk'. .* a space in front"),
        ({"best_of": 3}, "--reward"),
        ({"best_of": 1, "count": 2, "rewards": ("brightness",)}, "fewer"),
        ({"count": 0}, "at least 1"),
        ({"rewards": ("brightnes",)}, "Did you mean brightness"),
        ({"rewards": ("exact_match",)}, "this policy makes image"),
        ({"rewards": ("colour",)}, "is a colour such as red"),
        ({"rewards": ("brightness", "brightness")}, "second reward"),
        ({"images": (Path("a.png"),) * 3}, "one for all"),
        ({"images": (Path("nowhere.png"),)}, "does not exist"),
    ],
)
def test_mistakes_are_named(model, tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        make(model, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["tiny", "nowhere"])
def test_language_models_are_sent_elsewhere(target: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no image or video model.*\n.*mmrl eval"):
        make(target, tmp_path)


def test_a_run_without_checkpoint_says_so(trained: Path, tmp_path: Path):
    (trained / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="no checkpoint"):
        make(trained, tmp_path)


def test_the_command_tells_prompts_from_settings(model, tmp_path: Path):
    arguments = [
        "generate", model, "E=mc2 on a board", "steps=3", " steps=many", "a circle", "--best-of", "2", "--reward",
        "brightness", "--out", str(tmp_path),
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert {file.name for file in tmp_path.iterdir()} == {
        "01-e-mc2-on-a-board.png", "02-steps-many.png", "03-a-circle.png", "grid.png",
    }  # fmt: skip
    assert "2 of each prompt" in result.output and "grid.png" in result.output
