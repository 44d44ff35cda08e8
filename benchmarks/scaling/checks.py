"""The formulas against the code they describe: predicted, counted, and their ratio. No GPU, and no weights.

mmrl's own `SharedPrefix.logp` and its backward pass run on models of the real classes and of real size whose tensors
have shapes and no values (torch's FakeTensorMode), under bf16 autocast as on a GPU. FlopCounterMode counts their
operations, and `Allocations` every tensor, so a peak is that of the real sequence of tensors; only the CPU's kernels
stand in for the GPU's. `small.py` has what needs values.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.flops import costs_of
from benchmarks.scaling.machines import GB, IMAGE, TEXT
from benchmarks.scaling.memory import training
from benchmarks.scaling.shapes import (
    FLUX,
    PUBLISHED,
    Mode,
    make_flux,
    make_vlm,
    shape_of,
    vlm_config,
    vlm_shape,
)
from benchmarks.scaling.timing import flux_flops, forward_flops, training_flops


@dataclass(frozen=True)
class Check:
    what: str
    predicted: float
    counted: float
    unit: str

    @property
    def ratio(self) -> float:
        return self.predicted / self.counted


def without_values(model: Any) -> Any:
    """The model of the meta device with fake parameters in place of its own; inside a FakeTensorMode."""
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is not None:
                fake = torch.empty(value.shape, dtype=value.dtype)
                module._parameters[name] = torch.nn.Parameter(fake, requires_grad=value.requires_grad)
        for name, value in list(module._buffers.items()):
            if value is not None:
                module._buffers[name] = torch.empty(value.shape, dtype=value.dtype)
    return model


def prepared(config: Any, mode: Mode, *, checkpointing: bool) -> Any:
    """A model of the meta device as `VLMPolicy` would train it on a GPU."""
    from mmrl.config import AdapterConfig, ModelConfig
    from mmrl.policies.pretrained import add_lora, prepare_for_training

    adapter = AdapterConfig() if mode == "lora" else None
    settings = ModelConfig(gradient_checkpointing=checkpointing, adapter=adapter)
    model = make_vlm(config, torch.bfloat16 if mode == "lora" else torch.float32)
    prepare_for_training(model, settings)
    if adapter is not None:
        model.enable_input_require_grads()  # a batch of frozen weights alone would keep nothing
        add_lora(model, settings)
    return model


def engine(model: Any) -> Any:
    from mmrl.policies.shared_prefix import SharedPrefix

    return SharedPrefix(model, forbidden=torch.tensor([1]), stops=torch.tensor([2]))


def packed_rows(rows: int, prompt: int, group: int, new: int) -> tuple[list[Any], list[Any]]:
    """Prompts of text, with completions; vision tokens cost the language model as much as others."""
    from mmrl.policies.shared_prefix import Prompt

    @dataclass
    class Known(Prompt):
        """Its next position does not have to be read off a tensor without values."""

        @property
        def next_position(self) -> int:
            return prompt

    zeros = torch.zeros
    prompts = [Known(zeros(prompt, dtype=torch.long), zeros(3, prompt, dtype=torch.long)) for _ in range(rows)]
    return prompts, [[zeros(new, dtype=torch.long)] * group for _ in range(rows)]


def autocast() -> Any:
    return torch.autocast("cpu", torch.bfloat16)


class Allocations(TorchDispatchMode):
    """Bytes of all tensors made inside that are still there, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.see(value.untyped_storage())
        return result

    def ignore(self, values: Iterable[torch.Tensor]) -> None:
        """They were there before."""
        for value in values:
            storage = value.untyped_storage()
            self._known[storage._cdata] = weakref.ref(storage)

    def see(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        known = self._known.get(key)
        if known is not None and known() is not None:
            return

        def gone(_: Any) -> None:
            self.live -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def peak_of(model: Any, call: Callable[[], None]) -> float:
    """Bytes at the peak of the call, gradients that are there already included, weights not."""
    with Allocations() as allocations:
        allocations.ignore([*model.parameters(), *model.buffers()])
        for parameter in model.parameters():
            if parameter.grad is not None:
                allocations.see(parameter.grad.untyped_storage())
        call()
    return float(allocations.peak)


def attention_flops(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def attention_backward_flops(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Two products for each of the forward's, as our formulas have it; kernels that keep no scores make five for 2."""
    return 2 * int(sdpa_flop_count(query, key, value))


CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
}
"""Which FlopCounterMode does not know."""


def flops_of(call: Callable[[], Any]) -> tuple[float, Any]:
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        result = call()
    return float(counter.get_total_flops()), result


def step_peak(name: str, mode: Mode, *, rows: int, checkpointing: bool, layers: int | None = None) -> Check:
    """A micro-batch's forward and backward pass, the first of an optimizer batch, at the model's real size."""
    config = vlm_config(name, **({} if layers is None else {"num_hidden_layers": layers}))
    shape = shape_of(name) if layers is None else vlm_shape(name, config)
    with torch.device("meta"):
        model = prepared(config, mode, checkpointing=checkpointing)
    with FakeTensorMode(allow_non_fake_inputs=True):
        without_values(model)
        prompts, completions = packed_rows(rows, TEXT.prompt_tokens, TEXT.group, TEXT.new_tokens)

        def call() -> None:
            with autocast():
                logp, _ = engine(model).logp(prompts, completions, temperature=1.0)
            logp.sum().backward()

        call()  # the gradients of an earlier micro-batch are there
        counted = peak_of(model, call)
    tokens = rows * TEXT.packed
    predicted = 4.0 * shape.trained(mode)
    predicted += sum(training(shape, mode, tokens, TEXT.packed, checkpointing=checkpointing).values())
    part = "" if layers is None else f" ({layers} layers)"
    trained = "LoRA" if mode == "lora" else "all weights"
    how = f"{name}{part}, {trained}, checkpointing {'on' if checkpointing else 'off'}"
    return Check(f"training peak: {how}, {tokens:,} tokens", predicted / GB, counted / GB, "GB")


def parameter_checks() -> list[Check]:
    """Against the published sizes, and LoRA's weights as mmrl adds them."""
    found = [
        Check(f"weights, published: {name}", 2 * shape_of(name).parameters, PUBLISHED[name], "B") for name in PUBLISHED
    ]
    with torch.device("meta"):
        model = prepared(vlm_config("Qwen2.5-VL-7B"), "lora", checkpointing=True)
    added = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return [*found, Check("LoRA weights, rank 16: Qwen2.5-VL-7B", shape_of("Qwen2.5-VL-7B").adapter, added, "")]


def cache_check(name: str, mode: Mode) -> Check:
    """The KV cache of a prefill."""
    from mmrl.policies.cache import KVCache

    with torch.device("meta"):
        model = prepared(vlm_config(name), mode, checkpointing=False).eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), autocast():
        without_values(model)
        cache, tokens = KVCache(), 64
        ids, mask = torch.zeros(1, tokens, dtype=torch.long), torch.ones(1, 1, tokens, tokens, dtype=torch.bool)
        engine(model).hidden(ids, torch.zeros(3, 1, tokens, dtype=torch.long), mask, {}, cache)
        sizes = [t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values)]
    how = "LoRA" if mode == "lora" else "all weights"
    return Check(f"KV cache per token: {name}, {how}", shape_of(name).kv_bytes, sum(sizes) / tokens, "B")


