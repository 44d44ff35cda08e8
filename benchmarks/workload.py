"""What both sides of the step-time benchmark share: model, prompts, reward, and the stopwatch of a step.

A side (`mmrl_side.py`, `trl_side.py`) runs in a process of its own and makes a step each time the parent asks for one,
so the two can alternate and each has its own peak memory.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUESTION = "click on the red circle"
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Setting:
    """One point of the comparison."""

    vision_tokens: int
    """Per prompt."""
    group: int
    """Completions per prompt."""
    new_tokens: int
    """Of every completion: no side can draw an end of turn."""
    prompts: int
    """Per step."""
    steps: int
    """Measured; one more warms up."""
    model: str
    """`tiny` or `qwen2.5-vl-3b`."""
    threads: int
    trl_micro_batches: int = 1
    """Parts in which TRL trains on a step, where a whole one does not fit."""


@dataclass
class Step:
    """What a side reports after a step. Seconds; tokens are summed over the rows, so a shared prompt counts G times."""

    wall: float
    cpu: float
    """CPU seconds of the process: what the step costs however busy the machine is."""
    generation: float
    """Prefill, vision tower included, and decoding."""
    training: float
    """Log-probs, backward pass, clipping, optimizer."""
    other: float
    """Reading and encoding images, decoding text, reward, records."""
    prompt_tokens: int
    completion_tokens: int
    vision_tokens: int
    memory: int
    """Bytes the process has grown by at its peak since the model was made: resident on a CPU, allocated on a GPU."""


@dataclass
class Stopwatch:
    """A side calls `wait` before its first step and `done` after each; in between it times its phases."""

    connection: Any
    steps: int
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    started: float = 0.0
    cpu_started: float = 0.0
    memory_before: int = 0

    def wait(self) -> None:
        if not self.memory_before:
            self.memory_before = peak_memory()
        assert self.connection.recv() == "step"
        self.seconds.clear()
        self.started, self.cpu_started = now(), time.process_time()

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = now()
        try:
            yield
        finally:
            self.seconds[phase] += now() - start

    def done(self, *, prompt_tokens: int, completion_tokens: int, vision_tokens: int) -> None:
        wall, cpu = now() - self.started, time.process_time() - self.cpu_started
        generation, training = self.seconds["generation"], self.seconds["training"]
        grown = peak_memory() - self.memory_before
        counts = (prompt_tokens, completion_tokens, vision_tokens)
        self.connection.send(Step(wall, cpu, generation, training, wall - generation - training, *counts, memory=grown))
        self.steps -= 1
        if self.steps:
            self.wait()


def now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory() -> int:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make(setting: Setting) -> tuple[Any, Any]:
    """Model with random weights, and processor; the same on both sides."""
    import torch

    from mmrl.compat import declare_torchvision_operators
    from mmrl.policies.tiny import make_model, make_processor

    declare_torchvision_operators()
    torch.set_num_threads(setting.threads)
    processor = make_processor("qwen2_5_vl")
    if setting.model == "tiny":
        return make_model("qwen2_5_vl", tokenizer=processor.tokenizer), processor
    for part in (processor.image_processor, processor.video_processor):
        part.patch_size = 14
    return make_3b(processor.tokenizer), processor


def make_3b(tokenizer: Any, device: str = "cuda") -> Any:
    """The shape of Qwen2.5-VL-3B in bfloat16. Its prompts are written with the tiny model's tokenizer."""
    import torch
    import transformers as hf

    text = {
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"hidden_size": 1280, "intermediate_size": 3420, "depth": 32, "num_heads": 16, "out_hidden_size": 2048}
    vision |= {"window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "patch_size": 14, "tokens_per_second": 2}
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()}
    config = hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    with torch.device(device):
        torch.manual_seed(0)
        model = hf.Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def make_images(folder: Path, setting: Setting) -> list[Path]:
    """One image of noise per prompt, as square as its number of vision tokens allows; stored without compression, so
    that decoding costs nobody anything."""
    import numpy as np
    from PIL import Image

    side = 16 if setting.model == "tiny" else 28
    rows = max(n for n in range(1, int(setting.vision_tokens**0.5) + 1) if setting.vision_tokens % n == 0)
    random = np.random.default_rng(0)
    paths = [folder / f"{i}.bmp" for i in range(setting.prompts)]
    for path in paths:
        pixels = random.integers(0, 256, (rows * side, setting.vision_tokens // rows * side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def undrawable(model: Any, processor: Any) -> list[int]:
    """Tokens neither side may draw: those that end a completion, and placeholders that only a processor may write."""
    tokenizer = processor.tokenizer
    special = tokenizer.convert_tokens_to_ids([t for t in tokenizer.get_vocab() if t.startswith("<|")])
    return sorted({*special, *model.generation_config.eos_token_id})


def parity(completion: str, sample: Any = None) -> float:
    """A reward that costs nothing and differs within a group."""
    return float(len(completion) % 2)


def snapshot(model: Any) -> dict[str, Any]:
    return {name: parameter.detach().float().sum().item() for name, parameter in model.named_parameters()}


def changed_parts(before: dict[str, Any], model: Any) -> set[str]:
    """Which of `visual` and `language_model` hold a parameter that moved."""
    after = snapshot(model)
    moved = [name for name in before if before[name] != after[name]]
    return {part for part in ("visual", "language_model") if any(f".{part}." in name for name in moved)}
