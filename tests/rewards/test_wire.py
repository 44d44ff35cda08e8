"""The JSON form of calls and answers: exact for records and images, and nothing malformed gets through."""

from __future__ import annotations

import base64
import io
import json
import math
import traceback

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmrl.records import Media, Sample
from rewards import Score, wire
from rewards.wire import RemoteError, decode_call, decode_outcomes, dumps, encode_call, encode_outcomes, loads

TEXT = st.text(st.characters(exclude_categories=()), max_size=20).map(lambda text: json.loads(json.dumps(text)))
"""Any text with any lone surrogate. (JSON makes a character of the two halves of one.)"""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=3)
SIZES = st.tuples(st.integers(1, 9999), st.integers(1, 9999))
MEDIA = st.builds(
    Media,
    kind=st.sampled_from(["image", "video"]),
    path=TEXT,
    digest=TEXT,
    size=SIZES,
    seen=st.none() | SIZES,
    times=st.lists(st.floats(0, 1e6), max_size=4).map(tuple),
    frames=st.integers(1, 9999),
    fps=st.floats(0, 1e3),
    grid=st.none() | st.tuples(*[st.integers(1, 99)] * 3),
    tokens=st.integers(0, 9999),
)
SAMPLES = st.builds(
    Sample,
    id=TEXT,
    messages=st.lists(OBJECTS, max_size=2).map(tuple),
    media=st.lists(MEDIA, max_size=2).map(tuple),
    target=OBJECTS,
    meta=OBJECTS,
    where=TEXT,
)
SAMPLE = Sample("s", ())


def sent(value):
    """What arrives of a JSON value."""
    data = dumps(value)
    assert b"\n" not in data
    return loads(data)


def png(image: Image.Image, kind: str = "PNG") -> dict[str, str]:
    file = io.BytesIO()
    image.save(file, kind)
    return {"png": base64.b64encode(file.getvalue()).decode()}


def call(**changes):
    """A call of one text, as JSON."""
    return {"completions": ["a"], "samples": [{"id": "s", "messages": []}], "sample": [0], **changes}


def sample(**changes):
    return call(samples=[{"id": "s", "messages": [], **changes}])


def media(**changes):
    return sample(media=[{"kind": "image", "path": "a.png", "digest": "0", "size": [4, 3], **changes}])


@settings(max_examples=30)
@given(st.lists(SAMPLES, min_size=1, max_size=3), st.data())
def test_a_call_arrives_as_it_was_sent(samples, data):
    rows = data.draw(st.lists(st.sampled_from(samples), max_size=6))
    texts = data.draw(st.lists(TEXT, min_size=len(rows), max_size=len(rows)))
    given = data.draw(OBJECTS)
    arrived = decode_call(sent(encode_call(texts, rows, given)))
    assert (arrived.completions, arrived.samples, arrived.settings) == (texts, rows, given)
    assert repr(arrived.samples) == repr(rows)  # the types as well: 1 == 1.0 == True


def test_a_sample_is_sent_once_for_all_its_completions():
    first, second = Sample("long" * 1000, ()), Sample("b", ())
    encoded = encode_call(["a", "b", "c", "d"], [first, first, second, first])
    assert encoded["sample"] == [0, 0, 1, 0]
    assert len(dumps(encoded)) < 5000
    arrived = decode_call(sent(encoded)).samples
    assert arrived[0] is arrived[1] is arrived[3]


