"""Which denoising steps carry noise and which are trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrl.plugins import ConfigError
from mmrl.policies.diffusion import Denoising
from mmrl.policies.steps import noisy_steps, trained_steps

GOLDEN = {v["name"]: v for v in json.loads((Path(__file__).parents[1] / "golden" / "diffusion.json").read_text())}


def windows(how: Denoising, count: int, seed: int = 0) -> list[list[int]]:
    return [noisy_steps(how, seed=seed, step=step) for step in range(count)]


def test_all_steps_but_the_last():
    assert noisy_steps(Denoising(steps=5), seed=0, step=3) == [0, 1, 2, 3]
    assert noisy_steps(Denoising(steps=5, last_step=True), seed=0, step=3) == [0, 1, 2, 3, 4]


def test_the_start_window_stays():
    how = Denoising(steps=10, window="start", window_size=3, window_first=2)
    assert windows(how, 4) == [[2, 3, 4]] * 4


def test_random_windows_reach_every_place_and_depend_on_the_seed():
    how = Denoising(steps=10, window="random", window_size=2, window_last=5)
    found = windows(how, 100)
    assert {tuple(window) for window in found} == {(0, 1), (1, 2), (2, 3), (3, 4)}
    assert windows(how, 100) == found != windows(how, 100, seed=1)


def test_a_progressive_window_is_mixgrpos_where_that_is_full():
    vector = GOLDEN["mixgrpo_progressive_window"]
    given, expected = vector["inputs"], vector["expected"]["windows"]
    size, every = given["window_size"], given["iters_per_group"]
    how = Denoising(
        steps=given["max_timesteps"] + 1, window="progressive", window_size=size, window_every=every,
        window_stride=given["stride"],
    )  # fmt: skip
    full = next(index for index, window in enumerate(expected) if len(window) < size)
    assert windows(how, full) == expected[:full]
    assert windows(how, 3 * full) == expected[:full] * 3  # theirs shrinks here, and is empty twice


@given(
    steps=st.integers(2, 20), size=st.integers(1, 6), first=st.integers(0, 5), last=st.none() | st.integers(1, 20),
    every=st.integers(1, 4), stride=st.integers(1, 5), kind=st.sampled_from(["random", "progressive", "start"]),
    step=st.integers(0, 200), last_step=st.booleans(),
)  # fmt: skip
def test_a_window_is_whole_or_refused(steps, size, first, last, every, stride, kind, step, last_step):
    how = Denoising(
        steps=steps, window=kind, window_size=size, window_first=first, window_last=last, window_every=every,
        window_stride=stride, last_step=last_step,
    )  # fmt: skip
    end = min(steps if last is None else last, steps if last_step else steps - 1)
    if size > end - first:
        with pytest.raises(ConfigError, match=r"sampling\.window_size"):
            noisy_steps(how, seed=0, step=step)
        return
    window = noisy_steps(how, seed=0, step=step)
    assert window == list(range(window[0], window[0] + size))
    assert first <= window[0] and window[-1] < end


def test_a_single_step_is_refused():
    with pytest.raises(ConfigError, match=r"sampling\.last_step"):
        noisy_steps(Denoising(steps=1), seed=0, step=0)
    assert noisy_steps(Denoising(steps=1, last_step=True), seed=0, step=0) == [0]


def test_dancegrpos_fraction():
    """`dance_loss_scaling` of the reference numbers: of 16 steps the last is dropped, and .6 of 15 is 9."""
    how = Denoising(steps=16, fraction=0.6, trained="random")
    noisy = noisy_steps(how, seed=0, step=0)
    assert len(noisy) == 15
    mask = trained_steps(how, noisy, rows=50, seed=0)
    assert mask.shape == (50, 16)
    assert mask.sum(1).tolist() == [9] * 50
    assert not mask[:, 15].any()
    assert mask[:, :15].any(0).all()
    assert len(mask.unique(dim=0)) > 40  # every row by itself
    assert torch.equal(mask, trained_steps(how, noisy, rows=50, seed=0))
    assert torch.equal(mask[:5], trained_steps(how, noisy, rows=5, seed=0))


@given(steps=st.integers(2, 60), tenths=st.integers(1, 10), trained=st.sampled_from(["first", "random"]))
def test_a_fraction_counts_without_rounding_errors(steps, tenths, trained):
    how = Denoising(steps=steps, fraction=tenths / 10, trained=trained)
    noisy = noisy_steps(how, seed=0, step=0)
    count = len(noisy) * tenths // 10
    if not count:
        with pytest.raises(ConfigError, match=r"sampling\.fraction"):
            trained_steps(how, noisy, rows=2, seed=0)
        return
    mask = trained_steps(how, noisy, rows=2, seed=0)
    assert mask.sum(1).tolist() == [count] * 2
    if trained == "first":
        assert mask[:, :count].all()


@pytest.mark.parametrize(
    "setting, value",
    [("steps", 0), ("fraction", 0.0), ("fraction", 1.5), ("window_size", 0), ("window_every", 0), ("window_stride", 0),
     ("window_first", -1), ("level", -0.1), ("batch", 0), ("guidance", 0.5)],
)  # fmt: skip
def test_impossible_settings_are_named(setting, value):
    with pytest.raises(ConfigError, match=rf"sampling\.{setting}"):
        Denoising(**{setting: value})
