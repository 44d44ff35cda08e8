"""Text in pictures, read for real: PIL writes it, RapidOCR reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from mmrl.records import Sample
from rewards.images.ocr import _widened, ocr_text, text_match, wanted_text

pytest.importorskip("rapidocr_onnxruntime")


def asked(prompt="draw something", **target):
    return Sample("s", ({"role": "user", "content": prompt},), target=target)


def written(*lines, size=(420, 160), height=44):
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        draw.text((24, 20 + row * (height + 16)), line, fill=(20, 30, 80), font=ImageFont.load_default(height))
    return image


@pytest.fixture(scope="module")
def score():
    return ocr_text()


# -- formula -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "wanted", "value"),
    [
        ("Hello World", "hello world", 1),
        ("OPEN\nhel lo", "Hello", 1),
        ("say hello twice", "hello", 1),
        ("helo", "hello", 1 - 1 / 5),
        ("hexxo", "hello", 1 - 2 / 5),
        ("", "hello", 0),
        ("something else altogether", "hello", 0),
        ("ab", "abcd", 0.5),
        ("CAFÉ 24", "café 24", 1),
    ],
)
def test_text_match(read, wanted, value):
    assert text_match(read, wanted) == pytest.approx(value)


@given(st.text(max_size=40), st.text(min_size=1, max_size=20).filter(lambda text: text.split()))
def test_the_match_is_bounded_and_one_when_the_text_is_there(read, wanted):
    assert 0 <= text_match(read, wanted) <= 1
    assert text_match(read + wanted, wanted) == 1
    assert text_match("", wanted) == 0


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (asked('a sign that says "Open Late" and "Closed"'), "Open Late"),
        (asked("a sign that says “Offen”"), "Offen"),
        (asked('a sign "A"', text="B"), "B"),
        (asked("draw!", caption='a shop called "Mmrl"'), "Mmrl"),
    ],
)
def test_the_wanted_text_is_the_targets_or_the_first_quoted(sample, text):
    assert wanted_text(sample) == text


@pytest.mark.parametrize("sample", [asked("no quotes"), asked('an empty "" one'), asked('"a"', text="  "), asked('5"')])
def test_a_sample_without_text_is_an_error(sample):
    with pytest.raises(ValueError, match=r"target\.text"):
        wanted_text(sample)
    with pytest.raises(TypeError, match=r"target\.text is a text"):
        wanted_text(asked('"a"', text=7))


# -- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [("HELLO",), ("Open 24 hours",), ("Reward", "Zoo")])
def test_written_text_is_read(score, lines):
    text = " ".join(lines)
    result = score(written(*lines), asked(f'a poster with the words "{text}"'))
    assert result.value == 1
    assert result.parsed.lower().split() == text.lower().split()


def test_nearly_the_text_scores_nearly_one_and_nothing_scores_zero(score):
    sample = asked('a sign "HELLO WORLD"')
    near = score(written("HELLO WORD"), sample).value
    other = score(written("12345"), sample).value
    assert near == pytest.approx(0.9)
    assert 0 <= other < 0.3
    nothing = score(Image.new("RGB", (200, 100), "white"), sample)
    assert nothing.value == 0
    assert nothing.why == "no text in the picture"


def test_channels_are_in_the_order_the_engine_expects(score, monkeypatch):
    """RapidOCR reads arrays as OpenCV has them, blue first."""
    seen = []
    monkeypatch.setattr(score, "engine", lambda array: (seen.append(array), (None, None))[1])
    assert score.read(Image.new("RGB", (4, 3), (255, 0, 7))) == ""
    assert seen[0].shape == (3, 4, 3)
    assert seen[0][0, 0].tolist() == [7, 0, 255]


@pytest.mark.parametrize("picture", [Image.new("RGB", (1, 1)), Image.new("L", (3, 700)), Image.new("RGBA", (900, 2))])
def test_odd_pictures_are_read(score, picture):
    assert score(picture, asked('"x"')).value == 0


def test_a_strip_is_widened_and_its_text_still_read(score):
    strip = written("HELLO", size=(1000, 70), height=44).crop((0, 14, 1000, 74))
    assert score(strip, asked('"HELLO"')).value == 1
    for size in ((3, 700), (900, 2), (100, 26)):
        wide, tall = _widened(Image.new("RGB", size, "red")).size
        assert max(wide, tall) == max(size)
        assert min(wide, tall) >= max(size) // 4
    assert _widened(strip.crop((0, 0, 100, 60))).size == (100, 60)


def test_what_is_no_picture_fails(score):
    with pytest.raises(TypeError, match="reads pictures"):
        score("HELLO", asked('"HELLO"'))
