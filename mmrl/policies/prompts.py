"""From a sample to the prompt of a Qwen-VL model, and back from chats to samples that ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from data_pipelines.media import Budget, load, with_outcomes
from data_pipelines.video.transforms import with_noise
from mmrl.plugins import ConfigError
from mmrl.policies.shared_prefix import Prompt
from mmrl.records import Sample

MEDIA_INPUTS = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")


def encode_prompt(
    sample: Sample, *, model: Any, processor: Any, budget: Budget, whole_chat: bool = False
) -> tuple[Sample, Prompt]:
    """The sample with what the model sees of its media, and its prompt. Refuses what is over budget.

    `whole_chat` keeps a final assistant turn, which is otherwise left for the model to write. The frames of a
    sample with `meta.frame_noise`, {std, seed}, are seen through noise.
    """
    messages = list(sample.messages) if whole_chat else prompt_messages(sample)
    loaded = load(messages, budget, patch_size=int(processor.image_processor.patch_size))
    if noise := sample.meta.get("frame_noise"):
        loaded = with_noise(loaded, **noise)
    if hasattr(processor.video_processor, "cap_pixels_per_frame"):  # unsaid, it warns; nothing is resized
        loaded.video_kwargs["cap_pixels_per_frame"] = False
    inputs = processor(
        text=[processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=not whole_chat)],
        images=loaded.images or None,
        videos=loaded.videos or None,
        video_metadata=loaded.video_metadata or None,
        do_resize=False,
        return_tensors="pt",
        **loaded.video_kwargs,
    )
    ids = inputs["input_ids"][0]
    if len(ids) > budget.max_tokens:
        kinds = inputs.get("mm_token_type_ids")
        refuse_length(sample, len(ids), vision=0 if kinds is None else int((kinds > 0).sum()), limit=budget.max_tokens)
    positions = torch.arange(len(ids)).expand(3, -1)
    if loaded.images or loaded.videos:
        grids = {
            key: inputs[key] for key in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts") if key in inputs
        }
        positions = model.model.get_rope_index(
            inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"], **grids
        )[0][:, 0]
    media = {name: inputs[name] for name in MEDIA_INPUTS if name in inputs}
    return with_outcomes(sample, loaded.outcomes), Prompt(ids=ids, positions=positions, media=media)


def refuse_length(sample: Sample, tokens: int, *, vision: int, limit: int) -> None:
    raise ConfigError(
        f"{sample.where}: the prompt has {tokens:,} tokens, {vision:,} of them from "
        f"{len(sample.media)} images or videos; data.budget.max_tokens is {limit:,}.\n"
        f"  Lower data.budget.max_pixels (or fps, max_frames for video), or raise data.budget.max_tokens."
    )


def prompt_messages(sample: Sample) -> list[dict[str, Any]]:
    """The chat up to, and without, a final assistant turn."""
    messages = list(sample.messages)
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    return messages


def with_request(sample: Sample, text: str) -> Sample:
    """The sample with one more text at the end of its last message, on a line of its own."""
    *before, last = prompt_messages(sample)
    content = last["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    return replace(sample, messages=(*before, {**last, "content": [*parts, {"type": "text", "text": f"\n{text}"}]}))