@pytest.mark.parametrize("mode", wire.PNG_MODES)
def test_images_and_videos_arrive_pixel_for_pixel(mode):
    noise = np.random.default_rng(0).integers(0, 255, (5, 7, 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA").convert("I;16" if mode == "I;16" else mode)
    arrived = decode_call(sent(encode_call([image, [image, image]], [SAMPLE, SAMPLE])))
    for copy in (arrived.completions[0], *arrived.completions[1]):
        assert (copy.mode, copy.size, copy.tobytes()) == (image.mode, image.size, image.tobytes())
        assert copy.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


@pytest.mark.parametrize("completion", [Image.new("CMYK", (2, 2)), Image.new("F", (2, 2)), 3, None, b"png", [b"png"]])
def test_what_png_cannot_hold_is_refused(completion):
    with pytest.raises(TypeError, match="found a"):
        encode_call([completion], [SAMPLE])


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP", "TIFF", "PPM", "EPS", "WEBP"])
def test_only_png_is_opened(kind):
    with pytest.raises(ValueError, match=r"completions\[0\] is not a PNG"):
        decode_call(call(completions=[png(Image.new("RGB", (8, 8)), kind)]))


def test_pixels_are_counted_before_they_are_decoded():
    bomb = png(Image.new("1", (3_000, 3_000)))
    assert len(dumps(bomb)) < 20_000
    two = call(completions=[bomb, [bomb]], sample=[0, 0])
    with pytest.raises(ValueError, match="18,000,000 pixels; at most 10,000,000"):
        decode_call(two, max_pixels=10_000_000)


def test_a_damaged_image_is_an_error():
    whole = png(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)))["png"]
    for part in (whole[: len(whole) // 8 * 4], whole[:40], "", "!", "é", "AAAA"):
        with pytest.raises(ValueError, match=r"damaged|not a PNG"):
            decode_call(call(completions=[{"png": part}]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "the call is an object"),
        ({}, "completions is missing"),
        (call(extra=1), "unknown key 'extra'"),
        (call(completions="ab"), "completions is a list"),
        (call(completions=[3]), r"completions\[0\] is an object"),
        (call(completions=[{"path": "/etc/passwd"}]), r"completions\[0\]"),
        (call(completions=[[["a"]]]), r"completions\[0\]\[0\]"),
        (call(sample=[]), "one index"),
        (call(sample=[1]), "one index"),
        (call(sample=[-1]), "one index"),
        (call(sample=[True]), "one index"),
        (call(sample=[0.0]), "one index"),
        (call(settings=[]), "settings is a dict"),
        (call(samples=[3]), r"samples\[0\] is an object"),
        (call(samples=[{"id": "s"}]), r"samples\[0\]\.messages is missing"),
        (sample(id=3), r"samples\[0\]\.id is a str"),
        (sample(messages=["hello"]), r"samples\[0\]\.messages\[0\] is an object"),
        (sample(target=None), r"samples\[0\]\.target is a dict"),
        (sample(prompt="?"), "unknown key 'prompt'"),
        (media(kind="sound"), r"media\[0\]\.kind is image or video"),
        (media(size=[1]), r"media\[0\]\.size is \[width, height\]"),
        (media(size=None), r"media\[0\]\.size is a list"),
        (media(seen=["1", 2]), r"media\[0\]\.seen is \[width"),
        (media(seen="12"), r"media\[0\]\.seen is a list"),
        (media(times=["0"]), r"media\[0\]\.times is a list of seconds"),
        (media(grid=[1, 2]), r"media\[0\]\.grid is \[pairs of frames, rows, columns\]"),
        (media(grid=[1, 2, 3.5]), r"media\[0\]\.grid is \[pairs"),
        (media(frames=2.5), r"media\[0\]\.frames is a int"),
        (media(tokens=True), r"media\[0\]\.tokens is a number"),
        (media(fps="25"), r"media\[0\]\.fps is a"),
    ],
)
def test_a_malformed_call_is_refused_with_its_place(value, message):
    with pytest.raises(ValueError, match=message):
        decode_call(value)


def test_the_shortest_call_and_paths_that_exist_nowhere_are_fine():
    assert decode_call(call()).samples == [SAMPLE]
    (arrived,) = decode_call(media(path="/does/not/exist")).samples
    assert arrived.media == (Media("image", "/does/not/exist", "0", (4, 3)),)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"a": [math.nan]}, object(), {1, 2}])
def test_what_is_no_json_is_never_sent(value):
    with pytest.raises((ValueError, TypeError)):
        dumps(value)
    with pytest.raises((ValueError, TypeError)):
        dumps(encode_call(["a"], [Sample("s", (), target={"answer": value})]))


@pytest.mark.parametrize(
    "data",
    [b"", b"NaN", b"[Infinity]", b'{"a": -Infinity}', b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5_000, b"\xff\xfe",
     b"\x80\x04K\x01.", b"<html>", b"{'a': 1}", b"1 2", b'"\n"'],
    ids=repr,
)  # fmt: skip
def test_what_is_no_json_is_never_read(data):
    with pytest.raises(ValueError):
        loads(data)


