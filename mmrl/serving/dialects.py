"""A prompt with pictures as a chat request, and an answer as a completion, for each kind of server.

Pictures travel as PNG, after the pixel budget, so that the server's processor has nothing left to resize; that it saw
the same prompt is checked by its number of tokens. Everything that a server could take from the model's
`generation_config.json` instead (vLLM and SGLang do) is said in the request.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_pipelines.media import Budget, load
from mmrl.policies.shared_prefix import Sampling
from mmrl.serving.client import BadAnswer, ServerError
from mmrl.serving.settings import ABILITIES, Kind

if TYPE_CHECKING:
    from PIL.Image import Image

PATH = "/v1/chat/completions"
BANNED = -100.0
"""The logit bias of a token that may not be drawn; of OpenAI's range the least."""
PER_TOKEN, BESIDE = 1024, 2**16
"""Bytes of an answer: for each token (its text, bytes, id and log-prob), and beside them."""


class OtherPrompt(ServerError):
    """The server completes another prompt than the trainer learns from."""


@dataclass(frozen=True)
class Completion:
    """What a server made of a prompt. `tokens` and `logp` are there where the server gives them."""

    text: str
    ended: bool
    """Whether it came to its end; else it was cut."""
    tokens: list[int] | None = None
    logp: list[float] | None = None
    """f32[n], log-probs of the tokens as the server has them."""
    count: int | None = None
    """Tokens that the server says it made, the end-of-turn included."""
    version: int = 0
    """Of the weights."""


def chat(messages: Sequence[Mapping[str, Any]], budget: Budget, *, patch_size: int) -> list[dict[str, Any]]:
    """Messages as OpenAI has them: pictures as `image_url` with a `data:` URL of what the model is to see."""
    images = iter(load(messages, budget, patch_size=patch_size).images)

    def part(content: Mapping[str, Any]) -> dict[str, Any]:
        if "image" in content:
            return {"type": "image_url", "image_url": {"url": data_url(next(images))}}
        return {"type": "text", "text": content["text"]}

    return [
        {
            "role": message["role"],
            "content": message["content"]
            if isinstance(message["content"], str)
            else [part(content) for content in message["content"]],
        }
        for message in messages
    ]


def data_url(image: Image) -> str:
    written = io.BytesIO()
    image.save(written, "PNG")
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


def most_tokens(kind: Kind, how: Sampling) -> int:
    """`transformers serve` says `length` of a completion whose end-of-turn is its last permitted token as well as of
    one that was cut; one more token tells them apart."""
    return how.max_new_tokens + (kind == "transformers")


def most_bytes(how: Sampling) -> int:
    return BESIDE + PER_TOKEN * (how.max_new_tokens + 1)


def request(
    kind: Kind,
    how: Sampling,
    messages: list[dict[str, Any]],
    *,
    model: str,
    seed: int,
    forbidden: Sequence[int],
    stops: Sequence[int],
) -> dict[str, Any]:
    """The body of a request for one completion."""
    body: dict[str, Any] = {"model": model, "messages": messages, "seed": seed}
    if kind == "transformers":
        drawn = {"do_sample": True, "temperature": how.temperature, "top_p": how.top_p, "top_k": how.top_k}
        settings = {
            **(drawn if how.temperature else {"do_sample": False}),
            "repetition_penalty": 1.0,
            "max_new_tokens": most_tokens(kind, how),
            "suppress_tokens": list(forbidden),
            "eos_token_id": list(stops),
            "pad_token_id": stops[0],
        }
        return {**body, "generation_config": json.dumps(settings)}
    body |= {
        "max_tokens": how.max_new_tokens,
        "temperature": how.temperature,
        "top_p": how.top_p,
        "logit_bias": {str(token): BANNED for token in forbidden},
    }
    if ABILITIES[kind].tokens:
        body |= {
            "top_k": how.top_k or -1,
            "repetition_penalty": 1.0,
            "min_p": 0.0,
            "stop_token_ids": list(stops),
            "logprobs": True,
            "top_logprobs": 0,
            "return_token_ids": True,
        }
    return body


