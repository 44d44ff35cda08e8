from __future__ import annotations

import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from mmrl.pictures import encode, grid, wrap


def plain(colour: str, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new("RGB", size, colour)


def decoded(content: bytes) -> tuple[list[np.ndarray], float]:
    with av.open(io.BytesIO(content)) as container:
        rate = container.streams.video[0].average_rate
        assert rate is not None
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], float(rate)


def test_an_image_file_is_exact():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    content, suffix = encode(Image.fromarray(pixels))
    assert suffix == ".png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (33, 21)])
@pytest.mark.parametrize("fps", [8, 12.5])
def test_a_video_file_keeps_frames_rate_and_size_but_for_odd_ones(size: tuple[int, int], fps: float):
    greys = (20, 120, 220)
    content, suffix = encode([plain(f"rgb({g},{g},{g})", size) for g in greys], fps=fps)
    frames, rate = decoded(content)
    assert suffix == ".mp4" and rate == fps
    assert [frame.shape for frame in frames] == [(size[1] + size[1] % 2, size[0] + size[0] % 2, 3)] * 3
    for frame, grey in zip(frames, greys, strict=True):
        assert np.abs(frame.astype(int) - grey).max() <= 6


def test_a_video_without_mp4_encoder_of_h264_is_mpeg4(monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    content, _ = encode([plain("red")] * 3)
    frames, _ = decoded(content)
    assert len(frames) == 3 and frames[0][8, 8, 0] > 200


def test_equal_pictures_are_equal_files():
    for made in (plain("red"), [plain("red"), plain("blue")]):
        assert encode(made) == encode(made)


@pytest.mark.parametrize(("frames", "fps"), [([], 8), ([plain("red")], 0)])
def test_no_video_without_frames_or_rate(frames, fps):
    with pytest.raises(ValueError, match="frames"):
        encode(frames, fps=fps)


def test_a_grid_shows_every_picture_in_its_place():
    rows = [[plain("red"), plain("lime")], [plain("blue")]]
    figure = grid(rows, side=32)
    assert figure.size == (3 * 8 + 2 * 32, 3 * 8 + 2 * 32)
    centres = {(c, r): figure.getpixel((8 + 16 + c * 40, 8 + 16 + r * 40)) for c in (0, 1) for r in (0, 1)}
    assert centres == {(0, 0): (255, 0, 0), (1, 0): (0, 255, 0), (0, 1): (0, 0, 255), (1, 1): (255, 255, 255)}


def test_a_video_shows_its_first_middle_and_last_frame():
    frames = [plain(colour) for colour in ("red", "black", "lime", "black", "blue")]
    figure = grid([[frames]], side=32)
    seen = [figure.getpixel((8 + 16 + index * 34, 24)) for index in range(3)]
    assert seen == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert grid([[frames[:1]]], side=32).size == (48, 48)


def test_captions_and_headings_take_room_beside_and_above():
    rows = [[plain("red"), plain("red")]]
    bare, full = grid(rows), grid(rows, ["a red square"], headings=["before", "after"])
    assert full.width > bare.width and full.height > bare.height
    corner = np.asarray(full)[:, : full.width - bare.width].min()
    assert corner < 100, "there is a caption"
    assert np.array_equal(np.asarray(full)[-bare.height :, -bare.width :][8:], np.asarray(bare)[8:])


def test_pictures_of_different_shapes_are_whole():
    figure = grid([[plain("red", (40, 20)), plain("red", (20, 40))], [plain("red", (400, 100))]], side=64)
    red = (np.asarray(figure) == (255, 0, 0)).all(-1).sum()
    assert red == 64 * 32 + 32 * 64 + 64 * 16


@pytest.mark.parametrize(("rows", "captions"), [([], []), ([[]], []), ([[plain("red")]], ["a", "b"])])
def test_a_grid_of_nothing_is_refused(rows, captions):
    with pytest.raises(ValueError):
        grid(rows, captions)


@settings(max_examples=40)
@given(st.text(max_size=80), st.integers(20, 200), st.integers(1, 5))
def test_wrapped_text_fits_and_loses_nothing_but_its_end(text: str, width: int, lines: int):
    font = ImageFont.load_default(14)
    wrapped = wrap(text, font, width, lines=lines)
    parts = wrapped.split("\n")
    assert len(parts) <= lines
    assert all(font.getlength(part) <= width or len(part.rstrip("…")) <= 1 for part in parts)
    shown, letters = "".join(wrapped.split()), "".join(text.split())
    assert shown == letters or (shown.endswith("…") and letters.startswith(shown[:-1]))
