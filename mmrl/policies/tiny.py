"""Tiny vision-language models of the real Qwen-VL classes: about a million parameters, one image token per 16 pixels.

`make_processor` and `make_model` build them with random weights for any family, for tests and benchmarks.
The weights in `mmrl/assets/tiny-vlm` are the Qwen3-VL one after a cold start; `scripts/make_tiny_vlm.sh` rebuilds
them. (Learned position embeddings find coordinates far sooner than purely relative ones at this size, and the usual
initializer range of 0.02 is too small at width 128.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from mmrl.compat import declare_torchvision_operators

Family = Literal["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]

PATCH, MERGE = 8, 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
NUMBERS = 256
"""Numbers below this are single tokens, as coordinates, seconds and counts should be."""
VOCABULARY = 1536

WORDS = """
system user assistant you are a helpful the an and or not no yes of in on at to is it this that with for from by
click tap touch press select open close find where what which who how many count there here point box center
red green blue yellow purple orange white black gray cyan brown pink dark light
circle square triangle cross diamond star bar arrow button icon field window label checkbox title menu text list
digit number letter answer question choose choice option choices A B C D E
think step because so then first second last next before after between left right top bottom above below middle
image picture video frame frames second seconds time start end begin moment event when does appear moves stop still
chart plot graph line pie axis value values highest lowest largest smallest sum total difference average percent more
less than year category legend color bars rise fall
aerial drone view car cars truck building house tree road river field bridge boat plane roof pool north south east west
scene object objects large small near far shows show same different true false
save cancel search settings home back send delete add edit play pause next ok
"""

CHAT_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] -%}
{%- if 'image' in part or part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif 'video' in part or part['type'] == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>
{%- elif 'text' in part -%}{{ part['text'] }}{%- endif -%}{%- endfor -%}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


def make_tokenizer() -> Any:
    """Byte-level BPE over the words of the project's own tasks; any text can be written in it."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(r", | ?[A-Za-z]+| ?[^\sA-Za-z]|\s"), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    numbers = [str(n) for n in range(10, NUMBERS)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(numbers) - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Each word alone and after a space; frequent enough that whole words win over chance fragments.
    words = [*WORDS.split(), ",", "(", "[", "?"]
    tokenizer.train_from_iterator([form for word in words for form in (word, f" {word}", f"{word} ")] * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(number, normalized=False) for number in numbers])
    # Not Qwen2Tokenizer, which puts its own splitting rule (digits one by one) in place of this one when loaded.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


def make_processor(family: Family = "qwen3_vl", tokenizer: Any = None) -> Any:
    """A processor of the family with patches of 8 pixels; images keep their size if it is a multiple of 16."""
    import transformers as hf

    declare_torchvision_operators()

    vision = {
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        "size": {"shortest_edge": (2 * PATCH) ** 2, "longest_edge": 1 << 20},
    }
    classes = {
        "qwen2_vl": (hf.Qwen2VLProcessor, hf.Qwen2VLVideoProcessor),
        "qwen2_5_vl": (hf.Qwen2_5_VLProcessor, hf.Qwen2VLVideoProcessor),
        "qwen3_vl": (hf.Qwen3VLProcessor, hf.Qwen3VLVideoProcessor),
    }
    processor, video_processor = classes[family]
    return processor(
        image_processor=hf.Qwen2VLImageProcessor(**vision),
        tokenizer=tokenizer if tokenizer is not None else make_tokenizer(),
        video_processor=video_processor(**vision),
        chat_template=CHAT_TEMPLATE,
    )


def make_model(family: Family = "qwen3_vl", *, tokenizer: Any, seed: int = 0, width: int = 128, layers: int = 3) -> Any:
    """A model of the family with random weights, float32. About 1.4 million parameters at the default size."""
    import torch
    import transformers as hf

    head, initializer_range = 32, 0.08
    half = head // 2
    sections = [half - 2 * (half // 3), half // 3, half // 3]
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // head,
        "num_key_value_heads": max(1, width // head // 2),
        "head_dim": head,
        "max_position_embeddings": 32_768,
        "initializer_range": initializer_range,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": sections},
        "tie_word_embeddings": False,
    }
    vision: dict[str, Any] = {
        "depth": 3,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "initializer_range": initializer_range,
    }
    small = 3 * width // 4  # of the vision tower, whose merger works at four times its width
    if family == "qwen2_vl":
        vision |= {"embed_dim": small, "hidden_size": width, "mlp_ratio": 2}
    elif family == "qwen2_5_vl":
        vision |= {"hidden_size": small, "intermediate_size": 2 * small, "out_hidden_size": width, "window_size": 64}
        vision |= {"fullatt_block_indexes": [2], "tokens_per_second": 2}
    else:
        vision |= {"hidden_size": small, "intermediate_size": 2 * small, "out_hidden_size": width}
        vision |= {"num_position_embeddings": 256, "deepstack_visual_indexes": [0]}
    if family != "qwen3_vl":
        text.pop("head_dim")
    ids: dict[str, int] = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    text |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    classes: dict[str, tuple[Any, Any]] = {
        "qwen2_vl": (hf.Qwen2VLConfig, hf.Qwen2VLForConditionalGeneration),
        "qwen2_5_vl": (hf.Qwen2_5_VLConfig, hf.Qwen2_5_VLForConditionalGeneration),
        "qwen3_vl": (hf.Qwen3VLConfig, hf.Qwen3VLForConditionalGeneration),
    }
    config_class, model_class = classes[family]
    config = config_class(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
        rescale(model.model.language_model)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def rescale(language_model: Any) -> None:
    """Embeddings of unit scale, and blocks that add less than they read: at the usual scale the first block's output
    drowns the embeddings, and at this size training takes very long to dig them out (docs/notes.md)."""
    import torch

    with torch.no_grad():
        language_model.embed_tokens.weight.div_(language_model.embed_tokens.weight.std())
        for name, weight in language_model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(0.4)


def save_untrained(folder: Path, family: Family = "qwen3_vl", *, seed: int = 0) -> None:
    """A model and processor that `model.path` can name."""
    processor = make_processor(family)
    make_model(family, tokenizer=processor.tokenizer, seed=seed).save_pretrained(folder)
    processor.save_pretrained(folder)


def ship(folder: Path) -> None:
    """Put a trained model into the package as `model.path: tiny`, its weights in float16 to halve their size."""
    import torch

    declare_torchvision_operators()
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from mmrl.policies.pretrained import TINY
    from mmrl.runs.files import atomic_folder

    with atomic_folder(TINY) as target:
        AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float16).save_pretrained(target)
        AutoProcessor.from_pretrained(folder).save_pretrained(target)
