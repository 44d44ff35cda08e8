"""Rewards of pixels: values that can be said by hand, the laws of each, and what cannot be read."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from mmrl.records import Sample
from rewards.images.brisque import SMALLEST, brisque, halved, normalised, regress, statistics
from rewards.images.pixels import brightness, colour, colourfulness, jpeg_size, motion
from rewards.registry import info_of

ANY = Sample("s", ())
RGB = st.tuples(*[st.integers(0, 255)] * 3)


def plain(rgb=(255, 0, 0), size=(24, 16), mode="RGB"):
    return Image.new(mode, size, rgb)


def noise(seed=0, size=(48, 40), spread=60):
    pixels = np.random.default_rng(seed).normal(128, spread, (size[1], size[0], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def value(outcome):
    return outcome if isinstance(outcome, float) else outcome.value


# -- file size -----------------------------------------------------------------------------------------------------


def test_jpeg_size_is_that_of_the_file_pillow_writes():
    stored = io.BytesIO()
    noise().save(stored, "JPEG", quality=95)
    kilobytes = len(stored.getvalue()) / 1000
    assert jpeg_size(noise(), ANY).value == pytest.approx(-kilobytes / 500)
    assert jpeg_size(noise(), ANY, want="incompressible", scale=1.0).value == pytest.approx(kilobytes)


def test_noise_is_less_compressible_than_a_plain_picture():
    assert jpeg_size(noise(), ANY).value < jpeg_size(plain(size=(48, 40)), ANY).value < 0
    with pytest.raises(ValueError, match="scale is a positive"):
        jpeg_size(noise(), ANY, scale=0.0)


# -- brightness and colour -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rgb", "luma"), [((0, 0, 0), 0), ((255, 255, 255), 1), ((255, 0, 0), 76 / 255)])
def test_brightness_of_plain_pictures(rgb, luma):
    assert brightness(plain(rgb), ANY) == pytest.approx(luma)


def test_brightness_is_the_mean_over_pixels():
    half = plain((0, 0, 0))
    half.paste((255, 255, 255), (0, 0, 12, 16))
    assert brightness(half, ANY) == pytest.approx(0.5)


def test_colour_is_one_on_the_colour_and_zero_on_the_opposite_corner():
    assert colour(plain((255, 0, 0)), ANY, like="red") == 1
    assert colour(plain((0, 255, 255)), ANY, like="#ff0000") == 0
    assert colour(plain((255, 128, 0)), Sample("s", (), target={"colour": "#ff8000"})) == 1
    half = plain((255, 0, 0))
    half.paste((0, 255, 255), (0, 0, 12, 16))
    assert colour(half, ANY, like="red") == pytest.approx(0.5)


def test_a_mixture_whose_mean_is_the_colour_gains_nothing():
    mixed = plain((255, 0, 255))
    mixed.paste((255, 255, 0), (0, 0, 12, 16))
    assert np.asarray(mixed).mean((0, 1)) == pytest.approx([255, 127.5, 127.5])
    assert colour(mixed, ANY, like="#ff8080") < 0.5 < 0.9 < colour(plain((255, 120, 120)), ANY, like="#ff8080")


@given(RGB, RGB)
def test_colour_stays_in_its_range_and_finds_its_best_picture(rgb, wanted):
    like = "#{:02x}{:02x}{:02x}".format(*wanted)
    score = colour(plain(rgb, (2, 2)), ANY, like=like)
    assert 0 <= score <= 1
    assert (score == 1) == (rgb == wanted)


@pytest.mark.parametrize("wanted", [None, "reddish", 7, ["red"]])
def test_a_wrong_colour_is_an_error(wanted):
    with pytest.raises(ValueError, match=r"target\.colour"):
        colour(plain(), Sample("s", (), target={"colour": wanted}))


def test_colourfulness():
    assert colourfulness(plain((90, 90, 90)), ANY).value == 0
    # Half red, half cyan: rg is 255 or -255 and yb 127.5 or -127.5, so their means are 0.
    half = plain((255, 0, 0))
    half.paste((0, 255, 255), (0, 0, 12, 16))
    assert colourfulness(half, ANY).value == pytest.approx(math.hypot(255, 127.5) / (255 * math.sqrt(2.18)))
    assert colourfulness(noise(spread=90), ANY).value > colourfulness(noise(spread=20), ANY).value


# -- quality -------------------------------------------------------------------------------------------------------


def textured(spread):
    """A gray picture of waves and squares with noise, for which the package `brisque` 0.2.0 was run."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    for step in (3, 6, 20, 60):
        waves = 128 + 60 * np.sin(x / 9) * np.cos(y / 7) + 40 * ((x // 16 + y // 16) % 2)
        pixels = (waves + draw.normal(0, 1, (96, 128)) * step).clip(0, 255).astype(np.uint8)
        if step == spread:
            return Image.fromarray(np.stack([pixels] * 3, -1))
    raise AssertionError(spread)


def raw_brisque(image):
    luma = np.asarray(image.convert("L"), dtype=np.float64)
    return regress(np.concatenate([statistics(luma), statistics(halved(luma))]))


@pytest.mark.parametrize(
    ("spread", "expected"),
    [(3, 23.740127351602013), (6, 7.934786835284257), (20, 60.36513073228761), (60, 78.89665959646749)],
)
def test_brisque_agrees_with_the_package_of_that_name(spread, expected):
    """It solves for the shape where this one looks it up in steps of 0.001."""
    picture = textured(spread)
    assert raw_brisque(picture) == pytest.approx(expected, abs=0.1)
    assert brisque(picture, ANY).value == pytest.approx(1 - expected / 100, abs=1e-3)


def test_quality_falls_with_blur_noise_and_compression():
    good = textured(6)
    stored = io.BytesIO()
    good.save(stored, "JPEG", quality=5)
    worse = [good.filter(ImageFilter.GaussianBlur(3)), textured(60), Image.open(stored)]
    assert all(brisque(picture, ANY).value < brisque(good, ANY).value - 0.1 for picture in worse)


@pytest.mark.parametrize("picture", [plain(size=(64, 64)), plain((0, 0, 0), (64, 64)), noise(size=(SMALLEST - 1, 64))])
def test_without_texture_the_quality_is_zero_and_says_so(picture):
    score = brisque(picture, ANY)
    assert score.value == 0
    assert score.why


@given(st.integers(0, 10**6), st.sampled_from([(16, 16), (17, 31), (40, 24)]), st.floats(0, 120))
def test_quality_is_finite_and_in_range(seed, size, spread):
    assert 0 <= brisque(noise(seed, size, spread), ANY).value <= 1


def test_the_normalised_luma_of_noise_is_centred_and_halving_keeps_levels():
    normal = normalised(np.random.default_rng(0).normal(128, 40, (64, 64)))
    assert abs(normal[8:-8, 8:-8].mean()) < 0.05
    assert halved(np.full((9, 12), 7.0)) == pytest.approx(np.full((4, 6), 7.0))
    ramp = np.arange(16.0)[None].repeat(4, 0)
    assert halved(ramp)[0, 1:-1] == pytest.approx(np.arange(0.5, 16, 2)[1:-1])


# -- motion --------------------------------------------------------------------------------------------------------


def test_motion_is_the_mean_step_between_frames():
    frames = [plain((level, level, level)) for level in (0, 51, 51, 0)]
    assert motion(frames, ANY) == pytest.approx((0.2 + 0 + 0.2) / 3)
    assert motion(frames[:1], ANY) == motion([plain()] * 3, ANY) == 0
    assert motion([plain((0, 0, 0)), plain((255, 255, 255))], ANY) == 1
    assert motion(frames[::-1], ANY) == motion(frames, ANY)


def test_what_is_no_video_fails():
    with pytest.raises(TypeError, match="reads videos"):
        motion(plain(), ANY)
    with pytest.raises(TypeError, match="reads videos"):
        motion([], ANY)
    with pytest.raises(ValueError, match="different sizes"):
        motion([plain(size=(8, 8)), plain(size=(9, 8))], ANY)


# -- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
@pytest.mark.parametrize("function", [jpeg_size, brightness, colourfulness, brisque])
def test_every_mode_of_picture_is_read(function, mode):
    outcome = function(Image.new(mode, (32, 32)), ANY)
    low, high = info_of(function).range
    assert low <= value(outcome) <= high


@pytest.mark.parametrize("function", [jpeg_size, brightness, colourfulness, brisque])
@pytest.mark.parametrize("completion", ["a text", None, [plain()]])
def test_what_is_no_picture_fails(function, completion):
    with pytest.raises(TypeError, match="reads pictures"):
        function(completion, ANY)
    with pytest.raises(ValueError, match="empty"):
        function(Image.new("RGB", (0, 5)), ANY)