def flop_checks(name: str) -> list[Check]:
    """One packed row, forward; then what a training pass is of that, with checkpoints."""
    with torch.device("meta"):
        model = prepared(vlm_config(name), "full", checkpointing=True)
    with FakeTensorMode(allow_non_fake_inputs=True), autocast():
        without_values(model)
        prompts, completions = packed_rows(1, TEXT.prompt_tokens, TEXT.group, TEXT.new_tokens)

        def forward() -> Any:
            return engine(model).logp(prompts, completions, temperature=1.0)[0]

        with torch.no_grad():
            once, _ = flops_of(forward)
        whole, _ = flops_of(lambda: forward().sum().backward())
    vision, predicted = forward_flops(shape_of(name), 1)
    return [
        Check(f"forward, one packed row: {name}", predicted / 1e12, once / 1e12, "TFLOP"),
        Check(
            f"training, one packed row: {name}",
            (training_flops(shape_of(name), "full", 1) - vision) / 1e12,
            whole / 1e12,
            "TFLOP",
        ),
    ]


def vision_check(name: str) -> Check:
    """The tower, two layers deep, on a small image; with values, for its windows are read off tensors."""
    config, tokens = vlm_config(name), 64
    config.vision_config.depth, config.vision_config.fullatt_block_indexes = 2, [1]
    with torch.device("meta"):
        tower = make_vlm(config).model.visual
    tower = type(tower)._from_config(config.vision_config)
    grid = torch.tensor([[1, 16, 16]])
    pixels = torch.zeros(4 * tokens, 3 * 2 * tower.patch_size**2)
    with torch.no_grad():
        counted, _ = flops_of(lambda: tower(pixels, grid_thw=grid))
    predicted = costs_of(config, tokens).image
    return Check(f"vision tower, 2 layers, {tokens} tokens: {name}", predicted / 1e12, counted / 1e12, "TFLOP")