def read(
    answer: Any,
    kind: Kind,
    how: Sampling,
    *,
    prompt_tokens: int,
    vocabulary: int,
    forbidden: Collection[int],
    stops: Collection[int],
    version: int = 0,
) -> Completion:
    """The completion of an answer. BadAnswer for what is none, OtherPrompt if its prompt has another length."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    usage = usage if isinstance(usage, dict) else {}
    seen = usage.get("prompt_tokens")
    if type(seen) is int and seen != prompt_tokens:
        raise OtherPrompt(
            f"the server's prompt has {seen} tokens and the trainer's {prompt_tokens}: they do not see the same.\n"
            "  It has another chat template or other limits for pictures than model.path (start it without a template "
            "or pixel limits of its own), or data.budget allows pictures outside the limits of the model's processor."
        )
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        count = f"{len(choices)} choices" if isinstance(choices, list) else "no list of choices"
        raise BadAnswer(f"{count} where one completion was asked for")
    choice = choices[0]
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise BadAnswer(f"finish_reason = {str(reason)[:40]!r}, where `stop` and `length` end a completion")
    if ABILITIES[kind].tokens:
        tokens, logp = tokens_of(choice), logp_of(choice)
        check_tokens(tokens, logp, reason, how, vocabulary=vocabulary, forbidden=forbidden, stops=stops)
        return Completion("", tokens[-1] in stops, tokens, logp, len(tokens), version)
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise BadAnswer("no text in message.content")
    if isinstance(message, dict) and (message.get("reasoning_content") or message.get("tool_calls")):
        raise BadAnswer("parts of the text were taken out as reasoning or tool calls; start it without such a parser")
    made = usage.get("completion_tokens")
    return Completion(text, reason == "stop", count=made if type(made) is int else None, version=version)


def tokens_of(choice: Mapping[str, Any]) -> list[int]:
    """`token_ids` (`return_token_ids`), or the tokens of the log-probs where they are spelled `token_id:7`."""
    ids = choice.get("token_ids")
    if ids is None:
        spelled = [str(entry.get("token")) for entry in entries(choice)]
        if all(re.fullmatch(r"token_id:\d{1,9}", word) for word in spelled):
            ids = [int(word.removeprefix("token_id:")) for word in spelled]
    if not isinstance(ids, list) or not ids or any(type(token) is not int for token in ids):
        raise BadAnswer("no token_ids; does the server know `return_token_ids` (vLLM 0.10.2, SGLang of July 2026)?")
    return ids


def logp_of(choice: Mapping[str, Any]) -> list[float]:
    logp = [entry.get("logprob") for entry in entries(choice)]
    numbers = [float(value) for value in logp if isinstance(value, int | float)]
    if not logp or len(numbers) < len(logp) or not all(math.isfinite(value) and value <= 1e-3 for value in numbers):
        raise BadAnswer("no log-probs, or some that are none (NaN, infinite or above 0)")
    return numbers


def entries(choice: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return [entry if isinstance(entry, dict) else {} for entry in content] if isinstance(content, list) else []


def check_tokens(
    tokens: list[int],
    logp: list[float],
    reason: str,
    how: Sampling,
    *,
    vocabulary: int,
    forbidden: Collection[int],
    stops: Collection[int],
) -> None:
    if len(tokens) != len(logp):
        raise BadAnswer(f"{len(tokens)} tokens with {len(logp)} log-probs")
    if len(tokens) > how.max_new_tokens:
        raise BadAnswer(f"{len(tokens)} tokens where at most {how.max_new_tokens} were asked for")
    outside = [token for token in tokens if not 0 <= token < vocabulary or token in forbidden]
    if outside:
        raise BadAnswer(f"token {outside[0]}, which the model cannot write (of {vocabulary:,}, without vision tokens)")
    if any(token in stops for token in tokens[:-1]):
        raise BadAnswer("tokens after the end-of-turn")
    if reason == "stop" and tokens[-1] not in stops:
        raise BadAnswer(f"finish_reason = 'stop', but the last token, {tokens[-1]}, is no end-of-turn")
