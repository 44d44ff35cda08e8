"""Whatever a reward or a data file holds becomes JSON that any parser reads."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from mmrl.plain import plain, valid_text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, {2.5}), [1, [2.5]]),
        ([math.nan, math.inf, -math.inf], [None, None, None]),
        ({3: True, None: None}, {"3": True, "None": None}),
        (np.arange(2), [0, 1]),
        (np.float32(1.5), 1.5),
        (torch.tensor([[1.0, math.nan]]), [[1.0, None]]),
        (2**1024 - 1, 2**1024 - 1),
        (2**1024, "a large integer"),
        ("a\ud800", "a?"),
        (ValueError("no"), "no"),
    ],
)
def test_values(value, expected):
    simple = plain(value, deepest=20)
    assert simple == expected
    assert json.loads(json.dumps(simple, allow_nan=False, ensure_ascii=False).encode()) == expected


def test_an_integer_too_long_to_print_is_a_text():
    assert plain([10**5000], deepest=20) == ["a large integer"]


def test_depth_and_circles_are_cut():
    loop: list = [1]
    loop.append(loop)
    assert plain(loop, deepest=2) == [1, [1, [1, "..."]]]
    assert plain([[]], deepest=0) == ["..."]
    assert plain([1], deepest=0) == [1]


def test_text_without_lone_surrogates_stays():
    assert valid_text("naïve 😀") == "naïve 😀"