# -- answers -------------------------------------------------------------------------------------------------------

PARSED = st.recursive(
    VALUES
    | st.floats()
    | st.sets(st.integers())
    | st.just(np.float32(1.5))
    | st.just(np.arange(3))
    | st.just(object()),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.integers() | TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(st.lists(st.none() | st.builds(Score, st.floats(-1e38, 1e38), PARSED, TEXT), max_size=4))
def test_outcomes_arrive_with_what_they_show(outcomes):
    arrived = decode_outcomes(sent(encode_outcomes(outcomes)), count=len(outcomes))
    assert [one and (one.value, one.why) for one in arrived] == [one and (one.value, one.why) for one in outcomes]
    again = decode_outcomes(sent(encode_outcomes(arrived)), count=len(outcomes))
    assert again == arrived  # parsed is simplified once, then stays


def test_what_is_parsed_is_simplified_to_json():
    loop: list = []
    loop.append(loop)
    shown = {"span": (1, 2.5), "bad": math.nan, "array": np.arange(2), "huge": 10**5000, "loop": loop, 3: {4}}
    (arrived,) = decode_outcomes(sent(encode_outcomes([Score(1.0, parsed=shown)])), count=1)
    assert {key: arrived.parsed[key] for key in ("span", "bad", "array", "huge", "3")} == {
        "span": [1, 2.5], "bad": None, "array": [0, 1], "huge": "a large integer", "3": [4]
    }  # fmt: skip


def test_an_error_brings_its_traceback():
    def broken():
        raise KeyError("gold")

    try:
        broken()
    except KeyError as error:
        (arrived,) = decode_outcomes(sent(encode_outcomes([error])), count=1)
    assert isinstance(arrived, RemoteError)
    assert str(arrived) == "KeyError: 'gold'"
    printed = "".join(traceback.format_exception(arrived))
    assert 'raise KeyError("gold")' in printed
    assert "in broken" in printed
    assert printed.rstrip().endswith("RemoteError: KeyError: 'gold'")
    (relayed,) = decode_outcomes(sent(encode_outcomes([arrived])), count=1)
    assert (str(relayed), str(relayed.__cause__)) == (str(arrived), str(arrived.__cause__))


def test_errors_and_objects_that_cannot_be_printed_are_failures():
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError

    class Hidden:
        def __str__(self):
            raise MemoryError

    arrived = decode_outcomes(sent(encode_outcomes([Silent(), Score(1.0, parsed=Hidden())])), count=2)
    assert all(isinstance(one, RemoteError) for one in arrived)


def test_a_long_error_is_cut():
    (arrived,) = decode_outcomes(sent(encode_outcomes([ValueError("x" * 10**6)])), count=1)
    assert len(str(arrived)) < 3000 and len(str(arrived.__cause__)) < 10_000


@pytest.mark.parametrize(
    "value",
    ["1", 1, True, [1], {}, {"value": "1"}, {"value": True}, {"value": None}, {"value": [1]}, {"value": 10**400},
     {"value": 1e39}, {"value": -math.inf}, {"value": math.nan}, {"value": 1, "why": 3}, {"score": 1}],
    ids=repr,
)  # fmt: skip
def test_a_malformed_outcome_is_a_failure_of_its_row(value):
    first, second = decode_outcomes({"outcomes": [value, {"value": 1}]}, count=2)
    assert isinstance(first, ValueError)
    assert "answered" in str(first) and len(str(first)) < 300
    assert second == Score(1.0)


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, {"type": 1, "message": None, "traceback": {}}, {"x": "y"}])
def test_any_error_is_an_error(value):
    (arrived,) = decode_outcomes({"outcomes": [{"error": value}]}, count=1)
    assert isinstance(arrived, RemoteError)


@pytest.mark.parametrize("value", [None, [], "x", {}, {"outcomes": {}}, {"outcomes": [None]}, {"outcomes": [None] * 3}])
def test_an_answer_of_another_length_is_refused(value):
    with pytest.raises(ValueError, match="answered"):
        decode_outcomes(value, count=2)
