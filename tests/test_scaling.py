"""The model of docs/scaling.md: sizes are those of real models, and shares are shares."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.scaling.checks import step_peak
from benchmarks.scaling.limits import interval, waste
from benchmarks.scaling.machines import A100, H100, H200, TEXT
from benchmarks.scaling.memory import STRATEGIES, memory, states
from benchmarks.scaling.shapes import shape_of, vlm_shape
from benchmarks.scaling.timing import decode_seconds, seconds
from mmrl.policies.tiny import make_model, make_processor

BIG = "Qwen2.5-VL-7B"


def test_the_tiny_model_has_the_parameters_that_its_config_says():
    model = make_model("qwen2_5_vl", tokenizer=make_processor("qwen2_5_vl").tokenizer)
    shape = vlm_shape("tiny", model.config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.vision == sum(p.numel() for p in model.model.visual.parameters())


def test_the_golden_sizes_of_the_7b():
    shape = shape_of(BIG)
    assert (shape.parameters, shape.vision, shape.adapter) == (8_292_166_656, 676_550_144, 40_370_176)
    assert shape.kv_bytes == 57_344


def test_ddp_holds_16_bytes_for_a_trained_weight_and_zero3_divides_them():
    shape = shape_of(BIG)
    trained = shape.trained("full")
    alone = states(shape, "full", "ddp", 1)
    assert sum(alone.values()) == 16 * trained + 4 * shape.vision
    shared = states(shape, "full", "zero3", 8)
    for part in ("weights", "gradients", "optimizer"):
        assert shared[part] == pytest.approx(alone[part] / 8)


def test_more_gpus_and_more_sharding_never_need_more_for_states():
    shape = shape_of(BIG)
    for mode in ("full", "lora"):
        for strategy in STRATEGIES:
            sizes = [
                {n: v for n, v in states(shape, mode, strategy, gpus).items() if n != "buffers"}
                for gpus in (2, 8, 64, 1000)
            ]
            totals = [sum(size.values()) for size in sizes]
            assert totals == sorted(totals, reverse=True)
    assert memory(shape, "full", "zero3", 8).peak < memory(shape, "full", "ddp", 8).peak


def test_a_step_is_no_slower_on_more_or_better_gpus():
    shape = shape_of(BIG)
    totals = [seconds(shape, "full", "zero2", gpus, H100).total for gpus in (8, 16, 32, 64)]
    assert totals == sorted(totals, reverse=True)
    by_card = [seconds(shape, "full", "zero2", 8, gpu).total for gpu in (A100, H100, H200)]
    assert by_card == sorted(by_card, reverse=True)
    # Decoding reads every weight once a step, whatever else it does.
    least = (TEXT.new_tokens - 1) * 2 * shape.trained("full") / H100.bandwidth
    assert decode_seconds(shape, "full", 1, H100.flops, H100.bandwidth) >= least


def test_the_interval_of_checkpoints_is_the_one_that_wastes_least():
    best = interval(47.0, 1000)
    assert waste(47.0, best, 1000) < min(waste(47.0, best * factor, 1000) for factor in (0.7, 1.4))


@pytest.mark.slow
@pytest.mark.parametrize("mode, checkpointing", [("full", True), ("full", False), ("lora", True)])
def test_the_peak_of_a_training_pass_is_the_predicted_one(mode, checkpointing):
    found = step_peak(BIG, mode, rows=1, checkpointing=checkpointing, layers=4)
    assert found.ratio == pytest.approx(1, abs=0.12)
