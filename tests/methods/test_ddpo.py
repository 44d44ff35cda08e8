"""DDPO's statistics: of a prompt with enough rows, else of all."""

from __future__ import annotations

import pytest
import torch

from mmrl.advantages import group_relative
from mmrl.methods.ddpo import per_prompt

NAN = float("nan")


def test_golden_first_epoch(vectors, make_rollouts, chain):
    """Its buffer begins empty, so the first epoch is a function of itself alone."""
    vector = vectors["ddpo_per_prompt_buffer_two_epochs"]
    prompts, rewards = vector["inputs"]["epoch1"]
    names = sorted(set(prompts))
    rollouts = make_rollouts(rewards, [names.index(prompt) for prompt in prompts])
    result = chain(per_prompt, rollouts, min_count=vector["inputs"]["min_count"])
    torch.testing.assert_close(result, torch.tensor(vector["expected"]["adv_epoch1"]), atol=1e-6, rtol=1e-6)


def test_a_group_that_fills_the_buffer_has_the_statistics_of_the_buffer(make_rollouts, chain):
    """The buffer keeps a prompt's last 16 rewards; 16 new ones push out all before, so the past does not matter."""
    generator = torch.Generator().manual_seed(0)
    buffer: list[float] = []
    for _ in range(3):
        rewards = torch.rand(16, generator=generator)
        buffer = [*buffer, *rewards.tolist()][-16:]
        held = torch.tensor(buffer)
        expected = (rewards - held.mean()) / (held.std(correction=0) + 1e-6)
        result = chain(per_prompt, make_rollouts(rewards, [0] * 16), min_count=16)
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_with_enough_rows_it_is_group_relative(make_rollouts, chain):
    rewards = torch.rand(12, generator=torch.Generator().manual_seed(1))
    rollouts = make_rollouts(rewards, [0] * 5 + [1] * 7)
    result, expected = chain(per_prompt, rollouts, min_count=5), chain(group_relative, rollouts, std="population")
    torch.testing.assert_close(result, expected, atol=0, rtol=0)


@pytest.mark.parametrize("min_count", [1, 99])
def test_equal_rewards_move_nothing_and_failed_rows_stay_failed(make_rollouts, chain, min_count):
    result = chain(per_prompt, make_rollouts([0.1, 0.1, NAN, 0.1, 0.1], [0, 0, 0, 1, 1]), min_count=min_count)
    assert result[2].isnan() and (result[[0, 1, 3, 4]] == 0).all()
