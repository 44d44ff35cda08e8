"""Checks with values, on models that fit here."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.scaling.checks import Check, autocast, engine, packed_rows
from benchmarks.scaling.machines import LAYER_SECONDS
from benchmarks.scaling.shapes import make_vlm, vlm_config, vlm_shape

SMALL = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_key_value_heads": 2}


def config_of(layers: int, vocabulary: int = 4000, **changes: int) -> Any:
    config = vlm_config("Qwen2.5-VL-7B", num_hidden_layers=layers, vocab_size=vocabulary, **{**SMALL, **changes})
    config.text_config.bos_token_id = config.text_config.eos_token_id = None
    config.vision_config.depth, config.vision_config.fullatt_block_indexes = 1, [0]
    head = config.text_config.hidden_size // config.text_config.num_attention_heads
    config.text_config.rope_parameters["mrope_section"] = [head // 2 - 2 * (head // 6), head // 6, head // 6]
    return config


def small_checks() -> list[Check]:
    return [optimizer_state(), decode_floor()]


def optimizer_state() -> Check:
    """Bytes of AdamW after an update."""
    model = make_vlm(config_of(2))
    shape = vlm_shape("Qwen2.5-VL-7B", model.config)
    model.model.visual.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(trained)
    optimizer.step()
    state = sum(t.numel() * 4 for entry in optimizer.state.values() for t in entry.values() if t.dim())
    return Check(f"AdamW's state, {shape.parameters / 1e6:.0f} M", 8 * shape.trained("full") / 1e6, state / 1e6, "MB")


def decode_floor() -> Check:
    """Seconds of a layer in a decoding step where there is next to nothing to compute: the Python of transformers."""
    from mmrl.policies.shared_prefix import Sampling

    torch.set_num_threads(1)
    spent = []
    for layers in (2, 10):
        config = config_of(layers, vocabulary=256, hidden_size=64, intermediate_size=64, num_attention_heads=4)
        model = make_vlm(config).eval()
        prompts, _ = packed_rows(1, 8, 1, 1)
        noise = [torch.rand(2, 30)]
        runs = []
        for _ in range(2):
            start = time.process_time()
            with torch.no_grad(), autocast():
                made = engine(model).generate(prompts, noise, Sampling(max_new_tokens=30))
            runs.append((time.process_time() - start) / max(len(row) for row, _ in made[0]))
        spent.append(min(runs))
    floor = (spent[1] - spent[0]) / 8
    return Check("a layer of a decoding step, Python on this CPU", LAYER_SECONDS * 1e3, floor * 1e3, "ms")
