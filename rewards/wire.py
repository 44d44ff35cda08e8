"""The JSON form of a call of a reward and of its answer: what worker processes and reward servers speak.

    call      {"completions": [...], "samples": [...], "sample": [0, 0, 1], "settings": {...}}
    answer    {"outcomes": [{"value": 0.5, "parsed": [3, 4], "why": ""}, null, {"error": {"type": "ValueError", ...}}]}

A completion is a text, an image `{"png": base64}` or a list of them (the frames of a video). `sample` says which of
`samples` each completion belongs to, so that a sample is sent once for all its completions. Records keep JSON values
as they are; tuples inside `target` and `meta` arrive as lists.

Decoding trusts nothing: it makes texts, numbers, records and PNG images, opens no path and runs no code. What is
malformed raises ValueError with its place (`samples[2].media[0].size`).
"""

from __future__ import annotations

import base64
import io
import json
import math
import reprlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmrl.plain import plain
from mmrl.records import Media, Sample
from rewards.calling import FLOAT32_MAX, Outcome, RemoteError
from rewards.registry import Score

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 2**27
"""Of a request or an answer over HTTP, unless a setting says otherwise."""
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""Modes of PIL images that PNG stores without loss."""
LONGEST_MESSAGE, LONGEST_TRACEBACK, DEEPEST = 2_000, 8_000, 20


@dataclass(frozen=True)
class Call:
    """What a reward is called with: a sample per completion, equal ones being the same object."""

    completions: list[Any]
    samples: list[Sample]
    settings: dict[str, Any]


def dumps(value: Any) -> bytes:
    """JSON in one line of ASCII. Raises ValueError for NaN and infinity, TypeError for what is not JSON."""
    return _ENCODER.encode(value).encode("ascii")


def loads(data: bytes) -> Any:
    """What `data` says. Raises ValueError for anything but JSON, the literals NaN and Infinity included."""
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(literal: str) -> None:
    raise ValueError(f"{literal} is not JSON")


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse)


# -- calls ---------------------------------------------------------------------------------------------------------


def encode_call(
    completions: Sequence[Any], samples: Sequence[Sample], settings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A call with one sample per completion. Raises TypeError for a completion that is no text and no PNG image."""
    different = {id(sample): sample for sample in samples}
    place = {key: index for index, key in enumerate(different)}
    return {
        "completions": [_encode_completion(completion) for completion in completions],
        "samples": [encode_sample(sample) for sample in different.values()],
        "sample": [place[id(sample)] for sample in samples],
        "settings": settings or {},
    }


def decode_call(value: Any, *, max_pixels: float = math.inf) -> Call:
    """`encode_call` backwards; all images together have at most `max_pixels`, which is known before any is decoded."""
    fields = _object(value, "the call", {"completions": list, "samples": list, "sample": list}, {"settings": dict})
    images: list[Image] = []
    completions = [
        _decode_completion(completion, f"completions[{row}]", images)
        for row, completion in enumerate(fields["completions"])
    ]
    samples = [decode_sample(sample, where=f"samples[{index}]") for index, sample in enumerate(fields["samples"])]
    rows = fields["sample"]
    if len(rows) != len(completions) or not all(type(row) is int and 0 <= row < len(samples) for row in rows):
        raise ValueError("`sample` has one index into `samples` per completion")

    pixels = sum(image.width * image.height for image in images)
    if pixels > max_pixels:
        raise ValueError(f"the images have {pixels:,} pixels; at most {max_pixels:,} are allowed")
    for image in images:
        try:
            image.load()
        except Exception as error:
            raise ValueError(f"an image is damaged: {error}") from None
    return Call(completions, [samples[row] for row in rows], fields.get("settings", {}))


def encode_sample(sample: Sample) -> dict[str, Any]:
    media = [
        {
            "kind": item.kind,
            "path": item.path,
            "digest": item.digest,
            "size": item.size,
            "seen": item.seen,
            "times": item.times,
            "frames": item.frames,
            "fps": item.fps,
            "grid": item.grid,
            "tokens": item.tokens,
        }
        for item in sample.media
    ]
    return {
        "id": sample.id,
        "messages": sample.messages,
        "media": media,
        "target": sample.target,
        "meta": sample.meta,
        "where": sample.where,
    }


def decode_sample(value: Any, *, where: str) -> Sample:
    required = {"id": str, "messages": list}
    fields = _object(value, where, required, {"media": list, "target": dict, "meta": dict, "where": str})
    for index, message in enumerate(fields["messages"]):
        if not isinstance(message, dict):
            raise ValueError(f"{where}.messages[{index}] is an object; found {reprlib.repr(message)}")
    media = [_decode_media(item, f"{where}.media[{index}]") for index, item in enumerate(fields.get("media", []))]
    return Sample(**{**fields, "messages": tuple(fields["messages"]), "media": tuple(media)})