def flux_inputs(images: int, dtype: torch.dtype) -> dict[str, Any]:
    latents, text = IMAGE.latent_tokens, IMAGE.text_tokens
    return {
        "hidden_states": torch.zeros(images, latents, 64, dtype=dtype),
        "encoder_hidden_states": torch.zeros(images, text, 4096, dtype=dtype),
        "pooled_projections": torch.zeros(images, 768, dtype=dtype),
        "timestep": torch.zeros(images, dtype=dtype),
        "guidance": torch.zeros(images),
        "img_ids": torch.zeros(latents, 3),
        "txt_ids": torch.zeros(text, 3),
        "return_dict": False,
    }


def flux_flop_check() -> Check:
    with torch.device("meta"):
        model = make_flux()
        counted, _ = flops_of(lambda: model(**flux_inputs(1, torch.float32)))
    return Check("one denoising of one image: FLUX.1-dev", flux_flops(shape_of(FLUX)) / 1e12, counted / 1e12, "TFLOP")


def flux_peak(mode: Mode, *, doubles: int, singles: int, images: int, checkpointing: bool) -> float:
    """Bytes at the peak of a training pass of part of the network, gradients included, weights not."""
    from mmrl.policies.pipelines import LORA_TARGETS

    with torch.device("meta"):
        model = make_flux(doubles, singles)
        if mode == "lora":
            from peft import LoraConfig

            model = model.to(torch.bfloat16).requires_grad_(False)
            names = sorted(name for name, _ in model.named_modules() if name.endswith(LORA_TARGETS))
            model.add_adapter(LoraConfig(r=16, lora_alpha=32, target_modules=names))
            for weights in model.parameters():
                if weights.requires_grad:
                    weights.data = weights.data.float()
    if checkpointing:
        model.train().enable_gradient_checkpointing()
    with FakeTensorMode(allow_non_fake_inputs=True):
        without_values(model)

        def call() -> None:
            with autocast():
                (output,) = model(**flux_inputs(images, torch.bfloat16 if mode == "lora" else torch.float32))
            output.float().square().mean().backward()

        call()
        return peak_of(model, call)


def flux_check(mode: Mode, *, images: int) -> Check:
    """The whole network at the recipe's micro-batch."""
    shape = shape_of(FLUX)
    counted = flux_peak(mode, doubles=19, singles=38, images=images, checkpointing=True)
    tokens = images * (IMAGE.latent_tokens + IMAGE.text_tokens)
    predicted = 4.0 * shape.trained(mode) + sum(training(shape, mode, tokens, 0, checkpointing=True).values())
    how = "LoRA" if mode == "lora" else "all weights"
    return Check(f"training peak: {FLUX}, {how}, checkpointing on, {images} images", predicted / GB, counted / GB, "GB")