def _decode_media(value: Any, where: str) -> Media:
    required = {"kind": str, "path": str, "digest": str, "size": list}
    optional = {
        "seen": list | None, "times": list, "frames": int, "fps": int | float, "grid": list | None, "tokens": int,
    }  # fmt: skip
    fields = _object(value, where, required, optional)
    if fields["kind"] not in ("image", "video"):
        raise ValueError(f"{where}.kind is image or video; found {reprlib.repr(fields['kind'])}")
    for key in ("size", "seen"):
        size = fields.get(key)
        if size is not None and not (len(size) == 2 and all(type(side) is int for side in size)):
            raise ValueError(f"{where}.{key} is [width, height]; found {reprlib.repr(size)}")
    grid = fields.get("grid")
    if grid is not None and not (len(grid) == 3 and all(type(count) is int for count in grid)):
        raise ValueError(f"{where}.grid is [pairs of frames, rows, columns]; found {reprlib.repr(grid)}")
    for key in ("frames", "fps", "tokens"):
        if isinstance(fields.get(key), bool):
            raise ValueError(f"{where}.{key} is a number; found {fields[key]}")
    if not all(type(time) in (int, float) for time in fields.get("times", [])):
        raise ValueError(f"{where}.times is a list of seconds; found {reprlib.repr(fields['times'])}")
    listed: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in fields.items()}
    return Media(**listed)


def _object(value: Any, where: str, required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    """`value` if it is an object with these keys, each of its type."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} is an object; found {reprlib.repr(value)}")
    known = {**required, **optional}
    for key in (*required, *value):
        if key not in known:
            raise ValueError(f"{where} has an unknown key {reprlib.repr(key)}; known are {', '.join(known)}")
        if key not in value:
            raise ValueError(f"{where}.{key} is missing")
        if not isinstance(value[key], known[key]):
            kind = getattr(known[key], "__name__", known[key])
            raise ValueError(f"{where}.{key} is a {kind}; found {reprlib.repr(value[key])}")
    return value


# -- completions ---------------------------------------------------------------------------------------------------


def _encode_completion(completion: Any) -> Any:
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list | tuple):
        return [_encode_image(frame) for frame in completion]
    return _encode_image(completion)


def _encode_image(image: Any) -> dict[str, str]:
    mode = getattr(image, "mode", None)
    if mode not in PNG_MODES:
        what = f"an image of mode {mode}" if mode else f"a {type(image).__name__}"
        raise TypeError(f"a completion is a text, an image or a list of images ({', '.join(PNG_MODES)}); found {what}")
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return {"png": base64.b64encode(file.getbuffer()).decode("ascii")}


def _decode_completion(value: Any, where: str, images: list[Image]) -> Any:
    """Images are opened, which reads their size, and added to `images`; their pixels are not decoded yet."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return [_open_png(frame, f"{where}[{index}]", images) for index, frame in enumerate(value)]
    return _open_png(value, where, images)


def _open_png(value: Any, where: str, images: list[Image]) -> Image:
    from PIL import Image

    encoded = _object(value, where, {"png": str}, {})["png"]
    try:
        image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)), formats=["PNG"])
    except Exception as error:  # PIL raises many types for a damaged file
        raise ValueError(f"{where} is not a PNG image in base64: {error}") from None
    images.append(image)
    return image


# -- answers -------------------------------------------------------------------------------------------------------


def encode_outcomes(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The answer to a call. What is shown of a score (`parsed`) is simplified to JSON."""
    return {"outcomes": [_encode_outcome(outcome) for outcome in outcomes]}


def _encode_outcome(outcome: Outcome) -> dict[str, Any] | None:
    if outcome is None:
        return None
    try:
        if isinstance(outcome, Exception):
            return {"error": encode_error(outcome)}
        return {"value": outcome.value, "parsed": plain(outcome.parsed, deepest=DEEPEST), "why": str(outcome.why)}
    except Exception as error:  # a reward's own object that cannot even be printed
        return {"error": {"type": type(error).__name__, "message": "an answer that cannot be sent", "traceback": ""}}


def encode_error(error: Exception) -> dict[str, str]:
    if isinstance(error, RemoteError):
        return error.encoded
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {
        "type": type(error).__name__,
        "message": str(error)[:LONGEST_MESSAGE],
        "traceback": trace[-LONGEST_TRACEBACK:],
    }


def decode_outcomes(value: Any, *, count: int) -> list[Outcome]:
    """`count` outcomes. One that is malformed is a failure of its row; ValueError if it is no list of that length."""
    outcomes = value.get("outcomes") if isinstance(value, dict) else None
    if not isinstance(outcomes, list):
        raise ValueError(f'answered {reprlib.repr(value)}; an answer is {{"outcomes": [...]}}')
    if len(outcomes) != count:
        raise ValueError(f"answered {len(outcomes)} outcomes for {count} completions")
    return [_decode_outcome(outcome) for outcome in outcomes]


def _decode_outcome(value: Any) -> Outcome:
    if value is None:
        return None
    if isinstance(value, dict) and "error" in value:
        return decode_error(value["error"])
    fields = value if isinstance(value, dict) else {}
    number: Any = fields.get("value")
    why = fields.get("why", "")
    if type(number) not in (int, float) or not abs(number) <= FLOAT32_MAX or not isinstance(why, str):
        return ValueError(f'answered {reprlib.repr(value)}; an outcome is null or {{"value": a finite number, ...}}')
    return Score(float(number), fields.get("parsed"), why)


def decode_error(value: Any) -> RemoteError:
    fields = value if isinstance(value, dict) else {"message": reprlib.repr(value)}
    kind, message, trace = (str(fields.get(key) or "") for key in ("type", "message", "traceback"))
    return RemoteError(kind[:100] or "Error", message[:LONGEST_MESSAGE], trace[-LONGEST_TRACEBACK:])
